"""Where a mark was lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.cli.lost import Hop, lost, missing, story, trace_of, way, where
from squash.cli.story import told_of_sightings
from squash.model import Carrier, DebugRequest, Outcome, RequestSpec, RequestStatus, Sighting

TRACE = "0af7651916cd43dd8448eb211c80319c"


def seen(pod: str, time: float = 1.0, mark: Carrier | None = Carrier.BOTH, trace: str = TRACE) -> Sighting:
    return Sighting(
        time=time,
        pod=f"{pod}-1",
        namespace="demo",
        image=f"demo/{pod}",
        method="GET",
        path="/cart",
        traceparent=f"00-{trace}-b7ad6b7169203331-01",
        outcome=Outcome.NO_MATCH,
        mark=mark,
    )


def request(image: str = "demo/pricing", created: float = 0.5, namespace: str | None = None) -> DebugRequest:
    spec = RequestSpec(image=image, debugger="", namespace=namespace)
    return DebugRequest(spec=spec, status=RequestStatus(created=created))


def test_the_hop_where_it_was_lost_is_named() -> None:
    [said] = missing(request(), [seen("storefront", mark=Carrier.HEADER)])
    last = "demo/storefront-1 (demo/storefront)"
    assert said == (
        f"the mark was last seen at {last}; demo/pricing saw nothing of it: if {last} is what calls the next service, "
        "it must pass on x-squash-debug, or baggage as OpenTelemetry's propagators do"
    )


@pytest.mark.parametrize(
    ("mark", "dropped"),
    [
        (Carrier.HEADER, "passes on x-squash-debug, but not baggage"),
        (Carrier.BAGGAGE, "passes on baggage, but not x-squash-debug"),
    ],
)
def test_what_a_service_before_dropped_is_named_too(mark: Carrier, dropped: str) -> None:
    sightings = [seen("cart", 2.0, mark), seen("storefront", 1.0)]
    first, second = missing(request(), sightings)
    assert first == (
        f"whoever called demo/cart-1 (demo/cart) {dropped} (the mark was at demo/storefront-1 (demo/storefront) before)"
    )
    assert second.startswith("the mark was last seen at demo/cart-1 (demo/cart); demo/pricing saw nothing of it")


def test_nothing_is_missing_where_a_mark_came() -> None:
    sightings = [seen("pricing", 2.0), seen("storefront", 3.0, trace="f" * 32)]
    assert missing(request(), sightings) == []
    assert missing(request(namespace="demo"), sightings) == []
    assert "last seen at demo/storefront-1" in missing(request(namespace="other"), sightings)[0]


def test_what_was_seen_before_it_was_asked_for_does_not_count() -> None:
    [said] = missing(request(created=5.0), [seen("pricing", 4.0)])
    assert said.startswith("no marked request was seen at any sidecar on the way to demo/pricing")


def test_only_the_newest_trace_is_told() -> None:
    sightings = [seen("old", 1.0, trace="f" * 32), seen("storefront", 2.0)]
    [said] = missing(request(), sightings)
    assert "storefront" in said
    assert "old" not in said


def test_without_a_trace_the_request_id_tells_what_belongs_together() -> None:
    one = Sighting(time=1.0, pod="a", request_id="r")
    assert trace_of(one) == "r"
    assert trace_of(Sighting(time=1.0, traceparent="nonsense")) == ""
    assert [hop.sighting for hop in way([one, Sighting(time=2.0, request_id="s")], "r")] == [one]
    assert where(Sighting(time=1.0)) == "a pod without a name"


def test_what_has_neither_trace_nor_request_id_stays_apart() -> None:
    nameless = [Sighting(time=time, pod=pod, mark=Carrier.HEADER) for time, pod in ((1.0, "a"), (2.0, "b"))]
    [hop] = way(nameless, "")
    assert (hop.sighting.pod, hop.before) == ("b", None)
    [said] = missing(request(), nameless)
    assert "last seen at b;" in said
    assert not any("not whole" in step.text for step in told_of_sightings("marks", nameless).steps)


def test_the_way_in_lines() -> None:
    sightings = [seen("cart", 2.0, Carrier.BAGGAGE), seen("storefront", 1.0)]
    assert list(story(way(sightings, TRACE))) == [
        "demo/storefront-1 (demo/storefront): GET /cart, marked by x-squash-debug and baggage, no_match",
        "  whoever called demo/cart-1 (demo/cart) passes on baggage, but not x-squash-debug "
        "(the mark was at demo/storefront-1 (demo/storefront) before)",
        "demo/cart-1 (demo/cart): GET /cart, marked by baggage, no_match",
    ]
    assert str(Hop(Sighting(time=1.0, pod="a"), None)) == "a: marked, held"


MARKS = st.none() | st.sampled_from(Carrier)
SIGHTINGS = st.lists(
    st.builds(seen, st.sampled_from(["a", "b", "c"]), st.floats(0, 9), MARKS, st.sampled_from(["e" * 32, "f" * 32]))
)


@given(SIGHTINGS)
def test_the_way_is_in_order_and_of_one_trace(sightings: list[Sighting]) -> None:
    hops = way(sightings, "e" * 32)
    assert len(hops) == sum(trace_of(one) == "e" * 32 for one in sightings)
    assert all(hop.before is None or hop.before.time <= hop.sighting.time for hop in hops)
    assert [hop.before for hop in hops[:1]] == [None][: len(hops)]


@given(SIGHTINGS)
def test_it_is_lost_or_it_is_there(sightings: list[Sighting]) -> None:
    hops = way(sightings, "e" * 32)
    said = lost(hops, lambda one: one.image == "demo/a", "demo/a")
    assert bool(said) != any(hop.sighting.image == "demo/a" for hop in hops)
