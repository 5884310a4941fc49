"""The process as the debug server tells of it: stage, threads, frames. Pure: events in, questions answered."""

from enum import Enum

from squash.cli.console.messages import Frame, Stopped, Thread


class Stage(Enum):
    """Where a session stands."""

    CONFIGURING = "its breakpoints are being set"
    """Nobody has said yet that they are set: a held request waits for that."""
    RUNNING = "the process runs"
    STOPPED = "the process stands"
    ENDED = "the debug server has ended the session"
    """With the process, if that has an exit status; else for a reason of its own, like a takeover."""
    LOST = "the connection is lost"


class Debuggee:
    def __init__(self) -> None:
        self.stage = Stage.CONFIGURING
        self.threads: dict[int, Thread] = {}
        self.thread: int | None = None
        """The one that is looked at."""
        self.stop: Stopped | None = None
        """Why it stands; None while it does not."""
        self.frames: list[Frame] = []
        """Of the thread that is looked at, newest first; empty until they were asked for."""
        self.total = 0
        """How many frames there are, if the debug server says so."""
        self.index = 0
        """Which of the frames is looked at."""
        self.early: Stopped | None = None
        """A stop that came before anybody said that the breakpoints are set; it counts from then on."""
        self.exit_code: int | None = None
        self.was_configured = False
        """Whether somebody has said, once, that the breakpoints are set."""

    @property
    def frame(self) -> Frame | None:
        return self.frames[self.index] if self.index < len(self.frames) else None

    @property
    def over(self) -> bool:
        return self.stage in (Stage.ENDED, Stage.LOST)

    def connected(self) -> None:
        """A new connection: nothing is known yet."""
        self.stage, self.stop, self.early, self.threads, self.thread = Stage.CONFIGURING, None, None, {}, None
        self._forget()

    def configured(self) -> bool:
        """The breakpoints are set. Whether it stands already: other requests may have been faster."""
        self.was_configured = True
        early, self.early = self.early, None
        if self.stage is Stage.CONFIGURING:
            self.stage = Stage.RUNNING
            return early is not None and self.stopped(early)
        return False

    def stopped(self, event: Stopped) -> bool:
        """Whether that is news, and not one more thread that stands because the first does."""
        if self.over:
            return False
        if self.stage is Stage.CONFIGURING:
            self.early = self.early or event
            return False
        first = self.stage is not Stage.STOPPED
        if not first and event.thread_id != self.thread:
            return False
        self.stage, self.stop = Stage.STOPPED, event
        if event.thread_id is not None:
            self.thread = event.thread_id
        self._forget()
        return True

    def resumed(self, thread: int | None = None, everything: bool = True) -> None:
        """What stood runs: all of it, or a thread alone, which counts when it is the one that is looked at."""
        if self.early and (everything or thread in (None, self.early.thread_id)):
            self.early = None
        if self.stage is Stage.STOPPED and (everything or thread in (None, self.thread)):
            self.stage, self.stop = Stage.RUNNING, None
            self._forget()

    def thread_started(self, number: int) -> None:
        self.threads.setdefault(number, Thread(id=number))

    def thread_ended(self, number: int) -> None:
        self.threads.pop(number, None)

    def ended(self) -> None:
        if self.stage is not Stage.LOST:
            self.stage, self.stop = Stage.ENDED, None
        self._forget()

    def lost(self) -> None:
        if self.stage is not Stage.ENDED:
            self.stage, self.stop = Stage.LOST, None
        self._forget()

    def look_at(self, thread: int) -> None:
        self.thread = thread
        self._forget()

    def know(self, threads: list[Thread]) -> None:
        self.threads = {thread.id: thread for thread in threads}
        if self.thread not in self.threads and self.threads:
            self.thread = next(iter(self.threads))

    def stack(self, frames: list[Frame], total: int | None) -> None:
        self.frames, self.total, self.index = frames, max(total or 0, len(frames)), 0

    def move(self, index: int) -> None:
        """Looks at another frame; never further than there are."""
        self.index = min(max(index, 0), max(len(self.frames) - 1, 0))

    def name_of(self, thread: int | None) -> str:
        known = self.threads.get(thread) if thread is not None else None
        return known.name if known and known.name else "?"

    def _forget(self) -> None:
        self.frames, self.total, self.index = [], 0, 0
