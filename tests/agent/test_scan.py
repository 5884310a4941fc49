"""No open door: all ports of the host and of the service's network namespace, before, during and after a session."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_MAY = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _MAY, reason="takes the right to make network namespaces")
@pytest.mark.parametrize("debugger", ["debugpy", "gdb"])
def test_nothing_new_stands_open(debugger: str, short: Path) -> None:
    argv = ["unshare", "--net", sys.executable, "-m", "tests.agent.scan", debugger, str(short)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    before, *later = json.loads(done.stdout.splitlines()[-1])
    host, service = before
    assert len(host) == 1, "the coordinator, and nothing else"
    assert host[0].startswith("tcp 0100007F:")
    assert service == []
    assert later == [before] * 3
