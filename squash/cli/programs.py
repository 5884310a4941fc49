"""Debuggers that squashctl starts for you (`--with`): what each needs, and how it is told where to connect."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from squash.cli.editors import Place, gdb_commands, nvim_lua
from squash.errors import SettingError, SquashError
from squash.model import Agent
from squash.reasons import Reason


@dataclass(frozen=True)
class Program:
    """A client of debug servers. `debugger` is the one to ask for when nothing else was said; empty: any."""

    name: str
    protocol: str
    debugger: str
    install: str
    arguments: Callable[[Place], list[str]]

    def check(self) -> None:
        """Raises SquashError when it is not installed here."""
        if shutil.which(self.name) is None:
            raise SquashError(Reason.PROGRAM_MISSING, f"{self.name} is not on your PATH: {self.install}")

    def check_agents(self, agents: list[Agent]) -> None:
        """Raises SquashError when those agents that are there, and tell, lack the debugger that this one needs."""
        known = {name for agent in agents if not agent.lost for name in agent.debuggers}
        if self.debugger and known and self.debugger not in known:
            raise SquashError(
                Reason.UNKNOWN_DEBUGGER,
                f"--with {self.name} needs the debugger {self.debugger}, and no agent has it: "
                f"they have {', '.join(sorted(known))}",
            )

    def command(self, place: Place) -> list[str]:
        """What to run. Raises SettingError when it does not speak the debug server's protocol."""
        if place.protocol != self.protocol:
            others = ", ".join(sorted(each.name for each in PROGRAMS.values() if each.protocol == place.protocol))
            raise SettingError(
                f"--with {self.name} cannot be used: it speaks {self.protocol}, and {place.debugger} speaks "
                f"{place.protocol}; take {others or 'an editor'}, or another --debugger"
            )
        return [self.name, *self.arguments(place)]


def _gdb(place: Place) -> list[str]:
    # Its questions would stand between the developer and the held request.
    commands = ["set confirm off", *gdb_commands(place)]
    return ["-q", *(word for command in commands for word in ("-ex", command))]


def _nvim(place: Place) -> list[str]:
    missing = "vim.notify('nvim-dap is not installed: see github.com/mfussenegger/nvim-dap', vim.log.levels.ERROR)"
    connect = f"if not pcall(require, 'dap') then {missing} return end {nvim_lua(place)}"
    lua = (
        f"vim.api.nvim_create_user_command('SquashDebug', function() {connect} end, {{}}) "
        "vim.schedule(function() vim.notify('set breakpoints, then :SquashDebug') end)"
    )
    return ["-c", f"lua {lua}"]


PROGRAMS = {
    program.name: program
    for program in (
        Program("gdb", "gdb", "gdb", "on Debian `apt-get install gdb`", _gdb),
        Program(
            "dlv",
            "dlv",
            "dlv",
            "`go install github.com/go-delve/delve/cmd/dlv@latest`",
            lambda p: ["connect", str(p.address)],
        ),
        Program("nvim", "dap", "", "on Debian `apt-get install neovim`, then the plug-in nvim-dap", _nvim),
    )
}
