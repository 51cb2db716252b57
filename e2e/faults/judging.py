"""What became of a fault, from how the clauses ended that were asked meanwhile."""

import re
from collections.abc import Mapping, Sequence

from e2e.report.faults import Fault
from e2e.report.matrix import Ending, Trial
from e2e.report.result import ClauseResult

NOT_ASKED: Ending = "skipped"
WHY = "why: "


def trial_of(
    fault: Fault,
    lane: str,
    found: Mapping[str, ClauseResult],
    *,
    spared: Sequence[str],
    node: str,
    nodes: Sequence[str],
) -> Trial:
    """What became of a fault.

    Args:
        fault: what was done.
        lane: of the cluster.
        found: how each clause ended that was asked meanwhile.
        spared: those that should not notice.
        node: where the fault was; nothing if not on one node.
        nodes: the names of all nodes.
    """
    noticed = {clause: _ended(found, clause) for clause in fault.clauses}
    failed = [found[clause] for clause, ended in noticed.items() if ended == "failed"]
    why = tuple(dict.fromkeys(line for clause in failed for line in reasons(clause)))
    # One that could not be judged says neither yes nor no.
    part = "partly" if failed or "broken" in noticed.values() else "missed"
    ended = "detected" if len(failed) == len(noticed) else part
    return Trial(
        fault=fault.name,
        lane=lane,
        ended=ended,  # type: ignore[arg-type]  # pydantic checks it
        node=node,
        noticed=noticed,
        also={clause: found[clause].ended for clause in fault.also if clause in found},
        spared={clause: _ended(found, clause) for clause in spared},
        named=names_only(node, failed, nodes) if node and failed else None,
        explained=any(re.search(fault.why, line) for line in why) if failed else None,
        why=why,
    )


def reasons(clause: ClauseResult) -> list[str]:
    """The reasons that a failed clause printed; if it knows none, all that it said."""
    lines = [line.strip().removeprefix(WHY) for line in clause.why]
    return lines or [line.strip() for line in clause.said.splitlines() if line.strip()]


def names_only(node: str, failed: Sequence[ClauseResult], nodes: Sequence[str]) -> bool:
    """Whether what failed names one node, and no other."""
    named = [nodes_of(clause, nodes) for clause in failed]
    return any(named) and all(each <= {node} for each in named)


def nodes_of(clause: ClauseResult, nodes: Sequence[str]) -> set[str]:
    """The nodes that a failed clause names: by its reasons, else wrong flows, else its words."""
    if reasoned := _named("\n".join(clause.why), nodes):
        return reasoned
    wrong = {flow.node for flow in clause.flows if not flow.right}
    wrong |= {load.node for load in clause.loads if load.problem}
    wrong |= {each.node for each in clause.outages if each.spans}
    if wrong - {""}:
        return wrong - {""}
    lines = clause.said.splitlines()
    # Of a table those that are wrong, if they are marked.
    return _named("\n".join([line for line in lines if line.startswith("x ")] or lines), nodes)


def _named(text: str, nodes: Sequence[str]) -> set[str]:
    return {node for node in nodes if re.search(rf"(?<![\w-]){node}(?![\w-])", text)}


def _ended(found: Mapping[str, ClauseResult], clause: str) -> Ending:
    return found[clause].ended if clause in found else NOT_ASKED
