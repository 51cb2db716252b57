"""Outages of one node that are one thing that happened: they overlap and have the same reason."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from e2e import timing
from e2e.check.causes import Cause
from e2e.check.outages import Outage
from e2e.probe import Outcome


@dataclass(frozen=True)
class Trouble:
    """What users of one node noticed, over one or several paths.

    Attributes:
        node: its name.
        cause: why.
        paths: outages by path.
    """

    node: str
    cause: Cause
    paths: dict[str, Outage]

    @property
    def worst(self) -> Outage:
        """The longest."""
        return max(self.paths.values(), key=lambda outage: outage.length)

    @property
    def start(self) -> float:
        """When the first began."""
        return min(outage.start for outage in self.paths.values())

    @property
    def end(self) -> float:
        """When the last ended."""
        return max(outage.end for outage in self.paths.values())

    @property
    def kinds(self) -> dict[Outcome, int]:
        """How all attempts ended that were lost."""
        total: Counter[Outcome] = Counter()
        for outage in self.paths.values():
            total.update(outage.kinds)
        return dict(total.most_common())


def troubles(outages: Iterable[tuple[str, str, Outage, Cause]]) -> list[Trouble]:
    """Gather outages that overlap on one node and have the same reason.

    Args:
        outages: with the node and the path of each before it, and its reason after it.
    """
    found: list[Trouble] = []
    latest: dict[tuple[str, str], Trouble] = {}
    for node, path, outage, cause in sorted(outages, key=lambda one: one[2].start):
        now = latest.get((node, cause.rule))
        if now and outage.start <= now.end + timing.ONE_OUTAGE_WITHIN:
            before = now.paths.get(path)
            now.paths[path] = _joined(before, outage) if before else outage
        else:
            latest[node, cause.rule] = Trouble(node, cause, {path: outage})
            found.append(latest[node, cause.rule])
    return found


def _joined(one: Outage, other: Outage) -> Outage:
    kinds = Counter(one.kinds) + Counter(other.kinds)
    return replace(
        one,
        end=other.end,
        kinds=dict(kinds),
        give_or_take=max(one.give_or_take, other.give_or_take),
        between=one.between + other.between,
        blind=one.blind + other.blind,
        goes_on=other.goes_on,
    )
