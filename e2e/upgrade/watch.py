"""Watches what was prepared, until it is told to stop: recorders, the cluster, and a command."""

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import FrameType

from e2e import timing
from e2e.cluster.happenings import Happening, Happenings, Roll
from e2e.errors import CannotRunError, UsageError
from e2e.probe.pulse import clock
from e2e.provider.command import own_program
from e2e.upgrade.lines import End, EventLine, Placed, Stretch, write
from e2e.upgrade.live import Screen, State
from e2e.upgrade.plan import Plan, WatchedFlow
from e2e.upgrade.presence import flows_of, placed_anew
from e2e.upgrade.reach import in_words, unreached
from e2e.upgrade.record import Appender
from e2e.upgrade.recorder import ATTEMPTS_EACH, More, Order, shares
from e2e.upgrade.said import Said
from e2e.wait import WaitedInVainError, wait_until

LOCK = "watch.lock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Until:
    """What ends a watch, beside a signal: whatever comes first.

    Attributes:
        file: it is there.
        seconds: they have passed.
        command: it has ended.
        called: what the command is called; its first word by default.
    """

    file: Path | None = None
    seconds: float | None = None
    command: Sequence[str] = ()
    called: str = ""


@dataclass
class _Recorder:
    """A process that asks, and how to make it anew."""

    flows: dict[int, WatchedFlow]
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.monotonic)


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Have a folder to oneself; recorders hold the lock too, until the last has ended.

    Raises:
        CannotRunError: a watch writes to it, and does not end.
    """
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)

    def taken() -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    try:
        try:
            wait_until(taken, what="another watch", within=timing.RECORD_FREE_WITHIN)
        except WaitedInVainError as error:
            raise CannotRunError(
                f"another watch writes to {folder}",
                "end it first; a second watch needs another --folder",
            ) from error
        yield lock
    finally:
        os.close(lock)


class Watcher:
    """One stretch of watching."""

    def __init__(self, folder: Path, plan: Plan, rate: float, screen: Screen) -> None:
        """Append to the record in `folder`; nothing begins before `watch`.

        Raises:
            CannotRunError: this machine has no way to any node.
        """
        self._unreached = unreached(plan.flows)
        kept = (flow for flow in plan.flows if flow.family not in self._unreached)
        plan = plan.model_copy(update={"flows": tuple(kept)})
        self._folder, self._plan, self._rate, self._screen = folder, plan, rate, screen
        self._unix, self._monotonic = time.time(), clock()
        self._recorders: list[_Recorder] = []
        self._number = 0
        self._flows = list(plan.flows)
        self._nodes = {flow.node for flow in plan.flows}
        self._roll: Roll | None = None
        self._called: Roll | None = None
        self._placed: dict[str, dict[str, str]] = {}
        self._signals: list[int] = []
        self._command: subprocess.Popen[bytes] | None = None
        self._said: Said | None = None
        self._writing = threading.Lock()
        self._locked: int | None = None

    def watch(
        self,
        until: Until,
        happenings: Callable[..., Happenings] | None,
        ready: Path | None = None,
    ) -> int | None:
        """Watch until the end; the exit code of the command, if there is one.

        Args:
            until: what ends it.
            happenings: follows what happens in the cluster, if that is wanted.
            ready: a file to make when every flow was asked.

        Raises:
            CannotRunError: somebody else writes to this folder, or no recorder comes up.
        """
        with ExitStack() as stack:
            self._locked = stack.enter_context(alone(self._folder))
            self._appender = Appender(self._folder)
            stack.callback(self._appender.close)
            state = State(self._folder, self._screen.say)
            stack.callback(state.close)
            stack.enter_context(self._signals_noted())
            self._begin()
            try:
                self._await_first(state)
                if happenings:
                    follower = happenings(self._happened, self._call)
                    follower.start()
                    stack.callback(follower.stop)
                # Whoever waits for it would begin what nobody watches.
                if ready and not self._signals:
                    ready.touch()
                if until.command and not self._signals:
                    self._said = Said(self._folder, self._nodes)
                    stack.callback(self._said.end)
                    self._run(until.command, until.called, self._said)
                why = self._go_on(until, state)
            finally:
                self._end_recorders()
            self._append(End(at=self._now(), why=why))
            self._screen.show(state, self._now())
            return self._exit_code()

    @contextmanager
    def _signals_noted(self) -> Iterator[None]:
        def note(number: int, _: FrameType | None) -> None:
            self._signals.append(number)
            self._hand_on(number)

        # Who was started by nohup is to go on, and so is the command.
        heeded = [each for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
        before = {number: signal.signal(number, note) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hand_on(self, number: int) -> None:
        """Hand a signal on to the command, unless the terminal has sent it to both."""
        if self._command and self._command.poll() is None:
            if number == signal.SIGINT and _in_foreground():
                return
            with suppress(ProcessLookupError):
                self._command.send_signal(number)

    def _begin(self) -> None:
        self._append(
            Stretch(
                at=self._unix,
                monotonic=self._monotonic,
                rate=self._rate,
                patience=timing.SYN_AGAIN,
                run=self._plan.run,
                namespace=self._plan.namespace,
                flows=self._plan.flows,
                unreached=dict(self._unreached),
            )
        )
        if self._unreached:
            self._screen.say(f"not watched from here: {in_words(self._unreached)}")
        for flows in shares(self._plan.flows, self._rate):
            self._start(flows)

    def _start(self, flows: dict[int, WatchedFlow]) -> None:
        self._recorders.append(_Recorder(flows, self._started(flows)))

    def _started(self, flows: dict[int, WatchedFlow]) -> "subprocess.Popen[bytes]":
        order = Order(
            folder=self._folder.absolute(),
            recorder=self._number,
            unix=self._unix,
            monotonic=self._monotonic,
            rate=self._rate,
            flows=flows,
        )
        self._number += 1
        process = subprocess.Popen(
            own_program("e2e.upgrade.recorder"),
            stdin=subprocess.PIPE,
            # What is typed into the terminal is not for it; it ends when its input does.
            start_new_session=True,
            pass_fds=[self._locked or 0],
        )
        self._tell(process, order)
        return process

    @staticmethod
    def _tell(process: "subprocess.Popen[bytes]", what: Order | More) -> None:
        assert process.stdin is not None
        # Who has ended is replaced, and told all of it again.
        with suppress(BrokenPipeError):
            process.stdin.write(what.model_dump_json().encode() + b"\n")
            process.stdin.flush()

    def _call(self, roll: Roll) -> None:
        """Take the roll of nodes; what follows from it is done between two looks."""
        self._roll = roll

    def _follow_nodes(self) -> None:
        """Watch nodes that joined or have other addresses, and note those that are not there."""
        roll = self._roll
        if roll is None or roll is self._called:
            return
        if self._called is None:
            for node in dict.fromkeys(flow.node for flow in self._plan.flows):
                if node not in roll.there:
                    said = "it was not there when the watch began"
                    lasted = self._now() - self._unix
                    self._happened(Happening("node-removed", node, node, said, lasted))
        self._called = roll
        for node in self._placed.keys() - roll.there:
            del self._placed[node]
        families = {flow.family for flow in self._plan.flows}
        for node, addresses in placed_anew(roll, self._placed, families).items():
            self._placed[node] = addresses
            self._watch_too(node, addresses)

    def _watch_too(self, node: str, addresses: dict[str, str]) -> None:
        flows = flows_of(node, addresses, self._flows)
        placed = Placed(at=self._now(), node=node, addresses=addresses, flows=flows)
        # Lines about flows that the record does not know would make it mean nothing.
        if not self._append(placed) or not flows:
            return
        self._nodes.add(node)
        numbered = dict(enumerate(flows, start=len(self._flows)))
        self._flows += flows
        least = min(self._recorders, key=lambda one: len(one.flows))
        busy = len(least.flows) * self._rate > ATTEMPTS_EACH
        if busy and len(self._recorders) < (os.cpu_count() or 1):
            self._start(numbered)
        else:
            least.flows |= numbered
            self._tell(least.process, More(flows=numbered))

    def _await_first(self, state: State) -> None:
        """Wait until every flow was asked, so that a change that begins now is seen."""

        def asked() -> bool:
            state.catch_up()
            self._screen.show(state, self._now())
            dead = [one.process.returncode for one in self._recorders if one.process.poll()]
            if dead:
                raise CannotRunError(
                    f"a process that asks ended at once, with {dead[0]}", "it says why above"
                )
            return bool(self._signals) or len(state.asked) == len(self._plan.flows)

        try:
            wait_until(
                asked,
                what="recorders to ask every flow",
                within=timing.RECORDER_STARTS_WITHIN,
                every=timing.WATCH_POLL,
            )
        except WaitedInVainError as error:
            raise CannotRunError(
                str(error), "give this machine more time, or less to do"
            ) from error

    def _run(self, command: Sequence[str], called: str, said: Said) -> None:
        try:
            self._command = subprocess.Popen(command, env={**os.environ, **said.variables})
        except OSError as error:
            raise UsageError(
                f"the command {command[0]!r} cannot be run: {error.strerror}",
                "write it as in a shell: nodeport-e2e watch -- ./upgrade.sh",
            ) from error
        self._happened(Happening("command-started", name=called or command[0]))

    def _go_on(self, until: Until, state: State) -> str:
        """Go on until something ends the watch; gives what."""
        end = inf if until.seconds is None else time.monotonic() + until.seconds
        next_show = 0.0

        def over() -> str:
            nonlocal next_show
            if time.monotonic() >= next_show:
                next_show = time.monotonic() + timing.SHOWN_EVERY
                self._revive()
                self._follow_nodes()
                state.catch_up()
                self._screen.show(state, self._now())
            if self._command:
                ended = self._command.poll() is not None
                for happening in self._said.new() if self._said else ():
                    self._happened(happening)
                if not ended:
                    return ""
                self._happened(
                    Happening("command-ended", said=f"exit code {self._command.returncode}")
                )
                return "the command ended"
            if self._signals:
                return signal.Signals(self._signals[0]).name
            if until.file and until.file.exists():
                return f"{until.file} is there"
            return "the time is over" if time.monotonic() >= end else ""

        why = wait_until(over, what="the end", within=inf, every=timing.WATCH_POLL)
        # What was asked last may still be called silent.
        self._end_recorders()
        state.catch_up()
        return why

    def _revive(self) -> None:
        """Start recorders again that died; what was not asked meanwhile shows in the record."""
        for one in self._recorders:
            if one.process.poll() is not None and (
                time.monotonic() - one.began > timing.RECORDER_AGAIN
            ):
                self._screen.say(
                    f"x a process that asks ended with {one.process.returncode}; another follows"
                )
                self._close(one)
                one.process, one.began = self._started(one.flows), time.monotonic()

    def _end_recorders(self) -> None:
        for one in self._recorders:
            self._close(one)
        for one in self._recorders:
            try:
                one.process.wait(timing.RECORDER_ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()

    @staticmethod
    def _close(one: _Recorder) -> None:
        if one.process.stdin:
            with suppress(OSError):
                one.process.stdin.close()

    def _happened(self, happening: Happening) -> None:
        now = self._now()
        self._append(
            EventLine(
                at=now,
                since=None if happening.lasted is None else round(now - happening.lasted, 4),
                kind=happening.kind,
                node=happening.node,
                name=happening.name[:200],
                said=happening.said[:300],
            )
        )

    def _append(self, line: Stretch | Placed | EventLine | End) -> bool:
        """Write a line; gives whether that could be done."""
        with self._writing:
            try:
                self._appender.append(write(line))
            except OSError as error:
                self._screen.say(f"x the record cannot be written, so this is lost: {error}")
                return False
        return True

    def _now(self) -> float:
        return round(self._unix + clock() - self._monotonic, 4)

    def _exit_code(self) -> int | None:
        if not self._command:
            return None
        code = self._command.returncode
        # As a shell says that a signal ended it.
        return 128 - code if code < 0 else code


def _in_foreground() -> bool:
    """Whether Ctrl-C of the terminal goes to this process, and to the command beside it."""
    try:
        with open("/dev/tty") as terminal:  # noqa: PTH123  # no file
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
