"""For how long neither or both of two flows were answered, of which one replaces the other."""

from collections.abc import Iterator

import pytest

from e2e.check import journal, note_handovers
from e2e.probe import ANSWERED, REFUSED, Flow, Reply, Sample, Target, Track, Watch
from e2e.probe.sampler import NEW


@pytest.fixture
def book() -> Iterator[journal.Journal]:
    kept = journal.Journal()
    token = journal.current.set(kept)
    yield kept
    journal.current.reset(token)


class Caller:
    """Is named and calls nobody."""

    name = "outside"


def track(port: int, answered: list[float], refused: list[float]) -> Track:
    flow = Flow(Caller(), Target("worker-1", "192.0.2.1", port, None))  # type: ignore[arg-type]
    samples = [Sample(at, Reply(ANSWERED)) for at in answered]
    samples += [Sample(at, Reply(REFUSED)) for at in refused]
    return Track(flow, NEW, samples)


def test_a_gap_is_recorded(book):
    old, new = track(30001, [0.1, 0.5], [1.0]), track(30002, [0.9, 1.2], [0.2])

    note_handovers(Watch([old, new]), {old.flow: new.flow})

    assert book.measured == [
        "outside -> worker-1:30001, then outside -> worker-1:30002: neither answered for 0.40 s"
    ]


def test_an_overlap_is_recorded(book):
    old, new = track(30001, [0.1, 1.5], []), track(30002, [0.25], [0.2])

    note_handovers(Watch([old, new]), {old.flow: new.flow})

    assert book.measured[0].endswith("both answered for 1.25 s")


def test_what_was_never_answered_was_not_handed_over():
    old, new = track(30001, [0.1], []), track(30002, [], [0.2])

    with pytest.raises(ValueError, match="nothing was handed over"):
        note_handovers(Watch([old, new]), {old.flow: new.flow})
    with pytest.raises(ValueError, match="nothing was handed over"):
        note_handovers(Watch([old, new]), {})
