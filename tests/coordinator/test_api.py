"""Debug attachments: every call and every status code of the REST contract, from outside, on a real coordinator."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from tests.coordinator.asking import Poll, reason
from tests.coordinator.program import API, ATTACHMENTS, REQUESTS, Coordinator, Pods

# -- POST /debugattachment ----------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["", "/"])
def test_created_attachment_is_completed(shared: Coordinator, pod: str, image: str, slash: str) -> None:
    body = {"spec": {"attachment": {"pod": pod, "note": 1}, "unknown": 1}, "status": {"state": "attached"}, "x": 1}
    answer = shared.http.post(ATTACHMENTS + slash, json=body)
    assert answer.status_code == 201
    made = answer.json()
    completed = {"pod": pod, "note": 1, "namespace": "default", "container": pod}
    assert made["spec"] == {"attachment": completed, "image": image, "node": "here"}
    assert made["status"]["state"] == "none"
    assert made["status"]["phase"] == "located"
    assert len(made["metadata"]["name"]) >= 32
    assert shared.http.get(f"{ATTACHMENTS}/{made['metadata']['name']}").json() == made


def test_nulls_are_as_good_as_nothing(shared: Coordinator, pod: str) -> None:
    body: dict[str, object] = {"metadata": None, "spec": {"attachment": {"pod": pod}, "debugger": None}, "status": None}
    assert shared.http.post(ATTACHMENTS, json=body).status_code == 201
    body = {"metadata": {"name": None}, "spec": {"attachment": {"pod": pod, "x": None}}, "status": {"state": None}}
    answer = shared.http.post(ATTACHMENTS, json=body)
    assert answer.status_code == 201
    assert answer.json()["spec"]["attachment"]["x"] is None


def test_match_is_visible_before_the_answer(shared: Coordinator, pod: str, image: str) -> None:
    wish = shared.wish(image, "gdb", process_name="app", hold_until="ready")
    made = shared.attach(pod, match=True).json()
    assert made["spec"]["debug_request"] == wish
    assert (made["spec"]["debugger"], made["spec"]["process_name"]) == ("gdb", "app")
    assert made["spec"]["hold_until"] == "ready"
    request = shared.http.get(f"{REQUESTS}/{wish}").json()
    assert request["status"]["debug_attachment_ref"] == made["metadata"]["name"]


@pytest.mark.parametrize(("asked", "own", "fits"), [("gdb", "gdb", True), ("", "gdb", True), ("dlv", "gdb", False)])
def test_matching_by_debugger(shared: Coordinator, pod: str, image: str, asked: str, own: str, fits: bool) -> None:
    shared.wish(image, asked)
    answer = shared.attach(pod, match=True, debugger=own)
    if fits:
        assert answer.status_code == 201
        assert answer.json()["spec"]["debugger"] == own
    else:
        assert reason(answer, 404) == "no_pending_request"


def test_two_attachments_never_take_one_request(shared: Coordinator, pod: str, image: str) -> None:
    wishes = {shared.wish(image) for _ in range(5)}

    async def race() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=shared.url, trust_env=False) as client:
            body = {"spec": {"attachment": {"pod": pod}, "match_request": True}}
            return await asyncio.gather(*(client.post(ATTACHMENTS, json=body) for _ in range(20)))

    answers = asyncio.run(race())
    taken = [answer.json()["spec"]["debug_request"] for answer in answers if answer.status_code == 201]
    assert sorted(taken) == sorted(wishes)
    assert all(reason(answer, 404) == "no_pending_request" for answer in answers if answer.status_code != 201)


def test_container_that_is_not_or_not_clear(shared: Coordinator, pods: Pods) -> None:
    assert reason(shared.attach("nobody"), 404) == "container_not_found"
    several = f"pod-{uuid4().hex}"
    pods.run(several, "a")
    pods.run(several, "b")
    assert reason(shared.attach(several), 404) == "container_ambiguous"
    assert reason(shared.attach(several, match=True), 404) == "container_ambiguous"
    body = {"spec": {"attachment": {"pod": several, "container": "c"}}}
    answer = shared.http.post(ATTACHMENTS, json=body)
    assert reason(answer, 404) == "container_not_found"
    assert "a, b" in answer.json()["message"]


def test_named_container_and_image(shared: Coordinator, pods: Pods) -> None:
    pod = f"pod-{uuid4().hex}"
    pods.run(pod, "image/a", container="a")
    pods.run(pod, "image/b", container="b")
    body = {"spec": {"attachment": {"pod": pod, "container": "b"}, "image": "image/b"}}
    assert shared.http.post(ATTACHMENTS, json=body).json()["spec"]["image"] == "image/b"
    body["spec"]["image"] = "image/a"
    answer = shared.http.post(ATTACHMENTS, json=body)
    assert reason(answer, 400) == "image_mismatch"
    assert "image/b" in answer.json()["message"]


def test_taken_name_is_told_even_when_the_container_is_gone(shared: Coordinator, pods: Pods) -> None:
    pod, name = f"pod-{uuid4().hex}", f"n-{uuid4().hex}"
    process = pods.run(pod, "app")
    assert shared.attach(pod, name=name).json()["metadata"]["name"] == name
    assert reason(shared.attach(pod, name=name), 409) == "name_taken"
    process.kill()
    process.wait()
    assert reason(shared.attach(pod, name=name), 409) == "name_taken"


# -- GET /debugattachment -------------------------------------------------------------------------------


def test_lists_are_filtered(shared: Coordinator, pod: str) -> None:
    first, second, third = (shared.attached(pod) for _ in range(3))
    shared.patch(second, state="attaching")
    shared.patch(third, state="error")

    def listed(**params: str | list[str]) -> set[str]:
        answer = shared.http.get(ATTACHMENTS, params=params)
        assert answer.status_code == 200
        return {one["metadata"]["name"] for one in answer.json()} & {first, second, third}

    assert listed() == {first, second, third}
    assert listed(node="here") == {first, second, third}
    assert listed(node="elsewhere") == set()
    assert listed(state="none") == {first}
    assert listed(states="none,error") == {first, third}
    assert listed(states=["none", "attaching"]) == {first, second}
    assert listed(state="none", states="error") == {first, third}
    assert listed(names=f"{first},{second},nobody") == {first, second}
    assert listed(names=[first, third], state="error", node="here") == {third}
    assert listed(node="", names="", wait="false") == {first, second, third}


async def test_list_waits_until_there_is_something(shared: Coordinator, web: httpx.AsyncClient, pod: str) -> None:
    name = f"n-{uuid4().hex}"
    poll = await Poll.start(shared, web, f"{ATTACHMENTS}/", names=name, state="attaching")
    shared.attach(pod, name=name)
    shared.patch(name, state="attaching")
    answer = await poll.answer()
    assert answer.status_code == 200
    assert [one["metadata"]["name"] for one in answer.json()] == [name]


async def test_list_that_is_there_does_not_wait(shared: Coordinator, web: httpx.AsyncClient, pod: str) -> None:
    name = shared.attached(pod)
    answer = await web.get(ATTACHMENTS, params={"wait": "true", "names": name})
    assert [one["metadata"]["name"] for one in answer.json()] == [name]


@pytest.mark.parametrize("timeout", ["0", "0.01", ".01", "1e-3"])
async def test_list_wait_ends_with_408(web: httpx.AsyncClient, timeout: str) -> None:
    params = {"wait": "true", "node": "elsewhere"}
    assert reason(await web.get(ATTACHMENTS, params=params, headers={"X-Timeout": timeout}), 408) == "wait_timeout"


@pytest.mark.parametrize("timeout", ["-1", "nan", "inf", "soon", "", "1_0", "0x10", "1,5"])
@pytest.mark.parametrize("path", [ATTACHMENTS, f"{ATTACHMENTS}/x", f"{REQUESTS}/x", f"{API}/changes"])
def test_unfit_timeouts_are_refused(shared: Coordinator, path: str, timeout: str) -> None:
    answer = shared.http.get(path, params={"wait": "true"}, headers={"X-Timeout": timeout})
    assert reason(answer, 422) == "invalid"
    assert "X-Timeout" in answer.json()["message"]


@pytest.mark.parametrize("params", [{"state": "gone"}, {"states": "none,gone"}, {"wait": "maybe"}, {"wait": ""}])
@pytest.mark.parametrize("path", [ATTACHMENTS, f"{API}/changes"])
def test_unknown_values_are_refused(shared: Coordinator, path: str, params: dict[str, str]) -> None:
    answer = shared.http.get(path, params=params)
    assert reason(answer, 422) == "invalid"
    assert "expected" in answer.json()["message"]


async def test_longest_wait_is_the_servers(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Coordinator(tmp_path_factory.mktemp("short"), "--max-wait", "0.05", "--store", "memory") as coordinator:
        for headers in ({"X-Timeout": "9" * 400}, {"X-Timeout": "1e999"}, {}):
            answer = coordinator.http.get(ATTACHMENTS, params={"wait": "true"}, headers=headers)
            assert reason(answer, 408) == "wait_timeout"


async def test_client_that_goes_away_costs_nothing(own: Coordinator) -> None:
    async with httpx.AsyncClient(base_url=own.url, trust_env=False) as web:
        for path in (ATTACHMENTS, f"{API}/changes"):
            revision = own.http.get(f"{API}/changes").json()["revision"]
            poll = await Poll.start(own, web, path, since=revision)
            await poll.hang_up()
            await asyncio.to_thread(own.until, lambda: own.waiters() == 0, "the end of the wait")
    assert own.end() == 0
    assert "Traceback" not in own.log
    assert "ERROR" not in own.log


# -- GET, PATCH, DELETE /debugattachment/{id} -----------------------------------------------------------


def test_unknown_ids(shared: Coordinator) -> None:
    for kind in (ATTACHMENTS, REQUESTS):
        assert reason(shared.http.get(f"{kind}/nobody"), 404) == "not_found"
        assert reason(shared.http.get(f"{kind}/nobody/", params={"wait": "true"}), 404) == "not_found"
        assert shared.http.delete(f"{kind}/nobody").status_code == 200
    assert reason(shared.patch("nobody", state="error"), 404) == "not_found"
    assert reason(shared.http.post(f"{ATTACHMENTS}/nobody/release"), 404) == "not_found"


async def test_one_waits_until_attached(shared: Coordinator, web: httpx.AsyncClient, pod: str) -> None:
    name = shared.attached(pod)
    poll = await Poll.start(shared, web, f"{ATTACHMENTS}/{name}")
    shared.patch(name, state="attaching", phase="listening", debug_server_address="unix:/x")
    shared.patch(name, state="attached", phase="ready")
    status = (await poll.answer()).json()["status"]
    assert (status["state"], status["phase"], status["debug_server_address"]) == ("attached", "ready", "unix:/x")
    assert status["times"].keys() == {"none", "located", "attaching", "listening", "attached", "ready"}
    assert (await web.get(f"{ATTACHMENTS}/{name}/", params={"wait": "true"})).json()["status"] == status


async def test_one_that_is_deleted_meanwhile_ends_the_wait(
    shared: Coordinator, web: httpx.AsyncClient, pod: str
) -> None:
    name = shared.attached(pod)
    poll = await Poll.start(shared, web, f"{ATTACHMENTS}/{name}")
    assert shared.http.delete(f"{ATTACHMENTS}/{name}/").status_code == 200
    assert reason(await poll.answer(), 404) == "not_found"


async def test_one_wait_ends_with_408(shared: Coordinator, web: httpx.AsyncClient, pod: str) -> None:
    poll = await Poll.start(shared, web, f"{ATTACHMENTS}/{shared.attached(pod)}", seconds="0.5")
    assert reason(await poll.answer(), 408) == "wait_timeout"


def test_patch_moves_forward_only(shared: Coordinator, pod: str) -> None:
    name = shared.attached(pod)
    assert shared.patch(name, state="attaching", agent="a").json()["status"]["agent"] == "a"
    assert reason(shared.patch(name, state="attaching", agent="b"), 409) == "illegal_step"
    assert reason(shared.patch(name, state="none"), 409) == "illegal_step"
    assert reason(shared.patch(name, agent="b"), 409) == "illegal_step"
    assert shared.patch(name, debug_server_address="unix:/a").status_code == 200
    assert shared.patch(name, debug_server_address="unix:/a").status_code == 200
    assert reason(shared.patch(name, debug_server_address="unix:/b"), 409) == "illegal_step"
    assert shared.patch(name, state="error", reason="attach_failed", message="why").status_code == 200
    answer = shared.patch(name, outcome="error", phase="detached")
    assert answer.json()["status"]["times"].keys() >= {"error", "let_go", "detached"}
    assert reason(shared.patch(name, outcome="attached"), 409) == "illegal_step"


def test_patch_of_an_old_client(shared: Coordinator, pod: str) -> None:
    """It sends the whole object back, with what it changed."""
    made = shared.attach(pod).json()
    name = made["metadata"]["name"]
    made["status"] = {"state": "attached", "debug_server_address": "10.0.0.1:1234"}
    answer = shared.http.patch(f"{ATTACHMENTS}/{name}/", json=made)
    assert answer.status_code == 200
    assert answer.json()["spec"] == made["spec"]
    assert answer.json()["status"]["debug_server_address"] == "10.0.0.1:1234"


def test_refused_patches(shared: Coordinator, pod: str) -> None:
    name = shared.attached(pod)
    url = f"{ATTACHMENTS}/{name}"
    assert reason(shared.http.patch(url, json={"metadata": {"name": "other"}}), 400) == "name_mismatch"
    assert reason(shared.http.patch(url, content=b"{"), 400) == "malformed"
    for status in ({"state": "flying"}, {"pid": -1}, {"pid": "x"}, {"reason": "because"}, {"outcome": 3}):
        assert reason(shared.http.patch(url, json={"status": status}), 422) == "invalid"
    assert shared.http.patch(url, json={}).status_code == 200
    assert shared.http.patch(url, json={"status": None}).status_code == 200


def test_deleted_is_gone_with_its_request(shared: Coordinator, pod: str, image: str) -> None:
    wish = shared.wish(image)
    name = shared.attached(pod, match=True)
    for _ in range(2):
        answer = shared.http.delete(f"{ATTACHMENTS}/{name}")
        assert (answer.status_code, answer.content) == (200, b"")
    assert reason(shared.http.get(f"{ATTACHMENTS}/{name}"), 404) == "not_found"
    assert reason(shared.http.get(f"{REQUESTS}/{wish}"), 404) == "not_found"


@pytest.mark.parametrize("slash", ["", "/"])
def test_release(shared: Coordinator, pod: str, slash: str) -> None:
    name = shared.attached(pod)
    url = f"{ATTACHMENTS}/{name}/release{slash}"
    status = shared.http.post(url).json()["status"]
    assert (status["state"], status["reason"], status["phase"]) == ("error", "released", "released")
    assert shared.http.post(url, json={}).json()["status"] == status
    name = shared.attached(pod)
    shared.patch(name, state="attached")
    answer = shared.http.post(f"{ATTACHMENTS}/{name}/release{slash}")
    assert reason(answer, 409) == "illegal_step"
    assert "gone on already" in answer.json()["message"]


# -- leases and detaching -------------------------------------------------------------------------------


def test_a_leased_request_is_renewed_or_goes(own: Coordinator) -> None:
    name = own.wish("some/image", lease=0.5)
    renewed = own.http.post(f"{REQUESTS}/{name}/renew").json()
    assert renewed["status"]["renewed"] >= renewed["status"]["created"]
    own.until(lambda: own.http.get(f"{REQUESTS}/{name}").status_code == 404, "the end of the lease")
    assert own.http.post(f"{REQUESTS}/{name}/renew").status_code == 404


def test_a_leased_attachment_is_renewed_or_its_debugger_comes_out(own: Coordinator, pod: str) -> None:
    name = own.attached(pod, lease=0.5)
    renewed = own.http.post(f"{ATTACHMENTS}/{name}/renew").json()["status"]
    assert renewed["renewed"] >= renewed["times"]["none"]
    own.patch(name, state="attached", phase="listening", debug_server_address="unix:/x")
    own.until(
        lambda: own.http.get(f"{ATTACHMENTS}/{name}").json()["status"]["state"] == "error", "the end of the lease"
    )
    status = own.http.get(f"{ATTACHMENTS}/{name}").json()["status"]
    assert status["reason"] == "expired"
    assert "not renewed within 0.5 s" in status["message"]
    assert own.http.post(f"{ATTACHMENTS}/nobody/renew").status_code == 404


def test_detached_stays_to_be_looked_at(shared: Coordinator, pod: str) -> None:
    name = shared.attached(pod)
    shared.patch(name, state="attached")
    assert shared.http.post(f"{ATTACHMENTS}/{name}/detach").json()["status"]["reason"] == "ended"
    assert shared.http.get(f"{ATTACHMENTS}/{name}").json()["status"]["state"] == "error"
    assert shared.http.post(f"{ATTACHMENTS}/nobody/detach").status_code == 404
