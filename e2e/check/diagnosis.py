"""Why did a flow go wrong? Facts of the scene, and a ladder of reasons, asked from the top."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from e2e.check.wrong import HELD_UP, UNEVEN

# What is known of kube-proxy on a node.
WELL, ILL, DUMB = "well", "ill", "dumb"
LOST = ("silent", "no route")
# Calls without an answer that are no chance.
SEVERAL = 3


@dataclass(frozen=True)
class Facts:
    """What was found at the scene of one wrong flow; None where it could not be asked.

    Attributes:
        caller: who called.
        node: the node that was called, or from which a ClusterIP was.
        port: the port that was called.
        outcome: how the wrong attempts ended.
        name: the host name that was called, if it was no address.
        wants_answer: whether an answer was wanted.
        answered_by: the pod that answered, if one did.
        seen_as: the address that it saw as the caller's, if it was asked.
        carried: bytes of payload in each wrong attempt, if they were more than a question has.
        idle: seconds for which nothing had been said on the connection, if that was meant.
        problem: what is wrong with all attempts together, where each was right by itself.
        wrong: how many attempts were wrong, where `asked` is known.
        asked: of how many.
        protocol: TCP or UDP.
        exists: whether a Service has this port now.
        held_by: finalizers that keep it, though it was deleted.
        reachable: whether the node says anything at another port, at which other nodes do.
        ready: the Service's pods that are Ready, by name.
        dead: those of them that do not answer at their own address from their own node, each with
            that.
        unreached: those that do, and do not from the node that was called.
        unlisted: those that no EndpointSlice lists as ready.
        listed: the pods that its EndpointSlices list as ready.
        strangers: those of them that are no Ready pod of it.
        homeless: those of which none says on which node they are, where a policy asks for that.
        cluster_ip: whether the ClusterIP answers from that node.
        itself: whether the node port answers from the node itself.
        neighbour: whether it does from another node.
        elsewhere: whether it does from the caller's side through another node.
        again_by: the pod that answers by now when the caller outside asks again, nothing if none
            does; None if nobody asked.
        outside: whether it does when that asks for once, as another one's call was lost.
        replier: another address from which datagrams to that one are answered, if they are.
        proxy: how kube-proxy is on that node.
        synced_ago: seconds since its last sync.
        changed_ago: seconds since the Service or its endpoints changed.
        rules: lines that the node has for the Service.
        rules_elsewhere: those of the other nodes.
    """

    caller: str
    node: str
    port: int
    outcome: str
    name: str = ""
    wants_answer: bool = True
    answered_by: str | None = None
    seen_as: str | None = None
    carried: int = 0
    idle: float = 0.0
    problem: str = ""
    wrong: int = 0
    asked: int = 0
    protocol: str = "TCP"
    exists: bool | None = None
    held_by: Sequence[str] = ()
    reachable: bool | None = None
    ready: Sequence[str] = ()
    dead: Sequence[str] = ()
    unreached: Sequence[str] = ()
    unlisted: Sequence[str] = ()
    listed: Sequence[str] = ()
    strangers: Sequence[str] = ()
    homeless: Sequence[str] = ()
    cluster_ip: bool | None = None
    itself: bool | None = None
    neighbour: bool | None = None
    elsewhere: bool | None = None
    again_by: str | None = None
    outside: bool | None = None
    replier: str = ""
    proxy: str | None = None
    synced_ago: float | None = None
    changed_ago: float | None = None
    rules: int | None = None
    rules_elsewhere: Sequence[int] = ()

    @property
    def again(self) -> bool | None:
        """Whether a pod answers by now, to who asks again."""
        return None if self.again_by is None else bool(self.again_by)

    @property
    def is_behind(self) -> bool:
        """Whether kube-proxy last synced before the last change."""
        if self.synced_ago is None or self.changed_ago is None:
            return False
        return self.synced_ago > self.changed_ago

    @property
    def sync(self) -> str:
        """When kube-proxy last synced, in words."""
        if self.synced_ago is None:
            return "its kube-proxy does not say when it last synced"
        when = f"its kube-proxy last synced {self.synced_ago:.0f} s ago"
        if self.changed_ago is None:
            return when
        return f"{when}, {'before' if self.is_behind else 'after'} the Service changed"

    @property
    def lacks_rules(self) -> bool:
        """Whether the node has no rule for a Service of which others have some."""
        return self.rules == 0 and (not self.rules_elsewhere or max(self.rules_elsewhere) > 0)

    @property
    def differs(self) -> bool:
        """Whether the node has another number of rules than all other nodes, which agree."""
        return (
            self.rules is not None
            and len({*self.rules_elsewhere}) == 1
            and (self.rules != self.rules_elsewhere[0])
        )

    @property
    def is_stale(self) -> bool:
        """Whether a pod answers that should not, and new callers get what they should."""
        if self.outcome != "answered" or self.answered_by is None:
            return False
        if not self.wants_answer:
            return self.again is False
        return (
            bool(self.again_by)
            and self.again_by != self.answered_by
            and (self.answered_by not in (*self.ready, *self.listed))
        )

    @property
    def is_served(self) -> bool:
        """Whether a caller outside gets an answer by now."""
        return True in (self.again, self.outside)

    @property
    def is_lost(self) -> bool:
        """Whether an answer was wanted and none came."""
        return (
            self.wants_answer and self.answered_by is None and self.outcome not in (UNEVEN, HELD_UP)
        )


@dataclass(frozen=True)
class Rung:
    """One reason.

    Attributes:
        name: what tests and figures call it.
        holds: whether the facts speak for it.
        says: the line that is printed.
    """

    name: str
    holds: Callable[[Facts], bool]
    says: Callable[[Facts], str]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# From what is wrong everywhere to what is wrong in one place. The first that holds is the reason.
LADDER: tuple[Rung, ...] = (
    Rung(
        "no-name",
        lambda f: bool(f.name) and f.outcome == "no route",
        lambda f: (
            f"{f.caller} finds no address for the name {f.name}: the cluster's DNS does not answer "
            "it, or does not know the name"
        ),
    ),
    Rung(
        "node-blocked",
        lambda f: f.reachable is False and f.outcome in LOST and f.again is not True,
        lambda f: f"{f.caller} -> {f.node} is blocked on every port: not a NodePort matter",
    ),
    Rung(
        "stale-rules",
        lambda f: not f.wants_answer and f.answered_by is not None and f.exists is False,
        lambda f: (
            f"{f.node} still leads port {f.port} to {f.answered_by}, though no Service has "
            f"it: {f.sync}"
        ),
    ),
    Rung(
        "held-up-by",
        lambda f: not f.wants_answer and bool(f.held_by),
        lambda f: (
            f"the Service of port {f.port} was deleted and is still there, as the finalizer "
            f"{_names(f.held_by)} holds it up"
        ),
    ),
    Rung(
        "listed",
        lambda f: f.outcome == "foreign" and f.answered_by in f.listed and not f.carried,
        lambda f: (
            f"an EndpointSlice of the Service lists {f.answered_by} as ready, which is none of the "
            "pods that may answer"
        ),
    ),
    Rung(
        "foreign-pod",
        lambda f: f.outcome == "foreign" and f.answered_by is not None and not f.carried,
        lambda f: (
            f"{f.node} leads port {f.port} to {f.answered_by}, which is "
            f"{'no pod of this Service' if f.exists else 'not who was called'}: {f.sync}"
        ),
    ),
    Rung(
        "service-gone",
        lambda f: f.wants_answer and f.exists is False,
        lambda f: f"no Service has port {f.port} now: it was deleted, or its port was changed",
    ),
    Rung(
        "no-pod",
        lambda f: f.is_lost and not f.ready and f.exists is True,
        lambda _: "no pod of the Service is Ready: there is nobody to answer",
    ),
    Rung(
        "unlisted",
        lambda f: f.wants_answer and bool(f.unlisted),
        lambda f: (
            f"no EndpointSlice lists {_names(f.unlisted)} as ready: the controller that "
            "writes them is behind"
        ),
    ),
    Rung(
        "strangers",
        lambda f: bool(f.strangers),
        lambda f: (
            f"an EndpointSlice of the Service lists {_names(f.strangers)}, which is no Ready "
            "pod of it"
        ),
    ),
    Rung(
        "homeless",
        lambda f: f.wants_answer and bool(f.homeless),
        lambda f: (
            f"no EndpointSlice says on which node {_names(f.homeless)} is, so no node takes it "
            "for a pod of its own"
        ),
    ),
    Rung(
        "pod-dead",
        lambda f: f.wants_answer and bool(f.dead),
        lambda f: (
            f"{_names(f.dead)} is Ready and does not answer at its own address from there: not a "
            "NodePort matter"
        ),
    ),
    Rung(
        "pod-network",
        lambda f: f.wants_answer and bool(f.unreached),
        lambda f: (
            f"{f.node} does not reach {_names(f.unreached)} at its own address, which its "
            "own node does: the pod network between them is broken"
        ),
    ),
    Rung(
        "proxy-dumb",
        lambda f: f.proxy == DUMB,
        lambda f: (
            f"kube-proxy on {f.node} does not answer: it is stopped or stuck"
            + (
                f", and the node has {f.rules} rules for this Service"
                if f.rules is not None
                else ""
            )
        ),
    ),
    Rung(
        "lacks-rules",
        lambda f: f.lacks_rules,
        lambda f: f"{f.node} lacks rules for this Service: {f.sync}",
    ),
    Rung(
        "proxy-behind",
        lambda f: f.is_behind,
        lambda f: f"{f.node} has old rules for this Service: {f.sync}",
    ),
    Rung(
        "proxy-ill",
        lambda f: f.proxy == ILL,
        lambda f: f"kube-proxy on {f.node} says that it is not healthy: {f.sync}",
    ),
    Rung(
        "rules-differ",
        lambda f: f.differs,
        lambda f: (
            f"{f.node} has {f.rules} rules for this Service and every other node "
            f"{f.rules_elsewhere[0]}: {f.sync}"
        ),
    ),
    Rung(
        "stale-flow",
        lambda f: f.protocol == "UDP" and f.is_stale,
        lambda f: (
            f"{f.node} goes on leading to {f.answered_by} what came from a port before, and leads "
            "new ports right: it keeps flows that it should have forgotten"
        ),
    ),
    Rung(
        "leads-on",
        lambda f: not f.wants_answer and f.answered_by is not None,
        lambda f: (
            f"{f.node} leads port {f.port} to {f.answered_by}, and should lead nobody: {f.sync}"
        ),
    ),
    Rung(
        "ends-otherwise",
        lambda f: not f.wants_answer and f.outcome in ("silent", "refused"),
        lambda f: (
            f"{f.node} leads nobody on, as it should, but calls of port {f.port} end {f.outcome}: "
            "what it has to say is lost, or not said"
        ),
    ),
    Rung(
        "foreign-host",
        lambda f: f.outcome == "foreign" and f.answered_by is None and not f.carried,
        lambda f: (
            f"somebody who is no pod of any echo answers calls of {f.node}:{f.port}, or some of "
            "them: they are led elsewhere on the way, or on the node"
        ),
    ),
    Rung(
        "replies-elsewhere",
        lambda f: f.is_lost and bool(f.replier),
        lambda f: (
            f"{f.node} answers datagrams from {f.replier}, and not from the address that was "
            "called, so nobody takes them for replies"
        ),
    ),
    Rung(
        "cluster-ip-too",
        lambda f: f.is_lost and f.cluster_ip is False,
        lambda f: (
            f"on {f.node} the ClusterIP does not answer either, though it has rules for this "
            "Service and reaches the pods: "
            + (
                "they lead to where nobody listens"
                if f.outcome == "refused"
                else "the way into its rules is cut"
            )
        ),
    ),
    Rung(
        "not-from-anywhere",
        lambda f: f.is_lost and not f.is_served and f.itself is False and f.neighbour is False,
        lambda f: (
            f"{f.node} serves the ClusterIP and not the node port, from wherever it is "
            "called: the rules for node ports are cut off or wrong"
        ),
    ),
    Rung(
        "not-from-others",
        lambda f: f.is_lost and not f.is_served and f.itself is True and f.neighbour is False,
        lambda f: (
            f"{f.node} answers the node port to itself and to nobody else: calls of others "
            + (
                "do not reach its rules"
                if f.outcome == "refused"
                else "are dropped, or replies lost"
            )
        ),
    ),
    Rung(
        "not-from-itself",
        lambda f: f.is_lost and f.itself is False and f.neighbour is None and f.cluster_ip is True,
        lambda f: (
            f"{f.node} serves the ClusterIP and not port {f.port} of the address by which it calls "
            "itself: its rules for node ports do not take that one"
        ),
    ),
    Rung(
        "not-from-inside",
        lambda f: f.is_lost and f.neighbour is False and f.outside is True,
        lambda f: (
            f"{f.node} answers the node port to callers outside and not to other nodes: calls from "
            "inside the cluster do not reach its rules, or are led otherwise"
        ),
    ),
    Rung(
        "not-from-outside",
        lambda f: f.is_lost and f.neighbour is True and f.again is False,
        lambda f: (
            f"{f.node} answers the node port to other nodes and not to {f.caller}, to whom "
            + (
                f"other nodes answer: what lies between this machine and {f.node} keeps it back"
                if f.elsewhere
                else "no other node answers either: look between this machine and the nodes"
            )
        ),
    ),
    Rung(
        "large-lost",
        lambda f: f.is_lost and f.carried > 0 and f.again is not False,
        lambda f: (
            f"{f.node} leads small questions on and not {f.carried} bytes, which ended "
            f"{f.outcome}: packets that are large, or many of them, do not pass"
        ),
    ),
    Rung(
        "idle-forgotten",
        lambda f: f.idle > 0 and (f.outcome == UNEVEN or (f.is_lost and f.again is not False)),
        lambda f: (
            f"{f.node} leads on what is new, and not to the same pod what was silent for "
            f"{f.idle:.0f} s: connections are forgotten too early, there or on the way"
        ),
    ),
    Rung(
        "cut-off",
        lambda f: f.is_lost and f.outcome == "cut off" and f.again is not False,
        lambda f: (
            f"connections through {f.node} are opened, and cut off before their end: they are "
            "reset or forgotten there or on the way"
        ),
    ),
    Rung(
        "held-up",
        lambda f: f.outcome == HELD_UP,
        lambda f: (
            f"first packets get lost on the way through {f.node} to "
            + (f"{f.answered_by}, and to no other pod" if f.answered_by else "more than one pod")
        ),
    ),
    Rung(
        "some-lost",
        lambda f: f.is_lost and 0 < f.wrong < f.asked and f.again is not False,
        lambda f: (
            f"{f.wrong} of {f.asked} calls through {f.node} ended {f.outcome}, and all others as "
            "they should: packets get lost there or on the way, or some calls are dropped"
        ),
    ),
    Rung(
        "by-port",
        lambda f: f.is_lost and f.wrong == f.asked >= SEVERAL and f.again is True,
        lambda f: (
            f"none of {f.asked} calls through {f.node} was answered, and one more is: either it "
            "has healed, or what is lost goes by the port that it comes from"
        ),
    ),
    Rung(
        "picks-wrongly",
        lambda f: f.outcome == UNEVEN,
        lambda f: (
            f"{f.node} leads each connection alone to a pod that may have it; what is wrong is "
            f"which one it picks{f' ({f.problem})' if f.problem else ''}: {f.sync}"
        ),
    ),
    Rung(
        "harmed",
        lambda f: f.outcome == "foreign" and f.carried > 0,
        lambda f: (
            f"of {f.carried} bytes that went through {f.node} others came back: they were changed "
            "on the way"
        ),
    ),
    Rung(
        "not-its-own",
        lambda f: (
            f.wants_answer
            and f.outcome == "answered"
            and f.seen_as is None
            and f.answered_by in f.ready
        ),
        lambda f: (
            f"{f.node} leads calls to {f.answered_by}, which is a pod of the Service and none that "
            "it may pick: a policy or a preference is not kept"
        ),
    ),
    Rung(
        "other-source",
        lambda f: f.wants_answer and f.outcome == "answered" and f.seen_as is not None,
        lambda f: (
            f"{f.answered_by}, called through {f.node}, saw {f.seen_as} as its caller: on that "
            "way somebody gives calls another address than the policy promises, or does not"
        ),
    ),
)
RIGHT_NOW = "every step answers by now: it flickers, or it took longer than it may"
UNEXPLAINED = "no step of the ladder explains it"


def reason(facts: Facts) -> tuple[str, str]:
    """The name and the line of the first rung that holds."""
    for rung in LADDER:
        if rung.holds(facts):
            return rung.name, rung.says(facts)
    steps = (facts.cluster_ip, facts.itself, facts.neighbour, facts.again)
    if facts.is_lost and all(step is not False for step in steps) and any(steps):
        return "right-now", f"{facts.caller} -> {facts.node}:{facts.port}: {RIGHT_NOW}"
    return "unexplained", f"{facts.caller} -> {facts.node}:{facts.port}: {UNEXPLAINED}"
