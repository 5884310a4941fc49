"""Taking a process from a delve that is to end, or does, so that no thread of it dies of a breakpoint.

delve's own leave loses threads: one that runs into a breakpoint while delve halts the others, clears or detaches is not
looked for any more, and the SIGTRAP that delve halts the process with may come after it has left. So delve is killed
instead, and its thread that traces is held back at its end (agent.tracee). With the process in nobody's hand and unable
to move, the code is made again what stands in the executable, and its threads are sent back from where they must not
be (agent.stragglers). Imports the standard library only.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from agent import rescue, stragglers, traps
from agent.rescue import Notes
from agent.taskstat import states
from agent.tracee import Tracee

DISARM = 0.5
"""Seconds, at most, in which delve may still see threads that have run into a breakpoint, before it is ended."""
QUIET = 2
"""So often must no breakpoint be found again, as long apart as delve needs to see a thread (rescue.COLLECT)."""
LOOK = 3.0
"""Seconds for a look at all files that the process runs, which takes milliseconds unless a machine does not answer."""
OTHERS = 0.2
"""Seconds for delve's other threads to end: until then one of them could still see to a thread of the process."""


class Parting:
    def __init__(self, notes: Notes, path: Path) -> None:
        """`path`: where the notes lie, by which a successor goes on."""
        self._notes = notes
        self._path = path
        self._tracee: Tracee | None = None
        self._standing: frozenset[int] = frozenset(notes.originals)
        self._pages: traps.Pages = {}
        self._out_of_reach = False
        """A file that the process runs does not answer: what is known of its breakpoints has to do."""
        self.restored = False
        """Whether there was a breakpoint that delve had not removed."""

    @property
    def prepared(self) -> bool:
        """Whether delve's end will be noticed before it happens."""
        return self._tracee is not None

    @property
    def over(self) -> bool:
        """Whether delve's thread that traces has ended, as far as that is known; its first one may have before."""
        return self._tracee is None or self._tracee.gone

    @property
    def status(self) -> int | None:
        """The exit status of delve's thread that traces, negative for a signal, once it is gone."""
        return self._tracee.status if self._tracee else None

    def prepare(self) -> None:
        """To be called when delve traces the process. Raises OSError where the kernel forbids it."""
        server, tid = self._notes.server, rescue.tracer(self._notes.target.pid)
        if self._tracee is None and server and Path(f"/proc/{server.pid}/task/{tid}").exists():
            self._tracee = Tracee(tid, self._at_its_end)

    def attend(self) -> None:
        """To be called after each SIGCHLD, and often while delve ends."""
        if self._tracee:
            self._tracee.attend()

    def disarm(self) -> bool:
        """Writes back what stands in the executable; whether there was a breakpoint."""
        found = self._breakpoints()
        if not found:
            return False
        self.restored = True
        self._notes = self._notes._replace(originals=self._notes.originals | found)
        # Noted before, for whoever must look after threads that have run into one. A full disk is no cause to wait.
        with contextlib.suppress(OSError):
            self._notes.save(self._path)
        rescue.restore(self._notes.target, found)
        return True

    def clear(self, wait: Callable[[float], bool]) -> None:
        """Takes the breakpoints away, and gives delve a moment to see threads that have trapped already.

        `wait` passes so many seconds, and tells whether delve is there still.
        """
        deadline, quiet = time.monotonic() + DISARM, 0
        while quiet < QUIET and time.monotonic() < deadline:
            # It puts a breakpoint back after it has stepped a thread over it.
            quiet = 0 if self.disarm() else quiet + 1
            if not wait(rescue.COLLECT):
                return

    def settle(self, limit: float) -> bool:
        """Once delve is gone: whether the process runs as it did before, which is seen to."""
        target, server = self._notes.target, self._notes.server
        self.disarm()
        if stragglers.KNOWN and target.alive:
            stragglers.send_back(target.pid, self._notes.originals, self._standing, server.pid if server else 0)
        return rescue.rescue(self._notes, limit)

    def _at_its_end(self) -> None:
        target = self._notes.target
        if not target.alive:
            return
        if stragglers.KNOWN:
            self._await_others()
            stragglers.hold(target.pid)
        self._standing = frozenset(self._breakpoints())
        self.disarm()

    def _await_others(self) -> None:
        server, deadline = self._notes.server, time.monotonic() + OTHERS
        while server and time.monotonic() < deadline and _running(server.pid) > 1:
            time.sleep(0.0005)  # they end within microseconds, one by one

    def _breakpoints(self) -> dict[int, bytes]:
        """What stood at each of delve's breakpoints: of all that are found, those that were not there before it."""
        pid = self._notes.target.pid
        found: dict[int, bytes] = {}
        if not self._out_of_reach:
            found, whole = traps.find_within(pid, LOOK, self._pages)
            self._out_of_reach = not whole
        if self._out_of_reach:
            found = traps.standing(pid, self._notes.originals | found)
        return {at: text for at, text in found.items() if at not in self._notes.others}


def _running(pid: int) -> int:
    """Threads that have not ended."""
    return sum(state not in "ZX" for state in states(pid))
