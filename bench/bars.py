"""The rows of the table: what each key means, and the bar that its value is held against."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    UNKNOWN = "no figure"
    """The value, or the one it is compared with, was not measured."""
    NONE = ""
    """There is no bar: shown for comparison."""


class Side(StrEnum):
    """On which side of the bar a good value lies."""

    AT_LEAST = "≥"
    AT_MOST = "≤"
    BELOW = "<"


@dataclass(frozen=True)
class Bar:
    """The limit is `times` the value of the key `of`, plus `plus`; without `of` it is `plus` alone."""

    side: Side
    plus: float = 0.0
    times: float = 1.0
    of: str = ""

    def __str__(self) -> str:
        factor = f"{self.times:g} × " if self.times != 1 else ""
        plus = f" + {self.plus:g}" if self.plus else ""
        return f"{self.side} {factor}{self.of}{plus}" if self.of else f"{self.side} {self.plus:g}"

    def limit(self, values: Mapping[str, float]) -> float | None:
        """None when the value it depends on is missing."""
        if not self.of:
            return self.plus
        base = values.get(self.of)
        return None if base is None else self.times * base + self.plus

    def holds(self, value: float, limit: float) -> bool:
        match self.side:
            case Side.AT_LEAST:
                return value >= limit
            case Side.AT_MOST:
                return value <= limit
            case Side.BELOW:
                return value < limit


@dataclass(frozen=True)
class Row:
    key: str
    what: str
    bar: Bar | None = None


def judge(row: Row, values: Mapping[str, float]) -> Verdict:
    """What the values, by their keys, say of a row."""
    if row.bar is None:
        return Verdict.NONE
    limit = row.bar.limit(values)
    if limit is None or row.key not in values:
        return Verdict.UNKNOWN
    return Verdict.MET if row.bar.holds(values[row.key], limit) else Verdict.MISSED


def _front_end_rows() -> tuple[Row, ...]:
    """The whole bootstrap with Lua has its rows already."""
    return tuple(
        Row(f"unmarked.{end}_{way}_ratio", f"the same as {way}_ratio for {what}", bar)
        for end, what in (
            ("grpc", "the front end grpc"),
            ("http", "the front end http"),
            ("lua_snippet", "the pieces for an Envoy of one's own, whose matcher each request meets, with lua"),
            ("grpc_snippet", "the pieces, with grpc"),
            ("http_snippet", "the pieces, with http"),
        )
        for way, bar in (("proxied", Bar(Side.AT_LEAST, 0.98)), ("direct", Bar(Side.AT_LEAST, 0.93)))
    )


def _marked_rows() -> tuple[Row, ...]:
    return tuple(
        Row(f"marked.{end}_added_p{percent}_ms", f"{what}, front end {end}", Bar(Side.AT_MOST, most))
        for end in ("lua", "grpc", "http")
        for percent, what, most in (
            (50, "by how much a marked request that nobody waits for takes longer than an unmarked one", 3),
            (99, "the same, the slowest in a hundred of either", 10),
        )
    )


ROWS = (
    Row(
        "unmarked.proxied_ratio",
        "unmarked requests through Envoy to a fast upstream: requests/s with the filter over without",
        Bar(Side.AT_LEAST, 0.98),
    ),
    Row("unmarked.proxied_cpu_ratio", "the same in requests per second of Envoy's processor time"),
    Row(
        "unmarked.baggage_ratio",
        "the same as proxied_ratio for requests with a baggage that marks nothing",
        Bar(Side.AT_LEAST, 0.98),
    ),
    Row("unmarked.baggage_cpu_ratio", "the same in requests per second of Envoy's processor time"),
    Row(
        "unmarked.direct_ratio",
        "the same as proxied_ratio where Envoy answers by itself",
        Bar(Side.AT_LEAST, 0.93),
    ),
    Row("unmarked.direct_cpu_ratio", "the same in requests per second of Envoy's processor time"),
    *_front_end_rows(),
    Row(
        "armed.failure_ratio",
        "unmarked requests that do not fail, to a fast upstream: requests/s armed for a 5xx over not armed",
        Bar(Side.AT_LEAST, 0.98),
    ),
    Row("armed.latency_ratio", "the same, armed for slow answers", Bar(Side.AT_LEAST, 0.98)),
    *_marked_rows(),
    Row(
        "hold.lag_p50_ms",
        "from the PATCH to attached until the upstream has the held request",
        Bar(Side.AT_MOST, 5),
    ),
    Row("hold.lag_p99_ms", "the same, the slowest in a hundred", Bar(Side.AT_MOST, 30)),
    Row(
        "crowd.lag_p99_ms",
        "a thousand held and let go together: from the coordinator's word until the upstream has it, slowest in 100",
        Bar(Side.BELOW, 250),
    ),
    Row("crowd.sidecar_rss_mb", "resident memory of squash-sidecar meanwhile", Bar(Side.BELOW, 120)),
    Row(
        "coordinator.attach_per_s",
        "request created, attachment created and matched, patched twice, deleted: cycles/s on one core",
        Bar(Side.AT_LEAST, 400),
    ),
    Row(
        "coordinator.match_growth",
        "p50 of a matching POST with many debug requests pending over that with few",
        Bar(Side.BELOW, 1.5),
    ),
    Row("coordinator.match_p50_ms", "a matching POST with many pending"),
    Row("coordinator.match_p99_ms", "the same, the slowest in a hundred"),
    Row(
        "tunnel.gdb_ratio",
        "gdb packets through `squashctl connect`, coordinator and agent: MB/s over those through a plain TCP relay",
        Bar(Side.AT_LEAST, 0.35),
    ),
    Row("tunnel.gdb_added_ms", "a round trip by that way, less one without it", Bar(Side.AT_MOST, 1)),
    Row(
        "tunnel.dap_ratio",
        "the same as gdb_ratio for DAP, 64 messages of 1 KB, 16 of 20 KB and one of 1 MB in turn",
        Bar(Side.AT_LEAST, 0.35),
    ),
    Row("tunnel.dap_1k_ratio", "the same, messages of 1 KB alone", Bar(Side.AT_LEAST, 0.35)),
    Row("tunnel.dap_20k_ratio", "the same, messages of 20 KB alone", Bar(Side.AT_LEAST, 0.35)),
    Row("tunnel.dap_1m_ratio", "the same, messages of 1 MB alone", Bar(Side.AT_LEAST, 0.35)),
    Row("tunnel.dap_added_ms", "the same as gdb_added_ms for DAP", Bar(Side.AT_MOST, 1)),
    Row("sidecar.rss_mb", "resident memory of squash-sidecar, idle", Bar(Side.AT_MOST, 40)),
    Row("agent.rss_mb", "resident memory of squash-agent, idle", Bar(Side.AT_MOST, 60)),
    Row("coordinator.rss_mb", "resident memory of squash-coordinator, idle", Bar(Side.AT_MOST, 70)),
    Row(
        "resolve.added_ms",
        "from a container's id to the process to debug, with 1,000 processes on the node: beyond one status call",
        Bar(Side.AT_MOST, 1),
    ),
    Row("resolve.listed_added_ms", "the same from pod, namespace and container, with the list call"),
    Row("resolve.status_ms", "one status call of the runtime alone"),
    Row(
        "attach.debugpy_ms",
        "from sending the marked request until its attachment is attached, Python",
        Bar(Side.AT_MOST, times=0.2, of="attach.debugpy_floor_ms"),
    ),
    Row(
        "attach.debugpy_added_mb",
        "by how much a Python in a container grows with a debugger in it, files in its /dev included",
        Bar(Side.AT_MOST, 16),
    ),
    Row(
        "python.after_detach_ratio",
        "processor time of a request that computes, after a debugger was there, over that before",
        Bar(Side.AT_MOST, 1.05),
    ),
    Row("attach.debugpy_floor_ms", "stock `python -m debugpy --listen … --pid …` until its port takes a client"),
    Row(
        "attach.gdb_ms",
        "from sending the marked request until its attachment is attached, native",
        Bar(Side.AT_MOST, 150, of="attach.gdb_floor_ms"),
    ),
    Row("attach.gdb_floor_ms", "stock `gdbserver --attach - PID` until its first answer"),
    Row("attach.gdb_connect_ms", "after it, from a client's connect until gdbserver's first answer"),
    Row(
        "attach.gdb_ready_ms",
        "from the agent's claim until a client can set a breakpoint, native: the attach, then connect_ms",
        Bar(Side.AT_MOST, 40, of="attach.gdb_floor_ms"),
    ),
    Row("attach.gdb_break_floor_ms", "stock `gdb -p PID` until its breakpoint is set"),
    Row(
        "attach.delve_ms",
        "from the agent's claim until a client has set a breakpoint, Go: the attach, then connect_ms",
        Bar(Side.AT_MOST, 40, of="attach.delve_floor_ms"),
    ),
    Row(
        "attach.delve_connect_ms", "from a client's connect until its breakpoint is set: until then nothing is stopped"
    ),
    Row("attach.delve_floor_ms", "stock `dlv attach PID --headless` until a client's breakpoint is set"),
    Row(
        "attach.jdwp_ms",
        "from the agent's claim until a client can set a breakpoint, for a JVM whose JDWP listens",
        Bar(Side.AT_MOST, 40, of="attach.jdwp_floor_ms"),
    ),
    Row("attach.jdwp_floor_ms", "a stock client's handshake with such a JVM until it can set a breakpoint"),
    Row(
        "attach.jdwp_woken_ms",
        "the same as jdwp_ms for a JVM whose JDWP sleeps (onjcmd=y)",
        Bar(Side.AT_MOST, 40, of="attach.jdwp_woken_floor_ms"),
    ),
    Row("attach.jdwp_woken_floor_ms", "stock `jcmd PID VM.start_java_debugging`, and then as in jdwp_floor_ms"),
    Row(
        "attach.node_ms",
        "from the agent's claim until a client has set a breakpoint, Node.js",
        Bar(Side.AT_MOST, 40, of="attach.node_floor_ms"),
    ),
    Row("attach.node_floor_ms", "stock SIGUSR1 until a client of Node's own port has set a breakpoint"),
)
