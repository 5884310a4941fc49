"""What is shown to be pasted into editors that debug Node, and what the console says where it cannot."""

import json
from pathlib import Path
from typing import cast

import pytest

from squash.cli.console.app import run
from squash.cli.editors import Place, configurations, names, titles
from squash.cli.front import Front
from squash.cli.programs import PROGRAMS
from squash.errors import SettingError
from squash.model import AttachmentSpec, AttachmentStatus, DebugAttachment, Metadata
from squash.options import Address

NODE = Place(Address("127.0.0.1", 4711), "inspector", "node", mappings=(("/home/ann/shop", "/app"),))


def test_vs_code_does_not_touch_the_environment_of_the_service() -> None:
    """It would write a path of this machine into its NODE_OPTIONS, and look for its children among our processes."""
    [(_, text)] = configurations(NODE, ["vscode"]).values()
    assert json.loads(text) == {
        "name": "squash",
        "type": "node",
        "request": "attach",
        "address": "127.0.0.1",
        "port": 4711,
        "continueOnAttach": True,
        "autoAttachChildProcesses": False,
        "attachExistingChildren": False,
        "localRoot": "/home/ann/shop",
        "remoteRoot": "/app",
    }


@pytest.mark.parametrize(
    ("editor", "shown"),
    [
        ("node", "node inspect 127.0.0.1:4711"),
        ("chrome", "127.0.0.1:4711"),
        ("webstorm", "host 127.0.0.1, port 4711"),
    ],
)
def test_the_other_clients_of_the_inspector(editor: str, shown: str) -> None:
    [(_, text)] = configurations(NODE, [editor]).values()
    assert text == shown
    assert editor in names()


def test_node_can_be_started(tmp_path: Path) -> None:
    assert PROGRAMS["node"].command(NODE, lambda: tmp_path) == ["node", "inspect", "127.0.0.1:4711"]


@pytest.mark.parametrize(
    ("protocol", "hint"),
    [
        ("inspector", "use `squashctl connect a1`, and then VS Code, node, Chrome or WebStorm"),
        ("gdb", "use `gdb -ex 'target remote | squashctl connect a1 --stdio'`"),
    ],
)
def test_the_console_says_what_to_take_instead(protocol: str, hint: str) -> None:
    status = AttachmentStatus(protocol=protocol)
    attachment = DebugAttachment(metadata=Metadata(name="a1"), spec=AttachmentSpec(attachment={}), status=status)
    with pytest.raises(SettingError) as refusal:
        run(cast(Front, None), attachment)
    assert f"the console speaks dap, and the debug server of a1 speaks {protocol}: {hint}" in str(refusal.value)


def test_titles_of_what_nobody_speaks() -> None:
    assert titles("morse") == []
