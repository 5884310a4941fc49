"""The settings of every program: one frozen dataclass each; docs/settings.md is made from them."""

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from squash.options import Address, setting
from squash.secret import Secret

Positive = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Patience = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
Tickets = Literal["off", "optional", "required"]

RUNTIME_SOCKET = "socket of the CRI runtime: containerd's, CRI-O's or k3s's"
DOCKER_HOST = "where the Docker engine answers, like unix:///var/run/docker.sock"
TICKET_ISSUER = "the name that tickets are issued in: the same at the coordinator and at its sidecars"
CLOCK_SKEW = "seconds by which the clocks of those who issue and verify tickets may differ"
DEFAULT_SERVER_URL = "http://127.0.0.1:8602"
TEMPLATE = (
    '{"spec": {"attachment": {"pod": "{{ SQUASH_POD }}", "namespace": "{{ SQUASH_NAMESPACE }}"}, '
    '"match_request": true}}'
)


def state_home() -> Path:
    """Where durable state lies: XDG_STATE_HOME, else ~/.local/state, else (no home) a temporary directory."""
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "squash"
    home = os.environ.get("HOME")
    return Path(home) / ".local/state/squash" if home else runtime_home()


def config_home() -> Path:
    """Where a person's own settings lie: XDG_CONFIG_HOME, else ~/.config, else (no home) nowhere that exists."""
    if base := os.environ.get("XDG_CONFIG_HOME"):
        return Path(base) / "squash"
    return Path(os.environ.get("HOME") or os.devnull) / ".config/squash"


def runtime_home() -> Path:
    """Where sockets lie while a program runs: XDG_RUNTIME_DIR, else a directory of this user alone in /tmp."""
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(base) / "squash"
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError:  # all is read-only: whoever uses the directory says so
        place = "/tmp"  # noqa: S108
    return Path(place) / f"squash-{os.getuid()}"


@dataclass(frozen=True)
class CoordinatorSettings:
    listen: Address = setting(Address("127.0.0.1", 8602), "address to answer on; port 0 lets the system choose")
    store: Literal["sqlite", "memory"] = setting("sqlite", "where objects are kept; `memory` forgets them at the end")
    database: Path = setting(
        state_home() / "coordinator.db", "file of the sqlite store", stated="$XDG_STATE_HOME/squash/coordinator.db"
    )
    platform: str = setting(
        "local", "what knows the containers: local, docker, cri (one node alone), or another installed platform"
    )
    runtime_socket: Path | None = setting(None, RUNTIME_SOCKET, stated="the first that is there")
    docker_host: str | None = setting(None, DOCKER_HOST, env="DOCKER_HOST", stated="the engine's usual socket")
    node: str = setting(
        socket.gethostname(),
        "node name that the platforms `local`, `docker` and `cri` give their containers",
        stated="the host's name",
    )
    mesh_proxies: tuple[str, ...] = setting(
        ("istio-proxy", "envoy", "linkerd-proxy", "squash-sidecar"),
        "names of containers never chosen by themselves, separated by commas",
    )
    auth: Literal["none", "token"] = setting(
        "none",
        "whether callers have to say who they are: `token`, by a token or a certificate; `none` suits loopback only",
    )
    insecure: bool = setting(False, "answer on an address that other machines reach although anybody may call there")
    admin_token_file: Path | None = setting(
        None,
        "file of the first admin token; written at the first start with auth = token",
        stated="beside the database",
    )
    tls_certificate: Path | None = setting(
        None, "certificate chain (PEM) to answer by HTTPS with; read again when it changes", stated="none: plain HTTP"
    )
    tls_key: Path | None = setting(None, "its key (PEM), when it is not in the same file", stated="in tls_certificate")
    tls_client_ca: Path | None = setting(
        None, "certificates (PEM) of who may sign clients' certificates, which then stand for tokens", stated="none"
    )
    max_requests_per_owner: Count = setting(100, "debug requests of one developer that wait at once")
    max_requests_per_image: Count = setting(1_000, "debug requests for one image that wait at once")
    max_attachments_per_owner: Count = setting(200, "debug attachments of one developer at once; errors do not count")
    max_attachments_per_image: Count = setting(2_000, "debug attachments of one image at once; errors do not count")
    max_streams_per_owner: Count = setting(400, "streams of one developer through the tunnel at once")
    max_streams_per_image: Count = setting(1_000, "streams to debug servers of one image at once")
    max_body: Count = setting(262_144, "largest request body in bytes; objects are a few hundred")
    max_wait: Positive = setting(300.0, "longest long poll in seconds, whatever X-Timeout says")
    request_ttl: Positive = setting(3_600.0, "seconds that a debug request waits for a match when it names no ttl")
    retention: Positive = setting(3_600.0, "seconds that a finished attachment is kept to be looked at")
    agent_lease: Positive = setting(
        12.0, "seconds that an attachment may be without an agent that is heard of; agents renew every 2"
    )
    holder_lease: Positive = setting(
        8.0, "seconds that a hold may be without a sidecar that watches it; sidecars watch all the time"
    )
    audit_days: Positive = setting(90.0, "days that an entry of the audit trail is kept")
    audit_rows: Count = setting(500_000, "entries of the audit trail that are kept, about 300 bytes each")
    sightings: Count = setting(2_000, "marked requests that are remembered in memory, held or not")
    ticket_issuer: str = setting("squash", TICKET_ISSUER)
    ticket_longest: Positive = setting(86_400.0, "longest time in seconds that a ticket may be valid for")
    clock_skew: Patience = setting(30.0, CLOCK_SKEW)
    log_level: LogLevel = setting("info", "least level of what is logged: debug, info, warning or error")
    log_format: LogFormat = setting("text", "how a log line looks: text or json")


@dataclass(frozen=True)
class ClientSettings:
    """What every program that calls the coordinator is told about it, under the same names."""

    server_url: str = setting(DEFAULT_SERVER_URL, "where the coordinator answers", env="SQUASH_SERVER_URL")
    token: Secret | None = setting(
        None,
        "token that the coordinator knows this program by; it has no flag, for arguments can be seen by all",
        env="SQUASH_TOKEN",
        stated="none",
    )
    token_file: Path | None = setting(
        None, "file with the token, read again when it changes; `token` wins", env="SQUASH_TOKEN_FILE", stated="none"
    )
    tls_ca: Path | None = setting(
        None,
        "certificates (PEM) of who may have signed the coordinator's",
        env="SQUASH_TLS_CA",
        stated="those of the system",
    )
    tls_certificate: Path | None = setting(
        None, "certificate chain (PEM) to show the coordinator", env="SQUASH_TLS_CERTIFICATE", stated="none"
    )
    tls_key: Path | None = setting(
        None, "its key (PEM), when it is not in the same file", env="SQUASH_TLS_KEY", stated="in tls_certificate"
    )
    insecure: bool = setting(
        False,
        "send the token without TLS to another machine, for where something else encrypts, such as a mesh",
        env="SQUASH_INSECURE",
    )


@dataclass(frozen=True)
class AgentSettings(ClientSettings):
    node: str = setting(socket.gethostname(), "the node whose attachments this agent serves", stated="the host's name")
    containers: str = setting(
        "local", "how processes of a container are found: local, cri, docker, or another installed plug-in"
    )
    runtime_socket: Path | None = setting(None, RUNTIME_SOCKET, stated="the first that is there")
    docker_host: str | None = setting(None, DOCKER_HOST, env="DOCKER_HOST", stated="the engine's usual socket")
    runtime_dir: Path = setting(
        runtime_home() / "agent",
        "directory for sockets and for what must be cleaned up after a crash",
        stated="$XDG_RUNTIME_DIR/squash/agent",
    )
    sidecar_listen: Address | None = setting(
        None,
        "hold marked requests in this process, too: the address for Envoy; other settings are those of squash-sidecar, "
        "from its environment variables or the file that SQUASH_CONFIG names; not without it",
        stated="none",
    )
    concurrency: Count = setting(8, "attaches under way at once; each one keeps a core busy for a moment")
    attach_timeout: Positive = setting(20.0, "seconds for one attach, from the claim until the debug server listens")
    first_client: Positive = setting(
        300.0, "seconds that an attached debugger waits for its first client before it is detached again"
    )
    client_grace: Positive = setting(
        30.0, "seconds that a client which left may take to come back before the debugger is detached"
    )
    debug_listen: Address | None = setting(
        None,
        "address at which each debug server listens besides its unix socket, for clients of the first generation; "
        "port 0: any free one",
        stated="none",
    )
    insecure_debug_listen: bool = setting(
        False, "let any user, and for a `debug_listen` that is not of this machine anybody, control what is debugged"
    )
    log_level: LogLevel = setting("info", "least level of what is logged: debug, info, warning or error")
    log_format: LogFormat = setting("text", "how a log line looks: text or json")


@dataclass(frozen=True)
class SidecarSettings(ClientSettings):
    listen: Address = setting(
        Address("127.0.0.1", 8603), "address that Envoy's cluster points to; port 0: any free one"
    )
    grpc_listen: Address | None = setting(
        None,
        "address to answer Envoy's ext_authz over gRPC on, as well (needs `squash[grpc]`); not without it",
        stated="none",
    )
    otlp_endpoint: str | None = setting(
        None,
        "base URL of an OpenTelemetry collector that takes OTLP over HTTP, like http://127.0.0.1:4318: each hold "
        "becomes a span of its request's trace (needs `squash[otel]`); none are made without it",
        stated="none",
    )
    template: str = setting(
        TEMPLATE,
        "JSON body of the attachment that a marked request creates; {{ NAME }} becomes that environment variable",
    )
    request_timeout: Positive = setting(
        1.0, "seconds for the coordinator to answer the creation; then the request goes on"
    )
    attachment_timeout: Positive = setting(60.0, "longest hold in seconds; then the request goes on")
    max_holds: Count = setting(
        2_000, "requests held at once; past them a marked request goes on, so that no flood of them fills the memory"
    )
    failure_headers: tuple[str, ...] = setting(
        ("content-type", "retry-after", "server", "x-envoy-upstream-service-time"),
        "headers of a failed or slow answer that are kept on the attachment of its replay, separated by commas",
    )
    poll_period: Positive = setting(
        1.0, "longest pause in seconds between two tries to reach a lost coordinator while something is held"
    )
    listen_socket: Path | None = setting(None, "unix socket to listen on, as well; not without it", stated="none")
    grpc_listen_socket: Path | None = setting(
        None,
        "unix socket to answer Envoy's ext_authz over gRPC on (needs `squash[grpc]`); not without it",
        stated="none",
    )
    peers: str | None = setting(
        None,
        "shared by pods: what knows the pod at the other end of a connection: local, or another installed plug-in; "
        "not set: all requests are of the pod whose environment this process has",
        stated="none",
    )
    max_holds_per_pod: Count = setting(200, "requests of one pod held at once, where pods share the sidecar")
    tickets: Tickets = setting(
        "off",
        "off: every mark counts; optional: one that looks like a ticket is verified; required: nothing else counts",
    )
    ticket_keys: Path | None = setting(
        None, "file with the public keys of tickets (a JWKS), read again when it changes", stated="the coordinator's"
    )
    ticket_issuer: str = setting("squash", TICKET_ISSUER)
    clock_skew: Patience = setting(30.0, CLOCK_SKEW)
    log_level: LogLevel = setting("info", "least level of what is logged: debug, info, warning or error")
    log_format: LogFormat = setting("text", "how a log line looks: text or json")


@dataclass(frozen=True)
class SquashctlSettings(ClientSettings):
    timeout: Patience = setting(60.0, "seconds that `wait` and `--wait` wait; 0 looks once", env="SQUASHCTL_TIMEOUT")
    console_history: bool = setting(
        True, "whether the console keeps what was typed, in $XDG_STATE_HOME/squash/console-history (mode 0600)"
    )
