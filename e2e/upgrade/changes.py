"""What changed between two fingerprints, judged and brought into the words of a report."""

from collections.abc import Iterable, Mapping

from e2e.check import behaviours as judge
from e2e.check import differences
from e2e.check.budgets import Behaviours
from e2e.check.differences import Change
from e2e.check.fingerprint import Behaviour, Fingerprint
from e2e.cluster.workload import MADE_AGAIN
from e2e.report.clauses import read_clauses
from e2e.report.verdict import (
    Changed,
    ChangedBehaviour,
    ChangedSpread,
    ChangedTime,
    Changes,
)

NOTHING_MAY = Behaviours(may_change=[])


def of_fingerprints(
    before: Fingerprint,
    after: Fingerprint,
    *,
    strict: bool,
    namespace: str = "",
    may: Behaviours = NOTHING_MAY,
    names: tuple[str, str] | None = None,
) -> Changes:
    """Everything that differs.

    Of two clusters no Services are compared, as each has its own.

    Args:
        before: the older.
        after: the newer.
        strict: whether what is otherwise counts, though nobody promised it and nothing is worse.
        namespace: where the prepared Services are.
        may: which behaviours may change.
        names: what the two are called; their versions by default.
    """
    same = before.cluster == after.cluster
    again = _made_again(after)
    changes = of_behaviours(
        before.behaviours or {},
        after.behaviours or {},
        names or (before.version, after.version),
        strict=strict,
        may=may,
    )
    return changes.model_copy(
        update={
            "allocations": _told(
                differences.changed_allocations(before, after, [f"{namespace}/{n}" for n in again])
                if same
                else ()
            ),
            "objects": _told(
                differences.changed_objects(before, after, namespace, again) if same else ()
            ),
            "defaults": _told(differences.changed_defaults(before, after)),
            "versions": _told(differences.changed_versions(before, after)),
            "setup": _told(differences.changed_setup(before, after) if same else ()),
        }
    )


def of_behaviours(
    before: Mapping[str, Behaviour],
    after: Mapping[str, Behaviour],
    names: tuple[str, str],
    *,
    strict: bool,
    may: Behaviours = NOTHING_MAY,
) -> Changes:
    """What differs of two runs of the contract; nothing if one of them did not ask it."""
    if not before or not after:
        return Changes(before=names[0], after=names[1])
    counting = {judge.WORSE, judge.UNLIKE} if strict else {judge.WORSE}
    claims = {clause.id: clause.claim for clause in read_clauses()}
    changed = tuple(
        ChangedBehaviour(
            clause=each.clause,
            before=each.before,
            after=each.after,
            said=each.said,
            counts=each.weight in counting and not may.allow(each.clause),
            unknown=each.weight == judge.UNKNOWN and not may.allow(each.clause),
            claim=claims.get(each.clause, ""),
        )
        for each in judge.changed_behaviours(before, after)
    )
    times = tuple(
        ChangedTime(
            what=each.what,
            before=each.before,
            after=each.after,
            p=each.p,
            counts=each.counts and strict,
        )
        for each in judge.compared_times(before, after)
    )
    spreads = tuple(
        ChangedSpread(
            clause=each.clause, before=each.before, after=each.after, verdicts=each.verdicts
        )
        for each in judge.spreads(before, after)
    )
    return Changes(
        before=names[0],
        after=names[1],
        asked=len(before.keys() & after.keys()),
        behaviours=changed,
        times=times,
        spreads=spreads,
    )


def _made_again(after: Fingerprint) -> list[str]:
    return [
        name
        for name, stored in after.prepared.items()
        if MADE_AGAIN in stored["metadata"].get("annotations", {})
    ]


def _told(changes: Iterable[Change]) -> tuple[Changed, ...]:
    return tuple(Changed(**vars(each)) for each in changes)
