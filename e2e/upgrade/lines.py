"""The lines of `watch.jsonl`, one JSON object each, appended as things happen.

Every `at` is Unix time in seconds. All processes of a stretch read one clock that never jumps, and
the stretch's first line says how it became Unix time. What `line` says tells the lines apart:

- `stretch`: a watch begins; all flows, and what the numbers of flows mean from here on.
- `placed`: a node is where it was not before: one that joined, or has other addresses; flows that
  are watched from here on are added to those of the stretch.
- `recorder`: a process begins to ask some of the flows.
- `looked`: the flows of a recorder were asked from `at` to `to`; how many attempts each had that
  ended as expected, and the slowest of them.
- `attempt`: one that did not end as expected, and the nearest on either side that did.
- `lost`: the attempts after a hundred that all ended in the same unexpected way.
- `late`: an attempt that was called silent was answered later.
- `ended`: a connection that is kept has ended.
- `pod`: another pod answers, or one that had not answered this flow yet.
- `held`: nobody was asked from `at` to `to`, and why.
- `event`: something happened in the cluster.
- `end`: the watch was ended, and by what; without this line it was killed.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from e2e.probe import Outcome
from e2e.upgrade.plan import Part, WatchedFlow


class Line(Part):
    """What all lines have.

    Attributes:
        at: when, or from when on.
        line: which of them it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    at: float


class Stretch(Line):
    """A watch begins.

    Attributes:
        format: of the file.
        monotonic: what the clock that never jumps said at `at`.
        rate: attempts a second for each flow.
        patience: seconds after which an attempt is called silent.
        run: the id of what was prepared.
        namespace: of the watched workloads.
        flows: all that is watched; the other lines name a flow by its place in this list.
        unreached: IP families that are not watched, as this machine has no way to them, and why.
    """

    line: Literal["stretch"] = "stretch"
    format: Literal[1] = 1
    monotonic: float
    rate: float
    patience: float
    run: str
    namespace: str
    flows: tuple[WatchedFlow, ...]
    unreached: dict[str, str] = Field(default_factory=dict)


class Placed(Line):
    """A node that is Ready has addresses that are not those known of it: it joined, or has others.

    Attributes:
        node: its name.
        addresses: all that it has now, by IP family.
        flows: that are watched from here on; their numbers follow those of the flows before.
    """

    line: Literal["placed"] = "placed"
    node: str
    addresses: dict[str, str]
    flows: tuple[WatchedFlow, ...]


class RecorderLine(Line):
    """A process begins to ask.

    Attributes:
        recorder: its number within the stretch.
        flows: which it asks.
    """

    line: Literal["recorder"] = "recorder"
    recorder: int
    flows: tuple[int, ...]


class Looked(Line):
    """Flows were asked from `at` to `to`.

    Attributes:
        to: until when.
        recorder: who asked.
        counts: by flow, how many attempts ended as expected, and the slowest in milliseconds.
    """

    line: Literal["looked"] = "looked"
    to: float
    recorder: int
    counts: dict[int, tuple[int, float]]


class AttemptLine(Line):
    """An attempt that did not end as expected, or the nearest one that did.

    Attributes:
        flow: which.
        outcome: how it ended.
        took: seconds until then.
        opened: seconds until its connection was open; 0 where it never was, or is not known.
        pod: who answered.
        said: what else is known.
    """

    line: Literal["attempt"] = "attempt"
    flow: int
    outcome: Outcome
    took: float = 0.0
    opened: float = 0.0
    pod: str = ""
    said: str = ""


class Lost(Line):
    """Attempts that all ended in the same unexpected way, after a hundred that did too.

    Attributes:
        to: when the last of them began.
        flow: which.
        outcome: how they ended.
        count: of attempts.
    """

    line: Literal["lost"] = "lost"
    to: float
    flow: int
    outcome: Outcome
    count: int


class Late(Line):
    """An attempt that was called silent was answered after all.

    Attributes:
        flow: which.
        took: seconds until then.
        pod: who answered.
        lost: whether its first packet was lost, and only one that was sent again arrived.
    """

    line: Literal["late"] = "late"
    flow: int
    took: float
    pod: str = ""
    lost: bool = False


class Ended(Line):
    """A connection that is kept has ended.

    Attributes:
        flow: which.
        pod: who was at its other end.
        how: closed, reset, given up, or as an attempt ends.
    """

    line: Literal["ended"] = "ended"
    flow: int
    pod: str
    how: str


class PodLine(Line):
    """A pod answers that did not before.

    Attributes:
        flow: which.
        pod: its name.
    """

    line: Literal["pod"] = "pod"
    flow: int
    pod: str


class Held(Line):
    """Nobody was asked from `at` to `to`.

    Attributes:
        to: until when.
        recorder: who could not ask.
        flow: which it could not ask, if not all of its flows.
        why: the reason.
    """

    line: Literal["held"] = "held"
    to: float
    recorder: int
    flow: int | None = None
    why: str


class EventLine(Line):
    """Something happened in the cluster.

    Attributes:
        since: when it began, where it is something that lasted until `at`.
        kind: one of `e2e.cluster.happenings.KINDS`.
        node: on which node, if on one.
        name: of the object.
        said: more, for the reader.
    """

    line: Literal["event"] = "event"
    since: float | None = None
    kind: str
    node: str = ""
    name: str = ""
    said: str = ""


class End(Line):
    """A watch was ended.

    Attributes:
        why: by what.
    """

    line: Literal["end"] = "end"
    why: str


AnyLine = (
    Stretch
    | Placed
    | RecorderLine
    | Looked
    | AttemptLine
    | Lost
    | Late
    | Ended
    | PodLine
    | Held
    | EventLine
    | End
)
_READ: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="line")])


def write(line: AnyLine) -> str:
    """Write a line as it stands in the file."""
    return line.model_dump_json() + "\n"


def read(text: str | bytes) -> AnyLine:
    """Read a line.

    Raises:
        ValueError: it is none.
    """
    return _READ.validate_json(text)
