"""What to paste into which editor to reach a debug server: one table, by the protocol that the server speaks.

A new debugger joins by declaring its protocol; a new protocol by a row in `_TABLE`.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from squash.options import Address


@dataclass(frozen=True)
class Place:
    """Where a client finds the debug server, and what is known of the process."""

    address: Address
    protocol: str
    debugger: str
    sysroot: str = ""
    """Where gdb finds the process's libraries; empty: it fetches them through the connection, slowly."""
    program: str = ""
    """Path, here, of the executable with its symbols; empty: it is fetched as well."""
    mappings: tuple[tuple[str, str], ...] = ()
    """Directories here, and what the process calls them."""

    @property
    def host(self) -> str:
        return self.address.host

    @property
    def port(self) -> int:
        return self.address.port


@dataclass(frozen=True)
class Editor:
    """One client. `where` says, in words, what is done with the text that `render` makes."""

    title: str
    where: str
    render: Callable[[Place], str]


def configurations(place: Place, wanted: Iterable[str] = ()) -> dict[str, tuple[Editor, str]]:
    """Each editor that speaks the place's protocol, and what to paste; `wanted` names some of them, else all."""
    known = _TABLE.get(place.protocol, {})
    chosen = [name for name in wanted if name in known] or list(known)
    return {name: (known[name], known[name].render(place)) for name in chosen}


def first(place: Place) -> str:
    """What to paste into the first editor that speaks the place's protocol, on one line; the address if none does."""
    shown = [text for _, text in configurations(place).values()] or [str(place.address)]
    return " ".join(line.strip() for line in shown[0].splitlines())


def titles(protocol: str) -> list[str]:
    """Every client there is for a protocol, as people call them."""
    return [editor.title for editor in _TABLE.get(protocol, {}).values()]


def names() -> list[str]:
    """Every editor there is for some protocol."""
    return sorted({name for editors in _TABLE.values() for name in editors})


def speaking(editor: str) -> list[str]:
    """The protocols for which there is something to paste into this editor."""
    return sorted(protocol for protocol, editors in _TABLE.items() if editor in editors)


def gdb_commands(place: Place) -> list[str]:
    """What gdb is told at its start, in this order."""
    commands = [f"set sysroot {place.sysroot}"] if place.sysroot else []
    commands += [f"file {place.program}"] if place.program else []
    return [*commands, f"target remote {place.address}"]


def gdb_adapter(place: Place) -> tuple[list[str], dict[str, str]]:
    """How gdb is started as a debug adapter, and what the request `attach` says to it."""
    arguments = ["-q", "-i=dap", *(["-iex", f"set sysroot {place.sysroot}"] if place.sysroot else [])]
    return arguments, {"target": str(place.address)} | ({"program": place.program} if place.program else {})


def jdb_connector(place: Place) -> str:
    """What jdb's `-connect` takes."""
    return f"com.sun.jdi.SocketAttach:hostname={place.host},port={place.port}"


def nvim_lua(place: Place) -> str:
    """Lua that connects nvim-dap."""
    adapter = f"{{ type = 'server', host = '{place.host}', port = {place.port} }}"
    config = "type = 'squash', request = 'attach', name = 'squash', justMyCode = false"
    if place.protocol == "delve":
        config = "type = 'squash', request = 'attach', mode = 'remote', name = 'squash'"
    if place.mappings and place.protocol == "delve":
        pairs = ", ".join(f"{{ from = {_lua(here)}, to = {_lua(there)} }}" for here, there in place.mappings)
        config += f", substitutePath = {{ {pairs} }}"
    elif place.mappings:
        pairs = ", ".join(
            f"{{ localRoot = {_lua(here)}, remoteRoot = {_lua(there)} }}" for here, there in place.mappings
        )
        config += f", pathMappings = {{ {pairs} }}"
    return f"local dap = require('dap'); dap.adapters.squash = {adapter}; dap.run({{ {config} }})"


def _lua(text: str) -> str:
    return json.dumps(text)


def _pretty(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2)


def _mapped(place: Place) -> dict[str, Any]:
    pairs = [{"localRoot": here, "remoteRoot": there} for here, there in place.mappings]
    return {"pathMappings": pairs} if pairs else {}


def _vscode_dap(place: Place) -> str:
    known = {"name": "squash", "type": place.debugger, "request": "attach", "justMyCode": False}
    return _pretty(known | {"connect": {"host": place.host, "port": place.port}} | _mapped(place))


def _dape(place: Place) -> str:
    mapped = ""
    if place.mappings:
        pairs = (f"(:localRoot {json.dumps(here)} :remoteRoot {json.dumps(there)})" for here, there in place.mappings)
        mapped = f" :pathMappings [{' '.join(pairs)}]"
    where = f'host "{place.host}" port {place.port}'
    return f'(dape \'({where} :type "{place.debugger}" :request "attach" :justMyCode nil{mapped}))'


def _vimspector(place: Place) -> str:
    adapter = {"host": place.host, "port": place.port}
    attach = {"adapter": "squash", "configuration": {"request": "attach", "justMyCode": False} | _mapped(place)}
    return _pretty({"adapters": {"squash": adapter}, "configurations": {"squash": attach}})


def _lsp4e(place: Place) -> str:
    attach = json.dumps({"request": "attach", "justMyCode": False} | _mapped(place))
    return f"{_host_and_port(place)}, launch parameters {attach}"


def _host_and_port(place: Place) -> str:
    return f"host {place.host}, port {place.port}"


def _gdb(place: Place) -> str:
    return " ".join(["gdb", *(f"-ex {shlex.quote(command)}" for command in gdb_commands(place))])


def _vscode_gdb(place: Place) -> str:
    known: dict[str, Any] = {
        "name": "squash",
        "type": "cppdbg",
        "request": "launch",
        "program": place.program or "${workspaceFolder}/PROGRAM",
        "cwd": "${workspaceFolder}",
        "MIMode": "gdb",
        "miDebuggerServerAddress": str(place.address),
    }
    if place.sysroot:
        known["setupCommands"] = [{"text": f"set sysroot {place.sysroot}"}]
    return _pretty(known)


def _nvim_gdb_dap(place: Place) -> str:
    arguments, attach = gdb_adapter(place)
    adapter = f"{{ type = 'executable', command = 'gdb', args = {{ {', '.join(map(_lua, arguments))} }} }}"
    config = ", ".join(["type = 'squash'", "request = 'attach'", "name = 'squash'"])
    config += "".join(f", {name} = {_lua(value)}" for name, value in attach.items())
    return f":lua local dap = require('dap'); dap.adapters.squash = {adapter}; dap.run({{ {config} }})"


def _dape_gdb(place: Place) -> str:
    arguments, attach = gdb_adapter(place)
    words = " ".join(json.dumps(word) for word in arguments)
    config = " ".join(f":{name} {json.dumps(value)}" for name, value in attach.items())
    return f'(dape \'(command "gdb" command-args ({words}) :request "attach" {config}))'


def _termdebug(place: Place) -> str:
    first = f":packadd termdebug | Termdebug {place.program}".rstrip()
    return "\n".join([first, *gdb_commands(place)])


def _clion(place: Place) -> str:
    known = f"'target remote' args: {place.address}"
    known += f"\nSymbol file: {place.program}" if place.program else ""
    return known + (f"\nSysroot: {place.sysroot}" if place.sysroot else "")


def _vscode_go(place: Place) -> str:
    known: dict[str, Any] = {"name": "squash", "type": "go", "request": "attach", "mode": "remote"}
    if place.mappings:
        known["substitutePath"] = [{"from": here, "to": there} for here, there in place.mappings]
    return _pretty(known | {"debugAdapter": "dlv-dap", "host": place.host, "port": place.port})


def _vscode_java(place: Place) -> str:
    return _pretty({"name": "squash", "type": "java", "request": "attach", "hostName": place.host, "port": place.port})


def _vscode_node(place: Place) -> str:
    known: dict[str, Any] = {"name": "squash", "type": "node", "request": "attach"}
    known |= {"address": place.host, "port": place.port, "continueOnAttach": True}
    # It is for processes of this machine that VS Code looks, and for those it prepares the service's environment.
    known |= {"autoAttachChildProcesses": False, "attachExistingChildren": False}
    if place.mappings:
        # It takes one pair.
        here, there = place.mappings[0]
        known |= {"localRoot": here, "remoteRoot": there}
    return _pretty(known)


_LAUNCH = "in .vscode/launch.json, into `configurations`; set breakpoints, then F5"
_SHELL = "in a shell"
_DIALOG = "Run | Edit Configurations | Add New Configuration"

_TABLE: dict[str, dict[str, Editor]] = {
    "dap": {
        "vscode": Editor("VS Code", _LAUNCH, _vscode_dap),
        "nvim": Editor(
            "Neovim with nvim-dap", "set breakpoints, then on its command line", lambda p: f":lua {nvim_lua(p)}"
        ),
        "vim": Editor("Vim with Vimspector", "as .vimspector.json", _vimspector),
        "emacs": Editor("Emacs with dape", "set breakpoints, then M-:", _dape),
        "pycharm": Editor("PyCharm", f"{_DIALOG} | Attach to DAP", _host_and_port),
        "eclipse": Editor(
            "Eclipse with LSP4E",
            "Run | Debug Configurations | Debug Adapter Launcher, connect to a running adapter",
            _lsp4e,
        ),
    },
    "gdb": {
        "gdb": Editor("gdb", f"{_SHELL}; break where you like, then continue", _gdb),
        "vscode": Editor("VS Code with C/C++", _LAUNCH, _vscode_gdb),
        "nvim": Editor("Vim or Neovim with Termdebug", "on its command line, the rest at gdb's prompt", _termdebug),
        "emacs": Editor("Emacs", "M-x gdb", lambda p: _gdb(p).replace("gdb ", "gdb -i=mi ", 1)),
        "nvim-dap": Editor(
            "Neovim with nvim-dap and gdb 14", "set breakpoints, then on its command line", _nvim_gdb_dap
        ),
        "dape": Editor("Emacs with dape and gdb 14", "set breakpoints, then M-:", _dape_gdb),
        "clion": Editor("CLion", f"{_DIALOG} | Remote Debug", _clion),
    },
    "delve": {
        "dlv": Editor("delve", f"{_SHELL}; break where you like, then continue", lambda p: f"dlv connect {p.address}"),
        "vscode": Editor("VS Code with Go", _LAUNCH, _vscode_go),
        "goland": Editor("GoLand", f"{_DIALOG} | Go Remote", _host_and_port),
        "nvim": Editor(
            "Neovim with nvim-dap", "set breakpoints, then on its command line", lambda p: f":lua {nvim_lua(p)}"
        ),
        "emacs": Editor("Emacs with dape", "set breakpoints, then M-:", _dape),
    },
    "jdwp": {
        "jdb": Editor("jdb", f"{_SHELL}; stop where you like", lambda p: f"jdb -connect {jdb_connector(p)}"),
        "vscode": Editor("VS Code with Java", _LAUNCH, _vscode_java),
        "intellij": Editor("IntelliJ IDEA", f"set breakpoints, then {_DIALOG} | Remote JVM Debug", _host_and_port),
        "eclipse": Editor(
            "Eclipse", "set breakpoints, then Run | Debug Configurations | Remote Java Application", _host_and_port
        ),
    },
    "inspector": {
        "vscode": Editor("VS Code", _LAUNCH, _vscode_node),
        "node": Editor("node", f"{_SHELL}; sb('server.js', 12) lets it go", lambda p: f"node inspect {p.address}"),
        "chrome": Editor(
            "Chrome", "chrome://inspect | Configure, then inspect; a breakpoint lets it go", lambda p: str(p.address)
        ),
        "webstorm": Editor("WebStorm", f"set breakpoints, then {_DIALOG} | Attach to Node.js/Chrome", _host_and_port),
    },
}
