"""The side of the guard that faces gdbserver: follows the conversation, and ends it as a good client would.

gdbserver reads and writes two named pipes that it holds open itself: whoever loses its peer, it does not notice, and a
successor can take over from the notes. That matters because gdbserver cannot be killed without harm: it writes the
registers of a thread that hit a breakpoint only when the thread goes on. Imports the standard library only.
"""

import contextlib
import os
import select
import signal
import time

from agent import rescue, rsp
from agent.rescue import Notes, StrPath, Who, beside

OURS = (2, 5, 17)
"""Signals, as gdb counts them (SIGINT, SIGTRAP, SIGSTOP), that debugging sends: they are not for the process."""


class LostError(Exception):
    """gdbserver is gone, or does not do as the protocol says."""


class Channel:
    """A descriptor that never blocks; `end` is true when the other side has closed it."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading, self.writing = reading, writing
        self.waiting = b""
        self.end = False
        for descriptor in (reading, writing):
            os.set_blocking(descriptor, False)

    def read(self) -> bytes:
        try:
            data = os.read(self.reading, 65_536)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.end = self.end or not data
        return data

    def write(self, data: bytes = b"") -> None:
        self.waiting += data
        try:
            while self.waiting:
                self.waiting = self.waiting[os.write(self.writing, self.waiting) :]
        except BlockingIOError:
            return
        except OSError:
            self.end, self.waiting = True, b""


class Peer:
    """Whom gdbserver talks to."""

    def __init__(self, notes: Notes, path: StrPath, heard: int | None = None) -> None:
        """`path` is the file of the notes; the pipes lie beside it. gdbserver must run.

        `heard` is one of them, open for reading since before it ran: or else nothing would tell of an early end.
        """
        self._notes, self._path = notes, path
        self._talk = rsp.Conversation(notes.target.pid)
        self._from_server = rsp.Splitter()
        self._interrupting = False
        self._interrupts = 0
        heard = listen(path) if heard is None else heard
        self._server = Channel(heard, os.open(beside(path, "in"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))

    def close(self) -> None:
        os.close(self._server.reading)
        os.close(self._server.writing)

    def succeed(self) -> None:
        """Takes over from a guard that was killed."""
        self._talk.multiprocess = self._notes.multiprocess
        self._talk.points = dict.fromkeys(self._notes.points)
        if rescue.halted(self._notes.target.pid):
            self._server.read()  # what the guard did not live to hear
        else:
            self._talk.sends(b"c")

    def take_leave(self, deadline: float) -> None:
        """Stops the process, removes what was inserted and detaches. Raises LostError when that cannot be done."""
        if self._talk.running:
            self._interrupt()
        elif self._talk.acks:
            self._server.write(b"+")  # the answer that the client did not live to acknowledge
        while self._talk.asked is not None:
            self._hear_out(deadline)
        if not self._talk.exited:
            self._detach(deadline)
        if self._interrupts > 1 and not self._notes.stopped:
            # Two may have been one for the kernel, or not: then one is still to come, and gdbserver has passed it on.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._notes.target.pid, signal.SIGCONT)
        server = self._notes.server
        if not rescue.settle(self._notes, 1.0):
            raise LostError("the process stayed stopped after the detach")
        if server:
            with contextlib.suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
            rescue.reap(server.pid, 1.0)

    def _detach(self, deadline: float) -> None:
        pid = self._notes.target.pid
        # gdbserver has no thread chosen before the first client asks for one, and the client may have chosen a child's.
        self._ask(b"Hgp%x.%x" % (pid, pid) if self._talk.multiprocess else b"Hg%x" % pid, deadline)
        for point in list(self._talk.points):
            self._ask(point.removal, deadline)
        rescue.restore(self._notes.target, self._notes.originals)
        passed = b";".join(b"%x" % number for number in range(1, 0x98) if number not in OURS)
        self._ask(b"QProgramSignals:" + passed, deadline)
        for child in sorted(self._talk.children):
            if who := Who.of(child):
                rescue.restore(who, self._notes.originals)
            self._ask(b"D;%x" % child, deadline)
        if self._interrupting:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # takes back a stop that came too late to be seen
        answer = self._ask(self._talk.detach, deadline)
        if answer != rsp.OK:
            raise LostError(f"gdbserver refused to detach: {answer!r:.100}")

    def _ask(self, text: bytes, deadline: float) -> bytes:
        self._talk.sends(text)
        self._server.write(rsp.packet(text))
        while True:
            answer = self._hear_out(deadline)
            if self._talk.asked is None:
                return answer

    def _hear_out(self, deadline: float) -> bytes:
        """The last packet of those that come next."""
        last = b""
        for token in self._server_tokens(self._wait(deadline)):
            if token[:1] != b"$":
                continue
            if self._talk.acks:
                self._server.write(b"+")
            last = rsp.body(token)
            if self._talk.running and last[:3] in (b"T11", b"S11"):
                self._interrupting = False
            self._talk.receives(last)
        return last

    def _interrupt(self) -> None:
        """Stops the running process.

        gdbserver's own way is a SIGINT to the process group of the process's pid: nothing happens when the process
        does not lead a group, and when it does the signal hits others too. SIGSTOP cannot be blocked either.
        """
        self._interrupting = True
        self._interrupts += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._notes.target.pid, signal.SIGSTOP)

    def _receives(self, text: bytes) -> None:
        self._talk.receives(text)

    def _wait(self, deadline: float | None, others: dict[int, int] | None = None) -> dict[int, int]:
        """What happened on which descriptor; what waited is written. Raises LostError at the deadline."""
        poll = select.poll()
        for descriptor, events in (others or {}).items():
            poll.register(descriptor, events)
        if not others or others.get(self._server.reading) != 0:
            poll.register(self._server.reading, select.POLLIN)
        if self._server.waiting:
            poll.register(self._server.writing, select.POLLOUT)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left))
        if not ready:
            raise LostError("gdbserver does not answer")
        if self._server.writing in ready:
            self._server.write()
        return ready

    def _server_tokens(self, ready: dict[int, int]) -> list[bytes]:
        if self._server.reading not in ready:
            return []
        data = self._server.read()
        if not self._server.end:
            return self._from_server.feed(data)
        # The kernel closes files before it lets go of traced threads: this may be before the next one can trap.
        rescue.restore(self._notes.target, self._notes.originals)
        raise LostError("gdbserver ended")


def listen(path: StrPath) -> int:
    return os.open(beside(path, "out"), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def succeed(path: StrPath, limit: float) -> bool:
    """Ends what a killed guard left, by its notes; whether the process is free. Blocks, about `limit` seconds at most.

    Only one may do so at a time.
    """
    notes = Notes.load(path)
    if notes is None:
        return True
    free = False
    with contextlib.suppress(LostError, rsp.ViolationError, OSError):
        if notes.server and notes.server.alive:
            peer = Peer(notes, path)
            try:
                peer.succeed()
                peer.take_leave(time.monotonic() + limit)
                free = True
            finally:
                peer.close()
    free = free or rescue.rescue(notes)
    if free:
        forget(path)
    return free


def forget(path: StrPath) -> None:
    """Removes the notes and the pipes."""
    for name in (path, beside(path, "in"), beside(path, "out")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
