"""Where a mark was lost: what the sidecars that saw a request tell of the services between them. Pure.

Every sidecar has a marked request go on with the mark in header and baggage, both. So what is missing when the next
sidecar sees it was dropped by the service in between; and where nobody saw it any more, a service dropped both.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from squash import images
from squash.mark import BAGGAGE
from squash.model import Carrier, DebugRequest, Sighting
from squash.result import MARK

PASS_ON = f"it must pass on {MARK}, or {BAGGAGE} as OpenTelemetry's propagators do"
_MARKED = {
    None: "marked",
    Carrier.HEADER: f"marked by {MARK}",
    Carrier.BAGGAGE: f"marked by {BAGGAGE}",
    Carrier.BOTH: f"marked by {MARK} and {BAGGAGE}",
}
_DROPPED = {Carrier.HEADER: f"{MARK}, but not {BAGGAGE}", Carrier.BAGGAGE: f"{BAGGAGE}, but not {MARK}"}


@dataclass(frozen=True)
class Hop:
    """One sighting of a marked request, and the one before it in the same trace, if there was one."""

    sighting: Sighting
    before: Sighting | None

    @property
    def dropped(self) -> str:
        """What the mark lost on its way here, in a sentence; empty when nothing, or when the caller marked it so."""
        mark = self.sighting.mark
        if self.before is None or mark is None or mark is Carrier.BOTH:
            return ""
        here, before = where(self.sighting), where(self.before)
        return f"whoever called {here} passes on {_DROPPED[mark]} (the mark was at {before} before)"

    def __str__(self) -> str:
        one = self.sighting
        asked = " ".join(part for part in (one.method, one.path) if part)
        became = one.outcome.value if one.outcome else "held"
        return f"{where(one)}: {f'{asked}, ' if asked else ''}{_MARKED[one.mark]}, {became}"


def where(sighting: Sighting) -> str:
    """`demo/pricing-1 (demo/pricing)`: the pod, and its image."""
    pod = "/".join(part for part in (sighting.namespace, sighting.pod) if part) or "a pod without a name"
    return f"{pod} ({sighting.image})" if sighting.image else pod


def trace_of(sighting: Sighting) -> str:
    """The id of its trace, else of the request, which Envoy makes when nobody has; empty without both."""
    parts = (sighting.traceparent or "").split("-")
    return parts[1] if len(parts) > 3 else sighting.request_id or ""


def way(sightings: Iterable[Sighting], trace: str) -> list[Hop]:
    """What was seen of one trace, the first sighting first. `trace` as `trace_of` gives it.

    Of sightings without a trace (empty) nobody knows what belongs together: only the newest one is told.
    """
    seen = sorted((one for one in sightings if trace_of(one) == trace), key=lambda one: one.time)
    known = seen if trace else seen[-1:]
    return [Hop(one, before) for one, before in zip(known, [None, *known], strict=False)]


def lost(hops: Sequence[Hop], wanted: Callable[[Sighting], bool], target: str) -> list[str]:
    """Why a marked request never came to where it was waited for, in sentences; empty when it did.

    `wanted` tells whether a sighting is there, `target` names the place.
    """
    if any(wanted(hop.sighting) for hop in hops):
        return []
    if not hops:
        return [
            f"no marked request was seen at any sidecar on the way to {target}: see that the first one bears {MARK} or "
            f"the {BAGGAGE} member, and goes through an Envoy that holds"
        ]
    last = where(hops[-1].sighting)
    return [
        *(hop.dropped for hop in hops if hop.dropped),
        f"the mark was last seen at {last}; {target} saw nothing of it: "
        f"if {last} is what calls the next service, {PASS_ON}",
    ]


def missing(request: DebugRequest, sightings: Sequence[Sighting]) -> list[str]:
    """Why a debug request still waits, by what was seen since it was made; empty when a mark came to its image.

    Looks at the newest trace: that is the request that its developer has just sent.
    """
    spec, since = request.spec, request.status.created or 0.0

    def wanted(one: Sighting) -> bool:
        return images.same(spec.image, one.image or "", one.images or ()) and spec.namespace in (None, one.namespace)

    recent = [one for one in sightings if one.time >= since]
    if any(wanted(one) for one in recent):
        return []
    newest = max(recent, key=lambda one: one.time, default=None)
    near = [one for one in recent if images.repository(one.image or "") == images.repository(spec.image)]
    if near and spec.namespace in (None, near[-1].namespace):
        return [f"a marked request reached {where(near[-1])}; this one waits for {spec.image}, which is another image"]
    return lost(way(recent, trace_of(newest)) if newest else [], wanted, spec.image)


def story(hops: Iterable[Hop]) -> Iterator[str]:
    """The way of a trace, one line a sighting and one for each thing that the mark lost."""
    for hop in hops:
        if hop.dropped:
            yield f"  {hop.dropped}"
        yield str(hop)
