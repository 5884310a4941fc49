"""The shield of outbound Envoys: marked requests have no timeout and no retry on their way to whoever holds them.

Nobody there knows yet whether a request will be held, so every marked one is shielded. It is a filter that Envoy
brings along, behind the matcher that keeps it away from all other requests.
"""

from typing import Any

from .matching import MUTATION, UNMARKED, filter_config, marked, put, where
from .onward import SHIELD
from .yaml import Commented

NAME = "squash_shield"


def shield() -> dict[str, Any]:
    """The pieces to paste into the configuration of an Envoy through which services are called."""
    return {
        "http_filters": Commented(
            "Goes before the router of each Envoy on a marked request's way to the one that holds. Not at the edge,\n"
            "unless the mark is taken off strangers' requests there: these get no timeout.\n"
            "What this cannot switch off is idle time: let stream_idle_timeout of the connection manager, and the\n"
            "idle_timeout of routes, be longer than a hold (Envoy's own default is five minutes).",
            [shielding()],
        )
    }


def shielding() -> dict[str, Any]:
    """The filter. The router behind it reads what it sets, and takes it off again."""
    mutations = [put(name, value) for name, value in SHIELD.items()]
    config = {
        "mutations": {
            "request_mutations": Commented("No timeout (0 is none), none for a single try, and no retry.", mutations)
        }
    }
    ours = filter_config(NAME, MUTATION, config)
    return where(marked(), [ours], UNMARKED)
