"""What `verify` and `compare` found, as text for a terminal."""

from collections.abc import Iterable, Sequence

from e2e.plain import count_of, plain
from e2e.report.answers import answers
from e2e.report.summary import WHY
from e2e.report.verdict import Changed, ChangedTime, Changes, Verdict

# So many lines of a kind are told; verdict.json has them all.
LINES = 12
# Of the table of one step.
WRONG = 3
MARKS = {True: "x", False: "-"}


def verdict_text(verdict: Verdict) -> str:
    """The whole verdict, the answers first."""
    said = answers(verdict)
    lines = [
        said.verdict,
        f"  did users notice: {said.noticed}",
        f"  where:            {said.where}",
        f"  how long:         {said.how_long}",
        f"  why:              {said.why[0]}",
        *(f"{'':<20}{line}" for line in said.why[1:]),
    ]
    lines += _part("nodes that joined or left meanwhile", said.moved)
    if verdict.watched:
        lines += _part("budgets", [
            f"{'✓' if each.kept else 'x'} {each.name}: {each.used}, allowed {each.allowed}"
            for each in verdict.watched.budgets
        ])  # fmt: skip
        if verdict.watched.command:
            lines.append(f"the upgrade: {verdict.watched.command}")
    marks = {"failed": "x", "broken": "x", "left out": "-", "held": "✓"}
    steps = []
    for step in verdict.churn:
        words = {"left out": f" is left out: {step.said}", "broken": " could not be judged"}
        steps.append(f"{marks[step.ended]} {step.name}{words.get(step.ended, '')}")
        if step.ended in {"failed", "broken"}:
            steps += [f"    {line}" for line in _marked(step.said)]
    lines += _part("what was done to it afterwards", steps, limit=80)
    lines += _changes(verdict.changes)
    if not verdict.contract:
        lines.append("the contract was not asked both times, so behaviours are not compared")
    return plain("\n".join(lines))


def _marked(said: str) -> list[str]:
    """Of a table the head, the lines that are wrong, and the reasons; the report has all of it."""
    head, *lines = said.splitlines() or [""]
    wrong = [line for line in lines if line.startswith("x ")]
    more = [f"… and {len(wrong) - WRONG} more"] if len(wrong) > WRONG else []
    return [head, *wrong[:WRONG], *more, *(line for line in lines if line.startswith(WHY))]


def changes_text(changes: Changes) -> str:
    """What a comparison found, its answer first."""
    alike = (
        count_of(changes.asked, "clause")
        if changes.asked
        else "all but clauses, which are not known,"
    )
    unknown = count_of(changes.unknown, "clause")
    head = {
        0: f"Same: {alike} of {changes.before} and {changes.after} are alike.",
        1: f"Changed: {changes.counting} of what {changes.before} and {changes.after} do.",
        2: f"Not known: {unknown} could not be judged, all others are alike.",
    }[changes.exit_code]
    return plain("\n".join([head, *_changes(changes)]))


def _changes(changes: Changes) -> list[str]:
    behaviours = []
    for each in changes.behaviours:
        said = each.said.splitlines()
        mark = MARKS[each.counts or each.unknown]
        first = f": {said[0]}" if said and said[0] else ""
        behaviours += [f"{mark} {each.clause}: {each.before} -> {each.after}{first}"]
        behaviours += [f"    {line}" for line in said[1:]]
    both = f"both asked {count_of(changes.asked, 'clause')}"
    return [
        *_part(f"behaviours ({both})", behaviours, limit=3 * LINES),
        *_part("times", _times(changes.times)),
        *_part("allocations", _lines(changes.allocations)),
        *_part("Services", _lines(changes.objects)),
        *_part("defaults of new Services", _lines(changes.defaults)),
        *_part("versions", _lines(changes.versions)),
        *_part("nodes and configuration", _lines(changes.setup)),
        *_part("distributions, smallest p-value", [
            f"  {each.clause}: {each.before:.2g} of {each.verdicts[0]} -> "
            f"{each.after:.2g} of {each.verdicts[1]}"
            for each in changes.spreads
        ]),
    ]  # fmt: skip


def _times(times: Sequence[ChangedTime]) -> list[str]:
    told = [each for each in times if each.counts or each.what.startswith("all clauses")]
    return [
        f"{MARKS[each.counts]} {each.what}: {each.before:.2f} s -> {each.after:.2f} s "
        f"(p={each.p:.1g}{', beyond noise' if each.counts else ', noise'})"
        for each in told
    ]


def _lines(changes: Iterable[Changed]) -> list[str]:
    ranked = sorted(changes, key=lambda each: not each.counts)
    return [
        f"{MARKS[each.counts]} {each.about}{', ' + each.field if each.field else ''}: "
        f"{each.before} -> {each.after}"
        for each in ranked
    ]


def _part(title: str, lines: Sequence[str], limit: int = LINES) -> list[str]:
    if not lines:
        return []
    more = [f"  … and {len(lines) - limit} more"] if len(lines) > limit else []
    return [f"{title}:", *(f"  {line}" for line in lines[:limit]), *more]
