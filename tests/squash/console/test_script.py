"""squashctl console without a terminal, with everything real behind it: coordinator, agent, a process, debugpy."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from demo.world import World
from squash import procfs
from squash.calls import create_attachment, delete_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, HoldUntil, Phase, State
from tests.squash.ctl import SQUASHCTL, Ctl

SERVICE = Path(__file__).parent / "service.py"
LINE = 1 + SERVICE.read_text().splitlines().index("    result = number + extra  # the tests break here")


class Bench:
    """A world with one Python service."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.pod = f"console-{uuid4().hex}"
        self.ctl = Ctl(home, world.coordinator().where)
        self.ctl.env["XDG_STATE_HOME"] = str(home / "state")
        self.client = world.client()
        self.agent = world.agent()
        self.service = world.service(self.pod, f"demo/{self.pod}", [sys.executable, str(SERVICE)])

    def attachment(self, **spec: Any) -> str:
        where = {"pod": self.pod, "namespace": self.world.namespace}
        given = AttachmentSpec(attachment=where, hold_until=HoldUntil.READY, **spec)
        return self.client.send(create_attachment(DebugAttachment(spec=given))).name

    def script(self, name: str, *lines: str, argv: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SQUASHCTL, "console", name, "--timeout", "40", *argv],
            input="".join(f"{line}\n" for line in lines),
            env=self.ctl.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def documents(self, name: str, *lines: str, argv: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        done = self.script(name, *lines, argv=("--json", *argv))
        assert (done.returncode, done.stderr) == (0, ""), done
        return [json.loads(line) for line in done.stdout.splitlines()]

    def running(self) -> bool:
        stat = procfs.stat(self.service.pid)
        return stat is not None and stat.state in "SR"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with World("sq") as world:
        made = Bench(world, tmp_path)
        try:
            yield made
        finally:
            made.client.close()


def test_a_whole_session(bench: Bench) -> None:
    name = bench.attachment()
    done = bench.script(
        name,
        "# a comment, and an empty line",
        "",
        f"break service.py:{LINE} if number > 3",
        "continue",
        "where",
        "args",
        "pp order",
        "whatis order",
        "next",
        "up",
        "p number",
        "down",
        "set result = 1000",
        "print result",
        "!result = result + 1",
        "result",
        "list",
        "break",
        "clear 1",
        "return",
        "threads",
    )
    assert (done.returncode, done.stderr.count("listening")) == (0, 1), done
    out = done.stdout
    assert f"1 break {SERVICE}:{LINE} if number > 3\n" in out
    assert f"stopped: breakpoint 1, thread 1 (MainThread)\n> {SERVICE}({LINE})tick()\n-> result = number + extra" in out
    assert "> #0   " in out
    assert "-> value = tick(number)" in out
    assert "extra = 1" in out
    assert "  lines: ['a', 'b']" in out
    assert "(squash) whatis order\nOrder\n" in out
    assert "(squash) print result\n1000\n" in out
    assert "(squash) result\n1001\n" in out
    assert f"{LINE:4} B       result = number + extra" in out
    assert "stopped here 1 time" in out
    assert "breakpoint 1 is gone" in out
    assert "> 1    MainThread" in out
    attached = bench.client.send(get_attachment(name))
    assert (attached.status.state, attached.status.phase) == (State.ATTACHED, Phase.READY)
    assert bench.running()
    bench.client.send(delete_attachment(name))


def test_documents(bench: Bench) -> None:
    found = bench.documents(bench.attachment(), "where", "p number", argv=("-b", f"service.py:{LINE}", "--go"))
    commands = {each["command"]: each for each in found if "command" in each}
    stop = next(each for each in found if each.get("event") == "stopped")
    assert stop["path"] == str(SERVICE)
    assert (stop["line"], stop["function"], stop["breakpoints"]) == (LINE, "tick", [1])
    assert commands["where"]["frames"][0] == {"path": str(SERVICE), "line": LINE, "function": "tick"}
    assert commands["p number"]["value"].isdigit()
    assert all(each["ok"] for each in commands.values())


def test_the_first_failure_ends_a_script(bench: Bench) -> None:
    done = bench.script(bench.attachment(), "break nowhere.py:3", "continue")
    assert done.returncode == 1
    assert "*** no file 'nowhere.py' is known" in done.stdout
    assert "continue" not in done.stdout.split("***")[1].replace("`continue`", "")
    assert bench.running()
