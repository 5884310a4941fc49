"""What debugpy's own part of the preflight says."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.debuggers.debugpy import Debugpy
from agent.preflight.finding import refusal
from agent.preflight.memory import Memory
from agent.preflight.needs import MEGABYTE
from squash.reasons import Reason
from tests.agent.preflight.facts import ROOT, facts, process

OWN = f"/usr/bin/python3.{sys.version_info[1]}"


@pytest.mark.parametrize(
    ("exe", "free", "inside", "advice"),
    [
        ("/usr/bin/python3.9", 40, True, "put a python3.9 on the agent's PATH"),
        ("/usr/bin/python3.9", 70, True, None),
        ("/usr/bin/python3.8", 40, True, "put a python3.8 on the agent's PATH"),
        (OWN, 40, True, None),
        ("/usr/bin/python3.9", 40, False, "have python3.9 compile"),
        (OWN, 40, False, None),
        ("/usr/bin/snake", 40, True, "64 MiB for some seconds, and it may grow by 40: raise the container's limit"),
        ("/usr/bin/snake", 70, True, None),
    ],
)
def test_a_python_that_would_have_to_compile_takes_room_for_it(
    exe: str, free: int, inside: bool, advice: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a python3.8 on PATH, but it fails, as a shim without a version behind it does."""
    (tmp_path / "python3.8").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.8").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    memory = Memory(100 * MEGABYTE, (100 - free) * MEGABYTE, 0)
    known = facts(process=replace(process(), pid=0, exe=exe), memory=memory, other_files=inside)
    found = refusal(list(Debugpy().examine(known)))
    assert (found is None) is (advice is None)
    if found and advice:
        assert found.reason is Reason.MEMORY_SHORT
        assert advice in found.message


@pytest.mark.parametrize(
    ("machine", "minor", "told"), [("aarch64", 11, True), ("aarch64", 12, False), ("x86_64", 11, False)]
)
def test_threads_that_debugpy_cannot_reach_are_told(machine: str, minor: int, told: bool) -> None:
    known = facts(replace(ROOT, machine=machine), process=replace(process(), pid=0, exe=f"/usr/bin/python3.{minor}"))
    said = [finding.message for finding in Debugpy().examine(known) if finding.check == "threads"]
    assert [f"this is 3.{minor}" in message for message in said] == [True] * told
