"""Facts of /proc, compared with processes that the test knows."""

import os
import shutil
import socket
from pathlib import Path

import psutil
import pytest

from squash import procfs
from tests.squash.processes import Processes


def test_stat_of_this_process() -> None:
    stat = procfs.stat(os.getpid())
    assert stat
    assert (stat.pid, stat.ppid, stat.state) == (os.getpid(), os.getppid(), "R")
    began = psutil.boot_time() + stat.start_time / os.sysconf("SC_CLK_TCK")
    assert began == pytest.approx(psutil.Process().create_time(), abs=5)
    assert os.getpid() in list(procfs.pids())


@pytest.mark.parametrize("name", ["a) R (b", "with space", "(((", "tab\there"])
def test_a_process_may_be_named_anything(processes: Processes, tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy(shutil.which("sh") or "", program)
    process = processes.run(program=program)
    stat = procfs.stat(process.pid)
    assert stat
    assert (stat.comm, stat.ppid) == (name, os.getpid())


def test_environ(processes: Processes) -> None:
    process = processes.run({"PLAIN": "a=b=c", "EMPTY": "", "LINES": "x\ny", "BYTES": "\udcff"})
    environ = procfs.environ(process.pid)
    assert environ
    assert (environ["PLAIN"], environ["EMPTY"], environ["LINES"], environ["BYTES"]) == ("a=b=c", "", "x\ny", "\udcff")


def test_status() -> None:
    status = procfs.status(os.getpid())
    assert status
    assert (status["Pid"], status["TracerPid"]) == (str(os.getpid()), "0")


def test_a_process_that_is_gone(processes: Processes) -> None:
    process = processes.run()
    stat = procfs.stat(process.pid)
    assert stat
    assert procfs.alive(process.pid, stat.start_time)
    assert not procfs.alive(process.pid, stat.start_time + 1)
    process.kill()
    # It is a zombie until it is waited for.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not procfs.alive(process.pid, stat.start_time)
    process.wait()
    assert not procfs.alive(process.pid, stat.start_time)
    assert procfs.stat(process.pid) is None
    assert procfs.environ(process.pid) is None
    assert procfs.status(process.pid) is None


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_who_listens(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        port = sock.getsockname()[1]
        assert procfs.listener_of(port) is None
        sock.listen()
        holder = procfs.listener_of(port)
        assert holder
        assert holder.pid == os.getpid()
    assert procfs.listener_of(port) is None


def test_looking_for_one_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    next(procfs.pids())
    with socket.create_server(("127.0.0.1", 0)) as sock:
        procfs.listener_of(sock.getsockname()[1])
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("family", "server", "client"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "127.0.0.1", "::ffff:127.0.0.1"),
    ],
    ids=["IPv4", "IPv6", "IPv4 by a socket that can do both"],
)
def test_whose_connection_it_is(family: socket.AddressFamily, server: str, client: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET) as listener:
        try:
            listener.bind((server, 0))
        except OSError:
            pytest.skip(f"no {server} here")
        listener.listen()
        with socket.socket(family) as dialer:
            dialer.connect((client, listener.getsockname()[1]))
            accepted, peer = listener.accept()
            with accepted:
                ours = accepted.getsockname()[:2]
                assert procfs.owner_of_connection(peer[:2], ours) == os.geteuid()
                assert procfs.owner_of_connection(peer[:2], (ours[0], 1)) is None
                dialer.close()
                assert procfs.owner_of_connection(peer[:2], ours) is None, "what is closed belongs to nobody"
