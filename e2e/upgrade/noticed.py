"""What users noticed: the record of a watch, held against budgets."""

from datetime import UTC, datetime
from pathlib import Path

from e2e import timing
from e2e.check.budgets import KEPT_WAYS, Budgets, Lost, judge
from e2e.check.causes import Cause
from e2e.check.outages import Ending
from e2e.check.outages import Outage as Found
from e2e.check.work import is_within, went, went_away, worked_on
from e2e.errors import UsageError
from e2e.report.verdict import EndedConversation, KeptBudget, Outage, Watched
from e2e.upgrade.plan import Plan
from e2e.upgrade.record import RECORD, FlowRecord, NothingRecordedError, Record, load
from e2e.upgrade.story import FlowStory, Story, story_of
from e2e.upgrade.timeline import content_hash, script, style, timeline_html

# Of a command whose watch was killed.
UNSEEN = ", whose end was not seen"


def read(folder: Path, plan: Plan, budgets: Budgets) -> tuple[Watched | None, str]:
    """What was recorded, if anybody watched, and its time line as HTML.

    Raises:
        UsageError: the record is none of this plan, or means nothing.
    """
    if not (folder / RECORD).exists():
        return None, ""
    try:
        record = load(folder)
    except NothingRecordedError:
        when = _moment((folder / RECORD).stat().st_mtime)
        return Watched(began=when, seconds=0.0, attempts=0, flows=0, killed=True), ""
    if record.namespace != plan.namespace:
        raise UsageError(
            f"{folder / RECORD} is of {record.namespace}, and the plan of {plan.namespace}",
            "keep each record with the plan that it was made with",
        )
    return watched(record, budgets), timeline_html(story_of(record))


def allowed() -> tuple[str, str]:
    """The hashes of the style and of the script that the time line brings."""
    return content_hash(style()), content_hash(script())


def watched(record: Record, budgets: Budgets) -> Watched:
    """A record in the words of a report."""
    story = story_of(record)
    judge_of = _Judge(record, story)
    outages = [
        judge_of.outage(one, outage, cause)
        for one in story.flows
        for outage, cause in zip(one.judged.outages, one.causes, strict=True)
    ]
    endings = [judge_of.ending(one, ending) for one in story.flows for ending in one.judged.endings]
    lost = [each for _, each in (*outages, *endings)]
    return Watched(
        began=_moment(story.began),
        seconds=story.until - story.began,
        attempts=sum(one.judged.answered + one.judged.lost for one in story.flows),
        flows=len(story.flows),
        outages=tuple(sorted((each for each, _ in outages), key=lambda each: each.began)),
        reasons=tuple(story.reasons),
        ended=tuple(sorted((each for each, _ in endings), key=lambda each: each.at)),
        budgets=tuple(
            KeptBudget(**vars(each)) for each in judge(lost, budgets, not_looked=story.not_looked)
        ),
        blind=story.not_looked,
        killed=story.was_killed,
        command=_command(story),
        moved=tuple(story.moved),
        unreached=story.unreached,
    )


class _Judge:
    """Knows what happened in the cluster while a flow was lost."""

    def __init__(self, record: Record, story: Story) -> None:
        self._record, self._events = record, story.events
        self._work = worked_on(story.events, [began for began, _ in story.stretches])
        self._away = went_away(story.events)

    def outage(self, one: FlowStory, found: Found, cause: Cause) -> tuple[Outage, Lost]:
        flow = one.flow
        on_it = is_within(found.start, self._work.get(flow.node, ())) or any(
            found.start <= at <= found.end + timing.REASON_BEFORE
            for at in self._away.get(flow.node, ())
        )
        kept = flow.way in KEPT_WAYS
        pod = _pod_before(self._record.flows[flow], found.start) if kept else ""
        lost = Lost(
            *(flow.node, flow.way, found.lost, found.length),
            worked_on=on_it,
            went=self._went(pod, found.start) if pod or not kept else False,
            flow=str(flow),
        )
        told = Outage(
            flow=str(flow),
            node=flow.node,
            path=flow.path,
            began=_moment(found.start),
            seconds=found.length,
            give_or_take=found.give_or_take,
            kind=str(found.kind),
            lost=found.lost,
            why=cause.why,
            worked_on=on_it,
            over=not found.goes_on,
        )
        return told, lost

    def ending(self, one: FlowStory, found: Ending) -> tuple[EndedConversation, Lost]:
        flow = one.flow
        on_it = is_within(found.at, self._work.get(flow.node, ()))
        gone = self._went(found.pod, found.at)
        lost = Lost(
            *(flow.node, flow.way, found.lost, 0.0), worked_on=on_it, went=gone, flow=str(flow)
        )
        why = f"{found.pod} went" if gone else f"{flow.node} was being worked on" if on_it else ""
        told = EndedConversation(
            flow=str(flow), node=flow.node, at=_moment(found.at), pod=found.pod, why=why
        )
        return told, lost

    def _went(self, pod: str, moment: float) -> bool:
        return went(f"{self._record.namespace}/{pod}", moment, self._events)


def _pod_before(record: FlowRecord, moment: float) -> str:
    """Who had answered a flow last before a moment."""
    before = [line for line in record.pods if line.at < moment]
    return max(before, key=lambda line: line.at).pod if before else ""


def _command(story: Story) -> str:
    """The commands that were run under the watch, each with its end."""
    told: list[str] = []
    ended = True
    for event in story.events:
        if event.kind == "command-started":
            told.append(event.name if ended else f"{told.pop()}{UNSEEN}; {event.name}")
            ended = False
        elif event.kind == "command-ended" and told:
            told[-1] += f", {event.said}"
            ended = True
    return "; ".join(told) + UNSEEN * (not ended)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
