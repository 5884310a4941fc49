"""No timeout and no retry for what is held: an outbound and an inbound Envoy in a row.

SQUASH_TEST_PAUSE makes the pauses as long as they are in life: `15,40` is a timeout of 15 s and a hold of 40 s.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from envoy_filter.front_end import FrontEnd
from envoy_filter.onward import SHIELD
from squash.mark import BAGGAGE
from squash.model import Outcome
from squash.reasons import Reason
from squash.result import HEADER, MARK, parse
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import HttpServer, Reply, Request
from tests.envoy_filter.outbound import impatient, outbound
from tests.envoy_filter.stack import MARKED, stack

TIMEOUT, PAUSE = map(float, os.environ.get("SQUASH_TEST_PAUSE", "0.8,2").split(","))


class Slow(HttpServer):
    """A service in which a developer stands at a breakpoint; then it answers `status`."""

    def __init__(self, status: int = 200) -> None:
        super().__init__(self._answer)
        self.status = status
        self.requests: list[Request] = []

    async def _answer(self, request: Request) -> Reply:
        self.requests.append(request)
        await asyncio.sleep(TIMEOUT * 1.5)
        return Reply(self.status, b"at last")


def eager(config: dict[str, Any]) -> None:
    """The inbound Envoy, too, has little patience by itself."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        impatient(route["route"], TIMEOUT)


async def posted(url: str, headers: dict[str, str]) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60 + PAUSE * 2) as http:
        return await http.post(url, content=b"order", headers=headers)


@pytest.mark.parametrize("mark", [{MARK: "1"}, {BAGGAGE: "squash=1"}])
@pytest.mark.parametrize("status", [200, 503])
async def test_a_post_is_done_once_whatever_time_it_takes(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd, status: int, mark: dict[str, str]
) -> None:
    async with (
        Slow(status) as service,
        stack(
            tmp_path,
            double.url,
            front_end=front_end,
            attachment_timeout=PAUSE,
            upstream_port=service.port,
            change=eager,
        ) as inbound,
        outbound(tmp_path / "outbound", inbound.url, timeout=TIMEOUT) as url,
    ):
        answer = await posted(url, mark)
        assert (answer.status_code, answer.text) == (status, "at last")
        said = parse(answer.headers[HEADER])
        assert (said.outcome, said.held is not None and said.held >= PAUSE) == (Outcome.TIMEOUT, True)
        [served] = service.requests
        assert served.body == b"order"
        assert len(double.attachments) == 1
        assert [name for name, _ in served.headers if name in SHIELD] == []


async def test_without_a_shield_it_is_cut_off_and_done_again(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    """What the shield is for."""
    async with (
        stack(tmp_path, double.url, front_end=front_end, attachment_timeout=TIMEOUT * 2) as inbound,
        outbound(tmp_path / "outbound", inbound.url, timeout=TIMEOUT, shielded=False) as url,
    ):
        assert (await posted(url, MARKED)).status_code == 504
        assert len(double.attachments) > 1


async def test_one_that_nobody_waits_for_keeps_timeouts_and_retries(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async def refuse(request: Request) -> Reply:
        return refusal(404, Reason.NO_PENDING_REQUEST)

    double.instead["create"] = refuse
    async with (
        Slow() as service,
        stack(tmp_path, double.url, front_end=front_end, upstream_port=service.port, change=eager) as inbound,
    ):
        answer = await posted(inbound.url, MARKED)
        assert answer.status_code == 504
        assert parse(answer.headers[HEADER]).outcome is Outcome.NO_MATCH
        assert len(service.requests) > 1


async def test_unmarked_requests_are_not_shielded(tmp_path: Path) -> None:
    async with Slow() as service, outbound(tmp_path / "outbound", service.url, timeout=TIMEOUT) as url:
        unmarked: tuple[dict[str, str], ...] = ({}, {BAGGAGE: "notsquash=1"})
        for count, headers in enumerate(unmarked, 1):
            assert (await posted(url, headers)).status_code == 504
            assert len(service.requests) > count
        before = len(service.requests)
        assert (await posted(url, MARKED)).text == "at last"
        assert len(service.requests) == before + 1
