"""scripts/apart: a network of one's own, or a word on what is missing for it."""

import os
import subprocess
from pathlib import Path

import pytest

APART = Path(__file__).parents[2] / "scripts/apart"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")


def apart(*words: str, by: tuple[str, ...] = (), path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    argv = [*by, "/bin/sh", str(APART), *words]
    return subprocess.run(argv, check=False, capture_output=True, text=True, env={"PATH": path})


@as_root
def test_only_the_loopback_is_there() -> None:
    done = apart("sh", "-c", "ip -o link; exit 7")
    assert done.returncode == 7, done.stderr
    [link] = done.stdout.splitlines()
    assert "lo: <LOOPBACK,UP" in link
    assert (apart().returncode, apart().stdout) == (0, "")


@as_root
@pytest.mark.parametrize(
    ("by", "said"),
    [
        (("setpriv", "--reuid=65534", "--clear-groups"), "takes root; this is uid 65534"),
        (("setpriv", "--inh-caps=-all", "--bounding-set=-sys_admin"), "no network namespace can be made here"),
        (("setpriv", "--inh-caps=-all", "--bounding-set=-sys_admin"), "Operation not permitted"),
    ],
)
def test_it_says_what_is_missing(by: tuple[str, ...], said: str) -> None:
    done = apart("echo", "here", by=by)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("apart: ")
    assert said in done.stderr


@as_root
def test_it_says_which_program_is_missing(tmp_path: Path) -> None:
    for name, said in (
        ("id", "unshare is not on PATH; it comes with util-linux"),
        ("unshare", "no network namespace"),
        ("true", "ip is not on PATH; as root: scripts/setup tools ip"),
    ):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
        done = apart("echo", "here", path=str(tmp_path))
        assert done.stderr.startswith(f"apart: {said}")
