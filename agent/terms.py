"""What a session may do to the process. Imports the standard library only: the guard runs without site-packages."""

from typing import NamedTuple


class Terms(NamedTuple):
    read_only: bool = False
    """It may look and steer, but change nothing."""
    looks_only: bool = False
    """It may not even stop or steer: the client is a guest. Comes with `read_only`."""
    allow_terminate: bool = False
    """It may end the process; otherwise that becomes a detach."""

    @property
    def may_end(self) -> bool:
        return self.allow_terminate and not self.read_only


ORDINARY = Terms()
