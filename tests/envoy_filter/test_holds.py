"""The holds of a process, without its front end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from envoy_filter.headers import MarkedRequest
from envoy_filter.holds import Holds
from envoy_filter.http1 import Http1Client
from envoy_filter.tenants import Tenants
from squash.model import HeldRequest, Outcome
from squash.reasons import Reason
from squash.settings import SidecarSettings
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request


@contextlib.asynccontextmanager
async def holding(double: CoordinatorDouble, request_timeout: float) -> AsyncIterator[Holds]:
    settings = SidecarSettings(request_timeout=request_timeout)
    holds = Holds(Http1Client(double.url), Tenants(settings, {"SQUASH_POD": "p"}), settings)
    yield holds
    holds.stop()
    await holds.close()


async def test_time_is_counted_from_when_the_call_came(double: CoordinatorDouble) -> None:
    """A call that waited for ticket keys does not wait as long again for the creation."""

    async def hang(request: Request) -> None:
        await asyncio.get_running_loop().create_future()

    double.instead["create"] = hang
    async with holding(double, request_timeout=3600.0) as holds:
        held = holds.begin(MarkedRequest(), None, asyncio.get_running_loop().time() - 3600.0)
        result = await asyncio.wait_for(held.over, 60)
        assert (result.outcome, result.reason) == (Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE)
        assert result.held is not None
        assert result.held >= 3600.0


async def test_the_log_has_no_query(double: CoordinatorDouble, caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(request: Request) -> Reply:
        return refusal(404, Reason.NO_PENDING_REQUEST)

    caplog.set_level("INFO")
    double.instead["create"] = refuse
    async with holding(double, request_timeout=60.0) as holds:
        request = MarkedRequest(HeldRequest(method="GET", path="/cart?card=4111"))
        await holds.begin(request, None, asyncio.get_running_loop().time()).over
    [fields] = [getattr(record, "fields", {}) for record in caplog.records if record.getMessage() == "let go"]
    assert fields["path"] == "/cart"
