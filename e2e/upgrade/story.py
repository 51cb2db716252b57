"""What a record tells: did users notice, where, for how long, and why."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf

from e2e.check.causes import Cause, cause_of, why_of_all
from e2e.check.outages import Judged, Mark, Outage, Seen, judge
from e2e.check.troubles import Trouble, troubles
from e2e.plain import plain
from e2e.probe import ANSWERED, Outcome
from e2e.probe.outcome import CLOSED
from e2e.report.answers import moved, not_watched
from e2e.report.verdict import MovedNode, Reason
from e2e.upgrade.lines import (
    AttemptLine,
    EventLine,
    Lost,
)
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.record import FlowRecord, Record

# Of what may be long, a text shows so much.
LINES = 40
# Of a watch, the share in which nobody may have looked, and its first line does not say so.
SEEN_WELL = 0.05
PARTLY = "; that is so of one of several watches"


@dataclass(frozen=True)
class FlowStory:
    """What became of one flow.

    Attributes:
        flow: which.
        judged: its outages and what else there was.
        causes: why, of each outage.
        slowest: seconds, of the attempts that ended as expected.
        latest: seconds, of those that were answered when patience was over.
        held: why it could not be asked for a while.
        joined: when its node was found at this address, if not from the beginning.
        served: when it was answered first.
        gone: since when its node is not there any more.
    """

    flow: WatchedFlow
    judged: Judged
    causes: list[Cause]
    slowest: float
    latest: float
    held: list[str]
    joined: float | None = None
    served: float | None = None
    gone: float | None = None


@dataclass(frozen=True)
class Story:
    """What a record tells.

    Attributes:
        began: Unix time.
        until: likewise.
        flows: all of them, in the order of the plan.
        events: of the cluster.
        troubles: outages that overlap on one node and have one reason.
        stretches: when each watch began, and how it ended; none if it was killed.
        torn: lines of the record that broke off.
        unreached: IP families that were not watched, as the machine had no way to them, and why.
    """

    began: float
    until: float
    flows: list[FlowStory]
    events: list[EventLine]
    troubles: list[Trouble] = field(default_factory=list)
    stretches: list[tuple[float, str | None]] = field(default_factory=list)
    unreached: dict[str, str] = field(default_factory=dict)
    torn: int = 0

    @property
    def nodes(self) -> list[str]:
        """All nodes, in the order of the plan."""
        return list(dict.fromkeys(one.flow.node for one in self.flows))

    @property
    def reasons(self) -> list[Reason]:
        """Why there were outages, those first by which most was lost."""
        told: dict[str, list[tuple[Outage, Cause]]] = {}
        pairs = (
            pair for one in self.flows for pair in zip(one.judged.outages, one.causes, strict=True)
        )
        for outage, cause in sorted(pairs, key=lambda pair: pair[0].start):
            told.setdefault(cause.rule, []).append((outage, cause))
        found = [_reason(rule, its) for rule, its in told.items()]
        return sorted(found, key=lambda reason: -reason.lost)

    @property
    def moved(self) -> list[MovedNode]:
        """The nodes that joined or left, in the order in which that was seen."""
        flows: dict[tuple[str, float | None, float | None], list[FlowStory]] = {}
        for one in self.flows:
            if one.joined is not None or one.gone is not None:
                flows.setdefault((one.flow.node, one.joined, one.gone), []).append(one)
        by_time = sorted(flows.items(), key=lambda item: item[0][1] or item[0][2] or 0.0)
        return [_moved(*key, its) for key, its in by_time]

    @property
    def not_looked(self) -> float:
        """The longest time in which some flow was not asked, in seconds."""
        return max(
            (sum(to - at for at, to in one.judged.not_looked) for one in self.flows), default=0.0
        )

    @property
    def was_killed(self) -> bool:
        """Whether the last watch was, so that nothing is known of what came after it."""
        return bool(self.stretches) and self.stretches[-1][1] is None

    @property
    def noticed(self) -> bool:
        """Whether there was any outage."""
        return bool(self.troubles)


def _reason(rule: str, told: Sequence[tuple[Outage, Cause]]) -> Reason:
    return Reason(
        rule=rule,
        why=why_of_all([cause for _, cause in told]),
        nodes=tuple(dict.fromkeys(cause.node for _, cause in told)),
        outages=len(told),
        lost=sum(outage.lost for outage, _ in told),
    )


def _moved(
    node: str, joined: float | None, gone: float | None, its: Sequence[FlowStory]
) -> MovedNode:
    answered = sorted(
        (max(one.served - joined, 0.0), one.flow.path)
        for one in its
        if one.served is not None and joined is not None
    )
    return MovedNode(
        node=node,
        addresses=tuple(dict.fromkeys(one.flow.address for one in its)),
        joined=None if joined is None else datetime.fromtimestamp(joined, UTC),
        gone=None if gone is None else datetime.fromtimestamp(gone, UTC),
        first=answered[0][0] if answered else None,
        served=answered[-1][0] if answered else None,
        last=answered[-1][1] if answered else "",
        never=tuple(one.flow.path for one in its if one.served is None and joined is not None),
        unpromised=sum(one.judged.unpromised for one in its),
    )


def story_of(record: Record) -> Story:
    """Judge a whole record."""
    flows = [_flow_story(one, record) for one in record.flows.values()]
    told = troubles(
        (one.flow.node, one.flow.path, outage, cause)
        for one in flows
        for outage, cause in zip(one.judged.outages, one.causes, strict=True)
    )
    return Story(
        *(record.began, record.until, flows, record.events, told),
        stretches=list(record.stretches),
        unreached={
            family: why + PARTLY * any(flow.family == family for flow in record.flows)
            for family, why in record.unreached.items()
        },
        torn=record.torn,
    )


def _flow_story(one: FlowRecord, record: Record) -> FlowStory:
    judged = judge(seen(one, record.rate))
    causes = [
        cause_of(
            outage,
            record.events,
            node=one.flow.node,
            way=one.flow.way,
            namespace=record.namespace,
            service=one.flow.service,
        )
        for outage in judged.outages
    ]
    latest = max((line.took for line in one.late if not line.lost), default=0.0)
    held = sorted({why for *_, why in one.held})
    return FlowStory(
        *(one.flow, judged, causes, one.slowest, latest, held),
        joined=one.joined,
        served=one.served,
        gone=one.gone,
    )


def seen(one: FlowRecord, rate: float) -> Seen:
    """Give the judge what was recorded of a flow."""
    lines: list[AttemptLine | Lost] = [*one.attempts, *one.lost]
    return Seen(
        marks=[_mark(line, one.flow) for line in lines],
        expected=one.expected,
        looked=one.looked,
        held=[(at, to) for at, to, _ in one.held],
        late=[line.at for line in one.late if not line.lost],
        closed=[(line.at, line.pod) for line in one.ended],
        rate=rate,
        serves=-inf if one.joined is None else inf if one.served is None else one.served,
        gone=inf if one.gone is None else one.gone,
    )


def _mark(line: AttemptLine | Lost, flow: WatchedFlow) -> Mark:
    expected = is_expected(flow, line.outcome)
    if isinstance(line, Lost):
        return Mark(line.at, line.outcome, expected, line.to, line.count)
    said = line.said if not expected else ""
    return Mark(line.at, line.outcome, expected, pod=line.pod, said=said)


def is_expected(flow: WatchedFlow, outcome: Outcome) -> bool:
    """Whether an attempt of a flow should end so."""
    return outcome == ANSWERED if flow.expects == "answered" else outcome in CLOSED


# --- as text ---------------------------------------------------------------------------------


def as_text(story: Story) -> str:
    """The story for a terminal: the first line says whether users noticed."""
    lines = [headline(story), ""]
    if story.troubles:
        number = {reason.rule: f"{n}" for n, reason in enumerate(story.reasons, start=1)}
        lines += _table(
            ["from", "node", "length", "how", "lost", "paths", "why"],
            [_row(trouble, number) for trouble in story.troubles[:LINES]],
        )
        if len(story.troubles) > LINES:
            lines.append(f"and {len(story.troubles) - LINES} more")
        lines.append("")
        lines += [f"why {number[reason.rule]}: {reason.why}" for reason in story.reasons]
        lines.append("")
    lines += besides(story)
    return "\n".join(map(plain, lines)).rstrip() + "\n"


def headline(story: Story) -> str:
    """Whether users noticed, in one line."""
    asked = sum(one.judged.answered + one.judged.lost for one in story.flows)
    nodes = len(story.nodes)
    watched = f"{nodes} node{'s' * (nodes != 1)}, {len(story.flows)} flows, {asked:,} attempts"
    over = f"in {duration(story.until - story.began)} ({watched})"
    if not asked:
        return f"Nothing was watched {over}"
    if not story.troubles:
        unseen = story.not_looked > SEEN_WELL * (story.until - story.began)
        blind = f", but for {duration(story.not_looked)} of it nobody looked" * unseen
        return f"Nobody noticed anything {over}{blind}"
    lost = {trouble.node for trouble in story.troubles}
    worst = max((trouble.worst for trouble in story.troubles), key=lambda one: one.length)
    many = len(story.troubles)
    return (
        f"Users noticed: {many} outage{'s' * (many != 1)} on {len(lost)} of "
        f"{nodes} node{'s' * (nodes != 1)}, the longest {length(worst)}, {over}"
    )


def besides(story: Story) -> list[str]:
    """What there was that is no outage."""
    ended = [ending for one in story.flows for ending in one.judged.endings]
    pods = sorted({ending.pod for ending in ended if ending.pod})
    late = sum(one.judged.late for one in story.flows)
    lines = [*not_watched(story.unreached), *map(moved, story.moved)]
    if ended:
        lines.append(
            f"kept connections ended: {len(ended)}, and opened again at once"
            + (f" (to {_few(pods)})" if pods else "")
        )
    if late:
        latest = max(one.latest for one in story.flows)
        lines.append(
            f"answered late, and not lost: {late} attempts, the last of them after {latest:.1f} s"
        )
    if story.not_looked >= 0.05:
        share = story.not_looked / max(story.until - story.began, 0.001)
        why = _few(sorted({reason for one in story.flows for reason in one.held}))
        lines.append(
            f"not looked: {story.not_looked:.1f} s of it ({share:.1%})"
            + (f": {why}" if why else "")
            + "; whatever was then is not known"
        )
    if any(how is None for _, how in story.stretches[:-1]):
        lines.append("the watch was killed in between, and went on later")
    if story.torn:
        lines.append(
            f"torn lines of the record: {story.torn}, whose writers were killed; all others count"
        )
    if story.was_killed:
        at = clock_time(story.until)
        lines.append(f"the watch was killed at {at}, and what came after is not known")
    return lines


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _row(trouble: Trouble, number: Mapping[str, str]) -> list[str]:
    worst = trouble.worst
    kinds = trouble.kinds
    lost = sum(kinds.values())
    between = sum(outage.between for outage in trouble.paths.values())
    return [
        clock_time(trouble.start),
        trouble.node,
        length(worst),
        ", ".join(f"{kind} {count}" for kind, count in kinds.items()),
        f"{lost} of {lost + between}",
        str(len(trouble.paths)) if len(trouble.paths) > 1 else next(iter(trouble.paths)),
        number[trouble.cause.rule],
    ]


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    every = [head, *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in every) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in every
    ]


def length(outage: Outage) -> str:
    """How long an outage was, and how well that is known."""
    more = "at least " if outage.goes_on else ""
    return f"{more}{outage.length:.2f} s (±{outage.give_or_take:.2f})"


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def clock_time(at: float) -> str:
    """A moment by this machine's clock, to the hundredth of a second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-4]
