"""What nodes tell a load balancer of themselves."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from e2e import timing
from e2e.check import journal
from e2e.check.table import NotSettledError
from e2e.probe import ANSWERED, Health, HealthPort, Outcome
from e2e.wait import settle

Wants = Mapping[HealthPort, int | frozenset[Outcome]]
"""For each node the number of pods that it has to tell of, or how the attempt has to end."""


def assert_healths(wants: Wants, *, within: float = timing.SETTLE_WITHIN) -> None:
    """Ask every node until each says what it should, three times in a row.

    A node with pods says 200, one without says 503, and both say how many there are.

    Raises:
        NotSettledError: time ran out; shows every node, the wrong ones marked.
        ValueError: nobody is asked.
    """
    if not wants:
        raise ValueError("no node is asked, so there is nothing to judge")

    def look() -> dict[HealthPort, Health]:
        with ThreadPoolExecutor(len(wants)) as pool:
            return dict(zip(wants, pool.map(HealthPort.ask, wants), strict=True))

    looked = settle(
        look, lambda seen: all(map(allows, wants.values(), seen.values())), within=within
    )
    if looked.settled:
        if book := journal.current.get():
            book.settled.append((looked.took, len(wants), looked.looks))
        return
    lines = [f"not settled in {looked.within:g} s:"]
    for port, want in wants.items():
        mark, saw = " " if allows(want, looked.last[port]) else "x", looked.last[port]
        lines.append(f"{mark} {port}: want {_words(want)}, saw {saw}")
    raise NotSettledError("\n".join(lines))


def allows(want: int | frozenset[Outcome], health: Health) -> bool:
    """Whether what a node said is what is wanted."""
    if not isinstance(want, int):
        return health.outcome in want
    return health == Health(ANSWERED, 200 if want else 503, want, str(want))


def _words(want: int | frozenset[Outcome]) -> str:
    if not isinstance(want, int):
        return " or ".join(sorted(want))
    return str(Health(ANSWERED, 200 if want else 503, want, str(want)))
