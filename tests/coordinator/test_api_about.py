"""What the coordinator tells of itself over its REST API, and what it does not know."""

from tests.coordinator.asking import reason
from tests.coordinator.program import ATTACHMENTS, REQUESTS, Coordinator, Pods


def test_health_and_readiness(shared: Coordinator) -> None:
    for path in ("/healthz", "/readyz", "/healthz/"):
        assert shared.http.get(path).status_code == 200


def test_unknown_paths_and_methods(shared: Coordinator) -> None:
    for path in ("/", "/api/v2", "/api/v1/debugattachment", "/nothing/here", "/api/v2/debugattachments"):
        assert reason(shared.http.get(path), 404) == "not_found"
    for method, path, allowed in (
        ("PUT", ATTACHMENTS, "GET, HEAD, OPTIONS, POST"),
        ("POST", f"{ATTACHMENTS}/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("GET", f"{ATTACHMENTS}/x/release", "OPTIONS, POST"),
        ("PATCH", f"{REQUESTS}/x/", "DELETE, GET, HEAD, OPTIONS"),
        ("DELETE", "/healthz", "GET, HEAD, OPTIONS"),
    ):
        answer = shared.http.request(method, path)
        assert reason(answer, 405) == "method_not_allowed"
        assert answer.headers["allow"] == allowed


def test_head_and_options(shared: Coordinator) -> None:
    answer = shared.http.head(ATTACHMENTS)
    assert (answer.status_code, answer.content) == (200, b"")
    answer = shared.http.options(f"{ATTACHMENTS}/x")
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")


def test_metrics_tell_what_is(own: Coordinator, pods: Pods) -> None:
    pods.run("metrics-pod", "metrics-image")
    own.wish("metrics-image")
    own.wish("metrics-image")
    name = own.attached("metrics-pod", match=True, holder="sidecar")
    own.attached("metrics-pod")
    text = own.http.get("/metrics").text.splitlines()
    for line in (
        'squash_attachments{state="none"} 2.0',
        "squash_coordinator_open_holds 1.0",
        "squash_pending_requests 1.0",
        "squash_matches_total 1.0",
        "squash_waiters 0.0",
        'squash_http_requests_total{code="201",method="POST",route="/api/v2/debugattachment"} 2.0',
    ):
        assert line in text
    assert any(line.startswith("squash_build_info{") for line in text)
    own.patch(name, state="attached", outcome="attached")
    text = own.http.get("/metrics").text.splitlines()
    assert "squash_coordinator_open_holds 0.0" in text
    assert 'squash_hold_outcomes_total{outcome="attached"} 1.0' in text


def test_process_with_names_that_cannot_be_told_spoils_no_answer(shared: Coordinator, pods: Pods) -> None:
    pods.run("\udcff", "demo/odd")
    pods.run("long-image", "x" * 2_000)
    for pod in ("nobody", "long-image"):
        answer = shared.attach(pod)
        assert (answer.status_code, answer.json()["reason"]) == (404, "container_not_found")


def test_containers_are_listed(shared: Coordinator, pods: Pods, pod: str, image: str) -> None:
    pods.run(pod, "envoyproxy/envoy:1")
    found = shared.http.get("/api/v2/container", params={"pod": pod}).json()
    assert {(each["image"], each.get("mesh_proxy", False)) for each in found} == {
        (image, False),
        ("envoyproxy/envoy:1", True),
    }
    assert found[1]["attachment"] == {"pod": pod, "namespace": "default", "container": pod}
    assert len(found) == 2
    assert [each["image"] for each in shared.http.get("/api/v2/container", params={"image": image}).json()] == [image]
    assert shared.http.get("/api/v2/container", params={"image": image, "namespace": "other"}).json() == []
