"""The demo as a user runs it: what it says, how it ends, and that nothing of it stays behind, however it ends."""

import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.world import BIN
from tests.demo.program import PATIENCE, Demo, await_ends, demo

STEPS = 9
NOTHING: tuple[list[str], list[Path]] = ([], [])


@pytest.fixture
def other() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sq-") as directory:
        yield Path(directory)


def rows(said: str) -> list[str]:
    """The table's, one a step unless one was wrapped."""
    return [line for line in said.splitlines() if line.startswith("│")]


@pytest.mark.timeout(240)
def test_two_at_once_on_a_terminal_and_into_a_pipe(short: Path, other: Path) -> None:
    with demo(short) as piped, demo(other, columns=80) as shown:
        for telling in (piped, shown):
            assert telling.end() == 0, telling.said
            assert telling.left() == NOTHING
            plain = re.sub(r"\x1b\[[0-9;]*m", "", telling.said)
            assert len(rows(plain)) == STEPS, plain
            for number, row in enumerate(rows(plain), 1):
                assert re.fullmatch(rf"│ {number}\. .* │ ok │ +\d+\.\d\d │", row)
                assert len(row) <= 80
                assert f"\n{row[2:-17].strip()}" in plain.replace("\r", "")
        assert "\x1b" not in piped.said


def started(telling: Demo) -> None:
    telling.when(lambda: telling.runs("squash-agent"))


def held(telling: Demo) -> None:
    telling.until("--for listening")


def debugged(telling: Demo) -> None:
    telling.until("/stock?items=")
    telling.when(lambda: telling.runs("gdbserver"))


@pytest.mark.parametrize("point", [started, held, debugged])
def test_ctrl_c(short: Path, point: Callable[[Demo], None]) -> None:
    with demo(short) as telling:
        point(telling)
        telling.interrupt()
        assert telling.end() == 130, telling.said
        assert telling.left() == NOTHING
        assert telling.said.splitlines()[-1] == "demo: interrupted; everything it started is gone"
        assert "Traceback" not in telling.said


def test_sigterm(short: Path) -> None:
    with demo(short) as telling:
        held(telling)
        telling.process.terminate()
        assert telling.end() == 130, telling.said
        assert telling.left() == NOTHING


@pytest.mark.parametrize("point", [started, debugged])
def test_killed(short: Path, point: Callable[[Demo], None]) -> None:
    with demo(short) as telling:
        point(telling)
        belongings = telling.belongings()
        telling.process.kill()
        telling.process.wait()
        await_ends(belongings)
        # One that was being started when the others were looked for has ended with the janitor.
        assert telling.left() == NOTHING


def test_kept_up_to_be_typed_along(short: Path) -> None:
    with demo(short, KEEP="1") as telling:
        said = telling.until("Logs and everything else:")
        lines = [line.strip() for line in said.partition("It is all up until Ctrl-C.")[2].splitlines()]

        def typed(start: str) -> str:
            """The command to type that begins so."""
            return next(line for line in lines if line.startswith(start))

        export, ask = typed("export SQUASH_SERVER_URL="), typed(f"{BIN}/squashctl debug-request")
        curl, more, cart = typed("curl -i"), typed("-ex"), typed("curl 'http")
        # -q: without a person's own settings of curl.
        answer = subprocess.run(
            ["sh", "-c", cart.replace("curl", "curl -qs")], capture_output=True, text=True, check=True
        )
        assert '"total": "47.50"' in answer.stdout
        with terminal(f"env {export.removeprefix('export ')} {ask}") as asking:
            line_with(asking, "debug request ")
            with terminal(curl.replace("curl", "curl -qsS")) as calling:
                gdb = re.search(r"gdb (-ex .*)", line_with(asking, "gdb -ex"))
                assert gdb
                # Up to the "; the request goes on ...", and without a person's own settings of gdb.
                debugged = subprocess.run(
                    ["sh", "-c", f"gdb -nx -q {gdb[1].partition(';')[0]} {more}"],
                    input="info locals\nset var left = 0\ndetach\n",
                    capture_output=True, text=True, check=False, timeout=PATIENCE,
                )  # fmt: skip
                assert "left = -2" in debugged.stdout, debugged
                said, _ = calling.communicate(timeout=PATIENCE)
                assert '"available": 0, "missing": 1' in said
                assert re.search(r"x-squash-result: attached; id=held-\w+; held=\d+\.\d+s", said)
            assert asking.wait(PATIENCE) == 0
        telling.interrupt()
        telling.interrupt()
        assert telling.end() == 130, telling.said
        assert telling.left() == NOTHING


@contextmanager
def terminal(command: str) -> Iterator["subprocess.Popen[str]"]:
    """What a person types; what it says comes from stdout."""
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_with(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return line
    raise AssertionError(f"{text!r} never came:\n{seen}")


def test_a_busy_port(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with demo(short, PORT=str(port)) as telling:
            assert telling.end() == 1
            assert re.fullmatch(
                rf"demo: port {port} of 127\.0\.0\.1 is held by process \d+ \(.+\): "
                r"end it, or choose another port with PORT=N make demo\n",
                telling.said,
            )
            assert telling.left() == NOTHING


@pytest.mark.parametrize("port", ["abc", "70000", "-1", "80 "])
def test_a_port_that_is_none(short: Path, port: str) -> None:
    with demo(short, PORT=port) as telling:
        assert telling.end() == 1
        assert telling.said == f"demo: PORT = {port!r} is no port: a number from 0 to 65535, 0 for a free one\n"
        assert telling.left() == NOTHING


def test_what_is_missing_is_named_before_anything_starts(short: Path) -> None:
    with demo(short, PATH="/nowhere", SQUASH_ENVOY="/nowhere/envoy") as telling:
        assert telling.end() == 1
        assert telling.said == (
            "demo: missing: gdb (not on PATH), gdbserver (not on PATH), /nowhere/envoy; "
            "`make demo` sets everything up, or says what to install\n"
        )
        assert telling.left() == NOTHING


def test_a_program_that_does_not_start_is_named(short: Path) -> None:
    with demo(short, SQUASH_ENVOY="/bin/false") as telling:
        assert telling.end() == 1
        assert telling.said == "demo: pricing-envoy ended with status 1 instead of starting: /bin/false\n"
        assert telling.left() == NOTHING


def test_a_failed_step_is_named(short: Path, other: Path) -> None:
    fake = other / "gdb"
    fake.write_text("#!/bin/sh\necho cannot debug today\n")
    fake.chmod(0o755)
    with demo(short, PATH=f"{other}:{os.environ['PATH']}") as telling:
        assert telling.end() == 1
        assert [row.split(" │ ")[1].strip() for row in rows(telling.said)] == ["ok", "ok", "ok", "failed"]
        assert f"step 4 of {STEPS} failed: " in telling.said
        assert "cannot debug today" in telling.said
        assert telling.left() == NOTHING


def test_a_terminal_that_is_closed(short: Path) -> None:
    with demo(short) as telling:
        telling.until("The shop is up")
        belongings = telling.belongings()
        telling.process.send_signal(signal.SIGHUP)
        await_ends(belongings)
        assert telling.left() == NOTHING
