"""Who calls whom."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from typing import Any, Protocol

from e2e.probe.outcome import ANSWERED, FOREIGN
from e2e.probe.reply import Reply, is_enough

TCP, UDP = "TCP", "UDP"
# So many connections of one flow may be under way where none depends on the one before.
AT_ONCE = 8
# More callers at the same time are in one another's way.
SIDE_BY_SIDE = 256


class Vantage(Protocol):
    """Where a caller stands."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def call(self, address: str, port: int) -> Reply:
        """Ask once, over a connection of its own, who answers there.

        Raises:
            ProbeBrokenError: the caller itself failed, so nothing was learnt.
        """
        ...

    def call_closely(self, address: str, port: int) -> Reply:
        """Ask as in `call`, and over the same connection as whom the pod sees the caller."""
        ...

    def call_udp(self, address: str, port: int) -> Reply:
        """Ask once, from a socket of its own, who answers there over UDP."""
        ...

    def draw(self, address: str, port: int, times: int, at_once: int = 1) -> list[Reply]:
        """Ask `times` times, each time over a fresh connection, and give the replies in that order.

        At most `at_once` are under way together; a vantage may take that as one after another.
        Ends early, with what there is, where going on would ask a dead target in vain.
        """
        ...


class Crowd(Protocol):
    """Vantages, each of which has this as its `crowd`, that cost less to ask together."""

    def draw_together(self, calls: Sequence[tuple[Any, str, int]], times: int) -> list[list[Reply]]:
        """As `draw` of each of these vantages, for its own address and port."""
        ...


class Owner(Protocol):
    """Whose pods may answer at a target."""

    def owns(self, echo: str) -> bool:
        """Whether the pod of this name belongs to the service."""
        ...

    def whereabouts(self, echo: str) -> str:
        """The node that the pod runs on, or nothing if that is not known."""
        ...


@dataclass(frozen=True)
class Target:
    """An address and a port, and who may answer there.

    Attributes:
        name: what messages call the address: a node, `ClusterIP`, an external IP.
        address: IPv4 or IPv6, without brackets.
        port: the port that is called.
        owner: whose pods may answer.
        protocol: TCP, over which HTTP is spoken, or UDP.
    """

    name: str
    address: str
    port: int
    owner: Owner
    protocol: str = TCP

    @property
    def family(self) -> str:
        """IPv4 or IPv6; nothing where a host name is called."""
        try:
            return f"IPv{ip_address(self.address).version}"
        except ValueError:
            return ""

    def __str__(self) -> str:
        return f"{self.name}:{self.port}" + ("" if self.protocol == TCP else f"/{self.protocol}")


@dataclass(frozen=True, eq=False)
class Flow:
    """One vantage calling one target.

    Attributes:
        caller: who calls.
        target: what is called.
        is_close: whether the pod is asked too as whom it sees the caller.
    """

    caller: Vantage
    target: Target
    is_close: bool = False

    def __str__(self) -> str:
        return f"{self.caller.name} -> {self.target}"

    def at(self, port: int) -> "Flow":
        """The flow from the same caller to another port of the same address."""
        return replace(self, target=replace(self.target, port=port))

    def owned_by(self, owner: Owner) -> "Flow":
        """The same flow, where somebody else has to answer."""
        return replace(self, target=replace(self.target, owner=owner))

    def closely(self) -> "Flow":
        """The flow whose replies say too as whom the pod saw the caller."""
        return replace(self, is_close=True)

    def call(self) -> Reply:
        """Ask once; an answer from anybody else's pod is FOREIGN."""
        caller, target = self.caller, self.target
        ask = caller.call_closely if self.is_close else caller.call
        if target.protocol == UDP:
            ask = caller.call_udp
        return self.checked(ask(target.address, target.port))

    def draw(self, times: int, at_once: int = 1) -> list[Reply]:
        """Ask `times` times, over fresh connections, each answer checked as in `call`."""
        if not self.is_close and self.target.protocol == TCP:
            replies = self.caller.draw(self.target.address, self.target.port, times, at_once)
            return [self.checked(reply) for reply in replies]
        replies = []
        while len(replies) < times and not is_enough(replies):
            replies.append(self.call())
        return replies

    def checked(self, reply: Reply) -> Reply:
        """The reply, as FOREIGN if it is an answer from anybody else's pod."""
        owner = self.target.owner
        if reply.echo is None:
            return reply
        if reply.outcome == ANSWERED and not owner.owns(reply.echo):
            return replace(reply, outcome=FOREIGN, detail="not a pod of this service")
        return replace(reply, detail=reply.detail or owner.whereabouts(reply.echo))


def look(flows: Iterable[Flow]) -> dict[Flow, Reply]:
    """Call every flow once, all at the same time if they are not hundreds."""
    looked = _each(flows, lambda flow: [flow.call()], 1)
    return {flow: replies[0] for flow, replies in looked.items()}


def draw(flows: Iterable[Flow], times: int, at_once: int = 1) -> dict[Flow, list[Reply]]:
    """Draw `times` replies from every flow, flows side by side.

    Args:
        flows: what to draw from.
        times: how often, from each.
        at_once: how many connections of a flow may be under way together.
    """
    return _each(flows, lambda flow: flow.draw(times, at_once), times)


def all_different(flows: Iterable[Flow]) -> list[Flow]:
    """The flows, of which each can be asked once.

    Raises:
        ValueError: one is there twice, and what it brought the first time would be lost.
    """
    every = list(flows)
    if len(set(every)) < len(every):
        raise ValueError("a flow is given twice, and only one of its draws would be seen")
    return every


def _each(
    flows: Iterable[Flow], ask: Callable[[Flow], list[Reply]], times: int
) -> dict[Flow, list[Reply]]:
    every = all_different(flows)
    if not every:
        return {}
    crowds: dict[int, list[Flow]] = {}
    work: list[Callable[[], dict[Flow, list[Reply]]]] = []
    for flow in every:
        crowd = getattr(flow.caller, "crowd", None)
        if crowd is None or flow.is_close or flow.target.protocol != TCP:
            work.append(partial(_alone, flow, ask))
        else:
            crowds.setdefault(id(crowd), []).append(flow)
    work += [partial(_together, of_crowd, times) for of_crowd in crowds.values()]
    pool = ThreadPoolExecutor(min(len(work), SIDE_BY_SIDE))
    try:
        found = {
            flow: got for part in pool.map(lambda do: do(), work) for flow, got in part.items()
        }
    finally:
        # Who interrupts does not want to wait for callers that are still waiting themselves.
        pool.shutdown(wait=False, cancel_futures=True)
    return {flow: found[flow] for flow in every}


def _alone(flow: Flow, ask: Callable[[Flow], list[Reply]]) -> dict[Flow, list[Reply]]:
    return {flow: ask(flow)}


def _together(flows: Sequence[Flow], times: int) -> dict[Flow, list[Reply]]:
    """Let a crowd call all of its flows."""
    crowd: Crowd = flows[0].caller.crowd  # type: ignore[attr-defined]
    calls = [(flow.caller, flow.target.address, flow.target.port) for flow in flows]
    drawn = crowd.draw_together(calls, times)
    return {
        flow: [flow.checked(reply) for reply in replies]
        for flow, replies in zip(flows, drawn, strict=True)
    }
