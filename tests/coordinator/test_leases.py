"""Who is there, who is lost, and what that ends."""

import math
import resource
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from coordinator import leases, lifecycle
from coordinator.decision import AttachmentChange
from coordinator.leases import Leases, Lost
from squash.access import Role
from squash.model import Agent, AttachmentSpec, DebugAttachment, Outcome, Phase, State, StatusPatch
from squash.reasons import Reason
from tests.coordinator.guarded import Guarded
from tests.coordinator.program import API, Coordinator

AGENT, HOLDER = 12.0, 8.0
START = 1000.0


class Scene:
    """Leases, and a clock that tests turn."""

    def __init__(self) -> None:
        self.leases = Leases(AGENT, HOLDER, START)
        self.now = START
        self._there: dict[str, DebugAttachment] = {}

    def made(self, name: str = "a", node: str = "n", holder: str | None = None) -> None:
        spec = AttachmentSpec(attachment={}, node=node, holder=holder)
        self._change(name, lifecycle.created(name, spec, self.now))

    def patch(self, name: str = "a", **status: Any) -> None:
        self._change(name, lifecycle.patched(self._there[name], StatusPatch(**status), self.now))

    def renew(self, name: str = "x", node: str = "n", **more: Any) -> bool:
        came = self.leases.renew(Agent(name=name, node=node, **more), self.now)
        if came:
            self.leases.noted(name, True, self.now)
        return came

    def after(self, seconds: float) -> dict[str, Reason]:
        """What is lost within these seconds, being asked exactly when `next` says so."""
        found: dict[str, Reason] = {}
        until = self.now + seconds
        while (moment := self.leases.next()) is not None and moment <= until:
            self.now = max(self.now, moment)
            attachments, agents = self.leases.due(self.now)
            for lost in attachments:
                found[lost.attachment] = lost.reason
                self._lose(lost)
            for agent in agents:
                self.leases.noted(agent.name, False, self.now)
        self.now = until
        return found

    def _lose(self, lost: Lost) -> None:
        old = self._there[lost.attachment]
        self._change(lost.attachment, lifecycle.lost(old, lost.reason, lost.message, self.now))

    def _change(self, name: str, after: DebugAttachment) -> None:
        change = AttachmentChange(name, self._there.get(name), after)
        self._there[name] = after
        self.leases.track([change], self.now)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_node_without_any_agent(scene: Scene) -> None:
    scene.made()
    assert scene.after(AGENT - 0.1) == {}
    assert scene.after(0.1) == {"a": Reason.AGENT_LOST}
    assert scene.leases.next() is None


def test_an_agent_keeps_what_it_renews_for(scene: Scene) -> None:
    scene.renew()
    scene.made()
    for _ in range(20):
        assert scene.after(4) == {}
        assert not scene.renew()
    assert scene.after(AGENT - 0.1) == {}
    assert scene.after(0.2) == {"a": Reason.AGENT_LOST}


@pytest.mark.parametrize("state", [State.ATTACHING, State.ATTACHED])
def test_what_an_agent_claimed_is_its_own(scene: Scene, state: State) -> None:
    """Another agent of the node does not save it."""
    scene.renew("x", ttl=3600)
    scene.renew("y")
    scene.made()
    scene.patch(state=state, agent="y")
    assert scene.after(AGENT + 0.1) == {"a": Reason.AGENT_LOST}


def test_what_nobody_claimed_waits_for_any_agent_of_the_node(scene: Scene) -> None:
    scene.renew("x", ttl=3600)
    scene.made("a")
    scene.made("b", node="other")
    assert scene.after(60) == {"b": Reason.AGENT_LOST}


def test_what_is_over_is_not_judged(scene: Scene) -> None:
    scene.made("error")
    scene.patch("error", state=State.ERROR)
    scene.made("detached")
    scene.patch("detached", state=State.ATTACHED, phase=Phase.DETACHED)
    assert scene.leases.next() is None


def test_an_agent_that_goes_gives_up_what_it_claimed_at_once(scene: Scene) -> None:
    scene.renew("x")
    scene.made("claimed")
    scene.patch("claimed", state=State.ATTACHING, agent="x")
    scene.made("waiting")
    scene.after(AGENT - 1)
    scene.renew("x")
    scene.after(AGENT - 1)
    assert scene.leases.give_up("x", scene.now)
    assert scene.leases.give_up("x", scene.now) is None
    assert scene.after(0) == {"claimed": Reason.AGENT_LOST}
    assert scene.after(AGENT - 0.1) == {}
    assert scene.after(0.2) == {"waiting": Reason.AGENT_LOST}


def test_a_machine_that_started_anew_has_lost_its_agents(scene: Scene) -> None:
    scene.renew("x", boot="1", ttl=3600)
    scene.renew("elsewhere", node="m", boot="1", ttl=3600)
    scene.made()
    scene.patch(state=State.ATTACHED, agent="x")
    scene.after(60)
    scene.renew("y", boot="2")
    assert scene.after(0) == {"a": Reason.AGENT_LOST}
    scene.renew("z", boot="2")
    there = {agent.name: there for agent, there in scene.leases.agents(scene.now)}
    assert there == {"x": False, "elsewhere": True, "y": True, "z": True}


def test_a_lost_agent_is_told_once_kept_for_a_while_and_may_come_back(scene: Scene) -> None:
    assert scene.renew()
    scene.now += AGENT
    for _ in range(2):
        assert [agent.name for agent in scene.leases.due(scene.now)[1]] == ["x"], "until it was taken note of"
    scene.leases.noted("x", False, scene.now)
    assert scene.leases.due(scene.now + 1)[1] == []
    scene.now += 2
    assert scene.renew(), "it came anew"
    scene.after(5_000)
    assert list(scene.leases.agents(scene.now)) == []


def test_a_first_generation_agent_watches_its_node(scene: Scene) -> None:
    scene.leases.watching(("node", "n"), scene.now)
    scene.made()
    assert scene.after(300) == {}
    scene.patch(state=State.ATTACHED)
    assert scene.after(300) == {}
    scene.leases.watched(("node", "n"), scene.now)
    assert scene.after(AGENT - 0.1) == {}
    assert scene.after(0.2) == {"a": Reason.AGENT_LOST}


def test_an_agent_that_is_lost_with_an_open_long_poll(scene: Scene) -> None:
    scene.renew()
    scene.leases.watching(("node", "n"), scene.now)
    scene.made()
    assert scene.after(AGENT - 0.1) == {}
    assert scene.after(0.2) == {"a": Reason.AGENT_LOST}


def test_that_an_agent_came_is_news_until_it_is_noted(scene: Scene) -> None:
    agent = Agent(name="x", node="n")
    assert scene.leases.renew(agent, scene.now)
    assert scene.leases.renew(agent, scene.now)
    scene.leases.noted("x", True, scene.now)
    assert not scene.leases.renew(agent, scene.now)


def test_the_longest_lost_agents_make_room(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MOST", 3)
    for number in range(5):
        scene.renew(f"x{number}")
        scene.after(AGENT / 2)
    assert [agent.name for agent, _ in scene.leases.agents(scene.now)] == ["x2", "x3", "x4"]
    scene.renew("x2")
    scene.renew("x3")
    with pytest.raises(ValueError, match="3 agents"):
        scene.renew("y")


def test_a_sidecar_watches_its_holds(scene: Scene) -> None:
    scene.renew(ttl=3600)
    scene.leases.watching(("holder", "s"), scene.now)
    scene.made(holder="s")
    assert scene.after(100) == {}
    scene.leases.watched(("holder", "s"), scene.now)
    assert scene.after(HOLDER - 0.1) == {}
    assert scene.after(0.2) == {"a": Reason.HOLD_LOST}


def test_a_sidecar_that_never_watched(scene: Scene) -> None:
    scene.renew(ttl=3600)
    scene.made(holder="s")
    assert scene.after(HOLDER) == {"a": Reason.HOLD_LOST}


@pytest.mark.parametrize("over", [{"outcome": Outcome.ERROR}, {"state": State.ATTACHED, "agent": "x"}])
def test_a_hold_that_is_over_needs_no_sidecar(scene: Scene, over: dict[str, Any]) -> None:
    scene.renew(ttl=3600)
    scene.made(holder="s")
    scene.patch(**over)
    assert scene.after(1_000) == {}


def test_after_standing_still_everybody_gets_time(scene: Scene) -> None:
    scene.renew()
    scene.made()
    scene.patch(state=State.ATTACHED, agent="x")
    scene.now += 500
    scene.leases.forgive(scene.now)
    assert scene.after(AGENT - 0.1) == {}
    scene.renew()
    assert scene.after(AGENT - 0.1) == {}


def test_a_shorter_lease_counts_at_once(scene: Scene) -> None:
    scene.renew(ttl=3600)
    scene.made()
    scene.after(60)
    scene.renew(ttl=1)
    assert scene.after(1.1) == {"a": Reason.AGENT_LOST}


def test_those_who_watched_once_are_forgotten(scene: Scene) -> None:
    for number in range(3_000):
        scene.leases.watching(("holder", f"s{number}"), scene.now)
        scene.leases.watched(("holder", f"s{number}"), scene.now)
        scene.now += 1
    assert len(scene.leases._watches) <= 1_001


# -- as a process -----------------------------------------------------------------------------------


@contextmanager
def hasty(directory: Path, *flags: str) -> Any:
    with Coordinator(directory, "--agent-lease", "1", "--holder-lease", "1", *flags) as found:
        yield found


Hasty = Callable[..., AbstractContextManager[Coordinator]]


def ended(coordinator: Coordinator, name: str) -> tuple[str, str]:
    answer = coordinator.http.get(f"{API}/debugattachment/{name}", params={"wait": "true"}, headers={"X-Timeout": "30"})
    status = answer.json()["status"]
    return status["state"], status["reason"]


def keep(coordinator: Coordinator, name: str = "x", **more: Any) -> httpx.Response:
    return coordinator.http.put(f"{API}/agent/{name}", json={"node": "here", **more})


def test_attachments_of_a_node_without_agents_end(tmp_path: Path, pod: str) -> None:
    with hasty(tmp_path) as coordinator:
        assert ended(coordinator, coordinator.attached(pod)) == ("error", "agent_lost")


def test_a_viewers_long_poll_keeps_nothing_alive(tmp_path: Path, pod: str) -> None:
    with Guarded(tmp_path, "--agent-lease", "60", "--holder-lease", "1") as coordinator, ThreadPoolExecutor() as pool:
        viewer, token = coordinator.token(Role.VIEWER, "eve")
        watching = f"{API}/debugattachment?holder=sidecar&state=attached&wait=true"
        waiting = pool.submit(coordinator.call, "GET", watching, viewer)
        until = time.monotonic() + 60
        while "squash_waiters 1.0" not in coordinator.http.get("/metrics").text:
            assert time.monotonic() < until
        name = coordinator.attached(pod, holder="sidecar")
        assert ended(coordinator, name) == ("error", "hold_lost")
        assert not waiting.done(), "it still watched"
        assert coordinator.http.delete(f"{API}/token/{token}").status_code == 200
        assert waiting.result().status_code == 401
        assert coordinator.end() == 0


def test_a_lost_agents_attachments_end_also_when_attached(tmp_path: Path, pod: str) -> None:
    with hasty(tmp_path) as coordinator:
        assert keep(coordinator).json()["since"] <= time.time()
        name = coordinator.attached(pod)
        coordinator.patch(name, state="attached", agent="x")
        changes = {"names": name, "states": "error"}
        first = coordinator.http.get(f"{API}/changes", params=changes).json()["revision"]
        told = coordinator.http.get(f"{API}/changes", params={**changes, "since": first, "wait": "true"}).json()
        assert told["attachments"][0]["status"]["reason"] == "agent_lost"
        (agent,) = coordinator.http.get(f"{API}/agent").json()
        assert (agent["name"], agent["node"], agent["lost"]) == ("x", "here", True)
        trail = [entry["action"] for entry in coordinator.http.get(f"{API}/audit").json()]
        assert [action for action in trail if "agent" in action] == ["agent_joined", "agent_lost"]


def test_a_coordinator_that_starts_gives_time(tmp_path: Path, pod: str) -> None:
    with Coordinator(tmp_path) as coordinator:
        name = coordinator.attached(pod)
        coordinator.patch(name, state="attached", agent="x")
    with hasty(tmp_path) as coordinator:
        assert keep(coordinator, ttl=60).status_code == 200
        other = coordinator.attached(pod, holder="sidecar")
        assert ended(coordinator, other) == ("error", "hold_lost")
        status = coordinator.http.get(f"{API}/debugattachment/{name}").json()["status"]
        assert status["state"] == "attached"
        assert coordinator.http.delete(f"{API}/agent/x").status_code == 200
        coordinator.until(
            lambda: coordinator.http.get(f"{API}/debugattachment/{name}").json()["status"]["state"] == "error",
            "the end of what its agent left",
        )
        assert coordinator.http.get(f"{API}/agent").json() == []


def test_what_agents_do_is_kept_when_the_store_works_again(tmp_path: Path) -> None:
    with hasty(tmp_path) as coordinator:
        pid = coordinator.process.pid
        whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        keep(coordinator, "lost", ttl=3)

        def joined() -> list[str]:
            entries = coordinator.http.get(f"{API}/audit").json()
            return [f"{entry['action']} {entry['detail'].split()[0]}" for entry in entries]

        assert "agent_joined lost" in joined()
        limit = (tmp_path / "coordinator.db-wal").stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, whole[1]))
        assert keep(coordinator, "new", ttl=60).status_code == 200
        coordinator.until(lambda: "cannot keep who is lost" in coordinator.log, "a failed attempt to keep a loss")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
        assert keep(coordinator, "new", ttl=60).status_code == 200
        coordinator.until(lambda: "agent_lost lost" in joined(), "the loss")
        assert joined().count("agent_joined new") == 1
        assert joined().count("agent_lost lost") == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, 422), ({"node": ""}, 422), ({"node": "n", "ttl": 0}, 422), ({"node": "n", "name": "other"}, 400)],
)
def test_what_is_no_agent(shared: Coordinator, body: dict[str, Any], code: int) -> None:
    assert shared.http.put(f"{API}/agent/x", json=body).status_code == code


def test_nothing_is_due_that_nobody_waits_for() -> None:
    empty = Leases(AGENT, HOLDER, START)
    assert empty.next() is None
    assert empty.due(math.inf) == ([], [])
