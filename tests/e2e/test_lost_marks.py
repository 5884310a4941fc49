"""A chain of two services, each behind its Envoy; the first one passes on what it pleases."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demo.world import BIN, World
from squash.calls import create_request, delete_request, list_sightings
from squash.cli.lost import missing, story, way
from squash.client import Client
from squash.model import Carrier, DebugRequest, RequestSpec, Sighting
from squash.result import HEADER, MARK, parse

HERE = Path(__file__).parent
PASSED_ON = {
    "both": (MARK, "baggage"),
    "header": (MARK,),
    "baggage": ("baggage",),
    "nothing": (),
}
"""What each first service passes on besides trace context, by its name."""


class Chain:
    def __init__(self, world: World) -> None:
        self.url = world.coordinator().where
        self.client: Client = world.client()
        self.namespace = world.namespace
        last = self._pod(world, "pricing", str(HERE / "counting.py"))
        self.first = {
            name: self._pod(world, f"passes-{name}", str(HERE / "relay.py"), last, "traceparent", *headers)
            for name, headers in PASSED_ON.items()
        }

    def _pod(self, world: World, name: str, *argv: str) -> str:
        """Where its Envoy listens."""
        service = world.service(name, f"demo/{name}", [sys.executable, *argv])
        sidecar = world.sidecar(name, "--request-timeout", "10")
        return world.envoy(name, service.where, sidecar.where, "--request-timeout", "10").where

    def call(self, first: str, mark: dict[str, str]) -> str:
        """The id of the trace."""
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"} | mark
        answer = httpx.get(self.first[first] + "/price", headers=headers, timeout=60, trust_env=False)
        assert answer.status_code == 200
        assert str(parse(answer.headers[HEADER])) == answer.headers[HEADER]
        return trace

    def squashctl(self, *words: str) -> str:
        argv = [str(BIN / "squashctl"), *words, "--server-url", self.url]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    def seen(self, trace: str) -> list[Sighting]:
        return self.client.send(list_sightings(trace=trace))


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with World("squash-marks") as world:
        chain = Chain(world)
        yield chain
        chain.client.close()


@pytest.mark.parametrize("first", Carrier)
@pytest.mark.parametrize("marked", [{MARK: "1"}, {"baggage": "user=a,squash=1"}])
def test_either_way_carries_the_mark_on(chain: Chain, first: Carrier, marked: dict[str, str]) -> None:
    hops = way(chain.seen(trace := chain.call(first, marked)), trace)
    assert [hop.sighting.image for hop in hops] == [f"demo/passes-{first}", "demo/pricing"]
    assert hops[0].sighting.mark is (Carrier.HEADER if MARK in marked else Carrier.BAGGAGE)
    assert hops[1].sighting.mark is first
    dropped = {
        "both": "",
        "header": "passes on x-squash-debug, but not baggage",
        "baggage": "passes on baggage, but not x-squash-debug",
    }
    assert dropped[first] in hops[1].dropped
    assert bool(hops[1].dropped) == bool(dropped[first])
    assert len(list(story(hops))) == (2 if first == "both" else 3)


def test_the_service_that_drops_both_is_named(chain: Chain) -> None:
    spec = RequestSpec(image="demo/pricing", debugger="", namespace=chain.namespace)
    request = chain.client.send(create_request(DebugRequest(spec=spec)))
    trace = chain.call("nothing", {MARK: "1"})
    [said] = missing(request, chain.seen(trace))
    pod = f"{chain.namespace}/passes-nothing (demo/passes-nothing)"
    assert f"the mark was last seen at {pod}; demo/pricing saw nothing of it" in said
    assert "it must pass on x-squash-debug, or baggage" in said
    explained = chain.squashctl("explain", request.name)
    assert said in explained
    chain.client.send(delete_request(request.name))


def test_explain_tells_what_a_service_drops(chain: Chain) -> None:
    explained = chain.squashctl("explain", chain.call("baggage", {MARK: "1"}))
    assert "passes on baggage, but not x-squash-debug" in explained
