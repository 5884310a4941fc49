"""How squashctl finds its coordinator, what its exit status says, and how it behaves in pipes."""

import contextlib
import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer

from squash.cli.exits import Exit, exit_of
from squash.cli.parameters import age, duration
from squash.errors import ApiError, SettingError, SquashError, UnreachableError
from squash.reasons import Reason
from tests.coordinator.program import Coordinator
from tests.squash.ctl import SQUASHCTL, Ctl

NOWHERE = "http://127.0.0.1:1"


def server_of(ctl: Ctl, *flags: str, env: dict[str, str] | None = None) -> str:
    done = ctl("version", "--json", *flags, env=env)
    return str(json.loads(done.stdout)["server_url"])


def write(path: Path, url: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[squashctl]\nserver_url = "{url}"\n')
    return path


def test_flag_over_environment_over_file(alone: Ctl, tmp_path: Path) -> None:
    assert server_of(alone) == "http://127.0.0.1:8602"
    write(tmp_path / "config/squash/squash.toml", "http://own-file:1")
    assert server_of(alone) == "http://own-file:1"
    named = write(tmp_path / "named.toml", "http://named-file:1")
    in_environment = {"SQUASH_CONFIG": str(named)}
    assert server_of(alone, env=in_environment) == "http://named-file:1"
    flagged = write(tmp_path / "flagged.toml", "http://flagged-file:1")
    assert server_of(alone, "--config", str(flagged), env=in_environment) == "http://flagged-file:1"
    in_environment["SQUASH_SERVER_URL"] = "http://variable:1"
    assert server_of(alone, env=in_environment) == "http://variable:1"
    assert server_of(alone, "--server", "http://flag:1/", env=in_environment) == "http://flag:1"


def test_the_home_stands_in_for_xdg(alone: Ctl, tmp_path: Path) -> None:
    write(tmp_path / ".config/squash/squash.toml", "http://home:1")
    assert server_of(alone, env={"XDG_CONFIG_HOME": ""}) == "http://home:1"
    assert server_of(alone, env={"XDG_CONFIG_HOME": "", "HOME": ""}) == "http://127.0.0.1:8602"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("list", "--server", "ftp://x"), "server_url = 'ftp://x' cannot be used"),
        (("list", "--server", "http://"), "server_url = 'http://' cannot be used: expected http://HOST:PORT"),
        (("list", "--server", "http://h:99999"), "server_url = 'http://h:99999' cannot be used: Port out of range"),
        (("list", "--server", "http://h:port"), "server_url = 'http://h:port' cannot be used"),
        (("list", "--server", "http://[::1"), "server_url = 'http://[::1' cannot be used: Invalid IPv6 URL"),
        (("list", "--server", "http://a b:1"), "server_url = 'http://a b:1' cannot be used"),
        (("list", "--server", "http://a..b:1"), "server_url = 'http://a..b:1' cannot be used"),
        (("list", "--config", "/nowhere.toml"), "cannot read /nowhere.toml"),
        (("list", "requests", "--state", "none"), "--state"),
        (("list", "--state", "nonsense"), "nonsense"),
        (("list", "nonsense"), "nonsense"),
        (("lits",), "'list'"),
        (("wait",), "ID"),
        (("wait", "x", "--for", "nonsense"), "matched, listening, attached"),
        (("wait", "x", "--timeout", "soon"), "'soon' is no duration"),
        (("wait", "x", "--timeout", "100h"), "timeout = 360000.0 (from --timeout) cannot be used"),
        (("debug-request", "x", "--ttl", ""), "'' is no duration"),
        (("debug-request",), "IMAGE"),
        (("delete",), "ID"),
        (("list", "--nonsense"), "--nonsense"),
    ],
)
def test_what_cannot_be_used_is_one_line(alone: Ctl, argv: tuple[str, ...], said: str) -> None:
    done = alone(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("squashctl: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.parametrize("argv", [("list", "--server", "ftp://x"), ("lits",), ("wait", "x", "--timeout", "soon")])
def test_what_cannot_be_used_is_one_document(alone: Ctl, argv: tuple[str, ...]) -> None:
    assert alone.failure(*argv, status=2)["message"]


def test_a_bad_file_is_named(alone: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "squash.toml"
    for text, said in (
        ("[squashctl", "is not TOML"),
        ("[squashctl]\nserver = 1", "squashctl.server"),
        ('[squashclt]\nserver_url = "http://x"', "squashclt in"),
        ("\xff", "TOML"),
    ):
        file.write_bytes(text.encode("latin-1"))
        done = alone("list", "--config", str(file))
        assert done.returncode == 2
        assert said in done.stderr
        assert str(file) in done.stderr


def test_a_misspelt_variable_is_a_warning(alone: Ctl) -> None:
    done = alone("version", env={"SQUASH_SERVERURL": "http://x"})
    first, *_ = done.stderr.splitlines()
    assert first == (
        "squashctl: the environment variable SQUASH_SERVERURL is not known and has no effect; "
        "did you mean SQUASH_SERVER_URL?"
    )
    assert len(alone("version", "--json", env={"SQUASH_SERVERURL": "http://x"}).stderr.splitlines()) == 1


def test_unreachable(alone: Ctl) -> None:
    error = alone.failure("wait", "x", "--server", NOWHERE, status=3)
    assert error["reason"] == "coordinator_unreachable"
    assert NOWHERE in error["message"]
    assert "SQUASH_SERVER_URL" in error["remedy"]
    done = alone("debug-request", "i", "--server", NOWHERE)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1


class Odd(HTTPServer):
    """Answers every call with the same."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), OddHandler)
        self.status, self.body = status, body


class OddHandler(BaseHTTPRequestHandler):
    server: Odd

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def odd() -> Iterator[Odd]:
    with Odd(200, b"") as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "ends"),
    [
        (200, b"<html>not ours\n\n</html>", 3),
        (200, b'{"spec": 1}', 3),
        (200, b"", 3),
        (502, b"Bad Gateway", 3),
        (404, b'{"detail": "no such page"}', 3),
        (500, b'{"code":500,"reason":"internal","message":"KeyError","remedy":"report it"}', 1),
        (503, b'{"code":503,"reason":"store_unavailable","message":"disk full","remedy":"-"}', 1),
        (200, b"\xff\xfe", 3),
    ],
)
def test_wrong_answers(alone: Ctl, odd: Odd, status: int, body: bytes, ends: int) -> None:
    odd.status, odd.body = status, body
    done = alone("list", "--server", f"http://127.0.0.1:{odd.server_port}")
    assert (done.returncode, done.stdout) == (ends, "")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_each_reason_has_an_exit() -> None:
    for reason in Reason:
        assert exit_of(SquashError(reason)) not in (Exit.DONE, Exit.USAGE, Exit.INTERRUPTED, Exit.TERMINATED)
    assert exit_of(SquashError(Reason.UNAUTHENTICATED)) is Exit.DENIED
    assert exit_of(UnreachableError("x")) is Exit.UNREACHABLE
    assert exit_of(SettingError("x")) is Exit.USAGE
    assert exit_of(ApiError(404, Reason.NOT_FOUND)) is Exit.NOT_FOUND


def test_help_teaches(alone: Ctl) -> None:
    top = alone("--help")
    assert top.returncode == 0
    assert alone().stdout == top.stdout
    for end in Exit:
        assert f" {end.value} {end.meaning}" in top.stdout
    for command in ("debug-request", "debug-container", "list", "wait", "release", "delete"):
        assert command in top.stdout
        help = alone(command, "-h").stdout
        assert "Examples:" in help
        assert f"squashctl {command}" in help
        assert "--json" in help


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(alone: Ctl, shell: str) -> None:
    done = alone("--show-completion", shell)
    assert done.returncode == 0
    assert "_SQUASHCTL_COMPLETE" in done.stdout


def test_completion_knows_ids(ctl: Ctl, board: Coordinator) -> None:
    request = board.wish("demo/completed")
    asked = {"_SQUASHCTL_COMPLETE": "complete_bash", "COMP_WORDS": f"squashctl delete {request[:6]}", "COMP_CWORD": "2"}
    assert request in ctl(env=asked).stdout
    asked["SQUASH_SERVER_URL"] = NOWHERE
    away = ctl(env=asked)
    assert (away.stdout.strip(), away.stderr) == ("", "")


def test_no_terminal_no_colour(ctl: Ctl, board: Coordinator) -> None:
    board.wish("demo/plain")
    for argv in (("list",), ("list", "--help"), ("wait", "x")):
        done = ctl(*argv)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_gets_colour_unless_told_otherwise(ctl: Ctl, board: Coordinator) -> None:
    board.wish("demo/colour")
    assert "\x1b[33mwaiting" in on_terminal(ctl, {"TERM": "xterm"})
    assert "\x1b[33m" not in on_terminal(ctl, {"TERM": "xterm", "NO_COLOR": "1"})


def on_terminal(ctl: Ctl, env: dict[str, str]) -> str:
    """What `squashctl list` writes to a terminal."""
    terminal, its_end = pty.openpty()
    subprocess.run([SQUASHCTL, "list"], env=ctl.env | env, stdout=its_end, check=True)
    os.close(its_end)
    seen = b""
    # The last reader of a terminal that nobody else holds gets EIO.
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65536):
            seen += chunk
    os.close(terminal)
    return seen.decode()


def test_a_pipe_gets_whole_lines(ctl: Ctl, board: Coordinator) -> None:
    image = "registry.example/" + "long-" * 60 + "name"
    request = board.wish(image)
    line = next(line for line in ctl("list").stdout.splitlines() if line.startswith(request))
    assert image in line
    assert line == line.rstrip()


def test_a_broken_pipe_is_quiet(ctl: Ctl, board: Coordinator) -> None:
    board.wish("demo/pipe")
    for argv in (["list"], ["list", "--json"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run([SQUASHCTL, *argv], env=ctl.env, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (done.returncode, done.stderr) == (1, b"")


def test_a_plugin_that_is_broken_does_not_break_the_rest(alone: Ctl, tmp_path: Path) -> None:
    site = tmp_path / "site/broken-1.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (site / "entry_points.txt").write_text("[squash.commands]\nbroken = broken_plugin:app\n")
    done = alone("--help", env={"PYTHONPATH": str(site.parent)})
    assert done.returncode == 0
    assert "the commands `broken` cannot be loaded: No module named 'broken_plugin'" in done.stderr


def test_help_needs_no_client() -> None:
    """The client's libraries take longer to import than all that help needs."""
    program = "import sys; from squash.cli.main import mount_plugins; mount_plugins(); print(*sys.modules)"
    done = subprocess.run([SQUASHCTL.parent / "python", "-c", program], capture_output=True, text=True, check=True)
    assert not {"httpx", "uvicorn", "starlette", "rich.progress", "debugpy"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1h30m", 5400), ("0", 0), ("0.5", 0.5)),
        *(("100ms", 0.1), ("5100ms", 5.1), ("1s500ms", 1.5), ("1m30", 90), ("2d", 172_800)),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ms", "1ms5s", "5 s", "1.s", "-1", "5s\n", "90sec", "1e3", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (0.9, "0s"), (119, "119s"), (120, "2m"), (7_300, "2h"), (172_800, "2d")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text
