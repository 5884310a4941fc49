"""Which processes are Node's, and what is known of them before they are touched."""

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent import nodeport
from agent.debuggers.node import Node
from agent.preflight.finding import Level
from agent.preflight.run import examine
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason

from .nodes import PROGRAM, service


@pytest.mark.parametrize(
    ("exe", "cmdline", "claim"),
    [
        ("/usr/bin/node", ("node", "server.js"), 0.9),
        ("/usr/bin/nodejs", ("nodejs", "server.js"), 0.9),
        ("/usr/bin/node20 (deleted)", ("node20", "server.js"), 0.9),
        ("/opt/node-22.3.0", ("node", "server.js"), 0.9),
        ("/usr/bin/node", ("npm start",), 0.6),
        ("/usr/bin/node", ("node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "start"), 0.6),
        ("/usr/bin/node", ("node", "/app/node_modules/.bin/nodemon", "server.js"), 0.6),
        ("/usr/bin/nodepad", ("nodepad",), -1.0),
        ("/usr/bin/bun", ("bun", "server.js"), -1.0),
    ],
)
def test_claims(exe: str, cmdline: tuple[str, ...], claim: float) -> None:
    me = Process.read(os.getpid())
    assert me
    assert Node().claim(replace(me, exe=exe, cmdline=cmdline)) == claim


def test_a_program_that_node_is_built_into_is_known_by_what_it_exports(short: Path) -> None:
    program = short / "shop"
    shutil.copy(Path(shutil.which("node") or "").resolve(), program)
    running = subprocess.Popen([program, str(PROGRAM)], stdout=subprocess.PIPE)
    try:
        assert running.stdout
        running.stdout.readline()
        process = Process.read(running.pid)
        assert process
        assert Node().claim(process) == 0.9
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ("", 9229),
        ("--inspect", 9229),
        ("--inspect=5858", 5858),
        ("--inspect=0.0.0.0:5858", 5858),
        ("--inspect=[::1]:5858 --title x", 5858),
        ("--inspect-port 7000", 7000),
        ("--inspect-port=1 --inspect-port=0", 0),
        ("--debug-port=localhost:7001", 7001),
        ("--inspect=localhost", 9229),
    ],
)
def test_the_port_that_options_name(words: str, port: int) -> None:
    assert nodeport.port_of(words) == port


def test_what_comes_after_the_script_is_the_programs() -> None:
    me = Process.read(os.getpid())
    assert me
    words = ("node", "-r", "./hook.js", "--no-warnings", "server.js", "--inspect-port=5")
    assert nodeport.options(replace(me, cmdline=words)).endswith("-r ./hook.js --no-warnings")


@pytest.mark.parametrize(
    ("options", "level", "words"),
    [
        (("--inspect-port=0",), Level.OK, "SIGUSR1 opens it"),
        (("--inspect=127.0.0.1:0",), Level.OK, "started with an inspector on 127.0.0.1"),
        (("--inspect=0.0.0.0:0",), Level.WARNING, "its own inspector listens on 0.0.0.0"),
    ],
)
def test_what_the_preflight_finds(options: tuple[str, ...], level: Level, words: str) -> None:
    with service(node=options) as running:
        [found] = [each for each in examine(Node(), running.facts()) if each.check == "inspector"]
        assert found.level is level
        assert words in found.message


def test_a_process_that_is_stopped_is_not_signalled() -> None:
    with service() as running:
        os.kill(running.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
            with pytest.raises(SquashError, match="continue it first") as refusal:
                nodeport.check(running.facts())
            assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        finally:
            os.kill(running.pid, signal.SIGCONT)


@pytest.mark.parametrize("where", ["options", "environment"])
def test_what_was_told_not_to_listen_to_the_signal(where: str) -> None:
    me = Process.read(os.getpid())
    assert me
    sleeper = subprocess.Popen(
        ["sh", "-c", "trap : USR1; echo up; while :; do sleep 1; done"],
        stdout=subprocess.PIPE,
        env={"NODE_OPTIONS": "--disable-sigusr1" if where == "environment" else "", "PATH": os.environ["PATH"]},
    )
    try:
        assert sleeper.stdout
        sleeper.stdout.readline()
        process = Process.read(sleeper.pid)
        assert process
        words = ("node", "--disable-sigusr1", "x.js") if where == "options" else ("node", "x.js")
        with pytest.raises(SquashError, match="was started with --disable-sigusr1"):
            nodeport.check(replace(process, cmdline=words))
    finally:
        sleeper.kill()
        sleeper.communicate()
