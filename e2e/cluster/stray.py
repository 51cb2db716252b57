"""Packets outside of the window of their connection, sent by a pod or by a caller."""

from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.caller import CallerVantage
from e2e.errors import ProbeBrokenError
from e2e.probe import CUT_OFF, NO_ROUTE, REFUSED, SILENT, Reply
from e2e.probe.reply import reply_from
from e2e.probe.wire import IDENTITY_PATH

SCRIPT = (Path(__file__).parent / "stray.pl").read_text()
# So many requests of one connection, each followed by a packet that is astray.
REQUESTS = 20
BY_WORDS = {
    "Connection reset": CUT_OFF,
    "Broken pipe": CUT_OFF,
    "closed": CUT_OFF,
    "timed out": SILENT,
    "Connection refused": REFUSED,
    "No route to host": NO_ROUTE,
}
# Run on a node: enter the network of the pod that has the address $2, whose packets with the word
# $4 from port $3 go astray.
IN_POD = """
for net in $(ip netns | cut -d' ' -f1); do
    if ip netns exec "$net" ip -o address | grep -qF " $2/"; then
        exec ip netns exec "$net" perl -e "$1" echo "$3" "$4"
    fi
done
echo "no network has the address $2" >&2
exit 1
"""


@dataclass(frozen=True)
class StrayingVantage(CallerVantage):
    """A caller that sends each of its requests once more, outside of the connection's window."""

    def call(self, address: str, port: int) -> Reply:
        """Ask again and again over one connection; gives the last reply, or the first failure."""
        words = ("call", address, str(port), str(REQUESTS), IDENTITY_PATH)
        said = self.container.engine.run("exec", self.container.id, "perl", "-e", SCRIPT, *words)
        return reply_of(self.name, said)


def reply_of(name: str, said: str) -> Reply:
    """The reply that the words of the script stand for.

    Raises:
        ProbeBrokenError: they stand for none.
    """
    if not said.startswith("!"):
        return reply_from(said, 0.0)
    for words, outcome in BY_WORDS.items():
        if words in said:
            return Reply(outcome)
    raise ProbeBrokenError(f"{name} ended its call in an unknown way: {said!r}")
