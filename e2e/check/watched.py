"""Did anybody notice? What was watched while something changed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise, takewhile

from e2e import timing
from e2e.check import journal
from e2e.check.table import Want
from e2e.check.wrong import Wrong, WrongFlowsError
from e2e.errors import BusyError
from e2e.probe import ANSWERED, SILENT, Flow, Sample, Track, Watch
from e2e.probe.sampler import CALLS, DATAGRAMS, KEPT, NEW, RATES
from e2e.wait import settle

# The part of the wanted rate below which nothing is called unbroken: 100 new connections a second
# through every node. Callers in pods ask as fast as they can, and have none.
ENOUGH = {NEW: 100 / RATES[NEW], KEPT: 0.5, DATAGRAMS: 0.5}
# Attempts in a row that a track needs to have come to something: half a second of datagrams.
FOLLOWED = 10
# Of a track, times without an answer that a picture can still tell apart.
SPANS = 200


class NoticedError(WrongFlowsError):
    """Somebody would have noticed; the message has a line for each track, the wrong marked."""


def assert_unnoticed(watch: Watch) -> None:
    """Every attempt of a watch was answered by a pod of the service, and there were enough.

    Raises:
        NoticedError: one was not; shows every track with its count, its failures and its longest
            time without an answer.
        BusyError: there were fewer than 100 new connections a second through a node, or
            nobody asked for seconds, so that nothing is known; also if some were silent, since
            who is starved does not hear what was answered.
        ValueError: nothing was watched.
    """
    _demand_samples(watch)
    if {s.reply.outcome for track in watch.tracks for s in _failures(track)} == {SILENT}:
        # A vantage that waits for each answer asks less often where it is silent.
        for track in watch.tracks:
            if track.kind != CALLS:
                _demand_rate(track, watch.seconds)
    _keep(watch)
    lines = [(_describe(track, watch.seconds), _failures(track)) for track in watch.tracks]
    if any(failures for _, failures in lines):
        head = f"want no attempt of {watch.seconds:.1f} s to fail"
        rows = [f"{'x' if bad else ' '} {line}" for line, bad in lines]
        wrong = [
            Wrong.of(track.flow, [sample.reply for sample in bad], asked=len(track.samples))
            for track in watch.tracks
            if (bad := _failures(track))
        ]
        raise NoticedError("\n".join([head, *rows]), wrong)
    for track in watch.tracks:
        _demand_rate(track, watch.seconds)
    for line, _ in lines:
        _note(line)
    if book := journal.current.get():
        book.flows += [
            journal.FlowEnd.of(track.flow, ANSWERED, ANSWERED, right=True) for track in watch.tracks
        ]


def assert_follows(
    watch: Watch, want: Want, *, within: float = timing.SETTLE_WITHIN
) -> dict[Track, float]:
    """Let every track of a watch that goes on come to bring what is wanted, and note when it did.

    A track has come to it when ten attempts in a row bring it, all of which began after this call.

    Returns:
        the seconds from this call to the first of them, by track.

    Raises:
        NoticedError: time ran out; shows what each track brought last, the wrong ones marked.
        ValueError: nothing is watched.
    """
    if not watch.tracks:
        raise ValueError("nothing is watched, so nothing can come to anything")
    began = watch.seconds

    def row(track: Track) -> list[Sample]:
        """The last attempts of a track that are all as wanted, and none of which is left out."""
        waiting = track.under_way.copy()
        every = [sample for sample in tuple(track.samples) if sample.at >= began]
        # Where silence is wanted too, one that is waited for is as wanted so far.
        if SILENT not in want.outcomes and every:
            newest = max(sample.at for sample in every)
            left_out = max((at for at in waiting if at < newest), default=began)
            every = [sample for sample in every if sample.at >= left_out]
        latest_first = sorted(every, key=lambda sample: -sample.at)
        return list(takewhile(lambda sample: want.allows(sample.reply), latest_first))

    def rows() -> dict[Track, list[Sample]]:
        return {track: row(track) for track in watch.tracks}

    def agrees(seen: Mapping[Track, Sequence[Sample]]) -> bool:
        return all(len(samples) >= FOLLOWED for samples in seen.values())

    looked = settle(rows, agrees, within=within, times=1, every=timing.LOOK_EVERY)
    if not looked.settled:
        raise _left_behind(looked.last, want, began, looked.within)
    took = {track: samples[-1].at - began for track, samples in looked.last.items()}
    if book := journal.current.get():
        book.converged += [(str(track), seconds) for track, seconds in took.items()]
    return took


def _left_behind(
    rows: Mapping[Track, Sequence[Sample]], want: Want, began: float, within: float
) -> NoticedError:
    lines, wrong = [f"want {want} within {within:g} s, {FOLLOWED} times in a row"], []
    for track, samples in rows.items():
        seen = [sample.reply for sample in tuple(track.samples) if sample.at >= began]
        lately = Counter(str(reply) for reply in seen[-FOLLOWED:])
        last = ", ".join(f"{n} {kind}" for kind, n in lately.items())
        left = len(samples) < FOLLOWED
        lines.append(f"{'x' if left else ' '} {track}: saw last {last or 'nothing'}")
        if left:
            bad = [reply for reply in seen if not want.allows(reply)]
            wants_answer = ANSWERED in want.outcomes
            wrong.append(Wrong.of(track.flow, bad, wants_answer=wants_answer))
    return NoticedError("\n".join(lines), wrong)


def note_first(watch: Watch, pod: str, *, since: float) -> None:
    """Record how long each track of a watch took from a moment on to be answered by a pod."""
    if book := journal.current.get():
        for track in watch.tracks:
            met = [s.at for s in tuple(track.samples) if s.at >= since and s.reply.echo == pod]
            if met:
                book.converged.append((f"{track} by {pod}", min(met) - since))


def longest_gap(samples: Sequence[Sample], until: float) -> float:
    """The longest time, in seconds, between two answered attempts, from 0 to `until`."""
    answered = [0.0, *(s.at for s in samples if s.reply.outcome == ANSWERED), until]
    return max(b - a for a, b in pairwise(sorted(answered)))


def note_outages(watch: Watch) -> dict[Track, float]:
    """Record how long each track went without an answer at most, and judge nothing."""
    _demand_samples(watch)
    _keep(watch)
    for track in watch.tracks:
        _note(_describe(track, watch.seconds))
    return {track: longest_gap(track.samples, watch.seconds) for track in watch.tracks}


def note_handovers(watch: Watch, pairs: Mapping[Flow, Flow]) -> None:
    """Record for how long neither or both of two flows were answered, of which one replaces one.

    Args:
        watch: in which both were watched.
        pairs: the flow that comes, by the one that goes.

    Raises:
        ValueError: one of them was never answered, so that nothing was handed over.
    """
    answered = {
        track.flow: [s.at for s in track.samples if s.reply.outcome == ANSWERED]
        for track in watch.tracks
    }
    if not pairs or not all(answered[flow] for pair in pairs.items() for flow in pair):
        raise ValueError("nothing was handed over, so there is nothing to measure")
    for old, new in pairs.items():
        gap = min(answered[new]) - max(answered[old])
        who = "neither" if gap > 0 else "both"
        journal.measured(f"{old}, then {new}: {who} answered for {abs(gap):.2f} s")


def note_failing(watch: Watch) -> list[float]:
    """Record how large a share of all attempts failed in each five seconds; judge nothing."""
    _demand_samples(watch)
    _keep(watch)
    steps: dict[int, list[bool]] = {}
    for track in watch.tracks:
        for sample in track.samples:
            failed = sample.reply.outcome != ANSWERED
            steps.setdefault(int(sample.at / timing.OUTAGE_STEP), []).append(failed)
        _note(_describe(track, watch.seconds))
    shares = [sum(failed) / len(failed) for _, failed in sorted(steps.items())]
    journal.measured(
        f"failed in each {timing.OUTAGE_STEP:g} s: " + ", ".join(f"{each:.0%}" for each in shares)
    )
    return shares


def _demand_samples(watch: Watch) -> None:
    if not watch.tracks or not all(track.samples for track in watch.tracks):
        raise ValueError("nothing was watched, so there is nothing to judge")


def _failures(track: Track) -> list[Sample]:
    return [sample for sample in track.samples if sample.reply.outcome != ANSWERED]


def _describe(track: Track, seconds: float) -> str:
    count, bad = len(track.samples), _failures(track)
    said = f"{track}: {count} in {seconds:.1f} s, {count / seconds:.0f} a second, "
    if not bad:
        slowest = max(sample.reply.took for sample in track.samples)
        apart = f"at most {_blind(track, seconds):.1f} s apart"
        return said + f"none failed, slowest {slowest * 1000:.0f} ms, {apart}"
    kinds = Counter(str(sample.reply) for sample in bad).most_common(3)
    times = sorted(sample.at for sample in bad)
    return (
        said
        + f"{len(bad)} failed from {times[0]:.1f} s to {times[-1]:.1f} s: "
        + ", ".join(f"{n} {kind}" for kind, n in kinds)
        + f"; longest without an answer {longest_gap(track.samples, seconds):.1f} s"
    )


def _demand_rate(track: Track, seconds: float) -> None:
    if track.kind in ENOUGH:
        wanted = track.rate * ENOUGH[track.kind]
        rate = len(track.samples) / seconds
        if rate < wanted:
            raise BusyError(
                f"{track}: only {int(rate)} attempts a second, and {wanted:.0f} are needed"
            )
    if (blind := _blind(track, seconds)) > timing.BLIND_FOR_AT_MOST:
        raise BusyError(f"{track}: nobody asked for {blind:.1f} s")


def _blind(track: Track, seconds: float) -> float:
    """The longest time, in seconds, in which nobody asked."""
    times = [*(sample.at for sample in track.samples), seconds]
    return max(later - earlier for earlier, later in pairwise(times))


def spans_of(samples: Sequence[Sample], until: float) -> list[tuple[float, float, str, int]]:
    """The times without an answer: from the first attempt in vain to the next answered one.

    Returns:
        from and to in seconds, how most attempts ended then, and how many there were.
    """
    ordered = sorted(samples, key=lambda sample: sample.at)
    rows = [list(row) for _, row in groupby(ordered, lambda s: s.reply.outcome == ANSWERED)]
    spans = []
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if row[0].reply.outcome != ANSWERED:
            kinds = Counter(str(sample.reply.outcome) for sample in row)
            end = after[0].at if after else until
            spans.append((row[0].at, end, kinds.most_common(1)[0][0], len(row)))
    return spans


def _keep(watch: Watch) -> None:
    """Keep when tracks were not answered, for the picture in the report."""
    if book := journal.current.get():
        for track in watch.tracks:
            if spans := spans_of(track.samples, watch.seconds):
                what = (str(track), watch.seconds, len(track.samples), spans[:SPANS])
                book.outages.append(journal.Outages(*what))


def _note(text: str) -> None:
    if book := journal.current.get():
        book.watched.append(text)
