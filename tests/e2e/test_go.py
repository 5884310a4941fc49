"""A marked request from its caller to a breakpoint in a Go service and back: by dlv on a terminal, by the console."""

import asyncio
import os
from pathlib import Path

import pytest

from demo.shop import Pod
from squash.calls import delete_attachment, list_audit
from squash.model import Action, Outcome
from squash.tasks import spawn
from tests.agent.goservice import BREAK, SOURCE, provided
from tests.e2e.street import Caller, Street, free, no_holds, result
from tests.eventually import eventually
from tests.squash.ctl import SQUASHCTL, Ctl
from tests.squash.terminal import Terminal

PRICE = "/price?amount=5"


@pytest.fixture
def prices(street: Street) -> Pod:
    world = street.world
    service = world.service("gopher", "demo/gopher", [str(provided() / "service"), "--listen", "127.0.0.1:0"])
    sidecar = world.sidecar("gopher")
    return Pod("gopher", "demo/gopher", service, sidecar, world.envoy("gopher", service.where, sidecar.where))


async def test_dlv_on_a_terminal(street: Street, prices: Pod, caller: Caller, tmp_path: Path) -> None:
    street.world.agent()
    argv: list[str | Path] = [SQUASHCTL, "debug", "image", prices.image, "--with", "dlv", "--url", prices.url + PRICE]
    env = {**Ctl(tmp_path, street.coordinator.where).env, "DELVE_PAGER": "cat"}
    with Terminal(argv, env) as terminal:
        await asyncio.to_thread(terminal.until, "x-squash-debug: 1")
        answer = spawn(caller.get(prices.url + PRICE), "marked request")
        await asyncio.to_thread(terminal.until, "(dlv)")
        terminal.enter(f"break {SOURCE}:{BREAK}")
        await asyncio.to_thread(terminal.until, "Breakpoint 1 set at")
        assert not answer.done()
        terminal.enter("continue")
        await asyncio.to_thread(terminal.until, "=>")
        await asyncio.to_thread(terminal.until, "(dlv)")
        terminal.enter("print total+4000")
        await asyncio.to_thread(terminal.until, "4015")
        terminal.enter("set total = 42")
        terminal.enter("clearall")
        terminal.enter("continue")
        served = await answer
        assert (served.text, result(served).outcome) == ("42", Outcome.ATTACHED)
        # dlv's own Ctrl-C stops the process; to let it live is what it asks about.
        terminal.ctrl_c()
        await asyncio.to_thread(terminal.until, "(dlv)")
        terminal.enter("exit")
        await asyncio.to_thread(terminal.until, "kill the process?")
        terminal.enter("y")
        assert await asyncio.to_thread(terminal.end) == 0
    await asyncio.to_thread(free, prices)
    assert (await caller.get(prices.url + PRICE, marked=False)).text == "15"
    noted = {Action.BREAKPOINTS, Action.CHANGED, Action.RESUMED, Action.TERMINATION_REFUSED, Action.CLIENT_LEFT}
    eventually(lambda: {entry.action for entry in street.client.send(list_audit())}, lambda done: noted <= done)
    no_holds(prices)


async def test_the_console(street: Street, prices: Pod, caller: Caller, tmp_path: Path) -> None:
    street.world.agent()
    wish = street.wish(prices, debugger="go")
    price = spawn(caller.get(prices.url + PRICE), "price")
    process = await asyncio.create_subprocess_exec(
        *(SQUASHCTL, "console", wish, "-b", f"{SOURCE}:{BREAK}"),
        env={key: value for key, value in os.environ.items() if not key.startswith("SQUASH")}
        | {"SQUASH_SERVER_URL": street.coordinator.where, "HOME": str(tmp_path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    commands = b"status\ncontinue\nwhere\nlocals\np total\nset total = 42\np total\nthreads\nnext\ncontinue\n"
    try:
        out, err = await asyncio.wait_for(process.communicate(commands), 90)
    finally:
        if process.returncode is None:
            process.kill()
    shown = out.decode()
    assert process.returncode == 0, (shown, err)
    assert "stopped: breakpoint 1" in shown
    assert "-> return total" in shown
    assert "total = 15" in shown
    assert (await price).text == "42", shown
    assert result(await price).outcome is Outcome.ATTACHED
    no_holds(prices)
    street.client.send(delete_attachment(await street.matched(wish)))
    await asyncio.to_thread(free, prices)
