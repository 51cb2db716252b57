"""Many callers that ask in one run of curl, which takes a twentieth of a run for each of them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from e2e.cluster import curl
from e2e.cluster.caller import Caller, CallerVantage
from e2e.errors import ProbeBrokenError
from e2e.probe import Reply
from e2e.probe.outside import IDENTITY_PATH

# curl's log of a thousand calls is a megabyte, of which only this is read.
_BRIEFLY = 'log=/tmp/crowd.$$; "$0" "$@" 2>$log; grep -e " fail" -e "^curl:" $log >&2; rm $log'


@dataclass(eq=False)
class Crowd:
    """Addresses of one container, all of which call.

    Attributes:
        container: has the addresses.
        sources: the addresses by IP family.
    """

    container: Caller
    sources: Mapping[str, Sequence[str]]
    name: str = field(default="callers", init=False)

    def vantages(self, family: str) -> list[CallerVantage]:
        """Everybody who has an address of this family, as callers."""
        return [
            CallerVantage(self.container, f"caller {source}", source, self)
            for source in self.sources[family]
        ]

    def first(self, count: int) -> "Crowd":
        """Some of them."""
        return Crowd(self.container, {f: every[:count] for f, every in self.sources.items()})

    def others(self, count: int) -> "Crowd":
        """All but the first so many."""
        return Crowd(self.container, {f: every[count:] for f, every in self.sources.items()})

    def draw_together(
        self, calls: Sequence[tuple[CallerVantage, str, int]], times: int
    ) -> list[list[Reply]]:
        """Let each caller ask its address and port `times` times, one after another.

        Whoever comes after a call that failed asks by itself, beside the others, because one after
        another they would all wait in vain.
        """
        argv: list[str] = []
        for caller, address, port in calls:
            command = curl.command(address, port, [IDENTITY_PATH] * times, source=caller.source)
            argv += ["--next", *command[1:]] if argv else command
        said = curl.read(self.name, self.container.execute("sh", "-c", _BRIEFLY, *argv))
        replies = iter([curl.reply(self.name, each) for each in said])
        drawn = [list(islice(replies, times)) for _ in calls]
        if said[-1].code == "0":
            if len(said) < times * len(calls):
                raise ProbeBrokenError(f"{self.name}: curl ended after {len(said)} calls")
            return drawn
        rest = [call for call, got in zip(calls, drawn, strict=True) if not got]
        return [got for got in drawn if got] + _apart(rest, times)


def _apart(calls: Sequence[tuple[CallerVantage, str, int]], times: int) -> list[list[Reply]]:
    if not calls:
        return []
    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(lambda call: call[0].draw(*call[1:], times), calls))
