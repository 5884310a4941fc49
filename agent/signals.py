"""A signal to the very process that is meant, and only if it handles it: one that is gone may have left its number."""

import os
import signal
from collections.abc import Callable

from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason


def send(process: Process, number: signal.Signals, check: Callable[[], None]) -> None:
    """`check` raises SquashError when the signal would do harm; it is asked when nothing can come in between any more.

    Raises SquashError, also when the process is gone or the agent may not signal it.
    """
    gone = SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone")
    try:
        descriptor = procfs.handle(process.pid)
    except ProcessLookupError as error:
        raise gone from error
    try:
        # Alive now, it is the one that the descriptor stands for, whoever gets the number later.
        if not process.alive:
            raise gone
        check()
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError as error:
        raise gone from error
    except PermissionError as error:
        message = f"the agent (uid {os.geteuid()}) may not signal process {process.pid} (uid {process.uid}): "
        raise SquashError(Reason.CAPABILITY_MISSING, f"{message}that takes CAP_KILL") from error
    finally:
        os.close(descriptor)
