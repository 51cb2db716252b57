"""The time line: one picture of a watch, nodes and paths as rows; the page needs no network."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from math import inf

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from e2e.check.causes import Cause, Names
from e2e.check.outages import Outage
from e2e.report.verdict import Reason
from e2e.upgrade.lines import (
    EventLine,
)
from e2e.upgrade.plan import WatchedFlow
from e2e.upgrade.story import (
    FlowStory,
    Story,
    besides,
    clock_time,
    duration,
    headline,
    is_expected,
    length,
)

ROW = 22
# More nodes without an outage share a row until they are asked for.
QUIET_NODES = 6
# The paths of more nodes with outages are folded away at first.
OPEN_NODES = 8
# Of a table, rows that a browser still scrolls through with ease.
ROWS = 2000
TICKS = 8
STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600)
KINDS = ("refused", "silent", "cut off", "foreign", "no route", "answered")
BANDS = (
    ("command", ("command-", "step")),
    ("API server", ("api-",)),
    ("leases", ("lease-",)),
    ("nodes", ("node-", "cordoned", "uncordoned", "kubelet-")),
    ("kube-proxy", ("proxy-",)),
    ("system pods", ()),
    ("watched pods", ("pod-",)),
    ("endpoints", ("endpoints",)),
)


@dataclass(frozen=True)
class Bar:
    """Something on a row.

    Attributes:
        a: Unix time of its left end.
        b: of its right end; the same for a moment.
        look: the class that colours it.
        said: what the pointer is told.
    """

    a: float
    b: float
    look: str
    said: str


@dataclass
class Line:
    """A row of the picture.

    Attributes:
        id: its name in the page.
        label: what it says at its left.
        look: band, node, path or group.
        bars: what is on it.
        under: the row that folds it away.
        folded: whether it is hidden at first.
        folds: how many rows it folds away.
        unfolded: whether they are shown at first.
        y: its place, if it is shown at first.
    """

    id: str
    label: str
    look: str
    bars: list[Bar] = field(default_factory=list)
    under: str = ""
    folded: bool = False
    folds: int = 0
    unfolded: bool = False
    y: int = 0


def timeline_page(story: Story) -> str:
    """Make the picture as a page of its own."""
    return _template("page").render(
        fragment=Markup(timeline_html(story)),  # noqa: S704  # made by a template that escapes
        title=headline(story),
        style=content_hash(style()),
        script=content_hash(script()),
    )


def timeline_html(story: Story) -> str:
    """Make the picture as part of a page: style, picture, table and script.

    A page with a Content-Security-Policy names the hashes of `style` and `script`.
    """
    lines = rows_of(story)
    shown = [line for line in lines if not line.folded]
    for place, line in enumerate(shown):
        line.y = place * ROW
    until = max(story.until, story.began + 0.1)

    for line in lines:
        line.bars = [
            replace(bar, a=max(bar.a, story.began), b=min(bar.b, until)) for bar in line.bars
        ]

    def x(at: float) -> float:
        return round((at - story.began) / (until - story.began) * 100, 4)

    return _template("timeline").render(
        story=story,
        headline=headline(story),
        besides=besides(story),
        until=until,
        lines=lines,
        height=len(shown) * ROW,
        row=ROW,
        x=x,
        ticks=[(at, _tick(at, step)) for at, step in _ticks(story.began, until)],
        offset=(datetime.fromtimestamp(story.began).astimezone().utcoffset() or _NONE).seconds,
        steps=",".join(f"{step:g}" for step in STEPS),
        through=_through,
        kinds=KINDS,
        table=_table(story)[:ROWS],
        cut=max(len(_table(story)) - ROWS, 0),
        events=[(clock_time(event.at), event) for event in story.events[:ROWS]],
        style=Markup(style()),  # noqa: S704  # a file of this package
        script=Markup(script()),  # noqa: S704  # likewise
    )


_NONE = datetime.resolution * 0


def rows_of(story: Story) -> list[Line]:
    """Lay out the rows: what happened in the cluster first, then the nodes."""
    lines = [line for line in _bands(story.events) if line.bars]
    by_node: dict[str, list[FlowStory]] = {node: [] for node in story.nodes}
    for one in story.flows:
        by_node[one.flow.node].append(one)
    loud = [node for node, flows in by_node.items() if any(f.judged.outages for f in flows)]
    quiet = [node for node in by_node if node not in loud]
    for node in loud:
        lines += _node(node, by_node[node], len(lines), unfolded=len(loud) <= OPEN_NODES)
    if len(quiet) <= QUIET_NODES:
        for node in quiet:
            lines += _node(node, by_node[node], len(lines), unfolded=False)
        return lines
    group = Line(f"r{len(lines)}", f"{len(quiet)} nodes without an outage", "group")
    group.folds = len(quiet)
    group.bars = _merged(_calm(one) for node in quiet for one in by_node[node])
    lines.append(group)
    for node in quiet:
        (line,) = _node(node, by_node[node], len(lines), unfolded=False)[:1]
        line.under, line.folded, line.folds = group.id, True, 0
        lines.append(line)
    return lines


def _node(node: str, flows: Sequence[FlowStory], number: int, *, unfolded: bool) -> list[Line]:
    """The row of a node, and under it one for each of its paths."""
    whole = Line(f"r{number}", node, "node", folds=len(flows), unfolded=unfolded)
    # Rows of quiet paths would only push the others off the screen.
    quiet = [one for one in flows if not one.judged.outages]
    # When nobody looked is hatched over what was seen on both sides of it.
    whole.bars = [*_absences(flows), *(bar for one in flows for bar in _outages(one))]
    whole.bars += _merged(_calm(one) for one in flows)
    lines = [whole]
    for place, one in enumerate(sorted(flows, key=lambda one: not one.judged.outages)):
        label = one.flow.path + ("" if one.flow.expects == "answered" else " (blocked)")
        line = Line(f"r{number}-{place}", label, "path", under=whole.id)
        line.folded = not unfolded or one in quiet
        line.bars = _absences([one]) + _outages(one) + _calm(one)
        lines.append(line)
    if quiet and unfolded:
        whole.unfolded = len(quiet) < len(flows)
    return lines


def _outages(one: FlowStory) -> list[Bar]:
    bars = []
    for outage, cause in zip(one.judged.outages, one.causes, strict=True):
        said = f"{one.flow.path}: {_kinds(outage)} for {length(outage)} from "
        said += f"{clock_time(outage.start)}; {cause.why}"
        look = f"k-{outage.kind.replace(' ', '-')}"
        bars.append(Bar(outage.start, outage.end, look, said))
    return bars


def _calm(one: FlowStory) -> list[Bar]:
    """What is on a row beside outages: when nobody looked, and where connections ended."""
    bars = [
        Bar(at, to, "held", f"not looked for {to - at:.2f} s from {clock_time(at)}")
        for at, to in one.judged.not_looked
    ]
    return bars + [
        Bar(ending.at, ending.at, "ended", f"kept connection to {ending.pod} ended "
            f"{clock_time(ending.at)}, and opened again at once")
        for ending in one.judged.endings
    ]  # fmt: skip


def _absences(flows: Sequence[FlowStory]) -> list[Bar]:
    """When the node of some flows was not there, or none of them was answered yet."""
    bars = []
    node = flows[0].flow.node
    joined = [one.joined for one in flows if one.joined is not None]
    gone = [one.gone for one in flows if one.gone is not None]
    if len(joined) == len(flows):
        first = min((one.served for one in flows if one.served is not None), default=inf)
        said = f"{node} joined {clock_time(min(joined))}"
        bars.append(Bar(-inf, min(joined), "absent", said))
        answered = "no answer yet" if first < inf else "never answered"
        bars.append(Bar(min(joined), max(first, min(joined)), "absent", f"{said}; {answered}"))
    if len(gone) == len(flows):
        said = f"{node} left {clock_time(max(gone))}, and did not come back"
        bars.append(Bar(max(gone), inf, "absent", said))
    return bars


def _merged(every: Iterable[list[Bar]]) -> list[Bar]:
    """Bars of several rows on one, each once."""
    return sorted({bar for bars in every for bar in bars}, key=lambda bar: bar.a)


def _bands(events: Sequence[EventLine]) -> list[Line]:
    lines = [Line(f"b{n}", label, "band") for n, (label, _) in enumerate(BANDS)]
    for event in events:
        place = _band(event)
        said = " ".join(filter(None, [event.kind, event.node, event.name, event.said]))
        since = event.at if event.since is None else event.since
        lasted = f" (lasted {event.at - since:.1f} s)" if event.since is not None else ""
        look = "event bad" if event.kind in BAD else "event"
        lines[place].bars.append(
            Bar(since, event.at, look, f"{clock_time(event.at)} {said}{lasted}")
        )
    return lines


BAD = {
    "api-away",
    "api-back",
    "lease-idle",
    "lease-held",
    "node-not-ready",
    "node-removed",
    "pod-not-ready",
    "pod-gone",
    "proxy-mode",
}


def _band(event: EventLine) -> int:
    names = [label for label, _ in BANDS]
    if event.kind.startswith("pod-") and event.name.startswith("kube-system/"):
        return names.index("kube-proxy" if "/kube-proxy" in event.name else "system pods")
    for place, (_, beginnings) in enumerate(BANDS):
        if beginnings and event.kind.startswith(beginnings):
            return place
    return names.index("nodes")


def _kinds(outage: Outage) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in outage.kinds.items())


def _table(story: Story) -> list[dict[str, str]]:
    """Exact figures, one row an outage."""
    rows = [
        (outage, cause, one.flow)
        for one in story.flows
        for outage, cause in zip(one.judged.outages, one.causes, strict=True)
    ]
    rows.sort(key=lambda row: (row[0].start, row[2].node, row[2].path))
    number = {reason.rule: f"{n}" for n, reason in enumerate(story.reasons, start=1)}
    return [_figures(*row, number[row[1].rule]) for row in rows]


def _through(reason: Reason) -> str:
    """Through which nodes was called, where its words do not name them."""
    if all(node in reason.why for node in reason.nodes):
        return ""
    return f", through {Names.of(reason.nodes)}"


def _figures(outage: Outage, cause: Cause, flow: WatchedFlow, number: str) -> dict[str, str]:
    blind = f", of which {outage.blind:.2f} s not looked" if outage.blind else ""
    said = "" if is_expected(flow, outage.kind) else outage.said
    return {
        "from": clock_time(outage.start),
        "to": "goes on" if outage.goes_on else clock_time(outage.end),
        "node": flow.node,
        "path": flow.path,
        "length": length(outage) + blind,
        "kind": _kinds(outage),
        "lost": f"{outage.lost} of {outage.lost + outage.between}",
        "why": cause.why,
        "number": number,
        "said": f" ({said})" if said else "",
        "id": cause.rule,
        "look": f"k-{outage.kind.replace(' ', '-')}",
        "a": f"{outage.start:.4f}",
        "b": f"{outage.end:.4f}",
    }


def _ticks(began: float, until: float) -> list[tuple[float, float]]:
    step = next((s for s in STEPS if (until - began) / s <= TICKS), STEPS[-1])
    first = int(began / step) + 1
    return [(n * step, step) for n in range(first, int(until / step) + 1)][: TICKS * 4]


def _tick(at: float, step: float) -> str:
    return clock_time(at) if step < 1 else clock_time(at)[:-3]


def content_hash(text: str) -> str:
    """What a Content-Security-Policy calls a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def style() -> str:
    """The style that `timeline_html` brings."""
    return _file("timeline.css")


def script() -> str:
    """The script that `timeline_html` brings."""
    return _file("timeline.js")


@cache
def _environment() -> Environment:
    loader = PackageLoader("e2e.upgrade", "pages")
    new = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    new.globals["duration"] = duration
    return new


def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.html.j2")


@cache
def _file(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0]
