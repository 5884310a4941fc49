"""The HTTP filters that make an Envoy hold marked requests: one list for each way of asking the sidecar."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import msgspec

from squash.mark import BAGGAGE, MEMBER
from squash.model import PYTHON_ALONE, Outcome
from squash.options import Address, setting
from squash.reasons import Reason
from squash.result import HEADER, MARK, Result
from squash.settings import Positive, SidecarSettings

from .headers import CHECK_PREFIX, EXPECTED, FORWARDED, HOLD, IGNORED, longest
from .identity import CLAIMS
from .matching import MUTATION, UNMARKED, but_not, filter_config, marked, noted_true, put, unless, where
from .onward import ONWARD
from .yaml import Commented

ClusterName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[!-~]+$" + PYTHON_ALONE,
        max_length=200,
        description="at most 200 printable ASCII characters without spaces",
    ),
]
HeaderName = Annotated[str, msgspec.Meta(pattern=r"^[!#$&'*+.^_`|~0-9A-Za-z-]+$" + PYTHON_ALONE, max_length=200)]
SIDECAR = "squash_sidecar"
FILTER = "squash"
MARGIN = 0.5
"""Seconds that Envoy waits for the sidecar beyond the sidecar's own limits: only a frozen one takes that long."""
GRPC_LISTEN = Address("127.0.0.1", 8604)
_SIDECAR = SidecarSettings()
_UNREACHABLE = str(Result(Outcome.UNAVAILABLE, reason=Reason.SIDECAR_UNREACHABLE))
EXT_AUTHZ = "envoy.filters.http.ext_authz"
HELD = "held"
"""Noted as `true` on requests that auto-debug has held."""
_NOTED = "%DYNAMIC_METADATA(squash:result)%"
_ANSWERED = f"%DYNAMIC_METADATA({EXT_AUTHZ}:{HEADER})%"


LUA = "lua.v3.Lua"


class FrontEnd(StrEnum):
    """How Envoy asks the sidecar."""

    LUA = "lua"
    GRPC = "grpc"
    HTTP = "http"


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """What the filter has to know. Both timeouts must be the sidecar's."""

    front_end: FrontEnd = setting(
        FrontEnd.LUA, "how Envoy asks squash-sidecar: lua, or Envoy's ext_authz over grpc or http"
    )
    sidecar: Address | None = setting(
        None,
        "address of squash-sidecar: its `listen`, but its `grpc_listen` for the front end grpc",
        stated=f"{_SIDECAR.listen}, for grpc {GRPC_LISTEN}",
    )
    sidecar_cluster: ClusterName | None = setting(
        None, "name of a cluster of yours that leads to squash-sidecar (for grpc by HTTP/2), instead of an address"
    )
    sidecar_socket: Path | None = setting(
        None, "unix socket of squash-sidecar, instead of an address: its `listen_socket` or `grpc_listen_socket`"
    )
    shared: bool = setting(
        False,
        "tell squash-sidecar whose request it is, by SQUASH_POD, SQUASH_NAMESPACE and SQUASH_CONTAINER of Envoy's "
        "environment: for one that pods share",
    )
    request_timeout: Positive = setting(_SIDECAR.request_timeout, "the sidecar's request_timeout, in seconds")
    attachment_timeout: Positive = setting(_SIDECAR.attachment_timeout, "the sidecar's attachment_timeout, in seconds")

    auto_debug: bool = setting(
        True, "whether debug requests with a trigger (5xx, latency) work: Envoy then asks the sidecar what is pending"
    )
    sidecar_http: Address | None = setting(
        None,
        "the sidecar's `listen` for auto-debug, where `sidecar` leads elsewhere: with the front end grpc",
        stated=f"`sidecar`, for grpc {_SIDECAR.listen}",
    )
    failure_headers: tuple[HeaderName, ...] = setting(
        _SIDECAR.failure_headers,
        "headers of a slow answer that are told to the sidecar, separated by commas: its failure_headers",
        stated=",".join(_SIDECAR.failure_headers),
    )

    @property
    def http_cluster(self) -> str:
        """Name of the cluster that leads to the sidecar by HTTP/1.1."""
        own = self.front_end is not FrontEnd.GRPC and self.sidecar_http is None
        return self.cluster if own else f"{SIDECAR}_http"

    @property
    def http_address(self) -> Address:
        """Where the sidecar answers by HTTP/1.1, whatever the front end."""
        other = _SIDECAR.listen if self.front_end is FrontEnd.GRPC else self.address
        return self.sidecar_http or other

    @property
    def cluster(self) -> str:
        """Name of the cluster that leads to the sidecar."""
        return self.sidecar_cluster or SIDECAR

    @property
    def address(self) -> Address:
        """Where the sidecar answers this front end."""
        return self.sidecar or (GRPC_LISTEN if self.front_end is FrontEnd.GRPC else _SIDECAR.listen)


def filters(settings: FilterSettings) -> list[dict[str, Any]]:
    """The filters in their order, which Envoy has for marked requests alone."""
    match settings.front_end:
        case FrontEnd.LUA:
            ours = [filter_config(FILTER, LUA, {"default_source_code": {"inline_string": lua(settings)}})]
        case FrontEnd.GRPC:
            # What the sidecar answers replaces what the filter behind has put there.
            ours = [_noting(), _ext_authz(_over_grpc(settings)), _saying(_NOTED)]
        case FrontEnd.HTTP:
            # Here Envoy would add what the sidecar answers to what is there; so it is taken from the metadata, too.
            ours = [_noting(), _ext_authz(_over_http(settings)), _saying(_NOTED, _ANSWERED)]
    # Where auto-debug's filters come first, the requests that it holds are marked by now; once is enough.
    held = noted_true("squash", HELD)
    return [where(but_not(marked(), held), ours, UNMARKED)]


# -- Lua --------------------------------------------------------------------------------------------


def lua(settings: FilterSettings) -> str:
    """The source of the Lua filter, with its settings in front."""
    table = {
        "cluster": settings.cluster,
        "request_timeout_ms": milliseconds(settings.request_timeout + MARGIN),
        "attachment_timeout_ms": milliseconds(settings.attachment_timeout + MARGIN),
        "mark": MARK,
        "baggage": BAGGAGE,
        "member": MEMBER,
        "result_header": HEADER,
        "hold_header": HOLD,
        "ignored_header": IGNORED,
        "held": HELD,
        "unreachable": _UNREACHABLE,
        "forwarded": {name: {"name": wire, "longest": longest(wire)} for name, wire in FORWARDED.items()},
        "onward": dict(enumerate(ONWARD, 1)),
        "claims": dict(CLAIMS) if settings.shared else {},
    }
    return script("squash", table)


def script(name: str, table: Mapping[str, Any]) -> str:
    """The source of a Lua filter: what it has to know, what all share, and its own part."""
    directory = resources.files(__package__).joinpath("lua")
    parts = [directory.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("prelude", name)]
    return "\n".join([f"local settings = {lua_value(table)}\n", *parts])


def lua_value(value: Any, indent: str = "") -> str:
    """`value` as a Lua literal: tables, integers and printable ASCII."""
    if isinstance(value, Mapping):
        inner = indent + "  "
        lines = (f"{inner}[{lua_value(k)}] = {lua_value(v, inner)},\n" for k, v in value.items())
        return "{\n" + "".join(lines) + indent + "}"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# -- ext_authz --------------------------------------------------------------------------------------


def _ext_authz(service: dict[str, Any]) -> dict[str, Any]:
    told = [{"exact": name} for name in FORWARDED if not name.startswith(":")]
    config = {
        "transport_api_version": "V3",
        "failure_mode_allow": Commented(
            "Without an answer the request goes on. There is no with_request_body on purpose: Envoy would refuse\n"
            "bodies that are larger than it may buffer; without, they wait at their sender.",
            True,
        ),
        "allowed_headers": Commented("Besides method, path and authority.", {"patterns": told}),
        "disallowed_headers": Commented("Envoy would tell it by itself.", {"patterns": [{"exact": "authorization"}]}),
    }
    return filter_config(EXT_AUTHZ, "ext_authz.v3.ExtAuthz", config | service)


def _over_grpc(settings: FilterSettings) -> dict[str, Any]:
    service = {"envoy_grpc": {"cluster_name": settings.cluster}, "timeout": _longest_check(settings)}
    claims: dict[str, Any] = {"initial_metadata": _claims()} if settings.shared else {}
    return {"encode_raw_headers": True, "grpc_service": service | claims}


def _over_http(settings: FilterSettings) -> dict[str, Any]:
    uri = {"uri": "http://squash-sidecar", "cluster": settings.cluster, "timeout": _longest_check(settings)}
    return {
        "http_service": {
            "server_uri": uri,
            "path_prefix": CHECK_PREFIX,
            "authorization_request": {
                "headers_to_add": Commented(
                    "Envoy's call to the sidecar has a timeout of its own under the usual name.",
                    [
                        {"key": EXPECTED, "value": "%REQ(x-envoy-expected-rq-timeout-ms)%"},
                        *(_claims() if settings.shared else []),
                    ],
                )
            },
            "authorization_response": {
                "allowed_upstream_headers": Commented(
                    "What the request gets on its way onwards.", {"patterns": [{"exact": name} for name in ONWARD]}
                ),
                "dynamic_metadata_from_headers": {"patterns": [{"exact": HEADER}, {"exact": IGNORED}]},
            },
        }
    }


def _claims() -> list[dict[str, Any]]:
    """What tells whose request it is; Envoy's environment may hold no control characters."""
    return [{"key": name, "value": f"%ENVIRONMENT({variable})%"} for name, variable in CLAIMS.items()]


def _longest_check(settings: FilterSettings) -> Commented:
    """One call lasts as long as the hold, so its limit is that of the longest."""
    return Commented("The sidecar's attachment_timeout, and a margin.", f"{settings.attachment_timeout + MARGIN:.3f}s")


def _noting() -> dict[str, Any]:
    note = {"metadata_namespace": "squash", "value": {"result": _UNREACHABLE}}
    metadata = Commented("What the response says unless the sidecar has answered.", [note])
    return filter_config(f"{FILTER}_note", "set_metadata.v3.Config", {"metadata": metadata})


def _saying(*values: str) -> dict[str, Any]:
    """Of the values the last one that is there counts; none where the sidecar has answered that there is no mark."""
    mutations = [put(HEADER, value) for value in values]
    comment = "Puts the note on the response; what the sidecar has answered wins."
    config = {"mutations": {"response_mutations": Commented(comment, mutations)}}
    result = filter_config(f"{FILTER}_result", MUTATION, config)
    return unless(noted_true(EXT_AUTHZ, IGNORED), result)


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
