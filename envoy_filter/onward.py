"""What a marked request gets on its way onwards: the mark in header and baggage, and a shield if it was held.

The shield speaks to the router of the Envoy that sets it, which takes it off again: no timeout, none for a try, and
no retry. So nothing fires while a developer looks, and nothing does the request twice.
"""

from squash.mark import BAGGAGE
from squash.result import MARK, Result

from .headers import MarkedRequest

SHIELD = {
    "x-envoy-upstream-rq-timeout-ms": "0",
    "x-envoy-upstream-rq-per-try-timeout-ms": "0",
    "x-envoy-max-retries": "0",
}
"""A timeout of 0 is none. The caller's own deadline needs no help: when it hangs up, Envoy ends the request."""
ONWARD = (MARK, BAGGAGE, *SHIELD)
"""All headers that `onward` may give."""


def onward(request: MarkedRequest, result: Result) -> dict[str, str]:
    """The headers to set; each replaces all lines of its name. A request that found nobody waiting has no shield."""
    return {**request.carried, **(SHIELD if result.id else {})}
