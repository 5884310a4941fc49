"""What marks a request, and how the mark goes on from there, on a real Envoy with each front end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envoy_filter.front_end import FrontEnd
from squash.mark import BAGGAGE
from squash.model import Carrier, Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, MARK
from squash.tasks import spawn
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request
from tests.envoy_filter.stack import Stack, result, stack


@pytest.fixture
async def held(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> AsyncIterator[Stack]:
    async with stack(tmp_path, double.url, front_end=front_end) as running:
        yield running


async def no_match(request: Request) -> Reply:
    return refusal(404, Reason.NO_PENDING_REQUEST)


Lines = list[tuple[str, str]]


async def sent(held: Stack, headers: Lines) -> tuple[httpx.Response, Lines]:
    """The answer, and the marks that reached the service."""
    response = await held.http.get(held.url + "/cart", headers=headers)
    served = held.upstream.requests[-1]
    return response, [(name, value) for name, value in served.headers if name in (MARK, BAGGAGE)]


@pytest.mark.parametrize(
    "given",
    [
        [(BAGGAGE, "notsquash=1")],
        [(BAGGAGE, "user=squash=1,a=b;squash=1")],
        [(BAGGAGE, "user=a%2Csquash=1"), (BAGGAGE, "squash")],
    ],
)
async def test_what_does_not_mark_is_untouched(held: Stack, double: CoordinatorDouble, given: Lines) -> None:
    response, served = await sent(held, given)
    assert response.headers[HEADER] == "nonsense of the upstream"
    assert served == given
    assert double.calls == []


@pytest.mark.parametrize(
    ("given", "onwards"),
    [
        ([(MARK, "a b,c")], [(MARK, "a b,c"), (BAGGAGE, "squash=a%20b%2Cc")]),
        ([(MARK, "1"), (BAGGAGE, "a=1;p"), (BAGGAGE, "b=%20")], [(MARK, "1"), (BAGGAGE, "a=1;p,b=%20,squash=1")]),
        ([(BAGGAGE, "squash=1")], [(BAGGAGE, "squash=1"), (MARK, "1")]),
        ([(BAGGAGE, "a=1, squash = x%20y ;p=q")], [(BAGGAGE, "a=1, squash = x%20y ;p=q"), (MARK, "x y")]),
        ([(BAGGAGE, "a=1"), (BAGGAGE, "squash=2")], [(BAGGAGE, "a=1"), (BAGGAGE, "squash=2"), (MARK, "2")]),
        ([(BAGGAGE, "squash=%0d%0ax-evil:1")], [(BAGGAGE, "squash=%0d%0ax-evil:1"), (MARK, "%0d%0ax-evil:1")]),
        ([(MARK, "1"), (BAGGAGE, "squash=2")], [(MARK, "1"), (BAGGAGE, "squash=2")]),
        ([(MARK, "1"), (BAGGAGE, "a=" + "b" * 9000)], [(MARK, "1"), (BAGGAGE, "a=" + "b" * 9000)]),
    ],
)
async def test_header_and_baggage_both_mark_and_both_go_on(
    held: Stack, double: CoordinatorDouble, given: Lines, onwards: Lines
) -> None:
    double.instead["create"] = no_match
    response, served = await sent(held, given)
    assert result(response).outcome is Outcome.NO_MATCH
    assert sorted(served) == sorted(onwards)


async def test_baggage_that_is_not_utf8_marks_too(held: Stack, double: CoordinatorDouble) -> None:
    double.instead["create"] = no_match
    response = await held.http.get(held.url, headers=[(b"baggage", b"a=\xff,squash=1")])
    assert result(response).outcome is Outcome.NO_MATCH
    assert held.upstream.requests[-1].header(BAGGAGE) == "a=\xff,squash=1"


async def test_the_attachment_keeps_trace_context_but_not_the_value(held: Stack, double: CoordinatorDouble) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {BAGGAGE: "user=alice,squash=secret", "traceparent": trace, "x-request-id": "mine"}
    marked = spawn(held.http.get(held.url + "/cart", headers=headers), "get")
    [name] = await double.created()
    told = double.attachments[name].spec.held
    assert told is not None
    assert (told.baggage, told.mark) == ("user=alice,squash=*", Carrier.BAGGAGE)
    assert (told.traceparent, told.request_id) == (trace, "mine")
    await double.change(name, State.ATTACHED)
    assert result(await marked).outcome is Outcome.ATTACHED
    assert "secret" not in held.sidecar.log


async def test_the_sidecar_is_gone_and_the_marks_go_on_as_they_came(held: Stack) -> None:
    await held.sidecar.end()
    for given in ([(MARK, "1")], [(BAGGAGE, "squash=1")]):
        response, served = await sent(held, given)
        assert result(response).outcome is Outcome.UNAVAILABLE
        assert served == given


def trusting(config: dict[str, Any]) -> None:
    """Envoy takes what callers from inside say of their timeouts."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["internal_address_config"] = {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}


DEADLINES = {"90S": ("grpc-timeout", 90.0), "never": ("grpc-timeout", None)}
DEADLINES |= {"2500": ("x-envoy-expected-rq-timeout-ms", 2.5)}


async def test_the_callers_deadline_is_told(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> None:
    async with stack(tmp_path, double.url, front_end=front_end, change=trusting) as held:
        for value, (name, budget) in DEADLINES.items():
            headers = {MARK: "1", name: value, "x-forwarded-for": "10.0.0.1"}
            marked = spawn(held.http.get(held.url, headers=headers), "get")
            attachment = (await double.created(len(held.upstream.requests) + 1))[-1]
            told = double.attachments[attachment].spec.held
            assert told is not None
            assert told.budget == budget
            await double.change(attachment, State.ATTACHED)
            assert result(await marked).outcome is Outcome.ATTACHED
