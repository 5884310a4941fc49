"""The protocols that debug servers speak: one interpreter each, found by `Debugger.protocol`.

A debugger of another protocol joins by its line in PROTOCOLS.
"""

from collections.abc import Mapping

from agent.protocols.dap import Dap
from agent.protocols.delve import Delve
from agent.protocols.gdb import Gdb
from agent.protocols.inspector import Inspector
from agent.protocols.interpreter import Interpreter
from agent.protocols.jdwp import Jdwp
from squash.errors import SquashError
from squash.reasons import Reason

PROTOCOLS: Mapping[str, type[Interpreter]] = {
    "dap": Dap,
    "delve": Delve,
    "gdb": Gdb,
    "inspector": Inspector,
    "jdwp": Jdwp,
}


def spoken(protocol: str) -> type[Interpreter]:
    """Raises SquashError for a protocol that nobody here understands."""
    if protocol not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"its protocol {protocol!r} is none of {known}")
    return PROTOCOLS[protocol]
