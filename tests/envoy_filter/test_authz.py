"""ext_authz over gRPC, by a caller that speaks as Envoy does."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3 import external_auth_pb2
from grpc import aio

from envoy_filter.authz import SERVICE, answer, told
from envoy_filter.headers import MarkedRequest
from squash.model import HeldRequest, Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, Result, parse
from squash.tasks import spawn
from tests.envoy_filter.child import Child
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import grpc_address, sidecar

OPTIONS = (("grpc.enable_http_proxy", 0),)


def asked(headers: dict[str, bytes], **given: str) -> Any:
    request = external_auth_pb2.CheckRequest()
    http = request.attributes.request.http
    for key, value in headers.items():
        http.header_map.headers.add(key=key, raw_value=value)
    for field, text in given.items():
        setattr(http, field, text)
    return request


def said(response: Any) -> Result:
    assert response.status.code == 0
    [option] = response.ok_response.response_headers_to_add
    assert option.header.key == HEADER
    return parse(option.header.value)


def test_what_is_told() -> None:
    headers = {
        "traceparent": b"a\xff",
        "x-squash-path": b"/forged",
        "x-squash-expected-rq-timeout-ms": b"1",
        "x-envoy-expected-rq-timeout-ms": b"2000",
    }
    request = asked(headers, method="PUT", path="/a?b", host="shop")
    held = HeldRequest(method="PUT", path="/a?b", authority="shop", traceparent="a\ufffd", budget=2.0)
    assert told(request) == MarkedRequest(held)
    assert told(external_auth_pb2.CheckRequest()) == MarkedRequest()


def test_answer_lets_go_and_carries_the_result() -> None:
    result = Result(Outcome.ERROR, "a", 1.25, Reason.ATTACH_FAILED)
    response = answer(result, {"baggage": "squash=1"})
    assert said(response) == result
    [option] = response.ok_response.headers
    assert (option.header.key, option.header.value) == ("baggage", "squash=1")


class Asking:
    def __init__(self, child: Child, channel: aio.Channel) -> None:
        self.child = child
        self.check: Any = channel.unary_unary(
            f"/{SERVICE}/Check",
            request_serializer=external_auth_pb2.CheckRequest.SerializeToString,
            response_deserializer=external_auth_pb2.CheckResponse.FromString,
        )

    async def hold(self) -> Result:
        return said(await self.check(asked({}, method="GET", path="/cart")))


@pytest.fixture
async def asking(tmp_path: Path, double: CoordinatorDouble) -> AsyncIterator[Asking]:
    async with (
        sidecar(tmp_path, double.url, "--grpc-listen", "127.0.0.1:0", "--max-holds", "3") as (child, _),
        aio.insecure_channel(str(grpc_address(child)), options=OPTIONS) as channel,
    ):
        yield Asking(child, channel)


async def test_holds_until_attached(asking: Asking, double: CoordinatorDouble) -> None:
    holding = spawn(asking.hold(), "hold")
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    result = await holding
    assert (result.outcome, result.id) == (Outcome.ATTACHED, name)


async def test_call_that_is_broken_off(asking: Asking, double: CoordinatorDouble) -> None:
    holding = spawn(asking.hold(), "hold")
    [name] = await double.created()
    holding.cancel()
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE


async def test_past_the_limit_requests_go_on(asking: Asking, double: CoordinatorDouble) -> None:
    holding = [spawn(asking.hold(), "hold") for _ in range(3)]
    await double.created(3)
    assert (await asking.hold()).outcome is Outcome.OVERLOADED
    for name in list(double.attachments):
        await double.change(name, State.ATTACHED)
    assert {one.outcome for one in await asyncio.gather(*holding)} == {Outcome.ATTACHED}


async def test_stop_answers_what_is_held(asking: Asking, double: CoordinatorDouble) -> None:
    holding = spawn(asking.hold(), "hold")
    await double.created()
    await double.until(lambda: "changes" in double.calls)
    assert await asking.child.end() == 0
    assert (await holding).reason is Reason.STOPPING
