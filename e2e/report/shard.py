"""A part of a run, of which several together ask all: by clauses, or by nodes."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from e2e.errors import UsageError

T = TypeVar("T")
# What nothing costs less than, so that no part has nothing.
LEAST = 0.01
SHARD = re.compile(r"(?P<by>nodes:)?(?P<number>[1-9]\d{0,5})/(?P<of>[1-9]\d{0,5})")


@dataclass(frozen=True, order=True)
class Shard:
    """One of several parts of about the same size.

    Attributes:
        of: how many there are.
        number: which, from 1.
        by: what is divided: clauses, or the nodes through which every clause calls.
    """

    of: int
    number: int
    by: Literal["clauses", "nodes"] = "clauses"

    def __str__(self) -> str:
        return f"{'nodes:' if self.by == 'nodes' else ''}{self.number}/{self.of}"

    @classmethod
    def parse(cls, said: str) -> "Shard":
        """Read it as people write it: 1/4, or nodes:1/4.

        Raises:
            UsageError: there is no such part.
        """
        found = SHARD.fullmatch(said)
        if not found or int(found["number"]) > int(found["of"]):
            raise UsageError(f"SHARD={said} is no part", "say which of how many, such as 1/4")
        return cls(int(found["of"]), int(found["number"]), "nodes" if found["by"] else "clauses")

    def deal(self, items: Sequence[T]) -> list[T]:
        """Every so manieth of some things, in their order."""
        return list(items[self.number - 1 :: self.of])

    def pick(self, names: Iterable[str], costs: Mapping[str, float] | None = None) -> list[str]:
        """Its part of some names, in an order that has nothing to do with what they are called.

        Each name is in exactly one part, and a part is empty only where there are more parts than
        names. What costs most is dealt first, each to the part that costs least so far, so that
        parts cost alike; what is not known costs most.
        """
        known = costs or {}
        most = max(known.values(), default=LEAST)
        cost = {name: max(known.get(name, most), LEAST) for name in by_hash(names)}
        spent, mine = dict.fromkeys(range(1, self.of + 1), 0.0), []
        for name in sorted(cost, key=cost.__getitem__, reverse=True):
            part = min(spent, key=spent.__getitem__)
            spent[part] += cost[name]
            if part == self.number:
                mine.append(name)
        return mine


def by_hash(names: Iterable[str]) -> list[str]:
    """Names in an order that is the same everywhere, and has nothing to do with them."""
    return sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).digest())
