"""Whether any agent has the debugger that is asked for: a name that none has would use up a marked request in vain."""

from squash.cli.front import Front
from squash.debuggers import proper_name
from squash.errors import SquashError
from squash.reasons import Reason


def check_debugger(squash: Front, debugger: str | None, what: str) -> None:
    """Raises SquashError when the agents all tell what they have, and none has this debugger.

    Also those that are lost: they may be starting again. `what` says who wants it, as the beginning of a sentence.
    Empty or None is any debugger, and fits.
    """
    from squash.client import list_agents  # noqa: PLC0415 - slow to import

    if not debugger:
        return
    there = [agent.debuggers for agent in squash.client.send(list_agents())]
    known = {name for names in there for name in names}
    if there and all(there) and proper_name(debugger, known) not in known:
        names = ", ".join(sorted(known))
        raise SquashError(Reason.UNKNOWN_DEBUGGER, f"{what}, and no agent has it: they have {names}")
