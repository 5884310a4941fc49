"""The sidecar inside the agent's process."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from squash.companions import load
from squash.errors import SettingError
from squash.model import Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, parse
from squash.tasks import spawn
from tests.envoy_filter.child import BIN, Child
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import running

POD = {"SQUASH_POD": "pricing-1", "SQUASH_NAMESPACE": "demo"}


@pytest.fixture
async def double() -> AsyncIterator[CoordinatorDouble]:
    async with CoordinatorDouble() as server:
        yield server


async def agent(directory: Path, double: CoordinatorDouble, *flags: str) -> Child:
    argv = (BIN / "squash-agent", "--server-url", double.url, "--node", "here", "--runtime-dir", directory / "run")
    return await Child.start((*argv, *flags), directory / "agent.log", POD)


async def listening(child: Child) -> str:
    """The sidecar's URL, from the agent's log."""
    async with asyncio.timeout(60):
        # The agent's line on stdout has no URL; it logs before that.
        assert child.stdout is not None
        await child.stdout.readline()
    found = re.search(r"sidecar ready listen=(\S+)", child.log)
    assert found, child.log
    return f"http://{found[1]}"


async def test_it_holds(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with running(await agent(tmp_path, double, "--sidecar-listen", "127.0.0.1:0")) as child:
        url = await listening(child)
        async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
            marked = spawn(http.get(f"{url}/authz/cart"), "get")
            [name] = await double.created()
            assert double.attachments[name].spec.attachment == {"pod": "pricing-1", "namespace": "demo"}
            await double.change(name, State.ATTACHED)
            assert parse((await marked).headers[HEADER]).outcome is Outcome.ATTACHED
            # The agent's end is the sidecar's, and what is held goes on.
            marked = spawn(http.get(f"{url}/authz/cart"), "get")
            await double.created(2)
            child.send(signal.SIGTERM)
            result = parse((await marked).headers[HEADER])
            assert (result.outcome, result.reason) == (Outcome.UNAVAILABLE, Reason.STOPPING)
        assert await child.end() == 0
        assert "Traceback" not in child.log


async def test_its_settings_are_checked_at_the_start(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with running(await agent(tmp_path, double, "--sidecar-listen", "nowhere")) as child:
        assert await child.end(signal.SIGCONT) == 2
        assert "sidecar_listen = 'nowhere'" in child.log


def test_a_companion_that_is_not_installed() -> None:
    with pytest.raises(SettingError, match="no companion 'none-such'"):
        load("none-such")
