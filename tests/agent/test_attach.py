"""One attachment, without a coordinator."""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.attach import Attachment
from agent.debuggers import Target
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from squash.errors import SquashError
from squash.model import AttachmentSpec, DebugAttachment
from squash.reasons import Reason


class Hangs:
    """A debugger whose look at the process does not come to an end, as on a file system that is out of reach."""

    name, protocol, needs = "hangs", "dap", Needs()

    def __init__(self) -> None:
        self.over = threading.Event()

    def examine(self, facts: Facts) -> Iterable[Finding]:
        self.over.wait()
        return []


async def test_a_preflight_that_hangs_ends_with_the_attach(tmp_path: Path) -> None:
    debugger, process = Hangs(), Process.read(os.getpid())
    assert process
    tools = SimpleNamespace(settings=SimpleNamespace(attach_timeout=0.5), client=None)
    wanted = DebugAttachment(spec=AttachmentSpec(attachment={}))
    attachment, target = Attachment(wanted, cast(Any, tools)), Target(process, tmp_path)
    try:
        with pytest.raises(SquashError, match="did not come up") as refusal:
            await attachment._attach(cast(Any, debugger), target)
    finally:
        debugger.over.set()
    assert refusal.value.reason is Reason.ATTACH_TIMEOUT
    (tried,) = target.attempts
    assert (tried.strategy, tried.reason) == ("preflight", Reason.ATTACH_TIMEOUT)
