"""What the sidecar counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from squash.model import Outcome
from squash.reasons import Reason
from squash.result import Result

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """`opened` tells how many requests are held right now."""

    def __init__(self, opened: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._holds = Counter("squash_holds", "Holds that ended, by outcome", ["outcome"], registry=self._registry)
        self._seconds = Histogram(
            "squash_hold_seconds", "Seconds a request was held", buckets=_SECONDS, registry=self._registry
        )
        Gauge(
            "squash_sidecar_open_holds", "Requests that this sidecar holds now", registry=self._registry
        ).set_function(opened)
        self._refused = Counter(
            "squash_tickets_refused", "Marks that did not count, by reason", ["reason"], registry=self._registry
        )
        self._of = {outcome: self._holds.labels(outcome) for outcome in Outcome}
        self._auto = Counter(
            "squash_auto_debug",
            "Auto-debug: what was decided, and why not",
            ["decision", "reason"],
            registry=self._registry,
        )

    def ended(self, result: Result) -> None:
        self._of[result.outcome].inc()
        self._seconds.observe(result.held or 0.0)

    def ticket_refused(self, reason: Reason) -> None:
        self._refused.labels(reason).inc()

    def decided(self, decision: str, reason: str | None = None) -> None:
        """`armed`, `disarmed`, `slow_seen`, `held`, `replayed`, or `skipped` with a reason."""
        self._auto.labels(decision, reason or "").inc()

    def text(self) -> bytes:
        """In Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)
