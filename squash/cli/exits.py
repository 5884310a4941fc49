"""How squashctl ends: one number for each thing that a script may want to tell apart."""

from enum import IntEnum

from squash.errors import SettingError, SquashError
from squash.reasons import Reason


class Exit(IntEnum):
    """An exit status. `meaning` says when it is given."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> "Exit":
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    DONE = 0, "done"
    REFUSED = 1, "refused or failed: the message says why and what to do"
    USAGE = 2, "a flag, an argument or a setting cannot be used"
    UNREACHABLE = 3, "no usable answer from the coordinator"
    TIMEOUT = 4, "the time to wait ran out"
    NOT_FOUND = 5, "nothing has this id, or no container this name"
    DENIED = 6, "no token, or one that may not do this"
    HUNG_UP = 129, "the terminal was closed (SIGHUP)"
    INTERRUPTED = 130, "Ctrl-C"
    TERMINATED = 143, "SIGTERM"


_OF_REASON = {
    Reason.COORDINATOR_UNREACHABLE: Exit.UNREACHABLE,
    Reason.COORDINATOR_REFUSED: Exit.UNREACHABLE,
    Reason.STOPPING: Exit.UNREACHABLE,
    Reason.WAIT_TIMEOUT: Exit.TIMEOUT,
    Reason.NOT_FOUND: Exit.NOT_FOUND,
    Reason.CONTAINER_NOT_FOUND: Exit.NOT_FOUND,
    Reason.UNAUTHENTICATED: Exit.DENIED,
    Reason.TOKEN_EXPIRED: Exit.DENIED,
    Reason.TOKEN_REVOKED: Exit.DENIED,
    Reason.FORBIDDEN: Exit.DENIED,
    Reason.NOT_YOURS: Exit.DENIED,
    Reason.TUNNEL_TOKEN: Exit.DENIED,
}


def exit_of(error: SquashError) -> Exit:
    """The status that tells of this error."""
    if isinstance(error, SettingError):
        return Exit.USAGE
    return _OF_REASON.get(error.reason, Exit.REFUSED)
