"""The results of several runs, shards of one whole mostly, as one result."""

import hashlib
import shlex
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from e2e.errors import UsageError
from e2e.provider.cache import file_name
from e2e.report.clauses import Clause
from e2e.report.collect import bounded, described, spread
from e2e.report.framed import BEGIN, unpack
from e2e.report.result import RESULT, ClauseResult, Counts, FlowEnd, Found, Merged, Result
from e2e.report.run_answers import without
from e2e.report.shard import Shard
from e2e.report.summary import BROKEN, FAILED, HELD, SKIPPED, exit_code

# The worst first: what did not hold anywhere does not hold.
WORST = (FAILED, BROKEN, HELD, SKIPPED)
NAMES = 6


@dataclass(frozen=True)
class Given:
    """A result, and the file that it is from."""

    file: Path
    result: Result


@dataclass(frozen=True)
class One:
    """One of several results of a clause, and whose it is."""

    of: Given
    clause: ClauseResult


def find(places: Iterable[Path], scratch: Path) -> tuple[list[Given], list[str]]:
    """Read results, and say why others cannot be read.

    Args:
        places: files, folders with one, folders of such folders, or logs of pods.
        scratch: a folder for what is in logs, which has to be there as long as the results.

    Raises:
        UsageError: none is there.
    """
    given: list[Given] = []
    lost: list[str] = []
    for number, place in enumerate(places):
        try:
            files = [_of_file(place, scratch / str(number))] if place.is_file() else []
        except UsageError as error:
            lost.append(f"{place}: {error.what}")
            continue
        files = files or [place / RESULT]
        if not files[0].is_file():
            files = sorted(place.glob(f"*/{RESULT}"))
            lost += [f"{folder} has no {RESULT}" for folder in _without(place)]
        for file in files:
            try:
                given.append(Given(file, Result.load(file)))
            except UsageError as error:
                lost.append(error.what)
    if not given:
        why = f": {'; '.join(lost)}" if lost else ""
        raise UsageError(f"there is no result to merge{why}", "name folders of results")
    return given, lost


def _of_file(file: Path, scratch: Path) -> Path:
    """The result that a file is, or that is in the log that it is."""
    text = file.read_text(errors="replace")
    return unpack(text, scratch) / RESULT if BEGIN in text else file


def _without(place: Path) -> list[Path]:
    """The place, or the folders in it, that have no result."""
    if not place.is_dir():
        return [place]
    inside = sorted(each for each in place.iterdir() if each.is_dir())
    found = [each for each in inside if (each / RESULT).is_file()]
    return [each for each in inside if each not in found] if found else [place]


def merge(given: Sequence[Given], lost: Sequence[str], contract: Sequence[Clause]) -> Result:
    """One result of several.

    What several asked counts by its worst end; what was asked through other nodes by each of them
    is put together.

    Args:
        given: the results.
        lost: why others are missing.
        contract: every clause that there is.

    Raises:
        UsageError: they are of different clusters, lanes or harnesses.
    """
    # The first of those that are the same is kept.
    once = list({(each.result.run, each.result.shard): each for each in reversed(given)}.values())
    once.sort(key=lambda each: (_order(each.result.shard), each.result.began, each.result.run))
    told = list(lost)
    if twice := len(given) - len(once):
        told.append(f"given twice, and counted once: {twice} of {len(given)} results")
    asked = {_whole_shard(each.result) for each in once if each.result.whole} - {None}
    parts = [e for e in once if not e.result.whole and _whole_shard(e.result) in asked]
    once = [each for each in once if each not in parts]
    told += [f"not counted, as all of it was asked again: a part of {_name(e)}" for e in parts]
    results = [each.result for each in once]
    told += _demand_one(results)
    clauses, said = _clauses(once)
    merged = tuple(part for result in results for part in _parts(result))
    wanted = {name for result in results for name in (result.whole_of or result.asked_for)}
    missing = sorted(wanted - {clause.clause for clause in clauses})
    found = _found(results)
    gaps = [*_gaps(merged, missing)]
    unseen = [n for n in found.nodes if n not in found.through] if found and found.through else []
    # Of shards of nodes that is a gap; of others each clause was asked through all nodes but one.
    (gaps if merged[0].shard.startswith("nodes:") else told).extend(
        [f"nobody called through {_some(unseen)}"] * bool(unseen)
    )
    told += said + [line for result in results for line in result.told]
    clauses = described(clauses, contract)
    whole = bool(wanted) and not missing and not gaps
    code = exit_code(clauses)
    runs = " ".join(sorted({part.run for part in merged}))
    return Result(
        # The same whenever the same runs are merged, so that a history has it once.
        run=f"merged-{hashlib.sha256(runs.encode()).hexdigest()[:12]}",
        began=min(part.began for part in merged),
        seconds=_seconds(merged),
        where=results[0].where,
        provider=results[0].provider,
        found=found,
        counts=Counts.of(clauses),
        # What is not known is nothing that holds.
        exit_code=code if whole or code == 1 else 2,
        whole=whole,
        asked_for=tuple(_in_order(wanted, contract)),
        merged=merged,
        gaps=tuple(gaps),
        told=tuple(dict.fromkeys(told)),
        clauses=tuple(clauses),
        environment=_environment(results),
        reproduce=_command(results, wanted),
    )


def _whole_shard(result: Result) -> tuple[str, tuple[str, ...]] | None:
    """What a result is a part of, or all: a shard of what was asked for; None if of no shard."""
    return (result.shard, result.whole_of) if result.shard else None


def _order(shard: str) -> Shard:
    return Shard.parse(shard) if shard else Shard(0, 0)


def _demand_one(results: Sequence[Result]) -> list[str]:
    """Go on only if they were asked of one cluster, or of clusters made for one lane.

    Returns:
        what there is to know of that.

    Raises:
        UsageError: they were not; says which differ in what.
    """
    found = [result.found for result in results if result.found]
    for what, said in (
        ("kinds of clusters", [result.provider for result in results]),
        ("harnesses", [result.environment.get("harness", "") for result in results]),
        ("versions", [each.version for each in found]),
        ("service proxies", [each.proxy for each in found]),
        ("IP families", [" and ".join(each.families) for each in found]),
    ):
        _demand_same(what, said)
    made = results[0].provider == "kind"
    clusters = sorted({each.cluster for each in found if each.cluster})
    if made:
        _demand_same("lanes", [result.where for result in results])
        if len(clusters) > 1:
            return [f"asked of {len(clusters)} clusters, each of which was made for this lane"]
        return []
    _demand_same("clusters", clusters)
    if not clusters or not all(each.cluster for each in found):
        # Whoever may not read who a cluster is may still know its nodes.
        _demand_same("nodes, and so clusters", [", ".join(each.nodes) for each in found])
    names = list(dict.fromkeys(result.where for result in results))
    return [f"one cluster, which they call by several names: {', '.join(names)}"] * bool(names[1:])


def _demand_same(what: str, said: Sequence[str]) -> None:
    if len(different := list(dict.fromkeys(said))) > 1:
        raise UsageError(
            f"these results are of different {what}: {' | '.join(different)}",
            "merge those of one cluster and lane alone; `nodeport-e2e compare` tells two apart",
        )


def _clauses(given: Sequence[Given]) -> tuple[list[ClauseResult], list[str]]:
    """Each clause once, and what is to be told of those that several asked."""
    by_clause: dict[str, list[One]] = {}
    for each in given:
        for clause in each.result.clauses:
            by_clause.setdefault(clause.clause, []).append(One(each, clause))
    told: list[str] = []
    alike: list[str] = []
    clauses = []
    for name, every in by_clause.items():
        worst = min(every, key=lambda one: WORST.index(one.clause.ended))
        ends = {one.clause.ended for one in every}
        by_nodes = all(one.of.result.shard.startswith("nodes:") for one in every)
        if len(ends) > 1:
            said = ", ".join(f"{one.clause.ended} in {_name(one.of)}" for one in every)
            told.append(f"{name} ended in several ways, of which the worst counts: {said}")
        elif len(every) > 1 and not by_nodes:
            alike.append(name)
        clause = _located(worst)
        clauses.append(_together(clause, [one.clause for one in every]) if by_nodes else clause)
    if alike:
        told.append(f"asked more than once, and ended alike: {_some(alike)}")
    return clauses, told


def _located(one: One) -> ClauseResult:
    """The clause with its evidence by a path that leads there from anywhere."""
    folder = one.of.file.parent.resolve()
    evidence = (folder / one.clause.evidence).resolve()
    # What is no folder says why there is none.
    if folder not in evidence.parents or not evidence.is_dir():
        return one.clause
    return one.clause.model_copy(update={"evidence": str(evidence)})


def bring_evidence(result: Result, given: Sequence[Given], out: Path) -> Result:
    """Copy the evidence of a merged result into a folder of results; gives the result with that.

    Args:
        result: the merged one.
        given: those of which it was merged.
        out: the folder.

    Raises:
        OSError: it cannot be copied.
    """
    brought = []
    # A file from elsewhere may name any folder of this machine.
    allowed = [each.file.parent.resolve() for each in given]
    for clause in result.clauses:
        evidence = Path(clause.evidence)
        if any(folder in evidence.parents for folder in allowed) and evidence.is_dir():
            place = Path("evidence") / file_name(clause.clause)
            shutil.copytree(evidence, out / place, symlinks=True, dirs_exist_ok=True)
            brought.append(clause.model_copy(update={"evidence": str(place)}))
        else:
            brought.append(clause)
    return result.model_copy(update={"clauses": tuple(brought)})


def _together(worst: ClauseResult, every: Sequence[ClauseResult]) -> ClauseResult:
    """What was seen of a clause through several parts of the nodes."""
    joined = ("settled", "converged", "judged", "watched", "measured", "flows", "loads", "outages")
    seen = {key: tuple(e for clause in every for e in getattr(clause, key)) for key in joined}
    flows = bounded([each.model_dump() for each in seen["flows"]])
    return worst.model_copy(
        update={
            **seen,
            "converged": spread(seen["converged"]),
            "flows": tuple(FlowEnd.model_validate(each) for each in flows),
            "chosen": tuple(dict.fromkeys(e for clause in every for e in clause.chosen)),
            "why": tuple(dict.fromkeys(e for clause in every for e in clause.why)),
            "reasons": tuple(dict.fromkeys(e for clause in every for e in clause.reasons)),
            "said": "\n".join(
                dict.fromkeys(each.said for each in every if each.ended == worst.ended)
            ),
            "seconds": max(each.seconds for each in every),
            "requests": sum(each.requests for each in every),
        }
    )


def _name(given: Given) -> str:
    """How a result is called among others."""
    shard = given.result.shard
    return f"shard {shard}" if shard else str(given.file.parent)


def _parts(result: Result) -> tuple[Merged, ...]:
    """The runs that a result is of."""
    if result.merged:
        return result.merged
    return (
        Merged(
            run=result.run,
            shard=result.shard,
            began=result.began,
            seconds=result.seconds,
            exit_code=result.exit_code,
            counts=result.counts,
            missing=result.missing,
            machine=result.environment.get("machine", ""),
            outside=result.environment.get("callers outside", ""),
        ),
    )


def _gaps(merged: Sequence[Merged], missing: Sequence[str]) -> Iterable[str]:
    """What is not known, in words."""
    there = [Shard.parse(part.shard) for part in merged if part.shard]
    for of, by in sorted({(shard.of, shard.by) for shard in there}):
        have = {shard.number for shard in there if (shard.of, shard.by) == (of, by)}
        gone = [str(Shard(of, n, by)) for n in range(1, of + 1) if n not in have]
        # What a shard of clauses would have asked may have been asked by another one.
        if gone and (missing or by == "nodes"):
            are = "shard is" if len(gone) == 1 else "shards are"
            yield f"{are} missing: {', '.join(gone[:NAMES])}{' and more' if gone[NAMES:] else ''}"
    for part in merged:
        if part.missing and part.shard.startswith("nodes:"):
            yield f"shard {part.shard} did not ask {_some(part.missing)}"
    if missing:
        yield f"not asked by anybody: {_some(missing)}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES} more" if names[NAMES:] else ""
    return ", ".join(names[:NAMES]) + more


def _seconds(merged: Sequence[Merged]) -> float:
    """For how long at least one of them ran."""
    total, until = 0.0, datetime.min.replace(tzinfo=merged[0].began.tzinfo)
    for part in sorted(merged, key=lambda part: part.began):
        end = part.began + timedelta(seconds=part.seconds)
        total += max(0.0, (end - max(part.began, until)).total_seconds())
        until = max(until, end)
    return total


def _found(results: Sequence[Result]) -> Found | None:
    """The cluster, with every node that anybody saw."""
    found = [result.found for result in results if result.found]
    if not found:
        return None
    nodes = tuple(dict.fromkeys(node for each in found for node in each.nodes))
    through = {node for each in found for node in (each.through or each.nodes)}
    clusters = {each.cluster for each in found}
    return found[0].model_copy(
        update={
            "nodes": nodes,
            "through": () if through >= set(nodes) else tuple(n for n in nodes if n in through),
            "cluster": clusters.pop() if len(clusters) == 1 else "",
        }
    )


def _environment(results: Sequence[Result]) -> dict[str, str]:
    """What is the same in all, and what each of several says."""
    names = dict.fromkeys(name for result in results for name in result.environment)
    return {
        name: "; ".join(
            dict.fromkeys(e.environment[name] for e in results if name in e.environment)
        )
        for name in names
    }


def _in_order(names: Iterable[str], contract: Sequence[Clause]) -> list[str]:
    order = {clause.id: place for place, clause in enumerate(contract)}
    return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _command(results: Sequence[Result], wanted: Iterable[str]) -> str:
    """The command that asks all of it in one go."""
    commands = {shlex.join(without(each.reproduce, "SHARD")) for each in results}
    if len(commands) == 1:
        return commands.pop()
    words = without(results[0].reproduce, "SHARD", "ONLY", "FAMILIES")
    return shlex.join([*words, f"ONLY={' '.join(sorted(wanted))}"])
