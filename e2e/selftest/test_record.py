"""The record: appended whole, read back, and clear about what is wrong with it."""

import pytest

from e2e.errors import UsageError
from e2e.probe import Outcome, Reply
from e2e.selftest.told import BEGAN, Told, flows_of
from e2e.upgrade.ledger import ALIKE, Ledger
from e2e.upgrade.lines import (
    AttemptLine,
    EventLine,
    Looked,
    read,
    write,
)
from e2e.upgrade.record import RECORD, Appender, NothingRecordedError, load
from e2e.upgrade.story import as_text, story_of

NODES = ["worker-1", "worker-2"]
ANSWERED = Reply(Outcome.ANSWERED, 0.001, "echo-a-0")
SILENT = Reply(Outcome.SILENT, 0.9)


@pytest.fixture
def folder(tmp_path):
    told = Told(NODES, 100.0)
    told.outage(0, 10.0, 1.0, Outcome.REFUSED)
    told.event(9.9, "node-not-ready", node="worker-1")
    told.save(tmp_path)
    return tmp_path


def change(folder, number: int, text: str) -> None:
    lines = (folder / RECORD).read_text().splitlines(keepends=True)
    lines[number - 1 : number] = [text]
    (folder / RECORD).write_text("".join(lines))


def test_what_was_written_is_read(folder):
    """Everything comes back, by flow, and the end of the stretch with it."""
    record = load(folder)

    assert len(record.flows) == 8
    first = next(iter(record.flows.values()))
    assert len(first.attempts) == 22
    assert first.expected == 2000
    assert record.events[0].node == "worker-1"
    assert record.stretches == [(BEGAN, "the command ended")]
    assert record.until - record.began == 100.0


def test_a_torn_last_line_is_no_matter(folder):
    """A watch that was killed in the middle of a line is read up to it."""
    whole = (folder / RECORD).read_bytes()
    (folder / RECORD).write_bytes(whole[:-20])

    assert load(folder).stretches == [(BEGAN, None)]


@pytest.mark.parametrize("who", ["the next watch", "another recorder", "the watch itself"])
def test_whoever_writes_next_ends_a_torn_line(folder, who):
    """A recorder that was killed in the middle of a line costs no line of anybody else."""
    lines = {
        "the next watch": Told(NODES, 1.0).lines[0],
        "another recorder": Told(NODES, 1.0).lines[1],
        "the watch itself": EventLine(at=BEGAN + 20, kind="step", said="drain"),
    }
    with (folder / RECORD).open("a") as file:
        file.write('{"at":180')
    appender = Appender(folder)
    appender.append(write(lines[who]))
    appender.append(write(EventLine(at=BEGAN + 30, kind="step", said="uncordon")))
    appender.close()
    record = load(folder)

    assert record.torn == 1
    assert record.events[-1].said == "uncordon"
    assert (who == "the watch itself") == any(event.said == "drain" for event in record.events)
    assert len(record.stretches) == 1 + (who == "the next watch")
    assert "torn lines of the record: 1" in as_text(story_of(record))


def test_a_record_that_is_cut_anywhere_is_read_up_to_there(folder):
    """Whenever all who wrote it were killed, what was whole counts, also when others went on."""
    whole = (folder / RECORD).read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    cuts = {*range(0, len(whole), 97), *(end + by for end in ends for by in (-2, -1, 0, 1, 9))}
    for cut in sorted(cut for cut in cuts if cut < len(whole)):
        (folder / RECORD).write_bytes(whole[:cut])
        lines = sum(end <= cut for end in ends)
        # Its last newline alone makes no line less.
        lines += cut + 1 in ends
        if not lines:
            with pytest.raises(NothingRecordedError):
                load(folder)
        else:
            record = load(folder)
            assert sum(len(one.attempts) for one in record.flows.values()) == min(
                max(lines - 2, 0), 22
            )
        appender = Appender(folder)
        for line in Told(NODES, 1.0).lines:
            appender.append(write(line))
        appender.close()
        assert len(load(folder).stretches) == 1 + bool(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{torn\n", "line 3"),
        ('{"at":1,"line":"looked"}\n', "line 3: looked.to: Field required"),
        ('{"line":"looked"}\n', "line 3: looked.at: Field required"),
        ('{"line":"unheard-of","at":1}\n', "line 3"),
        ('{"line":"pod","at":NaN,"flow":0,"pod":"a"}\n', "line 3"),
        ('{"line":"pod","at":1,"flow":99,"pod":"a"}\n', "line 3: the stretch has no flow 99"),
        ('{"line":"pod","at":1,"flow":-1,"pod":"a"}\n', "line 3: the stretch has no flow -1"),
        ('{"line":"attempt","at":1,"flow":0,"outcome":"fine"}\n', "line 3: attempt.outcome"),
        ("[" * 100000 + "\n", "line 3"),
        ("\x00" * 64 + "\n", "line 3"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_named(folder, text, says):
    """Whatever stands in the middle and means nothing is told with its line number."""
    change(folder, 3, text)

    with pytest.raises(UsageError, match=r"watch\.jsonl, line 3") as caught:
        load(folder)

    assert says in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_record_begins_with_a_stretch(folder):
    """Without its first line nothing means anything, and without a line there is no record."""
    change(folder, 1, "")
    with pytest.raises(UsageError, match="line 1: no stretch has begun"):
        load(folder)
    (folder / RECORD).write_text("")
    with pytest.raises(UsageError, match="not a single whole line"):
        load(folder)
    (folder / RECORD).unlink()
    with pytest.raises(UsageError, match="does not exist"):
        load(folder)


def test_a_full_disk_is_an_error(tmp_path):
    """Lines that could not be written are not called written."""
    (tmp_path / RECORD).symlink_to("/dev/full")
    appender = Appender(tmp_path)

    with pytest.raises(OSError, match="No space left"):
        appender.append("{}\n")
    appender.close()


# --- what a recorder writes ------------------------------------------------------------------


def ledger() -> Ledger:
    (flow, *_) = flows_of(["worker-1"])
    return Ledger(0, {0: flow}, lambda moment: BEGAN + moment, 0.05)


def written(book: Ledger) -> list:
    return [read(line) for line in book.take().splitlines()]


def attempts(lines: list) -> list[tuple[float, str]]:
    return [
        (round(one.at - BEGAN, 2), str(one.outcome))
        for one in lines
        if isinstance(one, AttemptLine)
    ]


def test_what_is_answered_is_only_counted():
    """A hundred answered attempts are one line, and one that tells whose pod it was."""
    book = ledger()
    for n in range(100):
        book.ended(0, n * 0.05, ANSWERED)
    book.looked()

    pod, looked = written(book)
    assert pod.pod == "echo-a-0"
    assert isinstance(looked, Looked)
    assert looked.counts == {0: (100, 1.0)}


def test_a_lost_attempt_has_its_neighbours():
    """Those before and after are told too, also where they ended before it was called silent."""
    book = ledger()
    for at in (0.0, 0.05, 0.15, 0.2):
        book.ended(0, at, ANSWERED)
    book.ended(0, 0.1, SILENT)
    book.ended(0, 0.25, ANSWERED)

    assert attempts(written(book)) == [(0.05, "answered"), (0.1, "silent"), (0.15, "answered")]


def test_an_outage_has_neighbours_at_both_ends():
    """The first attempt that is answered after it is told, and no further ones."""
    book = ledger()
    book.ended(0, 0.0, ANSWERED)
    book.ended(0, 0.05, SILENT)
    book.ended(0, 0.1, SILENT)
    book.ended(0, 0.15, ANSWERED)
    book.ended(0, 0.2, ANSWERED)

    assert attempts(written(book)) == [
        (0.0, "answered"), (0.05, "silent"), (0.1, "silent"), (0.15, "answered"),
    ]  # fmt: skip


def test_a_long_outage_is_summed_up():
    """After a hundred lost alike one line tells how many more there were, and until when."""
    book = ledger()
    for n in range(300):
        book.ended(0, n * 0.05, SILENT)
    book.looked()
    book.ended(0, 15.0, ANSWERED)
    lines = written(book)

    assert len(attempts(lines)) == ALIKE + 1
    (lost,) = (line for line in lines if line.line == "lost")
    assert (lost.count, round(lost.to - BEGAN, 2)) == (200, 14.95)


def test_what_could_not_be_asked_is_not_lost():
    """An attempt that this machine could not make is time in which nobody looked."""
    book = ledger()
    book.unasked(0, "Too many open files")
    book.looked()

    held, _ = written(book)
    assert (held.line, held.flow, held.why) == ("held", 0, "Too many open files")
    assert held.to > held.at
