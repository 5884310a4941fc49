"""squashctl explain, status and ready, with everything real behind them."""

import json
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.debuggers import installed
from demo.world import World
from squash.calls import create_attachment, create_request
from squash.errors import ApiError
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, HeldRequest, HoldUntil, RequestSpec
from squash.result import HEADER
from squash.tasks import spawn
from tests.coordinator.program import Coordinator
from tests.e2e.street import Caller, Street, result
from tests.eventually import eventually
from tests.squash.ctl import Ctl

LOOP = "import time\nprint('app ready on nothing', flush=True)\nwhile True: time.sleep(0.01)\n"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PLUM = "/stock?items=plum:1"


@pytest.fixture
def street() -> Iterator[Street]:
    with World("sq") as world:
        found = Street(world)
        yield found
        found.close()


@pytest.fixture
def desk(street: Street, tmp_path: Path) -> Ctl:
    """squashctl for the street."""
    return Ctl(tmp_path, street.coordinator.where)


async def test_the_story_of_a_hold_that_failed(street: Street, desk: Ctl) -> None:
    street.world.agent(env := "--node", "here")
    assert env
    caller, pod = Caller(), street.pod("stock")
    wish = street.wish(pod, HoldUntil.READY, "debugpy")
    answer = await caller.get(pod.url + PLUM)
    held = result(answer)
    assert held.id
    story = desk.json("explain", held.id)
    texts = [step["text"] for step in story["steps"]]
    assert f"for debug request {wish}" in texts[0]
    assert "an agent took it" in texts
    assert story["reason"] == "debugger_unsuited"
    assert story["remedy"]
    assert story["outcome"] == "error"
    words = desk("explain", held.id[:8]).stdout
    assert f"marked request GET {PLUM}, debug attachment {held.id} of {street.world.namespace}/stock/app" in words
    assert re.search(r"outcome +error: the request went on", words)
    assert re.search(r"next +do what is said above, then send the marked request again", words)
    for same in ("last", wish, f"{HEADER}: {answer.headers[HEADER]}"):
        assert desk.json("explain", same)["attachment"] == held.id
    await caller.http.aclose()


async def test_a_marked_request_that_was_not_held(street: Street, desk: Ctl) -> None:
    caller, pod = Caller(), street.pod("counting")
    parent = f"00-{TRACE}-00f067aa0ba902b7-01"
    headers = {"x-squash-debug": "1", "traceparent": parent}
    answer = await caller.http.get(pod.url + "/there?is=not", headers=headers)
    assert result(answer).reason == "no_pending_request"
    for what in (TRACE, parent, "last"):
        story = desk.json("explain", what)
        assert (story["outcome"], story["reason"]) == ("no_match", "no_pending_request")
        assert story["about"].startswith(f"marked request GET /there?is=not at {street.world.namespace}/counting")
        assert story["next"] == [
            "ask for a debugger and send the request again: squashctl debug image demo/counting",
        ]
    await caller.http.aclose()


def test_what_waits_and_what_came_meanwhile(desk: Ctl, street: Street) -> None:
    street.world.service("app", "demo/app", [sys.executable, "-c", LOOP])
    spec = RequestSpec(image="demo/app", debugger="gdb", owner="ann@desk")
    wish = street.client.send(create_request(DebugRequest(spec=spec))).name
    words = desk("explain", wish).stdout
    assert "asked for: debugger gdb  [ann@desk]" in words
    assert "no marked request was seen at any sidecar on the way to demo/app" in words
    assert f"squashctl delete {wish}" in words


def test_another_tag_of_the_same_image(desk: Ctl, street: Street) -> None:
    street.world.service("app", "shop:1.3", [sys.executable, "-c", LOOP])
    wish = street.client.send(create_request(DebugRequest(spec=RequestSpec(image="shop:1.2", debugger="")))).name
    place = {"pod": "app", "namespace": street.world.namespace}
    marked = DebugAttachment(spec=AttachmentSpec(attachment=place, match_request=True, held=HeldRequest(path="/x")))
    with pytest.raises(ApiError):
        street.client.send(create_attachment(marked))
    why = "no debug request waits for image 'shop:1.3', which the container runs; requests are pending for shop:1.2"
    assert why in desk("explain", "last").stdout
    words = desk("explain", wish).stdout
    assert why in words
    assert "(shop:1.3); this one waits for shop:1.2, which is another image" in words
    fits = DebugRequest(spec=RequestSpec(image="docker.io/library/shop:1.3", debugger=""))
    other = street.client.send(create_request(fits)).name
    assert street.client.send(create_attachment(marked)).spec.debug_request == other


def test_what_no_agent_has_taken(desk: Ctl, street: Street) -> None:
    street.world.service("app", "demo/app", [sys.executable, "-c", LOOP])
    place = {"pod": "app", "namespace": street.world.namespace}
    held = HeldRequest(method="GET", path="/x")
    wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, held=held))
    name = street.client.send(create_attachment(wanted)).name
    words = desk("explain").stdout
    assert "squash-agent --node here" in words
    assert f"squashctl release {name}" in words


def test_a_header_alone_is_explained_without_a_coordinator(alone: Ctl) -> None:
    done = alone("explain", "no_match; reason=no_pending_request", "--server", "http://127.0.0.1:1")
    assert done.returncode == 0
    assert "no debug request waits for this image" in done.stdout
    assert "squashctl debug image IMAGE" in done.stdout
    done = alone("explain", "timeout; id=held-1; held=60.000s; reason=hold_timeout", "--server", "http://127.0.0.1:1")
    assert done.returncode == 0
    assert "held for 60.000 s" in done.stdout
    assert "the header alone is explained" in done.stderr


def test_what_nobody_knows(own: Coordinator, tmp_path: Path) -> None:
    ctl = Ctl(tmp_path, own.url)
    assert ctl.failure("explain", "last", status=5)["message"].startswith("nothing has happened yet")
    assert "nothing is known of 'feed'" in ctl.failure("explain", "feed", status=5)["message"]


def test_status_of_what_goes_on(street: Street, desk: Ctl) -> None:
    without = desk("status")
    assert without.returncode == 1
    assert "no agent is there" in without.stdout
    agent = street.world.agent()
    assert eventually(lambda: desk("status").returncode == 0)
    # So that it does not take what is held here.
    agent.process.send_signal(signal.SIGSTOP)
    street.world.service("app", "demo/app", [sys.executable, "-c", LOOP])
    place = {"pod": "app", "namespace": street.world.namespace}
    street.client.send(create_request(DebugRequest(spec=RequestSpec(image="demo/app", debugger="", owner="ann"))))
    spec = AttachmentSpec(
        attachment=place,
        match_request=True,
        holder="sidecar",
        held=HeldRequest(method="GET", path="/cart", budget=600),
    )
    street.client.send(create_attachment(DebugAttachment(spec=spec)))
    street.client.send(create_request(DebugRequest(spec=RequestSpec(image="demo/other", debugger="gdb", owner="bob"))))
    found = desk.json("status")
    agent.process.send_signal(signal.SIGCONT)
    assert found["healthy"] is True
    (here,) = found["agents"]
    assert (here["node"], sorted(here["debuggers"])) == ("here", sorted(installed()))
    assert found["coordinator"]["store"] == "sqlite"
    assert time.time() - found["coordinator"]["started"] < 600
    assert [each["spec"]["image"] for each in found["waiting"]] == ["demo/other"]
    assert [each["spec"]["held"]["path"] for each in found["holds"]] == ["/cart"]
    words = desk("status").stdout
    assert re.search(r"app/app .* GET /cart; \d+ s left before the caller gives up", words)
    assert re.search(r"demo/other +gdb +bob", words)


def test_status_tells_when_nothing_can_be_kept(own: Coordinator, tmp_path: Path) -> None:
    ctl = Ctl(tmp_path, own.url)
    pid = own.process.pid
    whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, whole[1]))
    done = ctl("status", "--json")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["healthy"] is False
    assert found["problems"][0]["reason"] == "store_unavailable"
    assert "store_unavailable" not in ctl("status").stdout


def test_status_without_a_coordinator(alone: Ctl) -> None:
    assert alone.failure("status", "--server", "http://127.0.0.1:1", status=3)["reason"] == "coordinator_unreachable"


async def test_ready_by_hand(street: Street, desk: Ctl) -> None:
    street.world.agent()
    caller, pod = Caller(), street.pod("pricing")
    wish = street.wish(pod)
    assert "nothing is held" in desk.failure("ready", wish, status=1)["message"]
    answer = spawn(caller.get(pod.url + "/price?items=melon:4"), "marked request")
    await street.listening(wish)
    assert "its request goes on" in desk("ready", wish).stdout
    assert result(await answer).outcome == "attached"
    await caller.http.aclose()
