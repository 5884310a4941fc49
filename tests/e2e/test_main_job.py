"""A marked request from its caller to a breakpoint and back, through all of the real processes, and whoever dies."""

import asyncio
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.dap import Dap
from demo.scenes import PRICING_LINE, STOCK_LINE
from demo.shop import PRICING, STOCK, STOCK_PROGRAM
from demo.telling import line_of
from squash.calls import delete_attachment, delete_request, patch_attachment, release_attachment, renew_agent
from squash.model import Agent, Outcome, Phase, State, StatusPatch
from squash.reasons import Reason
from squash.result import HEADER
from squash.tasks import spawn
from tests.e2e.street import COUNTING, Caller, Street, free, no_holds, result, running

MANY = 200
CART = "/price?items=melon:4,cheese:3"
PLUM = "/stock?items=plum:1"


def breakpoint_of(path: Path, client: Dap, text: str) -> int:
    """Sets a breakpoint at the one line with this text; the thread that runs into it."""
    client.attach({str(path): [line_of(path, text)]})
    thread: int = client.event("stopped")["threadId"]
    return thread


@contextmanager
def gdb(address: str, *commands: str) -> Iterator["subprocess.Popen[str]"]:
    """gdb with these commands, then with what it is told on stdin."""
    words = ["gdb", "-nx", "-q", "-ex", f"target remote {address.removeprefix('unix:')}"]
    for command in commands:
        words += ["-ex", command]
    with subprocess.Popen(
        [*words, str(STOCK_PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until_breakpoint(process: "subprocess.Popen[str]") -> None:
    assert process.stdout
    for line in process.stdout:
        if re.search(r"hit Breakpoint 1|Breakpoint 1, ", line):
            return
    raise AssertionError("gdb never reached its breakpoint")


async def test_many_held_at_once_and_let_go(street: Street, caller: Caller) -> None:
    """There is no agent: this test is the agent, so that it says when each debugger is there."""
    street.client.send(renew_agent(Agent(name="test", node="here", ttl=600)))
    pod = street.pod("counting")
    wishes = [street.wish(pod) for _ in range(MANY)]
    held = [spawn(caller.get(f"{pod.url}/held/{n}"), "held") for n in range(MANY)]
    names = [await street.matched(wish) for wish in wishes]
    assert len(set(names)) == MANY
    assert await caller.counts(pod) == {}
    for name in names:
        street.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))
    answers = await asyncio.gather(*held)
    assert {result(answer).outcome for answer in answers} == {Outcome.ATTACHED}
    assert {result(answer).id for answer in answers} == set(names)
    assert await caller.counts(pod) == {f"/held/{n}": 1 for n in range(MANY)}
    no_holds(pod)


async def test_two_developers_on_two_images(street: Street, caller: Caller) -> None:
    street.world.agent()
    pricing, stock = street.pod("pricing"), street.pod("stock")
    wishes = street.wish(pricing), street.wish(stock)
    price, plums = spawn(caller.get(pricing.url + CART), "price"), spawn(caller.get(stock.url + PLUM), "plums")
    first, second = await street.listening(wishes[0]), await street.listening(wishes[1])
    assert (first.status.pid, second.status.pid) == (pricing.service.pid, stock.service.pid)
    with Dap(first.status.debug_server_address or "") as client:
        thread = await asyncio.to_thread(breakpoint_of, PRICING, client, PRICING_LINE)
        line = f"{STOCK.name}:{line_of(STOCK, STOCK_LINE)}"
        with gdb(second.status.debug_server_address or "", f"break {line}", "continue") as native:
            await asyncio.to_thread(until_breakpoint, native)
            assert not price.done()
            assert not plums.done()
            await asyncio.to_thread(native.communicate, "set var left = 7\ndetach\n", 60)
        client.ask("continue", threadId=thread)
        assert (await plums).json()["items"]["plum"]["available"] == 7
        assert result(await plums).outcome is Outcome.ATTACHED
        assert (await price).json()["total"] == "47.50"
        assert result(await price).outcome is Outcome.ATTACHED
    for attachment in (first, second):
        street.client.send(delete_attachment(attachment.name))
    free(pricing)
    free(stock)


async def test_everybody_elses_requests_pass_while_one_stands_at_a_breakpoint(street: Street, caller: Caller) -> None:
    street.world.agent()
    pricing, counting = street.pod("pricing"), street.pod("counting")
    stopped = asyncio.Event()
    passed: list[httpx.Response] = []

    async def stream(number: int) -> None:
        """Until the other request stands, and a few times more."""
        left = 5
        while left:
            left -= stopped.is_set()
            passed.append(await caller.get(f"{counting.url}/stream/{number}", marked=False))

    streams = [spawn(stream(number), "stream") for number in range(4)]
    wish = street.wish(pricing)
    marked = spawn(caller.get(pricing.url + CART), "marked")
    attachment = await street.listening(wish)
    with Dap(attachment.status.debug_server_address or "") as client:
        thread = await asyncio.to_thread(breakpoint_of, PRICING, client, PRICING_LINE)
        stopped.set()
        await asyncio.gather(*streams)
        assert not marked.done()
        client.ask("continue", threadId=thread)
        assert result(await marked).outcome is Outcome.ATTACHED
    assert {answer.status_code for answer in passed} == {200}
    assert not [answer for answer in passed if HEADER in answer.headers]
    assert sum((await caller.counts(counting)).values()) == len(passed)


async def test_the_coordinator_is_killed_for_good_while_held(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting", attachment_timeout=6)
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    await street.listening(wish)
    street.coordinator.kill()
    running(pod)
    answer = await held
    assert (result(answer).outcome, result(answer).reason) == (Outcome.TIMEOUT, Reason.HOLD_TIMEOUT)
    assert await caller.counts(pod) == {"/once": 1}
    # What happened meanwhile is told to the next coordinator, and to the agent by that.
    street.world.coordinator()
    free(pod)


async def test_the_agent_is_killed_while_held_and_comes_back(street: Street, caller: Caller) -> None:
    agent = street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    await street.listening(wish)
    agent.kill()
    free(pod)
    assert not held.done()
    street.world.agent()
    answer = await held
    assert (result(answer).outcome, result(answer).reason) == (Outcome.ERROR, Reason.AGENT_RESTARTED)
    assert await caller.counts(pod) == {"/once": 1}


async def test_the_agent_is_killed_for_good_while_held(street: Street, caller: Caller) -> None:
    agent = street.world.agent()
    pod = street.pod("counting", attachment_timeout=6)
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    await street.listening(wish)
    agent.kill()
    free(pod)
    assert result(await held).outcome is Outcome.TIMEOUT
    assert await caller.counts(pod) == {"/once": 1}


async def test_the_sidecar_is_killed_while_held(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    attachment = await street.listening(wish)
    pod.sidecar.kill()
    answer = await held
    assert (result(answer).outcome, result(answer).reason) == (Outcome.UNAVAILABLE, Reason.SIDECAR_UNREACHABLE)
    assert await caller.counts(pod) == {"/once": 1}
    running(pod)
    street.client.send(delete_attachment(attachment.name))
    free(pod)


@pytest.mark.parametrize("phase", ["held_without_an_agent", "listening"])
async def test_no_agent_is_left(street: Street, caller: Caller, phase: str) -> None:
    """The hold ends although its own limit is far away."""
    agent = street.world.agent() if phase == "listening" else None
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    if agent:
        await street.listening(wish)
        agent.kill()
        free(pod)
    answer = await held
    assert (result(answer).outcome, result(answer).reason) == (Outcome.ERROR, Reason.AGENT_LOST)
    over = await street.until(await street.matched(wish), lambda found: found.status.outcome is not None)
    assert "of node here" in (over.status.message or "")
    assert await caller.counts(pod) == {"/once": 1}


async def test_a_hold_without_its_sidecar_is_lost_soon(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    attachment = await street.listening(wish)
    pod.sidecar.kill()
    assert result(await held).outcome is Outcome.UNAVAILABLE
    lost = await street.until(attachment.name, lambda found: found.status.phase is Phase.DETACHED)
    assert (lost.status.state, lost.status.reason) == (State.ERROR, Reason.HOLD_LOST)
    free(pod)


async def test_envoy_is_killed_while_held(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    attachment = await street.listening(wish)
    pod.envoy.kill()
    with pytest.raises(httpx.TransportError):
        await held
    gone = await street.until(attachment.name, lambda found: found.status.state is State.ERROR)
    assert gone.status.reason is Reason.CALLER_GONE
    free(pod)
    no_holds(pod)
    assert await caller.counts(pod) == {}


async def test_the_agent_is_killed_at_a_breakpoint_in_python(street: Street, caller: Caller) -> None:
    agent = street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    attachment = await street.listening(wish)
    with Dap(attachment.status.debug_server_address or "") as client:
        await asyncio.to_thread(breakpoint_of, COUNTING, client, "count = COUNTS[path]")
        assert not held.done()
        agent.kill()
        free(pod)
        answer = await held
    assert answer.json()["count"] == 1
    assert result(answer).outcome is Outcome.ATTACHED
    assert await caller.counts(pod) == {"/once": 1}


async def test_the_agent_is_killed_at_a_breakpoint_in_cpp(street: Street, caller: Caller) -> None:
    agent = street.world.agent()
    pod = street.pod("stock")
    wish = street.wish(pod)
    held = spawn(caller.get(pod.url + PLUM), "held")
    attachment = await street.listening(wish)
    line = f"{STOCK.name}:{line_of(STOCK, STOCK_LINE)}"
    with gdb(attachment.status.debug_server_address or "", f"break {line}", "continue") as native:
        await asyncio.to_thread(until_breakpoint, native)
        assert not held.done()
        agent.kill()
        free(pod)
        answer = await held
    assert answer.json()["items"]["plum"]["available"] == -2
    assert result(answer).outcome is Outcome.ATTACHED
    again = await caller.get(pod.url + PLUM, marked=False)
    assert again.json() == answer.json()


async def test_a_body_is_what_it_was_after_a_hold(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting")
    body = os.urandom(3_000_000)
    wish = street.wish(pod)
    held = spawn(caller.post(f"{pod.url}/body", body), "held")
    attachment = await street.listening(wish)
    with Dap(attachment.status.debug_server_address or "") as client:
        await asyncio.to_thread(client.attach, {})
        answer = await held
    assert result(answer).outcome is Outcome.ATTACHED
    told = {"path": "/body", "count": 1, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert answer.json() == told


async def test_the_caller_hangs_up_while_held(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/never"), "held")
    attachment = await street.listening(wish)
    held.cancel()
    gone = await street.until(attachment.name, lambda found: found.status.outcome is not None)
    status = gone.status
    assert (status.state, status.reason, status.outcome) == (State.ERROR, Reason.CALLER_GONE, Outcome.CALLER_GONE)
    free(pod)
    no_holds(pod)
    assert await caller.counts(pod) == {}


async def test_the_longest_hold(street: Street, caller: Caller) -> None:
    street.world.agent()
    pod = street.pod("counting", attachment_timeout=4)
    wish = street.wish(pod)
    answer = await caller.get(f"{pod.url}/once")
    assert (result(answer).outcome, result(answer).reason) == (Outcome.TIMEOUT, Reason.HOLD_TIMEOUT)
    assert (result(answer).held or 0) >= 4
    over = await street.until(await street.matched(wish), lambda found: found.status.outcome is not None)
    assert (over.status.state, over.status.reason) == (State.ERROR, Reason.HOLD_TIMEOUT)
    free(pod)
    assert await caller.counts(pod) == {"/once": 1}


@pytest.mark.parametrize("how", ["release", "delete", "withdraw"])
async def test_a_developer_lets_it_go(street: Street, caller: Caller, how: str) -> None:
    street.world.agent()
    pod = street.pod("counting")
    wish = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/once"), "held")
    attachment = await street.listening(wish)
    if how == "release":
        street.client.send(release_attachment(attachment.name))
    elif how == "delete":
        street.client.send(delete_attachment(attachment.name))
    else:
        street.client.send(delete_request(wish))
    answer = await held
    reason = Reason.DELETED if how == "delete" else Reason.RELEASED
    assert (result(answer).outcome, result(answer).reason) == (Outcome.RELEASED, reason)
    assert await caller.counts(pod) == {"/once": 1}
    free(pod)


async def test_a_second_marked_request_while_the_first_is_debugged(street: Street, caller: Caller) -> None:
    """It goes on at once, with or without a debug request of its own."""
    street.world.agent()
    pod = street.pod("counting")
    first = street.wish(pod)
    held = spawn(caller.get(f"{pod.url}/first"), "held")
    attachment = await street.listening(first)
    unwanted = result(await caller.get(f"{pod.url}/second"))
    assert (unwanted.outcome, unwanted.reason) == (Outcome.NO_MATCH, Reason.NO_PENDING_REQUEST)
    wish = street.wish(pod)
    refused = result(await caller.get(f"{pod.url}/third"))
    assert (refused.outcome, refused.reason) == (Outcome.ERROR, Reason.PROCESS_BUSY)
    busy = await street.until(await street.matched(wish), lambda found: found.status.state is State.ERROR)
    assert attachment.name in (busy.status.message or "")
    assert not held.done()
    with Dap(attachment.status.debug_server_address or "") as client:
        await asyncio.to_thread(client.attach, {})
        assert result(await held).outcome is Outcome.ATTACHED
    ready = await street.until(attachment.name, lambda found: found.status.phase is Phase.READY)
    assert ready.status.state is State.ATTACHED
    assert await caller.counts(pod) == {"/first": 1, "/second": 1, "/third": 1}
    street.client.send(delete_attachment(attachment.name))
    free(pod)
