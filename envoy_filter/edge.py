"""The filter for the edge: whoever is outside marks nothing."""

from importlib import resources
from typing import Any

from squash.mark import BAGGAGE, MEMBER
from squash.result import MARK

from .front_end import LUA, lua_value
from .matching import UNMARKED, filter_config, marked, where
from .yaml import Commented

FILTER = "squash_edge"


def pieces() -> dict[str, Any]:
    """What goes into the Envoy that takes requests from outside."""
    settings = lua_value({"mark": MARK, "baggage": BAGGAGE, "member": MEMBER})
    source = resources.files(__package__).joinpath("lua/edge.lua").read_text(encoding="utf-8")
    config = {"default_source_code": {"inline_string": f"local settings = {settings}\n\n{source}"}}
    return {
        "http_filters": Commented(
            f"Takes {MARK} and the member {MEMBER} of {BAGGAGE} off requests from outside, so that nobody there can\n"
            "have one held. Goes first, in the Envoy at the edge alone: requests within keep their marks.",
            [where(marked(), [filter_config(FILTER, LUA, config)], UNMARKED)],
        )
    }
