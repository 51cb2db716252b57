"""Asking on a beat over UDP: each time from another port, or always from the same."""

import socket
from dataclasses import replace
from functools import partial

from e2e import timing
from e2e.probe.asking import LARGEST, Asker, Beat
from e2e.probe.outcome import FOREIGN, SILENT
from e2e.probe.pulse import clock
from e2e.probe.reply import Reply, reply_from
from e2e.probe.wire import IDENTITY_WORD


class NewSourcePorts(Asker):
    """Every attempt is a datagram from a port of its own."""

    def ask(self) -> None:
        """Send one."""
        _Datagram(self)


class _Datagram:
    """An attempt over UDP from a new port."""

    __slots__ = ("_began", "_by", "_open", "_waited")

    def __init__(self, by: Asker) -> None:
        self._by, self._waited = by, False
        new = by.fresh(socket.SOCK_DGRAM)
        self._open: socket.socket | None = new
        self._began = clock()
        try:
            new.connect(by.address)
            new.send(IDENTITY_WORD)
        except OSError:
            new.close()
            raise
        by.pulse.heed(new, self._readable)
        by.pulse.later(by.patience, self._impatient)

    def _readable(self) -> None:
        assert self._open is not None
        began, by = self._began, self._by
        try:
            said = self._open.recv(LARGEST)
        except OSError as error:
            if not self._waited:
                by.failed(began, error)
        else:
            reply = reply_from(said.decode(errors="replace"), clock() - began)
            by.tell_late(began, reply) if self._waited else by.tell(began, reply)
        self._close()

    def _impatient(self) -> None:
        if self._open is None:
            return
        self._waited = True
        self._by.avoid(self._open)
        self._by.tell(self._began, Reply(SILENT, clock() - self._began))
        if self._by.hears_late:
            self._by.pulse.later(timing.ATTEMPT - self._by.patience, self._close)
        else:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._by.pulse.forget(self._open)
            self._open.close()
            self._open = None


class OneSourcePort(Asker):
    """All attempts come from one port: numbered datagrams, each after a question for the name."""

    _talking: socket.socket | None = None
    _name = ""
    _number = 0

    def ask(self) -> None:
        """Send both."""
        if self._talking is None:
            self._under_way: dict[int, Beat] = {}
            self._nameless: list[int] = []
            self._talking = self.fresh(socket.SOCK_DGRAM)
            try:
                self._talking.connect(self.address)
            except OSError:
                self._talking.close()
                self._talking = None
                raise
            self.pulse.heed(self._talking, self._readable)
        self._number += 1
        beat = self._under_way[self._number] = Beat()
        self.pulse.later(self.patience, partial(self._impatient, self._number, beat))
        for word in (IDENTITY_WORD, b"echo %d" % self._number):
            try:
                self._talking.send(word)
            except OSError as error:
                # It speaks of an earlier datagram, unless there is no way at all.
                self._refused(error)
                try:
                    self._talking.send(word)
                except OSError as again:
                    self._refused(again)

    def _readable(self) -> None:
        assert self._talking is not None
        while True:
            try:
                said = self._talking.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._refused(error)
                return
            if said.isdigit() and int(said[:18]) in self._under_way:
                self._nameless.append(int(said[:18]))
            elif not said.isdigit():
                self._name = said.decode(errors="replace")
            if self._name:
                self._land()

    def _land(self) -> None:
        for number in self._nameless:
            beat = self._under_way.pop(number, None)
            if beat:
                beat.ended = True
                reply = reply_from(self._name, clock() - beat.began)
                tell = self.tell_late if beat.waited else self.tell
                tell(beat.began, reply)
        self._nameless.clear()

    def _refused(self, error: OSError) -> None:
        """Take an ICMP error as that of the last datagram that is under way."""
        number = next(reversed(self._under_way), None)
        if number is not None and not self._under_way[number].waited:
            beat = self._under_way.pop(number)
            beat.ended = True
            self.failed(beat.began, error)

    def _impatient(self, number: int, beat: Beat) -> None:
        if beat.ended:
            return
        beat.waited = True
        reply = Reply(SILENT, clock() - beat.began)
        if number in self._nameless:
            reply = replace(reply, outcome=FOREIGN, detail="echoed, and said no name")
        self.tell(beat.began, reply)
        self.pulse.later(timing.ATTEMPT - self.patience, partial(self._forget, number))

    def _forget(self, number: int) -> None:
        self._under_way.pop(number, None)
