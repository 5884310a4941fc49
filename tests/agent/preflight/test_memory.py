"""Limits of cgroups of both versions, from files as the kernel writes them."""

from pathlib import Path

import pytest

from agent.preflight.memory import Memory, of_process

V2_STAT = "anon 10\nfile 500\ninactive_file 300\nactive_file 100\nshmem 100\n"
V1_STAT = "inactive_file 1\nactive_file 2\ntotal_inactive_file 300\ntotal_active_file 100\ntotal_shmem 100\n"


def version_2(place: Path, limit: str, used: int = 1000, stat: str = V2_STAT) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(limit + "\n")
    (place / "memory.current").write_text(f"{used}\n")
    (place / "memory.stat").write_text(stat)


def version_1(place: Path, limit: str, used: int = 1000) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.limit_in_bytes").write_text(limit + "\n")
    (place / "memory.usage_in_bytes").write_text(f"{used}\n")
    (place / "memory.stat").write_text(V1_STAT)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc/7").mkdir(parents=True)
    return tmp_path / "proc"


def told(proc: Path, root: Path, cgroup: str) -> Memory | None:
    (proc / "7/cgroup").write_text(cgroup)
    return of_process(7, root, proc)


def test_version_2(proc: Path, tmp_path: Path) -> None:
    version_2(tmp_path / "cg/pods/one/app", "4000")
    found = told(proc, tmp_path / "cg", "0::/pods/one/app\n")
    assert found == Memory(4000, 1000, 400)
    assert found.free == 3400


def test_the_tightest_level_counts(proc: Path, tmp_path: Path) -> None:
    version_2(tmp_path / "cg/pods/one/app", "4000")
    version_2(tmp_path / "cg/pods/one", "5000", used=4900, stat="inactive_file 0\nactive_file 0\n")
    version_2(tmp_path / "cg/pods", "max")
    found = told(proc, tmp_path / "cg", "0::/pods/one/app\n")
    assert found
    assert found.free == 100


def test_version_1(proc: Path, tmp_path: Path) -> None:
    version_1(tmp_path / "cg/memory/docker/abc", "4000")
    version_1(tmp_path / "cg/memory", "9223372036854771712")
    lines = "12:cpu,cpuacct:/docker/abc\n6:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"
    assert told(proc, tmp_path / "cg", lines) == Memory(4000, 1000, 400)


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"])
def test_no_limit(proc: Path, tmp_path: Path, limit: str) -> None:
    (version_2 if limit == "max" else version_1)(tmp_path / "cg/app", limit)
    assert told(proc, tmp_path / "cg", "0::/app\n") is None


@pytest.mark.parametrize("cgroup", ["0::/../../kubepods/app\n", "6:memory:/../app\n"])
def test_from_inside_a_container_by_what_the_process_sees(proc: Path, tmp_path: Path, cgroup: str) -> None:
    version_2(proc / "7/root/sys/fs/cgroup", "4000")
    assert told(proc, tmp_path / "cg", cgroup) == Memory(4000, 1000, 400)


@pytest.mark.parametrize("cgroup", ["", "0::/gone\n", "nonsense\n", "3:cpu:/app\n"])
def test_what_cannot_be_seen(proc: Path, tmp_path: Path, cgroup: str) -> None:
    assert told(proc, tmp_path / "cg", cgroup) is None


def test_a_process_that_is_gone(tmp_path: Path) -> None:
    assert of_process(7, tmp_path, tmp_path / "none") is None


def test_the_cache_is_never_more_than_what_is_used(proc: Path, tmp_path: Path) -> None:
    """The figures are read one after the other."""
    version_2(tmp_path / "cg/app", "4000", used=100)
    assert told(proc, tmp_path / "cg", "0::/app\n") == Memory(4000, 100, 100)
