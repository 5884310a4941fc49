"""What Prometheus is told."""

import platform
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

import prometheus_client as prometheus
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.board import Board
from coordinator.decision import AttachmentChange, Change
from coordinator.waiting import Waiting
from squash import __version__
from squash.model import State

_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST


class Metrics:
    """Counters of this coordinator, and what its board shows at the moment they are read."""

    def __init__(self, board: Board, waiting: Waiting) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._answers = prometheus.Counter(
            "squash_http_requests", "Answered HTTP requests", ("method", "route", "code"), registry=self._registry
        )
        self._matches = prometheus.Counter(
            "squash_matches", "Attachments that were matched to a debug request", registry=self._registry
        )
        self._outcomes = prometheus.Counter(
            "squash_hold_outcomes", "Holds that ended, by how", ("outcome",), registry=self._registry
        )
        build = prometheus.Info("squash_build", "This coordinator", registry=self._registry)
        build.info({"version": __version__, "python": platform.python_version()})
        prometheus.ProcessCollector(registry=self._registry)
        self._registry.register(_Gauges(board, waiting))
        self._children: dict[tuple[str, str, str], prometheus.Counter] = {}

    def answered(self, method: str, route: str, code: str) -> None:
        """One more answer; `route` is the path with its parameters' names, `code` the status or `gone`."""
        key = (method if method in _METHODS else "other", route, code)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._answers.labels(*key)
        child.inc()

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """One more value, read whenever somebody asks."""
        prometheus.Gauge(name, text, registry=self._registry).set_function(read)

    def count(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if not isinstance(change, AttachmentChange) or change.after is None:
                continue
            before, after = change.before, change.after
            if before is None and after.spec.debug_request:
                self._matches.inc()
            if after.status.outcome and (before is None or before.status.outcome is None):
                self._outcomes.labels(after.status.outcome.value).inc()

    def render(self) -> bytes:
        """The text exposition format."""
        return prometheus.generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, board: Board, waiting: Waiting) -> None:
        self._board = board
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        attachments = self._board.attachments.values()
        by_state = Tally(attachment.status.state for attachment in attachments)
        states = GaugeMetricFamily("squash_attachments", "Debug attachments by state", labels=("state",))
        for state in State:
            states.add_metric((state.value,), by_state[state])
        yield states
        held = sum(
            1 for one in attachments if one.spec.holder and not one.status.state.final and one.status.outcome is None
        )
        yield GaugeMetricFamily("squash_coordinator_open_holds", "Marked requests that all sidecars hold now", held)
        yield GaugeMetricFamily("squash_pending_requests", "Debug requests that wait for a match", self._board.pending)
        yield GaugeMetricFamily("squash_waiters", "Long polls under way", len(self._waiting))
