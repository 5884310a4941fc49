"""The pause budget: how long the caller of a held request waits, as far as it says so."""

import re

LONGEST = 31_536_000.0
"""Seconds; a deadline beyond it is none."""
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_GRPC = re.compile(r"([0-9]{1,8})([HMSmun])")


def budget(expected_ms: str | None, grpc_timeout: str | None) -> float | None:
    """Seconds until the caller gives up: the least that it tells; None when it tells none that can be used.

    `expected_ms` is `x-envoy-expected-rq-timeout-ms`, which the caller's Envoy sets; `grpc_timeout` that of gRPC over
    HTTP/2: at most eight digits and a unit.
    """
    told = []
    if expected_ms and expected_ms.isascii() and expected_ms.isdigit() and len(expected_ms) <= 15:
        told.append(int(expected_ms) / 1000)
    if grpc_timeout and (match := _GRPC.fullmatch(grpc_timeout)):
        told.append(int(match[1]) * _UNITS[match[2]])
    return min((seconds for seconds in told if 0 < seconds <= LONGEST), default=None)
