"""Every call of the API with every kind of token: refused with 401 or 403, unless the role is the right one.

Made from the OpenAPI document, so that a new operation is in here, or has to be let in by its roles.
"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from squash.access import Role
from squash.tasks import spawn
from tests.coordinator.guarded import Guarded
from tests.coordinator.program import ATTACHMENTS, REQUESTS, Pods

OPEN = {"healthz", "readyz", "openapi"}
"""What everybody may ask."""
POD, IMAGE = "matrix", "demo/matrix:1"
HOLDER = "sidecar-matrix"


@dataclass(frozen=True)
class Call:
    """One operation, with what makes it do well for the right caller."""

    id: str
    method: str
    path: str
    roles: frozenset[str]
    websocket: bool
    tunnel: bool
    body: Any = None

    def __str__(self) -> str:
        return self.id


class Scene:
    """A coordinator with one attachment of each kind, and a token of each kind."""

    def __init__(self, coordinator: Guarded, pods: Pods) -> None:
        self.coordinator = coordinator
        pods.run(POD, IMAGE, container="app", namespace="shop")
        make = coordinator.token
        self.ann, self.ann_id = make(Role.DEVELOPER, "ann")
        self.right = {
            Role.VIEWER: make(Role.VIEWER, "eve")[0],
            Role.DEVELOPER: self.ann,
            Role.AGENT: make(Role.AGENT, "agent-here", node="here")[0],
            Role.FILTER: make(Role.FILTER, "shop", namespace="shop")[0],
            Role.ADMIN: coordinator.admin,
        }
        self.short = make(Role.ADMIN, "short", ttl=0.001)[0]
        self.taken, taken_id = make(Role.ADMIN, "taken")
        assert coordinator.http.delete(f"/api/v2/token/{taken_id}").status_code == 200
        self.elsewhere = {
            "agent of another node": make(Role.AGENT, "agent-there", node="there")[0],
            "filter of another namespace": make(Role.FILTER, "bank", namespace="bank")[0],
            "developer who is another": make(Role.DEVELOPER, "bob")[0],
            "developer of another namespace": make(Role.DEVELOPER, "carl", namespace="bank")[0],
        }
        self.request = self._post(REQUESTS, self.ann, {"spec": {"image": IMAGE, "debugger": ""}})
        self.attachment = self._post(ATTACHMENTS, self.right[Role.FILTER], self.held())
        self.other = self._post(ATTACHMENTS, self.ann, {"spec": {"attachment": {"pod": POD, "namespace": "shop"}}})
        report = {"status": {"state": "attaching", "agent": "agent-of-here"}}
        answer = coordinator.http.patch(f"{ATTACHMENTS}/{self.attachment}", json=report)
        assert answer.status_code == 200, answer.text
        renewal = coordinator.call("PUT", "/api/v2/agent/agent-of-here", self.right[Role.AGENT], {"node": "here"})
        assert renewal.status_code == 200, renewal.text
        self.tunnel = coordinator.tunnel_token(self.attachment, self.ann)
        self.other_tunnel = coordinator.tunnel_token(self.other, self.ann)

    def held(self) -> dict[str, Any]:
        spec = {"attachment": {"pod": POD, "namespace": "shop"}, "match_request": True, "holder": HOLDER}
        return {"spec": spec}

    def _post(self, path: str, token: str, body: Any) -> str:
        answer = self.coordinator.call("POST", path, token, body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["metadata"]["name"])

    # -- what the calls need ------------------------------------------------------------------------

    def path(self, call: Call, role: str) -> str:
        """With the id of something that is there, and the scope that the role has to name."""
        owned = {"debugattachment": self.attachment, "debugrequest": self.request, "token": self.ann_id}
        ids = {**owned, "agent": "agent-of-here", "stream": "unknown"}
        path = call.path.replace("{id}", ids[call.path.split("/")[3]]) if "{id}" in call.path else call.path
        if call.id == "watch_triggers":
            return f"{path}?pod={POD}&namespace=shop"
        if call.id in ("list_attachments", "watch_changes"):
            return path + {Role.AGENT: "?node=here", Role.FILTER: f"?holder={HOLDER}"}.get(Role(role), "")
        return path

    def body(self, call: Call, role: str) -> Any:
        if call.id == "create_attachment":
            return self.held() if role in (Role.FILTER, Role.ADMIN) else {"spec": {"attachment": {"pod": POD}}}
        bodies: dict[str, Any] = {
            "create_request": {"spec": {"image": "another", "debugger": ""}},
            "patch_attachment": {"status": {"message": "m"}},
            "create_tunnel_token": {},
            "create_token": {"role": "viewer", "subject": "new"},
            "add_audit": [],
            "create_ticket": {"image": IMAGE},
            "renew_agent": {"node": "here"},
        }
        return bodies.get(call.id)

    def wrong(self, call: Call) -> dict[str, str | None]:
        """Tokens that must not do, by what is wrong with them."""
        good = self.right[Role.VIEWER]
        wrong: dict[str, str | None] = {
            "none": None,
            "no token at all": "hello",
            "cut off": good[:-1],
            "of nobody": f"squash_{'0' * 16}_{'0' * 64}",
            "with another secret": good.rsplit("_", 1)[0] + "_" + "0" * 64,
            "another one's secret": good.rsplit("_", 1)[0] + "_" + self.ann.rsplit("_", 1)[1],
            "expired": self.short,
            "revoked": self.taken,
        }
        for role, token in self.right.items():
            if role not in call.roles or call.tunnel:
                wrong[f"of the role {role}"] = token
        wrong["for another tunnel"] = self.other_tunnel
        if not call.tunnel:
            wrong["for a tunnel"] = self.tunnel
        return wrong

    def strangers(self, call: Call) -> Iterator[tuple[str, str]]:
        """Those of the right role that it is not for."""
        owned = call.roles == {"developer", "admin"} and "{id}" in call.path
        if owned:
            yield "developer", self.elsewhere["developer who is another"]
        if call.id == "create_tunnel_token":
            yield "developer", self.elsewhere["developer of another namespace"]
        if call.id in _OF_A_NODE:
            yield "agent", self.elsewhere["agent of another node"]
        if call.id in _OF_A_HOLDER:
            yield "filter", self.elsewhere["filter of another namespace"]


_OF_A_NODE = {
    "list_attachments",
    "watch_changes",
    "get_attachment",
    "patch_attachment",
    "open_line",
    "renew_agent",
    "give_up_agent",
}
_OF_A_HOLDER = {"get_attachment", "patch_attachment", "create_attachment", "watch_triggers"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    pods = Pods()
    with Guarded(tmp_path_factory.mktemp("matrix")) as coordinator:
        yield Scene(coordinator, pods)
        assert "Traceback" not in coordinator.log
        assert coordinator.end() == 0
        for secret in (coordinator.admin, coordinator.admin.rsplit("_", 1)[1]):
            assert secret not in coordinator.log
    pods.end()


def calls(coordinator: Guarded) -> list[Call]:
    """What the document says there is."""
    document = httpx.get(f"{coordinator.url}/openapi.json", trust_env=False).json()
    return [
        Call(
            told["operationId"],
            method.upper(),
            path,
            frozenset(told.get("x-roles", ())),
            told.get("x-websocket", False),
            told.get("x-tunnel-token", False),
        )
        for path, methods in document["paths"].items()
        for method, told in methods.items()
        if told["security"]
    ]


def test_document_says_what_is_open_and_what_is_not(scene: Scene) -> None:
    document = httpx.get(f"{scene.coordinator.url}/openapi.json", trust_env=False).json()
    told = {one["operationId"]: one for methods in document["paths"].values() for one in methods.values()}
    assert {name for name, one in told.items() if not one["security"]} == OPEN
    assert set(document["components"]["securitySchemes"]) == {"token", "certificate"}
    for name in told.keys() - OPEN:
        assert "admin" in told[name]["x-roles"], name
        assert {"401", "403"} <= told[name]["responses"].keys(), name
        assert {"token": []} in told[name]["security"], name
    assert {name for name, one in told.items() if one.get("x-websocket")} == {"open_tunnel", "open_line", "open_stream"}
    assert {name for name, one in told.items() if one.get("x-tunnel-token")} == {"open_tunnel"}


def test_wrong_tokens_are_refused_by_every_call(scene: Scene) -> None:
    tried = 0
    for call in calls(scene.coordinator):
        for what, token in scene.wrong(call).items():
            role = next(iter(call.roles))
            answer = scene.coordinator.call(call.method, scene.path(call, role), token, scene.body(call, role))
            assert answer.status_code in (401, 403), f"{call} with a token {what}: {answer.text}"
            refusal = answer.json()
            assert refusal["code"] == answer.status_code
            assert refusal["remedy"]
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
            assert token is None or token not in answer.text or token == "hello"
            tried += 1
    assert tried > 250


def test_no_other_method_tells_anything_without_a_token(scene: Scene) -> None:
    for call in calls(scene.coordinator):
        path = scene.path(call, next(iter(call.roles)))
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            assert scene.coordinator.call(method, path, None).status_code == 401, f"{method} {path}"
            assert scene.coordinator.call(method, f"{path}/", None).status_code in (401, 404), f"{method} {path}/"


def test_right_role_with_the_wrong_scope_is_refused(scene: Scene) -> None:
    tried = set()
    for call in calls(scene.coordinator):
        for role, token in scene.strangers(call):
            if call.websocket:
                continue  # below, as a WebSocket
            answer = scene.coordinator.call(call.method, scene.path(call, role), token, scene.body(call, role))
            assert answer.status_code == 403, f"{call} by another {role}: {answer.text}"
            assert answer.json()["reason"] == "not_yours"
            tried.add((call.id, role))
    expected = {("release_attachment", "developer"), ("delete_request", "developer"), ("patch_attachment", "agent")}
    assert expected <= tried


def test_agent_adds_to_the_trail_of_its_node_alone(scene: Scene) -> None:
    entry = {"time": time.time(), "actor": "x", "action": "evaluated", "attachment": scene.attachment}
    path = "/api/v2/audit"
    other = scene.elsewhere["agent of another node"]
    assert scene.coordinator.call("POST", path, other, [entry]).status_code == 403
    own = scene.right[Role.AGENT]
    assert scene.coordinator.call("POST", path, own, [entry]).status_code == 200
    kept = scene.coordinator.http.get(f"{path}?action=evaluated").json()
    assert [each["agent"] for each in kept] == ["agent-here"]
    for wrong in ({"action": "matched"}, {"attachment": "never-there"}):
        assert scene.coordinator.call("POST", path, own, [entry | wrong]).json()["reason"] == "not_yours"


def test_agent_tells_of_what_it_has_had(scene: Scene) -> None:
    own, any_node = scene.right[Role.AGENT], scene.coordinator.token(Role.AGENT, "agent-anywhere")[0]
    name = scene._post(ATTACHMENTS, scene.ann, {"spec": {"attachment": {"pod": POD, "namespace": "shop"}}})
    report = {"status": {"state": "attaching", "agent": "agent-of-here"}}
    assert scene.coordinator.call("PATCH", f"{ATTACHMENTS}/{name}", any_node, report).status_code == 200
    assert scene.coordinator.call("DELETE", f"{ATTACHMENTS}/{name}", scene.ann).status_code == 200
    entry = {"time": time.time(), "actor": "x", "action": "client_left", "attachment": name}
    assert scene.coordinator.call("POST", "/api/v2/audit", any_node, [entry]).status_code == 200
    assert scene.coordinator.call("POST", "/api/v2/audit", own, [entry]).status_code == 403
    story = scene.coordinator.http.get(f"/api/v2/audit?attachment={name}").json()
    assert [(each["action"], each["actor"]) for each in story[:2]] == [
        ("attachment_created", "ann"),
        ("claimed", "agent-anywhere"),
    ]


def test_tokens_and_keys_stand_in_the_trail(scene: Scene) -> None:
    coordinator = scene.coordinator
    _, name = coordinator.token(Role.VIEWER, "passing-by")
    assert coordinator.http.delete(f"/api/v2/token/{name}").status_code == 200
    ticket = coordinator.call("POST", "/api/v2/ticket", scene.ann, {"image": IMAGE}).json()["claims"]["jti"]
    assert coordinator.http.post("/api/v2/ticket/keys/rotate").status_code == 200
    story = coordinator.http.get("/api/v2/audit").json()
    told = [(each["actor"], each["action"], each.get("detail")) for each in story]
    assert ("admin", "token_created", f"{name}, viewer passing-by") in told
    assert ("admin", "token_revoked", f"{name}, viewer passing-by") in told
    assert ("ann", "ticket_issued", f"{ticket} for ann") in told
    assert ("admin", "keys_rotated", None) in told
    assert ("coordinator", "token_created") in [each[:2] for each in told], "the first one"


def test_revocation_ends_a_long_poll(scene: Scene) -> None:
    token, name = scene.coordinator.token(Role.VIEWER, "waiting")
    waiters = int(_metric(scene, "squash_waiters"))
    with ThreadPoolExecutor(1) as pool:
        path = f"{REQUESTS}/{scene.request}?wait=true"
        fresh = scene._post(REQUESTS, scene.ann, {"spec": {"image": "never", "debugger": ""}})
        waiting = pool.submit(scene.coordinator.call, "GET", path.replace(scene.request, fresh), token)
        while int(_metric(scene, "squash_waiters")) == waiters:
            assert not waiting.done()
        assert scene.coordinator.http.delete(f"/api/v2/token/{name}").status_code == 200
        assert waiting.result().json()["reason"] == "token_revoked"
    assert scene.coordinator.call("DELETE", f"{REQUESTS}/{fresh}", scene.ann).status_code == 200


def _metric(scene: Scene, name: str) -> float:
    lines = scene.coordinator.http.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def test_refused_holds_are_seen(scene: Scene) -> None:
    bank = scene.elsewhere["filter of another namespace"]
    held = scene.held()
    held["spec"]["held"] = {"method": "GET", "path": "/bank", "request_id": "of-the-bank"}
    assert scene.coordinator.call("POST", ATTACHMENTS, bank, held).status_code == 403
    (seen,) = scene.coordinator.http.get("/api/v2/sighting?trace=of-the-bank").json()
    assert (seen["outcome"], seen["reason"]) == ("error", "not_yours")


DESTRUCTIVE = {
    "give_up_agent",
    "delete_attachment",
    "delete_request",
    "revoke_token",
    "detach_attachment",
    "release_attachment",
}


def test_right_roles_get_through(scene: Scene) -> None:
    """Nobody of the right role is refused as such; what else is to say about the call is another matter."""
    ordered = sorted(calls(scene.coordinator), key=lambda call: call.id in DESTRUCTIVE)
    for call in ordered:
        if call.websocket or call.id in DESTRUCTIVE:
            continue
        for role in call.roles:
            token = scene.right[Role(role)]
            answer = scene.coordinator.call(call.method, scene.path(call, role), token, scene.body(call, role))
            assert answer.status_code not in (401, 403), f"{call} by the {role}: {answer.text}"
            assert answer.status_code < 500, answer.text


def test_owner_gets_through_with_what_ends_it(scene: Scene) -> None:
    coordinator = scene.coordinator
    for token in (scene.ann, coordinator.admin):
        for call in ("release", "detach", ""):
            name = scene._post(ATTACHMENTS, scene.ann, {"spec": {"attachment": {"pod": POD, "namespace": "shop"}}})
            method, path = ("POST", f"{ATTACHMENTS}/{name}/{call}") if call else ("DELETE", f"{ATTACHMENTS}/{name}")
            assert coordinator.call(method, path, token).status_code == 200
        leased = {"spec": {"attachment": {"pod": POD, "namespace": "shop"}, "lease": 60}}
        name = scene._post(ATTACHMENTS, scene.ann, leased)
        assert coordinator.call("POST", f"{ATTACHMENTS}/{name}/renew", token).status_code == 200
        wish = scene._post(REQUESTS, scene.ann, {"spec": {"image": "another", "debugger": "", "lease": 60}})
        assert coordinator.call("POST", f"{REQUESTS}/{wish}/renew", token).status_code == 200
        assert coordinator.call("DELETE", f"{REQUESTS}/{wish}", token).status_code == 200
    assert coordinator.call("DELETE", f"{REQUESTS}/unknown", scene.ann).status_code == 200


# -- WebSockets -----------------------------------------------------------------------------------


async def _opened(scene: Scene, path: str, token: str | None) -> tuple[int, str]:
    """The status of the handshake's answer, 101 when it was accepted; and the reason of a refusal."""
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    url = "ws" + scene.coordinator.url.removeprefix("http") + path
    try:
        async with connect(url, additional_headers=headers, proxy=None):
            return 101, ""
    except InvalidStatus as error:
        body = httpx.Response(200, content=bytes(error.response.body or b"{}")).json()
        return error.response.status_code, body.get("reason", "")


async def test_wrong_tokens_open_no_websocket(scene: Scene) -> None:
    tried = 0
    for call in await asyncio.to_thread(calls, scene.coordinator):
        if not call.websocket:
            continue
        for what, token in scene.wrong(call).items():
            code, _ = await _opened(scene, scene.path(call, "agent"), token)
            assert code in (401, 403), f"{call} with a token {what}"
            tried += 1
        for role, token in scene.strangers(call):
            assert await _opened(scene, scene.path(call, role), token) == (403, "not_yours")
    assert tried > 30


async def test_token_in_the_query_counts_for_nothing(scene: Scene) -> None:
    for key in ("token", "access_token", "authorization"):
        code, _ = await _opened(scene, f"{ATTACHMENTS}/{scene.attachment}/tunnel?{key}={scene.tunnel}", None)
        assert code == 401
    answer = await asyncio.to_thread(
        scene.coordinator.call, "GET", f"{ATTACHMENTS}?access_token={scene.coordinator.admin}", None
    )
    assert answer.status_code == 401


async def test_tunnel_opens_for_its_token_and_tells_the_agent_who_it_is(scene: Scene) -> None:
    """The agent's side is this test: its line and its streams need the agent's token, too."""
    coordinator = scene.coordinator
    report = {"status": {"phase": "listening", "debug_server_address": "unix:/nowhere", "protocol": "dap"}}
    listening = await asyncio.to_thread(
        coordinator.call, "PATCH", f"{ATTACHMENTS}/{scene.attachment}", scene.right[Role.AGENT], report
    )
    assert listening.status_code == 200, listening.text
    agent = {"authorization": f"Bearer {scene.right[Role.AGENT]}"}
    base = "ws" + coordinator.url.removeprefix("http")
    viewer = await asyncio.to_thread(coordinator.tunnel_token, scene.attachment, scene.right[Role.VIEWER])
    bob = await asyncio.to_thread(
        coordinator.tunnel_token, scene.attachment, scene.elsewhere["developer who is another"]
    )
    for token in (viewer, bob):
        assert await _opened(scene, f"{ATTACHMENTS}/{scene.attachment}/tunnel", token) == (403, "not_yours")
    attached = await asyncio.to_thread(
        coordinator.call,
        "PATCH",
        f"{ATTACHMENTS}/{scene.attachment}",
        scene.right[Role.AGENT],
        {"status": {"state": "attached"}},
    )
    assert attached.status_code == 200, attached.text
    async with connect(f"{base}/api/v2/agent/agent-of-here/line", additional_headers=agent, proxy=None) as line:
        for token, client, read_only in ((scene.tunnel, "ann", None), (viewer, "eve", True), (bob, "bob", True)):
            path = f"{ATTACHMENTS}/{scene.attachment}/tunnel?client=somebody"
            headers = {"authorization": f"Bearer {token}"}
            coming = spawn(_connected(base + path, headers), "client")
            call = httpx.Response(200, content=await line.recv()).json()
            assert (call["client"], call.get("read_only"), call.get("looks_only")) == (client, read_only, read_only)
            stranger = scene.elsewhere["agent of another node"]
            assert await _opened(scene, f"/api/v2/stream/{call['stream']}", stranger) == (403, "not_yours")
            stream = f"{base}/api/v2/stream/{call['stream']}"
            async with connect(stream, additional_headers=agent, proxy=None) as far:
                near = await coming
                await near.send(b"hello")
                assert await far.recv() == b"hello"
                await near.close()
        stranger = scene.elsewhere["agent of another node"]
        assert await _opened(scene, "/api/v2/agent/agent-of-here/line", stranger) == (403, "not_yours")


async def _connected(url: str, headers: dict[str, str]) -> Any:
    return await connect(url, additional_headers=headers, proxy=None)


async def test_revocation_ends_what_is_open(scene: Scene) -> None:
    coordinator = scene.coordinator
    token, name = await asyncio.to_thread(coordinator.token, Role.AGENT, "agent-later")
    base = "ws" + coordinator.url.removeprefix("http")
    headers = {"authorization": f"Bearer {token}"}
    async with connect(f"{base}/api/v2/agent/later/line", additional_headers=headers, proxy=None) as line:
        answer = await asyncio.to_thread(coordinator.http.delete, f"/api/v2/token/{name}")
        assert answer.status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            await line.recv()
        assert closed.value.rcvd
        assert "revoked" in closed.value.rcvd.reason
    assert await _opened(scene, "/api/v2/agent/later/line", token) == (401, "token_revoked")
