"""What debugpy's own part of the preflight says of memory."""

from dataclasses import replace

import pytest

from agent import pack
from agent.debuggers.debugpy import Debugpy
from agent.preflight.finding import refusal
from agent.preflight.memory import Memory
from agent.preflight.needs import MEGABYTE
from squash.reasons import Reason
from tests.agent.preflight.facts import facts, process


@pytest.mark.parametrize(
    ("exe", "free", "advice"),
    [
        ("/usr/bin/python3.9", 40, "put a python3.9 on the agent's PATH"),
        ("/usr/bin/python3.9", 70, None),
        ("/usr/bin/snake", 40, "64 MiB for some seconds, and it may grow by 40: raise the container's limit"),
        ("/usr/bin/snake", 70, None),
    ],
)
def test_a_python_that_would_have_to_compile_takes_room_for_it(
    exe: str, free: int, advice: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "compiles", lambda minor: False)
    memory = Memory(100 * MEGABYTE, (100 - free) * MEGABYTE, 0)
    found = refusal(list(Debugpy().examine(facts(process=replace(process(), pid=0, exe=exe), memory=memory))))
    assert (found is None) is (advice is None)
    if found and advice:
        assert found.reason is Reason.MEMORY_SHORT
        assert advice in found.message
