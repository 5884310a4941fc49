"""What debuggers are called: the names of plug-ins, and what people say instead."""

from collections.abc import Collection, Mapping

OTHER_NAMES: Mapping[str, str] = {
    "pdb": "debugpy",
    "dlv": "delve",
    "go": "delve",
    "java": "jdwp",
    "jdb": "jdwp",
    "nodejs": "node",
    "inspector": "node",
}
"""What people call a debugger by, where no plug-in has that name: pdb itself needs a terminal inside the process."""


def proper_name(name: str, known: Collection[str]) -> str:
    """The one of the names `known` that is meant; `name` itself when none is."""
    return name if name in known else OTHER_NAMES.get(name, name)
