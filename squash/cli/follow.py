"""Following a debug request to its match, and a debug attachment to where somebody waits for it to be."""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from squash.cli.describe import connection, place
from squash.cli.ids import Found
from squash.cli.output import Progress
from squash.client import Call, Client, changes, get_request
from squash.errors import ApiError, SquashError, UnreachableError
from squash.model import Changes, DebugAttachment, DebugRequest, HoldUntil, Phase, State
from squash.reasons import Reason

T = TypeVar("T")
POLL = 30.0
"""Seconds of one long poll: short enough that a connection lost without a word is noticed."""
PAUSE = 0.2
"""Seconds between tries to reach a coordinator that was there before."""
AWAY = "the coordinator is away; waiting for it to come back"


class Goal(StrEnum):
    """How far to follow. `listening`: a client can connect; `attached`: the held request may go."""

    MATCHED = "matched"
    LISTENING = "listening"
    ATTACHED = "attached"


class Patience:
    """Asks a coordinator that was there before, and waits for one that is restarted, for `timeout` seconds from now.

    `away` is called once each time that it is found missing.
    """

    def __init__(self, client: Client, timeout: float, away: Callable[[], None]) -> None:
        self._client = client
        self._deadline = time.monotonic() + timeout
        self._away = away

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._deadline - time.monotonic())

    def send(self, call: Callable[[float], Call[T]], longest: float = POLL) -> T | None:
        """The answer to the call for a long poll of so many seconds, at most `longest`; None when nothing came.

        Raises UnreachableError when the coordinator is still away at the end of the time.
        """
        missing = False
        while True:
            try:
                return self._client.send(call(min(self.left, longest)))
            except UnreachableError:
                if not self.left:
                    raise
            except ApiError as error:
                if error.reason is Reason.WAIT_TIMEOUT:
                    return None
                if error.reason is not Reason.STOPPING:
                    raise
                if not self.left:
                    return None
            if not missing:
                self._away()
                missing = True
            time.sleep(PAUSE)


class Follower:
    """Waits at most `timeout` seconds from now; a coordinator that is restarted meanwhile is waited for."""

    def __init__(self, client: Client, timeout: float, progress: Progress) -> None:
        self._timeout = timeout
        self._progress = progress
        self._patience = Patience(client, timeout, lambda: progress.now(AWAY))

    def follow(self, found: Found, goal: Goal) -> DebugAttachment:
        """The attachment once the goal is reached. Raises SquashError: WAIT_TIMEOUT, or why it cannot be reached."""
        if isinstance(found, DebugRequest):
            name = self._match(found)
            self._progress.reached(f"matched: debug attachment {name}")
        else:
            name = found.name
        return self._attachment(name, goal)

    def _match(self, request: DebugRequest) -> str:
        name = request.name
        self._progress.now(f"waiting for a marked request that reaches {request.spec.image}")
        while True:
            try:
                answer = self._ask(lambda wait: get_request(name, wait=wait), "no marked request has come")
            except ApiError as error:
                if error.reason is Reason.NOT_FOUND:
                    raise SquashError(Reason.EXPIRED, f"debug request {name} expired or was deleted") from error
                raise
            if answer.status.debug_attachment_ref:
                return answer.status.debug_attachment_ref

    def _attachment(self, name: str, goal: Goal) -> DebugAttachment:
        known: DebugAttachment | None = None
        since = ""
        while True:
            known, since = self._news(known, name, since)
            if reached(known, goal):
                return known

    def _news(self, known: DebugAttachment | None, name: str, since: str) -> tuple[DebugAttachment, str]:
        """The attachment as it is after the next change, and the revision. Raises when it is gone."""
        stands = f"still {known.status.state} (phase {known.status.phase})" if known else "not known"

        def call(wait: float) -> Call[Changes]:
            return changes(since=since, names=[name], wait=wait)

        news = self._ask(call, f"debug attachment {name} is {stands}")
        own = [attachment for attachment in news.attachments if attachment.name == name]
        if own:
            self._tell(known, own[0])
            return own[0], news.revision
        if name in news.deleted or news.reset or known is None:
            raise SquashError(Reason.DELETED, f"debug attachment {name} was deleted")
        return known, news.revision

    def _tell(self, before: DebugAttachment | None, now: DebugAttachment) -> None:
        status = now.status
        if before is None:
            self._progress.reached(place(now))
        if before is None or status.phase is not before.status.phase:
            text = f"{status.phase or status.state}"
            if status.phase is Phase.LISTENING and (how := connection(now)):
                text += f": {how}"
                if now.spec.hold_until is HoldUntil.READY:
                    text += (
                        f"; connect, also from elsewhere: squashctl connect {now.name}; the request goes on when your "
                        f"breakpoints are set, or when you say so: squashctl ready {now.name}"
                    )
            self._progress.reached(text)
        self._progress.now(_waits_for(now))

    def _ask(self, call: Callable[[float], Call[T]], missing: str) -> T:
        """Asks again until there is an answer or the time is over; `missing` says then what did not come."""
        while True:
            answer = self._patience.send(call)
            if answer is not None:
                return answer
            if not self._patience.left:
                raise SquashError(Reason.WAIT_TIMEOUT, f"after {self._timeout:g} s {missing}")


def reached(attachment: DebugAttachment, goal: Goal) -> bool:
    """Whether the attachment is where the goal wants it. Raises SquashError when it never will be."""
    status = attachment.status
    if goal is Goal.MATCHED:
        return True
    over = status.phase is not None and status.phase.rank >= Phase.RELEASED.rank
    if status.state is State.ERROR or over:
        message = status.message or (status.reason.meaning if status.reason else "its debugger is detached")
        raise SquashError(status.reason or Reason.CLIENT_GONE, f"debug attachment {attachment.name}: {message}")
    if goal is Goal.LISTENING:
        return status.debug_server_address is not None
    return status.state is State.ATTACHED


def _waits_for(attachment: DebugAttachment) -> str:
    status = attachment.status
    if status.state is State.NONE:
        return f"waiting for an agent on node {attachment.spec.node or '?'}"
    if status.phase is Phase.LISTENING:
        return "waiting for a client to connect and set its breakpoints"
    if status.phase is Phase.CLIENT_CONNECTED:
        return "a client is connected; waiting for its breakpoints"
    return "the debugger is being attached"
