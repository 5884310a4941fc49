"""The filter for the edge on a real Envoy."""

from pathlib import Path
from typing import Any

import pytest

from envoy_filter.edge import pieces
from envoy_filter.front_end import FrontEnd
from envoy_filter.yaml import plain
from squash.mark import BAGGAGE
from squash.result import HEADER, MARK
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import stack

Lines = list[tuple[str, str]]
CASES: list[tuple[Lines, Lines]] = [
    ([(MARK, "1")], []),
    ([(MARK, "1"), (MARK, "2")], []),
    ([(BAGGAGE, "squash=1")], []),
    ([(BAGGAGE, "a=1, squash = x;p=q ,b=2")], [(BAGGAGE, "a=1,b=2")]),
    ([(BAGGAGE, "a=1"), (BAGGAGE, "squash=2")], [(BAGGAGE, "a=1")]),
    ([(MARK, "1"), (BAGGAGE, "a=squash=1,nosquash=2")], [(BAGGAGE, "a=squash=1,nosquash=2")]),
    ([(BAGGAGE, "a=1"), (BAGGAGE, "b=2")], [(BAGGAGE, "a=1"), (BAGGAGE, "b=2")]),
    ([], []),
]


def at_the_edge(config: dict[str, Any]) -> None:
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [*plain(pieces())["http_filters"], *manager["http_filters"]]
    # As pasted into a configuration of one's own, where the filters decide by themselves.
    for one in manager["http_filters"]:
        one.pop("disabled", None)


@pytest.mark.parametrize("front_end", [FrontEnd.LUA])
async def test_nobody_outside_marks_anything(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> None:
    async with stack(tmp_path, double.url, front_end=front_end, change=at_the_edge) as edge:
        for given, onwards in CASES:
            response = await edge.http.get(edge.url + "/cart", headers=given)
            assert response.headers.get_list(HEADER) == ["nonsense of the upstream"], given
            served = edge.upstream.requests[-1]
            assert [(name, value) for name, value in served.headers if name in (MARK, BAGGAGE)] == onwards
        assert "create" not in double.calls
