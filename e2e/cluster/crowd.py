"""Many callers that ask in one run of curl, which takes a twentieth of a run for each of them."""

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from math import ceil

from e2e.cluster import curl
from e2e.cluster.caller import Caller, CallerVantage
from e2e.errors import ProbeBrokenError
from e2e.probe import NO_ROUTE, SILENT, Reply
from e2e.probe.wire import IDENTITY_PATH

# curl's log of a thousand calls is a megabyte, of which only this is read.
_BRIEFLY = 'log=/tmp/crowd.$$; "$0" "$@" 2>$log; grep -e " fail" -e "^curl:" $log >&2; rm $log'
_NEXT = "@@@ next"
# Linux takes 128 KiB as one argument, and the script of so many calls is well below.
_AT_ONCE = 50

Call = tuple[CallerVantage, str, int]
"""Who calls which address and port."""


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

    def draw_together(self, calls: Sequence[Call], times: int) -> list[list[Reply]]:
        """Let each caller ask its address and port `times` times, one caller after another.

        As soon as one has waited in vain, the rest ask at the same time, because one after another
        they might all do so.
        """
        drawn: list[list[Reply]] = []
        while len(drawn) < len(calls):
            drawn += self._draw_in_turn(calls[len(drawn) :], times)
            if drawn[-1][-1].outcome in (SILENT, NO_ROUTE):
                break
        rest = calls[len(drawn) :]
        parts = [rest[n : n + _AT_ONCE] for n in range(0, len(rest), _AT_ONCE)]
        with ThreadPoolExecutor() as pool:
            for part in pool.map(lambda part: self._draw_at_once(part, times), parts):
                drawn += part
        return drawn

    def _draw_in_turn(self, calls: Sequence[Call], times: int) -> list[list[Reply]]:
        """Those of the callers up to the first whose call fails."""
        argv: list[str] = []
        for call in calls:
            command = _command(call, times)
            argv += ["--next", *command[1:]] if argv else command
        said = curl.read(self.name, self.container.execute("sh", "-c", _BRIEFLY, *argv))
        replies = iter([curl.reply(self.name, each) for each in said])
        if said[-1].code == "0" and len(said) < times * len(calls):
            raise ProbeBrokenError(f"{self.name}: curl ended after {len(said)} calls")
        return [list(islice(replies, times)) for _ in range(ceil(len(said) / times))]

    def _draw_at_once(self, calls: Sequence[Call], times: int) -> list[list[Reply]]:
        """Those of all callers, each by a curl of its own."""
        script = ["cd $(mktemp -d)"]
        for n, call in enumerate(calls):
            script.append(f"{shlex.join(_command(call, times))} >{n} 2>{n}.log &")
        script.append("wait")
        tell = "cat {0}; echo '{1}'; cat {0}.log; echo '{2}'"
        script += [tell.format(n, curl.LOG, _NEXT) for n in range(len(calls))]
        script.append('rm -r "$PWD"')
        *every, _ = self.container.execute("sh", "-c", "\n".join(script)).split(f"{_NEXT}\n")
        if len(every) < len(calls):
            raise ProbeBrokenError(f"{self.name}: {len(every)} of {len(calls)} said anything")
        return [[curl.reply(self.name, s) for s in curl.read(self.name, said)] for said in every]


def _command(call: Call, times: int) -> list[str]:
    caller, address, port = call
    return curl.command(address, port, [IDENTITY_PATH] * times, source=caller.source)
