"""JVMs that cannot be debugged, or not safely: what is said of them, and that they are left alone."""

import asyncio
import os
import re
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.debuggers import Target
from agent.debuggers.jdwp import Java
from agent.jvm import _made
from agent.jvm import ask as jvm_asked
from agent.jvm import check as jvm_checked
from agent.preflight.finding import Level
from agent.preflight.run import examine
from agent.process import Process
from agent.protocols.jdwp_packets import HANDSHAKE
from squash.errors import SquashError
from squash.reasons import Reason
from tests.agent.java import (
    JDWP,
    LISTENS,
    SLEEPS,
    jvm,
    runs,
    sleeps,
)

REFUSALS = {
    f"was started without JDWP.*{re.escape(JDWP)}": [],
    "dials a debugger": ["-agentlib:jdwp=transport=dt_socket,server=n,suspend=n,address=127.0.0.1:PORT"],
    "has a timeout": [f"{LISTENS},address=127.0.0.1:0,timeout=3600000"],
    "only at an exception": [f"{LISTENS},address=127.0.0.1:0,onthrow=java.lang.Error,launch=/bin/true"],
}
if sleeps():
    REFUSALS["DisableAttachMechanism"] = [SLEEPS, "-XX:+DisableAttachMechanism"]


@pytest.mark.parametrize("where", ["variable", "file"])
def test_a_jvm_that_would_write_its_threads_instead_of_listening_is_known(
    classes: Path, tmp_path: Path, where: str
) -> None:
    option = "-XX:+DisableAttachMechanism"
    (tmp_path / "words").write_text(option)
    words = ("@" + str(tmp_path / "words"),) if where == "file" else ()
    environment = {"JAVA_TOOL_OPTIONS": option} if where == "variable" else {}
    with jvm(classes, *words, environment=environment) as running:
        with pytest.raises(SquashError, match="DisableAttachMechanism") as refused:
            jvm_checked(running.process)
        assert refused.value.reason is Reason.DEBUGGER_UNSUITED


@pytest.mark.parametrize("words", REFUSALS)
async def test_what_cannot_be_is_refused_with_what_to_change(classes: Path, short: Path, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as waiting, ThreadPoolExecutor() as pool:
        options = [option.replace("PORT", str(waiting.getsockname()[1])) for option in REFUSALS[words]]
        other = pool.submit(greeted, waiting) if options != REFUSALS[words] else None
        with jvm(classes, *options) as running:
            with pytest.raises(SquashError, match=words) as refused:
                await Java().attach(Target(running.process, short))
            assert refused.value.reason is Reason.DEBUGGER_UNSUITED
            await runs(running)
            if other:
                other.result().close()


def greeted(waiting: socket.socket) -> socket.socket:
    """A JVM that dialed."""
    other, _ = waiting.accept()
    other.sendall(HANDSHAKE)
    other.recv(len(HANDSHAKE))
    return other


@pytest.mark.parametrize(
    ("options", "level", "words"),
    [
        ([f"{LISTENS},address=*:0"], Level.WARNING, "on every interface"),
        ([JDWP], Level.OK, "address=127.0.0.1:0"),
        ([], Level.REFUSED, r"was started without JDWP.*start it with -agentlib:jdwp="),
    ],
)
async def test_the_preflight_knows_before_anything_is_touched(
    classes: Path, options: list[str], level: Level, words: str
) -> None:
    with jvm(classes, *options) as running:
        before = running.ports
        [found] = [each for each in await asyncio.to_thread(examine, Java(), running.process) if each.check == "jdwp"]
        assert found.level is level
        assert re.search(words, found.message)
        assert running.ports == before


async def test_what_would_die_of_being_asked_is_not_asked() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = Process.read(child.pid)
        assert process
        with pytest.raises(SquashError, match="does not handle SIGQUIT") as refused:
            jvm_asked(process, "properties")
        assert refused.value.reason is Reason.DEBUGGER_UNSUITED
        assert child.poll() is None
        child.kill()


def test_a_file_where_only_the_working_directory_can_be_written(tmp_path: Path) -> None:
    process = Process.read(os.getpid())
    assert process
    nowhere, here = os.open("/proc", os.O_PATH), os.open(tmp_path, os.O_PATH)
    try:
        assert _made(process, (nowhere, here), "sign") == here
        assert (tmp_path / "sign").stat().st_size == 0
        with pytest.raises(OSError, match="No such file"):
            _made(process, (nowhere,), "sign")
    finally:
        os.close(nowhere)
        os.close(here)
