"""Debuggers that squashctl starts for you (`--with`): what each needs, and how it is told where to connect."""

import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from squash.cli.editors import Place, configurations, gdb_commands, jdb_connector, nvim_lua, speaking
from squash.errors import SettingError, SquashError
from squash.reasons import Reason

Files = Callable[[], Path]
"""Makes a directory that lives as long as the program does. Raises SettingError."""


@dataclass(frozen=True)
class Program:
    """A client of debug servers. `debugger` is the one to ask for when nothing else was said; empty: any."""

    name: str
    protocols: Collection[str]
    debugger: str
    install: str
    arguments: Callable[[Place, Files], list[str]]
    """By where the debug server is, and what makes a directory for files of the program, if it takes any."""

    def check(self) -> None:
        """Raises SquashError when it is not installed here."""
        if shutil.which(self.name) is None:
            raise SquashError(Reason.PROGRAM_MISSING, f"{self.name} is not on your PATH: {self.install}")

    def check_speaks(self, place: Place) -> None:
        """Raises SettingError when it does not speak the debug server's protocol."""
        if place.protocol not in self.protocols:
            others = ", ".join(sorted(each.name for each in PROGRAMS.values() if place.protocol in each.protocols))
            spoken = " and ".join(sorted(self.protocols))
            raise SettingError(
                f"--with {self.name} cannot be used: it speaks {spoken}, and {place.debugger} speaks "
                f"{place.protocol}; take {others or 'an editor'}, or another --debugger"
            )

    def command(self, place: Place, files: Files) -> list[str]:
        """What to run. Raises SettingError."""
        return [self.name, *self.arguments(place, files)]


def _gdb(place: Place, _: Files) -> list[str]:
    # Its questions would stand between the developer and the held request.
    commands = ["set confirm off", *gdb_commands(place)]
    return ["-q", *(word for command in commands for word in ("-ex", command))]


def _nvim(place: Place, _: Files) -> list[str]:
    missing = "vim.notify('nvim-dap is not installed: see github.com/mfussenegger/nvim-dap', vim.log.levels.ERROR)"
    connect = f"if not pcall(require, 'dap') then {missing} return end {nvim_lua(place)}"
    lua = (
        f"vim.api.nvim_create_user_command('SquashDebug', function() {connect} end, {{}}) "
        "vim.schedule(function() vim.notify('set breakpoints, then :SquashDebug') end)"
    )
    return ["-c", f"lua {lua}"]


def _code(place: Place, files: Files) -> list[str]:
    # VS Code cannot be told on its command line to attach, but a workspace may bring a launch configuration along.
    [(_, text)] = configurations(place, ["vscode"]).values()
    folders = [here for here, _ in place.mappings] or [str(Path.cwd())]
    launch = {"version": "0.2.0", "configurations": [json.loads(text)]}
    workspace = files() / "squash.code-workspace"
    workspace.write_text(json.dumps({"folders": [{"path": path} for path in folders], "launch": launch}, indent=2))
    return ["--new-window", "--wait", str(workspace)]


PROGRAMS = {
    program.name: program
    for program in (
        Program("gdb", ("gdb",), "gdb", "on Debian `apt-get install gdb`", _gdb),
        Program(
            "dlv",
            ("delve",),
            "delve",
            "`go install github.com/go-delve/delve/cmd/dlv@latest`",
            lambda place, _: ["connect", str(place.address)],
        ),
        Program(
            "jdb",
            ("jdwp",),
            "jdwp",
            "on Debian `apt-get install default-jdk-headless`",
            lambda place, _: ["-connect", jdb_connector(place)],
        ),
        Program(
            "node",
            ("inspector",),
            "node",
            "on Debian `apt-get install nodejs`",
            lambda place, _: ["inspect", str(place.address)],
        ),
        Program("nvim", ("dap", "delve"), "", "on Debian `apt-get install neovim`, then the plug-in nvim-dap", _nvim),
        Program("code", speaking("vscode"), "", "install VS Code, then `Shell Command: Install 'code' command`", _code),
    )
}
