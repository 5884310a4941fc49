"""A process between the agent and one gdbserver, that outlives the agent to free the debugged process.

At the end of its input gdbserver stays, with the process frozen; killed, it leaves traps behind that kill the process.
The guard passes bytes on and follows the protocol. When the agent's end closes, for whatever reason, it stops the
process, removes the breakpoints and detaches, as a good client would, within LIMIT; failing that it rescues
(agent.rescue). What a rescue needs stands in the notes, for the case that the guard itself is killed.

Run with standard input a socket to the client, on which its summons come first (agent.summons). Says on standard error
`attached`, or why not, and at the end what went wrong if something did. Imports the standard library only, to start
fast and anywhere.
"""

import contextlib
import os
import select
import signal
import sys
import time
from typing import NoReturn

from agent import rescue, rsp, verdicts
from agent.farewell import Channel, LostError, Peer, forget, listen
from agent.rescue import ORDERLY, REFUSED, RESCUED, STUCK, Notes, Who, beside, outlive, say
from agent.summons import awaited
from agent.taskstat import stopped
from agent.terms import Terms
from agent.verdicts import Action, Verdict

LIMIT = 4.0
"""Seconds for taking leave of gdbserver in its own protocol; a rescue needs up to 4 more."""
BACKLOG = 262_144
"""Bytes that wait for one end before the other is no longer read."""


class Guard(Peer):
    def __init__(self, pid: int, path: str, gdbserver: str, terms: Terms) -> None:
        target, guard = Who.of(pid), Who.of(os.getpid())
        if target is None or guard is None:
            raise LostError(f"process {pid} is gone")
        make_pipes(path)
        heard = listen(path)
        notes, words = spawn(gdbserver, Notes(target, guard, stopped(pid)), path)
        super().__init__(notes, path, heard)
        self._terms = terms
        self._stderr = Channel(words, words)
        self._client = Channel(0, 0)
        self._from_client = rsp.Splitter()
        self._attached = False
        self._words = b""
        self._swallow = 0
        self._wanted = False
        """An interrupt crossed the word of a stop: it is for what runs next, as with gdbserver itself."""
        self._resumed = b""
        """What the client let the process run with."""
        self._unheard = 0
        """Acknowledgements from gdbserver that are not for the client."""
        self._leave: Verdict | None = None

    def run(self) -> int:
        """The exit status."""
        try:
            self._relay()
            deadline = time.monotonic() + LIMIT
            while not self._attached:
                self._server_tokens(self._wait(deadline))
            self.take_leave(deadline)
            if self._leave and self._leave.action is Action.KILL:
                self._kill()
            status, words = ORDERLY, ""
        except (LostError, rsp.ViolationError) as error:
            status, words = RESCUED if self._attached else REFUSED, str(error)
            if self._talk.exited:
                status = ORDERLY  # and gdbserver with it
        if status and not rescue.rescue(self._notes):
            status, words = STUCK, f"process {self._notes.target.pid} could not be freed: {words}"
        if status != STUCK:
            forget(self._path)
        if status:
            say(words)
        elif self._leave and self._leave.answer is not None:
            self._client.write(rsp.packet(self._leave.answer))
        self._flush()
        return status

    def _kill(self) -> None:
        """Ends the process, which nobody traces any more."""
        target = self._notes.target
        if target.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(target.pid, signal.SIGKILL)

    def _flush(self) -> None:
        """The last words to the client, if it still listens."""
        poll = select.poll()
        poll.register(self._client.writing, select.POLLOUT)
        while self._client.waiting and poll.poll(500):
            self._client.write()

    def _note(self, **changed: object) -> None:
        self._notes = self._notes._replace(**changed)  # type: ignore[arg-type]
        self._notes.save(self._path)

    # -- while a client is there ----------------------------------------------------------------------------------

    def _relay(self) -> None:
        """Until the client leaves. Raises LostError when gdbserver does."""
        while not self._client.end and self._leave is None:
            ready = self._wait(None)
            if ready.get(self._client.reading, 0) & select.POLLIN:
                self._from_there(self._client.read())
            elif ready.get(self._client.reading, 0):
                self._client.end = True
            for token in self._server_tokens(ready):
                self._server_says(token)

    def _wait(self, deadline: float | None, others: dict[int, int] | None = None) -> dict[int, int]:
        client, others = self._client, dict(others or {})
        if deadline is None:
            events = select.POLLIN if len(self._server.waiting) < BACKLOG else 0
            others[client.reading] = events | (select.POLLOUT if client.waiting else 0)
            if len(client.waiting) >= BACKLOG:
                others[self._server.reading] = 0
        if not self._stderr.end:
            others[self._stderr.reading] = select.POLLIN
        ready = super()._wait(deadline, others)
        if ready.pop(self._stderr.reading, 0):
            self._hear()
        if ready.get(client.reading, 0) & select.POLLOUT:
            client.write()
            ready[client.reading] &= ~select.POLLOUT
        return ready

    def _hear(self) -> None:
        """What gdbserver says of itself; only the beginning matters."""
        self._words = (self._words + self._stderr.read())[-4096:]
        if not self._attached and b"Attached; pid" in self._words:
            self._attached = True
            say("attached")

    def _server_tokens(self, ready: dict[int, int]) -> list[bytes]:
        try:
            return super()._server_tokens(ready)
        except LostError as error:
            if not self._stderr.end:
                self._hear()
            words = self._words.decode(errors="replace").strip().splitlines()
            raise LostError(f"{error}: {words[-1]}" if words else str(error)) from None

    def _from_there(self, data: bytes) -> None:
        try:
            for token in self._from_client.feed(data):
                if not self._leave:
                    self._client_says(token)
        except rsp.ViolationError as error:
            say(f"client turned away: {error}")
            self._client.end = True

    def _client_says(self, token: bytes) -> None:
        if token == rsp.INTERRUPT:
            self._wanted = not self._talk.running
            if not self._wanted:
                self._interrupt()
        elif token == b"+" and self._swallow:
            self._swallow -= 1
        elif token[:1] != b"$":
            self._server.write(token)
        else:
            self._client_asks(token, rsp.body(token))

    def _client_asks(self, token: bytes, text: bytes) -> None:
        talk = self._talk
        action, answer = verdicts.judge(
            text, self._notes.target.pid, self._terms, signal=talk.signal, named_errors=talk.named_errors
        )
        if action is Action.FORWARD:
            self._remember(text)
            self._talk.sends(text)
            self._resumed = token if self._talk.running else b""
            self._server.write(token)
            if self._wanted and self._talk.running:
                self._wanted = False
                self._interrupt()
            return
        if self._talk.acks:
            self._client.write(b"+")
        if action in (Action.END, Action.KILL):
            self._leave = Verdict(action, answer)
        elif answer is not None:
            self._swallow += self._talk.acks
            self._client.write(rsp.packet(answer))

    def _remember(self, text: bytes) -> None:
        """Notes what a breakpoint is about to replace."""
        if text[:2] != b"Z0" or not (point := rsp.Point.parse(text)) or point.address in self._notes.originals:
            return
        original = rescue.original(self._notes.target.pid, point.address, point.size)
        if original is not None:
            originals = {**self._notes.originals, point.address: original}
            self._note(originals=originals, points=(*self._notes.points, point))

    def _server_says(self, token: bytes) -> None:
        if token == b"+" and self._unheard:
            self._unheard -= 1
            return
        text = rsp.body(token)
        if token[:1] == b"$":
            halted = self._talk.running and text[:3] in (b"T11", b"S11")
            if halted and self._interrupting:
                self._interrupting = False
                # The client asked for an interrupt and looks for SIGINT.
                token = rsp.packet(text[:1] + b"02" + text[3:])
            self._receives(text)
            if halted and token[2:4] == b"11" and self._ours():
                self._go_on()
                return
            if thread := rsp.trapped(text):
                token = self._settle_registers(thread) or token
        self._client.write(token)

    def _ours(self) -> bool:
        """Whether the signal is ours from an earlier stop, which had another cause before it came.

        Two of ours are one for the kernel, or are not. And where gdbserver stops a thread in the same way and hears of
        ours, it takes that for its own, which is still to come then. Nobody can tell beforehand.
        """
        if self._interrupts < 2:
            return False
        if self._talk.acks:
            self._server.write(b"+")
        answer = self._ask(b"qXfer:siginfo:read::0,80", time.monotonic() + LIMIT)
        server = self._notes.server
        # 0: from outside of its namespace of pids.
        ours = rsp.sender(answer) in (0, os.getpid(), server and server.pid)
        self._swallow += self._talk.acks and not ours
        return ours

    def _go_on(self) -> None:
        """As the client had it: a thread that takes a signal has not run yet."""
        self._talk.sends(rsp.body(self._resumed))
        self._unheard += self._talk.acks
        self._server.write(self._resumed)

    def _settle_registers(self, thread: bytes) -> bytes | None:
        """Makes gdbserver write what it keeps to itself: that a thread at a breakpoint has not passed it.

        If gdbserver were killed before, the thread would go on in the middle of an instruction. A thread that is let
        run with a stop signal waiting takes that first, so it executes nothing. Returns another stop, if one came.
        """
        if self._talk.acks:
            self._server.write(b"+")
            self._swallow += 1
        asked = self._interrupting
        self._interrupt()
        answer = self._ask(b"vCont;c:" + thread, time.monotonic() + LIMIT)
        while self._talk.running:
            answer = self._hear_out(time.monotonic() + LIMIT)
        # The client's stop and this one were one for the kernel: it is still owed its own.
        self._wanted = asked and not self._interrupting
        return rsp.packet(answer) if self._interrupting else None

    def _receives(self, text: bytes) -> None:
        super()._receives(text)
        points, multiprocess = tuple(self._talk.points), self._talk.multiprocess
        if (points, multiprocess) != (self._notes.points, self._notes.multiprocess):
            kept = {point.address for point in points}
            originals = {at: was for at, was in self._notes.originals.items() if at in kept}
            self._note(points=points, multiprocess=multiprocess, originals=originals)


PIPES = ("in", "out")


def make_pipes(path: str) -> None:
    """Two new named pipes beside `path`."""
    for name in PIPES:
        pipe = beside(path, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pipe)
        os.mkfifo(pipe, 0o600)


def spawn(gdbserver: str, notes: Notes, path: str) -> tuple[Notes, int]:
    """Starts it between the named pipes; the notes with its name, and the descriptor of what it says on stderr.

    They are written before it is gdbserver: whoever dies, it is known who traces the process.
    """
    ours, theirs = os.pipe()
    noted, noting = os.pipe()
    child = os.fork()
    if not child:
        _become(gdbserver, notes, path, theirs)
    os.close(theirs)
    os.close(noting)
    os.read(noted, 1)  # ends when it is gdbserver, or is not going to be
    os.close(noted)
    return notes._replace(server=Who.of(child) or Who(child, 0)), ours


def _become(gdbserver: str, notes: Notes, path: str, words: int) -> NoReturn:
    try:
        os.dup2(words, 2)
        # Open for both directions: nobody who dies makes an end of file for gdbserver, or a broken pipe.
        for number, name in enumerate(PIPES):
            os.dup2(os.open(beside(path, name), os.O_RDWR), number)
        notes._replace(server=Who.of(os.getpid())).save(path)
        os.execvp(gdbserver, [gdbserver, "--attach", "-", str(notes.target.pid)])  # noqa: S606 - there is no shell to want
    except OSError as error:
        os.write(words, f"{gdbserver} could not be started: {error}\n".encode())
    os._exit(127)


def main() -> None:
    """Summons: the pid, the path for the notes, the gdbserver program, the names of the terms that hold."""
    outlive()
    pid, notes, gdbserver, *terms = awaited()
    try:
        guard = Guard(int(pid), notes, gdbserver, Terms(**dict.fromkeys(terms, True)))
    except (LostError, OSError) as error:
        say(str(error))
        sys.exit(REFUSED)
    sys.exit(guard.run())
