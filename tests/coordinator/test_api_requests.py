"""The REST contract of debug requests and of changes, from outside, on a real coordinator."""

from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.coordinator.asking import Poll, reason
from tests.coordinator.program import API, ATTACHMENTS, REQUESTS, Coordinator


@pytest.mark.parametrize("slash", ["", "/"])
def test_created_request(shared: Coordinator, slash: str) -> None:
    image = f"i-{uuid4().hex}"
    body = {"spec": {"image": image, "debugger": "gdb", "x": 1}, "status": {"debug_attachment_ref": "forged"}}
    answer = shared.http.post(REQUESTS + slash, json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert made["spec"] == {"image": image, "debugger": "gdb"}
    assert made["status"].keys() == {"created"}
    assert made in shared.http.get(REQUESTS + slash).json()
    url = f"{REQUESTS}/{made['metadata']['name']}{slash}"
    assert shared.http.get(url).json() == made
    assert shared.http.delete(url).status_code == 200
    assert reason(shared.http.get(url), 404) == "not_found"


def test_refused_requests(shared: Coordinator) -> None:
    for spec in ({"image": "i"}, {"debugger": "gdb"}, {"image": "", "debugger": ""}, {"image": 1, "debugger": "g"}):
        assert reason(shared.http.post(REQUESTS, json={"spec": spec}), 422) == "invalid"
    assert reason(shared.http.post(REQUESTS, content=b"image"), 400) == "malformed"
    name = f"n-{uuid4().hex}"
    body = {"metadata": {"name": name}, "spec": {"image": "i", "debugger": ""}}
    assert shared.http.post(REQUESTS, json=body).status_code == 201
    assert reason(shared.http.post(REQUESTS, json=body), 409) == "name_taken"


async def test_request_waits_for_its_match(shared: Coordinator, web: httpx.AsyncClient, pod: str, image: str) -> None:
    wish = shared.wish(image)
    poll = await Poll.start(shared, web, f"{REQUESTS}/{wish}")
    name = shared.attached(pod, match=True)
    assert (await poll.answer()).json()["status"]["debug_attachment_ref"] == name
    wish = shared.wish(image)
    poll = await Poll.start(shared, web, f"{REQUESTS}/{wish}")
    shared.http.delete(f"{REQUESTS}/{wish}")
    assert reason(await poll.answer(), 404) == "not_found"
    wish = shared.wish(image)
    answer = await web.get(f"{REQUESTS}/{wish}", params={"wait": "true"}, headers={"X-Timeout": "0"})
    assert reason(answer, 408) == "wait_timeout"


def test_deleted_request_lets_go_what_is_held_for_it(shared: Coordinator, pod: str, image: str) -> None:
    wish = shared.wish(image)
    name = shared.attached(pod, match=True)
    assert shared.http.delete(f"{REQUESTS}/{wish}").status_code == 200
    status = shared.http.get(f"{ATTACHMENTS}/{name}").json()["status"]
    assert (status["state"], status["reason"]) == ("error", "released")


def test_time_to_live_runs_out(shared: Coordinator, pod: str) -> None:
    wish = shared.wish("i", ttl=0.05)
    name = shared.attached(pod, ttl=0.05)
    held = shared.attached(pod, ttl=0.05, holder="sidecar")
    for one, why in ((name, "expired"), (held, "hold_lost")):
        answer = shared.http.get(f"{ATTACHMENTS}/{one}", params={"wait": "true"})
        assert (answer.json()["status"]["state"], answer.json()["status"]["reason"]) == ("error", why)
    shared.until(lambda: shared.http.get(f"{REQUESTS}/{wish}").status_code == 404, "the end of the request")


async def test_changes_of_a_holder(shared: Coordinator, web: httpx.AsyncClient, pod: str) -> None:
    holder = uuid4().hex
    chosen: dict[str, Any] = {"holder": holder, "states": "attached,error"}
    first = (await web.get(f"{API}/changes/", params={"holder": holder})).json()
    assert first.keys() == {"revision", "reset"}
    name = shared.attached(pod, holder=holder)
    poll = await Poll.start(shared, web, f"{API}/changes", since=first["revision"], **chosen)
    shared.patch(name, state="attaching")
    shared.attached(pod, holder="another")
    shared.patch(name, state="attached")
    news = (await poll.answer()).json()
    assert [one["metadata"]["name"] for one in news["attachments"]] == [name]
    assert news.keys() == {"revision", "attachments"}
    poll = await Poll.start(shared, web, f"{API}/changes", since=news["revision"], **chosen)
    shared.http.delete(f"{ATTACHMENTS}/{name}")
    assert (await poll.answer()).json()["deleted"] == [name]


async def test_changes_of_a_forgotten_revision_are_everything(
    web: httpx.AsyncClient, shared: Coordinator, pod: str
) -> None:
    holder = uuid4().hex
    name = shared.attached(pod, holder=holder)
    params = {"holder": holder, "since": "other.7", "states": "attached,error", "wait": "true"}
    answer = (await web.get(f"{API}/changes", params=params)).json()
    assert answer["reset"] is True
    assert [one["metadata"]["name"] for one in answer["attachments"]] == [name], "whatever its state: it is not gone"


async def test_changes_without_news(web: httpx.AsyncClient) -> None:
    params = {"node": "elsewhere"}
    revision = (await web.get(f"{API}/changes", params=params)).json()["revision"]
    answer = await web.get(f"{API}/changes", params=params | {"since": revision})
    assert answer.status_code == 200
    assert answer.json().keys() == {"revision"}
    params |= {"since": revision, "wait": "true"}
    assert reason(await web.get(f"{API}/changes", params=params, headers={"X-Timeout": "0.01"}), 408) == "wait_timeout"
