"""The exceptions of the project. Each carries a `Reason`; third-party errors become one at the edge that met them."""

from squash.reasons import Reason


class SquashError(Exception):
    """A refusal or failure that can explain itself.

    `message` says what was wrong with which value; empty takes the reason's meaning. Bytes of file names that are no
    UTF-8 are replaced: what explains itself must be able to travel.
    """

    def __init__(self, reason: Reason, message: str = "") -> None:
        self.reason = reason
        self.message = message.encode(errors="replace").decode() or reason.meaning
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} ({self.reason}): {self.reason.remedy}"


class ApiError(SquashError):
    """The coordinator refused: `code` is the HTTP status of its answer."""

    def __init__(self, code: int, reason: Reason, message: str = "") -> None:
        super().__init__(reason, message)
        self.code = code


class UnreachableError(SquashError):
    """No usable answer from the coordinator: not running, wrong address, or too slow."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.COORDINATOR_UNREACHABLE, message)


class SettingError(SquashError):
    """A setting has a value that cannot be used: the message names key, value and what is allowed."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.INVALID, message)

    def __str__(self) -> str:
        return self.message
