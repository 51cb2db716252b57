"""The sampler: every attempt is kept, at the rate that is promised, and named for how it ended."""

import socket
import sys
import threading
import uuid
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from e2e import timing
from e2e.check import (
    answered_by,
    assert_follows,
    assert_unnoticed,
    journal,
    longest_gap,
    note_failing,
    note_first,
    note_outages,
)
from e2e.check.watched import NoticedError
from e2e.errors import ProbeBrokenError
from e2e.probe import (
    ANSWERED,
    CUT_OFF,
    FOREIGN,
    REFUSED,
    SILENT,
    UDP,
    Flow,
    Outside,
    Reply,
    Sample,
    Target,
    Track,
    Watch,
    sampler,
    watching,
)
from e2e.probe.pulse import Pulse, clock
from e2e.probe.sampler import DATAGRAMS, KEPT, NEW
from e2e.probe.wire import END_OF_HEAD
from e2e.selftest.servers import full_backlog, serving
from e2e.wait import wait_until

pytestmark = pytest.mark.timeout(60)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\necho-a-0"
LONG = 20.0


class Mine:
    """An owner of all pods whose names begin with echo-a."""

    def owns(self, echo):
        return echo.startswith("echo-a")

    def whereabouts(self, echo):
        return ""


def flow(port: int, protocol: str = "TCP", address: str = "127.0.0.1") -> Flow:
    return Flow(Outside(), Target("worker-1", address, port, Mine(), protocol))


def answer(connection: socket.socket) -> None:
    connection.sendall(ANSWER)
    # Of requests that follow one another closely several may come at once.
    while said := connection.recv(4096):
        connection.sendall(ANSWER * said.count(END_OF_HEAD))


def once(connection: socket.socket) -> None:
    connection.sendall(ANSWER)
    connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def speaking_udp(deaf_to: str = ""):
    """A netexec of UDP that says nothing to what is in `deaf_to`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    said, peer = listening.recvfrom(4096)
                    word = said.decode()
                    if word == "hostname":
                        listening.sendto(b"echo-a-0", peer)
                    elif word != deaf_to:
                        listening.sendto(word.removeprefix("echo ").encode(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            over.set()
            thread.join()


def seen(track: Track, count: int) -> bool:
    return len(track.samples) >= count


def watch_until(count: int, flows, **kept) -> Watch:
    with watching(flows, **kept) as watch:
        wait_until(
            lambda: all(seen(track, count) for track in watch.tracks), what="samples", within=LONG
        )
    return watch


def test_new_connections_are_new_and_kept_ones_are_kept():
    """Every sample of one kind is a connection of its own, and of the other all are one.

    Those that begin before the first has its answer try to open it too.
    """
    with serving(once) as new, serving(answer) as kept:
        watch = watch_until(30, [flow(new.port)], kept=[flow(kept.port)])

    of_new, of_kept = watch.tracks
    assert {sample.reply.outcome for track in watch.tracks for sample in track.samples} == {
        ANSWERED
    }
    assert len(set(new.peers)) == len(of_new.samples)
    answered = min(sample.at + sample.reply.took for sample in of_kept.samples)
    early = [sample for sample in of_kept.samples if sample.at <= answered]
    assert len(set(kept.peers)) <= len(early)
    assert (of_new.kind, of_kept.kind) == (NEW, KEPT)
    assert of_new.samples == sorted(of_new.samples, key=lambda sample: sample.at)


def test_both_families_of_a_node_share_its_rate():
    """A node that is called over two IP families gets as many new connections as any other."""
    with serving(once) as one, serving(once, "::1") as other:
        flows = [flow(one.port), flow(other.port, address="::1")]
        with watching(flows) as watch:
            pass

    assert [track.rate for track in watch.tracks] == [56.0, 56.0]


def test_datagrams_are_numbered():
    """A datagram that is lost is silent, and its neighbours are not."""
    with speaking_udp(deaf_to="echo 3") as port:
        watch = watch_until(8, [flow(port, UDP)])

    (track,) = watch.tracks
    assert track.kind == DATAGRAMS
    outcomes = [str(sample.reply.outcome) for sample in track.samples]
    assert outcomes.count(SILENT) == 1
    assert outcomes.index(SILENT) == 2


def test_a_lost_datagram_is_told_while_the_watch_goes_on(monkeypatch):
    """A datagram without an answer is called silent after an attempt, and not only at the end."""
    monkeypatch.setattr(timing, "ATTEMPT", 0.3)
    with speaking_udp(deaf_to="echo 3") as port, watching([flow(port, UDP)]) as watch:
        (track,) = watch.tracks

        def silent() -> list[float]:
            return [s.at for s in tuple(track.samples) if s.reply.outcome == SILENT]

        (at,) = wait_until(silent, what="silence", within=LONG)
        assert at < watch.seconds - 0.3


def test_a_watch_follows():
    """A track has come to what is wanted with ten such attempts in a row after the call."""
    with speaking_udp(deaf_to="echo 3") as port, watching([flow(port, UDP)]) as watch:
        took = assert_follows(watch, answered_by("echo-a-0"))

    (track,) = watch.tracks
    (deaf,) = (sample.at for sample in track.samples if sample.reply.outcome == SILENT)
    since = [sample for sample in track.samples if sample.at > deaf]
    assert took[track] >= 0.0
    assert len(since) >= 10
    assert {sample.reply.outcome for sample in since} == {ANSWERED}


def test_a_watch_that_does_not_follow_is_told():
    """Who still meets another pod when time is up is shown with what it met."""
    book = journal.Journal()
    token = journal.current.set(book)
    with speaking_udp() as port, watching([flow(port, UDP)]) as watch:
        with pytest.raises(NoticedError, match=r"x .*saw last .* answered by echo-a-0") as caught:
            assert_follows(watch, answered_by("echo-a-1"), within=1.0)
        note_first(watch, "echo-a-0", since=0.0)
    journal.current.reset(token)

    assert [wrong.echo for wrong in caught.value.wrong] == ["echo-a-0"]
    ((name, took),) = book.converged
    assert name.endswith("by echo-a-0")
    assert took < 1.0


def test_nobody_there_is_refused():
    """Where nobody listens, TCP and UDP are refused, and every attempt says so."""
    with socket.socket() as free, socket.socket(type=socket.SOCK_DGRAM) as free_udp:
        free.bind(("127.0.0.1", 0))
        free_udp.bind(("127.0.0.1", 0))
        ports = free.getsockname()[1], free_udp.getsockname()[1]
    watch = watch_until(5, [flow(ports[0]), flow(ports[1], UDP)])

    for track in watch.tracks:
        assert {sample.reply.outcome for sample in track.samples[:-1]} == {REFUSED}
    with pytest.raises(NoticedError, match="refused") as caught:
        assert_unnoticed(watch)
    assert [wrong.outcome for wrong in caught.value.wrong] == [REFUSED, REFUSED]


def test_a_kept_connection_that_ends_is_a_failure():
    """A kept connection that the other side ends is cut off once, and another one is opened."""
    with serving(once) as server:
        watch = watch_until(6, [], kept=[flow(server.port)])

    outcomes = {sample.reply.outcome for sample in watch.tracks[0].samples}
    assert outcomes == {ANSWERED, CUT_OFF}
    with pytest.raises(NoticedError, match="cut off"):
        assert_unnoticed(watch)


def test_a_strange_pod_is_noticed():
    """An answer from a pod of somebody else counts as a failure."""

    def strange(connection: socket.socket) -> None:
        connection.sendall(ANSWER.replace(b"echo-a", b"echo-b"))
        connection.shutdown(socket.SHUT_RDWR)

    with serving(strange) as server:
        watch = watch_until(5, [flow(server.port)])

    assert {sample.reply.outcome for sample in watch.tracks[0].samples} == {FOREIGN}
    with pytest.raises(NoticedError, match="foreign"):
        assert_unnoticed(watch)


def made_up(kind: str, *tracks: list[Sample], rate: float = 110.0, seconds: float = 10.0) -> Watch:
    watch = Watch([Track(flow(80), kind, samples, rate) for samples in tracks])
    watch._seconds = seconds
    return watch


def every(interval: float, seconds: float = 10.0, outcome=ANSWERED) -> list[Sample]:
    echo = "echo-a-0" if outcome == ANSWERED else None
    count = round(seconds / interval)
    return [Sample(n * interval, Reply(outcome, 0.01, echo)) for n in range(count)]


def test_enough_without_a_failure_holds():
    """A thousand answered connections in ten seconds are unbroken."""
    assert_unnoticed(made_up(NEW, every(1 / 110), every(1 / 110)))


def test_one_failure_of_a_thousand_is_noticed():
    """One failed connection fails the claim, with its time and its count."""
    samples = every(1 / 110)
    samples[550] = Sample(5.0, Reply(SILENT))

    with pytest.raises(NoticedError) as caught:
        assert_unnoticed(made_up(NEW, every(1 / 110), samples))

    right, wrong = str(caught.value).splitlines()[1:]
    assert right.startswith("  ")
    assert wrong.startswith("x ")
    assert "1 failed from 5.0 s to 5.0 s: 1 silent" in wrong


def test_too_few_prove_nothing():
    """Fewer than a hundred connections a second are no verdict, and neither is a blind second."""
    with pytest.raises(ProbeBrokenError, match="only 50 attempts a second, and 100 are needed"):
        assert_unnoticed(made_up(NEW, every(1 / 50)))
    blind = [sample for sample in every(1 / 200) if not 3 < sample.at < 6]
    with pytest.raises(ProbeBrokenError, match=r"nobody asked for 3\.0 s"):
        assert_unnoticed(made_up(NEW, blind))


def test_too_few_that_fail_are_a_failure():
    """A failure is told, however few attempts there were."""
    with pytest.raises(NoticedError):
        assert_unnoticed(made_up(NEW, every(1 / 50, outcome=REFUSED)))


def test_a_starved_sampler_does_not_hear():
    """Silence that a sampler reports which could not ask often enough is no verdict."""
    samples = every(1 / 50)
    samples[20] = Sample(samples[20].at, Reply(SILENT))

    with pytest.raises(ProbeBrokenError, match="only 50 attempts a second"):
        assert_unnoticed(made_up(NEW, samples))


def test_attempts_can_be_awaited():
    """A watch goes on until so many attempts have been made, all tracks together."""
    with (
        serving(once) as one,
        serving(once) as other,
        watching([flow(one.port), flow(other.port)]) as watch,
    ):
        watch.await_attempts(50)

    assert sum(len(track.samples) for track in watch.tracks) >= 50


def test_nothing_watched_is_an_error():
    """A watch without a track or without a sample proves nothing."""
    for watch in (made_up(NEW), made_up(NEW, [])):
        with pytest.raises(ValueError, match="nothing was watched"):
            assert_unnoticed(watch)


def test_the_longest_gap_counts_from_end_to_end():
    """The longest time without an answer may be before the first or after the last."""
    at = [Sample(t, Reply(ANSWERED, echo="echo-a-0")) for t in (4.0, 5.0, 6.0)]

    assert longest_gap(at, until=7.0) == 4.0
    assert longest_gap(at, until=12.0) == 6.0
    watch = made_up(NEW, at, seconds=12.0)
    assert note_outages(watch) == {watch.tracks[0]: 6.0}


def test_an_outage_is_told_in_steps_of_five_seconds():
    """The share of attempts that failed is that of all tracks together, step by step."""
    well, ill = every(0.5), every(0.5)
    ill[12:] = [Sample(sample.at, Reply(SILENT)) for sample in ill[12:]]

    assert note_failing(made_up(NEW, well, ill)) == [0.0, 0.4]


def test_a_watch_leaves_no_socket_open():
    """All that it opened it closes, also the connection that is kept and the socket of a stream."""
    before = sockets()
    with speaking_udp() as udp, serving(once) as new, serving(answer) as kept:
        watch_until(3, [flow(udp, UDP), flow(new.port)], kept=[flow(kept.port)])
    # The servers' threads notice in their own time.
    wait_until(lambda: sockets() == before, what="sockets to be closed", within=LONG)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_who_finds_no_place_waits_for_one(monkeypatch):
    """One more watch than may be at once begins when another one has ended."""
    monkeypatch.setattr(sampler, "AT_ONCE", 1)
    monkeypatch.setattr(sampler, "PLACE", f"\0{uuid.uuid4()}-{{}}")
    ended = []

    def watch_after() -> None:
        watch_until(1, [flow(at.port)])
        ended.append("second")

    second = threading.Thread(target=watch_after)
    with serving(answer) as at:
        with watching([flow(at.port)]) as watch:
            second.start()
            watch.await_attempts(110)
            ended.append("first")
        second.join(LONG)

    assert ended == ["first", "second"]


def sockets() -> int:
    with suppress(FileNotFoundError):
        return sum("socket" in str(each.readlink()) for each in Path("/proc/self/fd").iterdir())
    return -1  # one was closed meanwhile


def test_a_kept_connection_is_given_up_as_silent(monkeypatch):
    """Where nobody answers over it any more all its attempts are silent, and none is cut off."""
    monkeypatch.setattr(timing, "ATTEMPT", 0.5)

    def twice(connection: socket.socket) -> None:
        connection.sendall(ANSWER)
        connection.recv(4096)
        connection.sendall(ANSWER)
        while connection.recv(4096):
            pass

    with serving(twice) as server:
        watch = watch_until(20, [], kept=[flow(server.port)])

    assert {sample.reply.outcome for sample in watch.tracks[0].samples} == {ANSWERED, SILENT}
    assert len(set(server.peers)) > 1


def test_who_calls_after_a_watch_is_no_caller_whom_it_lost(monkeypatch):
    """A port from which the sampler had no answer is spent for the caller's own draws too."""
    monkeypatch.setattr(timing, "ATTEMPT", 0.5)
    outside = Outside(patience=LONG)
    with full_backlog() as at:
        watch = watch_until(10, [replace(flow(at.port), caller=outside)])

    lost = outside.stale_towards(at.address, at.port)
    assert len(lost) == len(watch.tracks[0].samples) >= 10
    assert all(until > clock() + 100 for until in lost.values())


def test_beats_that_were_due_are_made_up_for():
    """A loop that comes late makes all beats since its beginning, also those before its end."""
    beats = []

    class Counted:
        def beat(self):
            beats.append(clock())

    with Pulse(0.5, late=LONG) as pulse:
        pulse.run([Counted()] * 50, lambda: True, drain=0.0, began=clock() - 2.0)

    assert len(beats) == pytest.approx(200, abs=20)
