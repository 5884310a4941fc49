"""What is remembered of marked requests."""

from uuid import uuid4

from coordinator import lifecycle
from coordinator.sightings import Sightings
from squash.model import AttachmentSpec, Carrier, HeldRequest, Outcome, Sighting, State, StatusPatch
from squash.reasons import Reason
from tests.coordinator.program import API, Coordinator

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def spec(path: str = "/cart") -> AttachmentSpec:
    held = HeldRequest(method="GET", path=path, traceparent=PARENT, request_id=f"id-of-{path}", mark=Carrier.BAGGAGE)
    return AttachmentSpec(attachment={"pod": "p", "namespace": 7}, image="i", node="n", held=held)


def all_of(sightings: Sightings, trace: str | None = None) -> list[Sighting]:
    return list(sightings.newest(trace, 100))


def test_held_and_how_it_ended() -> None:
    sightings = Sightings(10)
    held = lifecycle.created("a", spec(), 1.0)
    sightings.held(held, 1.0)
    (seen,) = all_of(sightings)
    assert (seen.attachment, seen.outcome, seen.pod, seen.namespace) == ("a", None, "p", None)
    assert seen.mark is Carrier.BAGGAGE
    over = lifecycle.patched(held, StatusPatch(state=State.ERROR, reason=Reason.PROCESS_BUSY), 2.0)
    sightings.ended(over)
    assert (all_of(sightings)[0].outcome, all_of(sightings)[0].reason) == (None, Reason.PROCESS_BUSY)
    sightings.ended(lifecycle.patched(over, StatusPatch(outcome=Outcome.ERROR), 3.0))
    sightings.ended(lifecycle.created("unknown", spec(), 3.0))
    (seen,) = all_of(sightings)
    assert (seen.outcome, seen.reason, seen.time) == (Outcome.ERROR, Reason.PROCESS_BUSY, 1.0)


def test_refused() -> None:
    sightings = Sightings(10)
    outcomes = {
        Reason.NO_PENDING_REQUEST: Outcome.NO_MATCH,
        Reason.CONTAINER_NOT_FOUND: Outcome.ERROR,
        Reason.STORE_UNAVAILABLE: Outcome.UNAVAILABLE,
        Reason.LIMIT_REACHED: Outcome.OVERLOADED,
    }
    for reason in outcomes:
        sightings.refused(spec(), reason, "so it is", 1.0)
    assert [seen.outcome for seen in all_of(sightings)] == list(outcomes.values())[::-1]


def test_the_newest_first_and_by_trace() -> None:
    sightings = Sightings(10)
    for number in range(3):
        sightings.refused(spec(f"/{number}"), Reason.NO_PENDING_REQUEST, "", number)
    assert [seen.path for seen in sightings.newest(None, 2)] == ["/2", "/1"]
    assert len(all_of(sightings, TRACE)) == len(all_of(sightings, PARENT)) == 3
    assert [seen.path for seen in all_of(sightings, "id-of-/1")] == ["/1"]
    assert all_of(sightings, "f" * 32) == []


def test_bounded_in_number_and_bytes() -> None:
    sightings = Sightings(3)
    for number in range(5):
        sightings.held(lifecycle.created(f"a{number}", spec(), number), number)
    assert [seen.attachment for seen in all_of(sightings)] == ["a4", "a3", "a2"]
    sightings.ended(lifecycle.patched(lifecycle.created("a0", spec(), 0), StatusPatch(outcome=Outcome.ERROR), 6.0))
    assert len(sightings) == 3
    large = Sightings(1_000, bytes_together=10_000)
    for number in range(100):
        large.refused(spec("/" + "x" * 1_000), Reason.NO_PENDING_REQUEST, "", number)
    assert 2 <= len(large) <= 10


def test_by_the_api(shared: Coordinator, pod: str, image: str) -> None:
    trace = uuid4().hex
    held = {"method": "POST", "path": "/cart", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    shared.attach(pod, match=True, holder="sidecar-1", held=held)
    shared.attach(f"not-{pod}", match=True, holder="sidecar-1", held=held)
    shared.wish(image)
    name = shared.attached(pod, match=True, holder="sidecar-1", held=held)
    shared.attached(pod)
    shared.attach(pod, match=True, holder="sidecar-1", held=held, name=name)
    seen = shared.http.get(f"{API}/sighting", params={"trace": trace}).json()
    reasons = [each.get("reason") for each in seen]
    assert reasons == [None, "container_not_found", "no_pending_request"]
    assert (seen[0]["attachment"], seen[0]["image"], seen[2]["outcome"]) == (name, image, "no_match")
    shared.patch(name, state="error", reason="hold_timeout", outcome="timeout")
    (newest,) = shared.http.get(f"{API}/sighting", params={"trace": trace, "limit": 1}).json()
    assert (newest["outcome"], newest["reason"]) == ("timeout", "hold_timeout")
