"""From what pytest reports of clauses to the result of a run."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2e.report.clauses import BESIDE, HOSTS, OUTSIDE, PODS, Clause
from e2e.report.result import ClauseResult
from e2e.report.summary import BROKEN, FAILED, HELD, SKIPPED, WHY

# So many flows of a clause are told one by one, and beyond that those that are wrong: a report of
# a thousand nodes is else larger than any browser.
FLOWS = 500
MANY = "many nodes"
# Where a caller stands, by how its name begins; who stands on a node is told by the node too.
STAND = {"host network of ": HOSTS, "pod on ": PODS, "caller ": BESIDE, "straying caller ": BESIDE}


def vantage_of(caller: str) -> str:
    """Where a caller stands, by its name."""
    for begins, where in STAND.items():
        if caller.startswith(begins):
            on = caller.removeprefix(begins) if where in (HOSTS, PODS) else ""
            return f"{where} on {on}" if on else where
    return OUTSIDE


def node_of(flow: str, nodes: Collection[str]) -> str:
    """The node through which a flow called, by its name and theirs; nothing if through none."""
    caller, _, target = flow.partition(" -> ")
    words = re.split(r"[ :]", target)
    if "localhost" in words:
        words += caller.split(" ")
    return next((word for word in words if word in nodes), "")


def is_ended(reports: Sequence[Any]) -> bool:
    """Whether a clause came to an end; one that was only set up when the run was ended did not."""
    return any(each.failed or each.skipped or each.when == "call" for each in reports)


def clause_of(reports: Sequence[Any], nodes: Sequence[str], out: Path) -> ClauseResult:
    """One clause, from the reports of its set-up, call and tear-down, as far as there are any.

    Args:
        reports: of pytest; the last of them has what the clause noted.
        nodes: the names of the cluster's nodes.
        out: the folder of the results.
    """
    properties = [pair for pair in reports[-1].user_properties if isinstance(pair[1], str)]
    noted = dict(properties)
    wrong = next((each for each in reports if each.failed), None)
    skipped = next((each for each in reports if each.skipped), None)
    ended, said = HELD, ""
    if wrong is not None:
        # A process that crashed notes nothing.
        of_it = dict(wrong.user_properties)
        ended = of_it.get("ended", BROKEN)
        said = of_it.get("said") or str(wrong.longrepr).strip().rpartition("\n")[2]
        noted |= {key: of_it[key] for key in ("evidence",) if key in of_it}
    elif skipped is not None:
        ended = SKIPPED
        if isinstance(skipped.longrepr, tuple):
            said = str(skipped.longrepr[2]).removeprefix("Skipped: ")
    return ClauseResult(
        clause=noted.get("clause", reports[0].nodeid.partition("::")[2]),
        covers=tuple(noted.get("covers", "").split()),
        known_bug=noted.get("known_bug", ""),
        ended=ended,  # type: ignore[arg-type]  # pydantic checks it
        said=said,
        why=tuple(line for line in said.splitlines() if line.startswith(WHY)),
        reasons=tuple(value for key, value in properties if key == "reason"),
        evidence=_evidence(noted.get("evidence", ""), out) if ended in (FAILED, BROKEN) else "",
        seconds=sum(each.duration for each in reports),
        chosen=tuple(value for key, value in properties if key == "chosen"),
        **_figures(getattr(reports[-1], "figures", {}), frozenset(nodes)),
    )


def described(found: Iterable[ClauseResult], clauses: Iterable[Clause]) -> list[ClauseResult]:
    """What was found, with what the source says of each clause, in the order of the contract."""
    known = {clause.id: clause for clause in clauses}
    order = {name: place for place, name in enumerate(known)}
    ranked = sorted(found, key=lambda each: (order.get(each.clause, len(order)), each.clause))
    return [each.about(known[each.clause]) if each.clause in known else each for each in ranked]


def _figures(figures: Mapping[str, Any], nodes: Collection[str]) -> dict[str, Any]:
    plain = ("settled", "converged", "judged", "watched", "measured")
    kept = {key: tuple(figures[key]) for key in plain if key in figures}
    if "converged" in kept:
        kept["converged"] = spread(kept["converged"])
    flows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in figures.get("flows", ()):
        told = {**each, "vantage": vantage_of(each["caller"])}
        told["node"] = node_of(f"{each['caller']} -> {each['target']}", nodes)
        same = flows.setdefault(tuple(told[key] for key in told if key != "took"), told)
        if same is not told:
            same["times"] = same.get("times", 1) + 1
            same["took"] = max(filter(None, (same["took"], told["took"])), default=told["took"])
    return {
        **kept,
        "requests": figures.get("requests", 0),
        "flows": tuple(bounded(list(flows.values()))),
        **{
            key: tuple({**each, "node": node_of(each[name], nodes)} for each in figures[key])
            for key, name in (("loads", "flow"), ("outages", "track"))
            if key in figures
        },
    }


def bounded(flows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The flows of a clause; where they are very many, those that are right by their kind."""
    if len(flows) <= FLOWS:
        return flows
    wrong = [each for each in flows if not each["right"]]
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in flows:
        if not each["right"]:
            continue
        stands = each["vantage"].partition(" on ")[0]
        # Of addresses that only one run has, as of ClusterIPs, there are not many.
        through = MANY if each["node"] else each["target"]
        saw = each["saw"].partition(" by ")[0]
        key = (stands, through, each["protocol"], each["family"], each["want"], saw)
        alike = kinds.setdefault(
            key,
            each | {"caller": stands, "vantage": stands, "target": through, "saw": saw, "times": 0}
            | ({"node": MANY} if each["node"] else {}),
        )  # fmt: skip
        alike["times"] += each.get("times", 1)
        alike["took"] = max(filter(None, (alike["took"], each["took"])), default=alike["took"])
    return [*wrong, *kinds.values()]


def spread(converged: Sequence[tuple[str, float]]) -> tuple[tuple[str, float], ...]:
    """Some of very many times, evenly over all of them, the slowest among them."""
    if len(converged) <= FLOWS:
        return tuple(converged)
    ranked = sorted(converged, key=lambda each: each[1])
    last = len(ranked) - 1
    return tuple(ranked[round(n * last / (FLOWS - 1))] for n in range(FLOWS))


def _evidence(said: str, out: Path) -> str:
    """A folder of evidence as it is called from the folder of the results."""
    path = Path(said)
    return str(path.relative_to(out)) if said and path.is_relative_to(out) else said
