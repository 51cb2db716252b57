"""Which node was being worked on, and whose pod went, by what happened in the cluster. Pure."""

from collections.abc import Iterable, Sequence
from math import inf

from e2e import timing
from e2e.check.causes import Event
from e2e.check.outages import Span

# What begins work on a node, and what ends it.
BEGINS = {"cordoned": "uncordoned", "node-not-ready": "node-ready", "node-removed": "node-added"}
# What is work on a node by itself.
MOMENTS = (
    *("kubelet-version", "kubelet-started", "proxy-started"),
    *("node-restarted", "node-added", "node-address"),
)
# What is work where it happens to a node's kube-proxy.
OF_PROXIES = ("pod-terminating", "pod-gone", "pod-added", "pod-started")
# What the command that is watched said, until it says the next thing or there is another one.
STEP, BEGUN, OVER = "step", "command-started", "command-ended"
PROXY = "kube-system/kube-proxy-"
# What tells that a node was away, when it is back or was missed.
AWAY = ("node-restarted", "node-not-ready", "node-removed")
WENT = ("pod-terminating", "pod-gone", "pod-not-ready")


def worked_on(events: Iterable[Event], begun: Iterable[float] = ()) -> dict[str, list[Span]]:
    """When each node was being worked on, as far as events tell.

    From shortly before each event, which may be told late, until its effects have come. A watch
    that begins tells anew what is not as usual then, so that what an earlier one did not see the
    end of ends there.

    Args:
        events: in any order.
        begun: when each watch began.
    """
    spans: dict[str, list[Span]] = {}
    open_since: dict[tuple[str, str], float] = {}
    said: Event | None = None

    def end_all(at: float) -> None:
        for (node, _), since in open_since.items():
            spans.setdefault(node, []).append(_around(since, at))
        open_since.clear()

    anew = sorted(begun)
    for event in sorted(events, key=lambda each: each.at):
        while anew and anew[0] <= event.at:
            end_all(anew.pop(0))
        if event.kind in (STEP, BEGUN, OVER):
            if said and said.node:
                spans.setdefault(said.node, []).append(_around(said.at, event.at))
            said = event
            continue
        if not event.node:
            continue
        began = event.at if event.since is None else event.since
        if event.kind in BEGINS:
            open_since.setdefault((event.node, BEGINS[event.kind]), began)
        elif (opened := open_since.pop((event.node, event.kind), None)) is not None:
            spans.setdefault(event.node, []).append(_around(opened, event.at))
        of_proxy = event.kind in OF_PROXIES and event.name.startswith(PROXY)
        if event.kind in MOMENTS or of_proxy:
            spans.setdefault(event.node, []).append(_around(began, event.at))
    if said and said.node:
        spans.setdefault(said.node, []).append(_around(said.at, inf))
    end_all(inf)
    return spans


def went_away(events: Iterable[Event]) -> dict[str, list[float]]:
    """When each node was known to have been away, which is told after it went."""
    found: dict[str, list[float]] = {}
    for event in events:
        if event.kind in AWAY and event.node:
            found.setdefault(event.node, []).append(event.at)
    return found


def is_within(moment: float, spans: Iterable[Span]) -> bool:
    """Whether a moment is in one of some times."""
    return any(since <= moment <= until for since, until in spans)


def went(pod: str, moment: float, events: Sequence[Event]) -> bool:
    """Whether a pod, with its namespace, was on its way out at a moment.

    With a namespace and a slash alone, whether any pod of it was.

    A pod that goes on serving after it was told to end ends its conversations when it is gone.
    One whose node goes away says nothing, and is started again with it.
    """
    homes = {event.node for event in events if event.name == pod and event.node}
    return any(
        event.kind in WENT
        and (event.name.startswith(pod) if pod.endswith("/") else event.name == pod)
        and moment - timing.POD_GOES_WITHIN <= event.at <= moment + timing.REASON_BEFORE
        for event in events
    ) or any(
        moment - timing.REASON_AFTER <= at <= moment + timing.NODE_MISSED_WITHIN
        for home, moments in went_away(events).items()
        for at in moments
        if home in homes
    )


def _around(since: float, until: float) -> Span:
    return since - timing.REASON_AFTER, until + timing.REASON_BEFORE
