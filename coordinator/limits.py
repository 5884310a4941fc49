"""How much there may be at once, for one developer and for one image. Pure: counts what changes, looks at nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from coordinator.decision import AttachmentChange, Change
from squash import images
from squash.errors import ApiError
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, Phase, RequestSpec, State
from squash.reasons import Reason
from squash.settings import CoordinatorSettings


class Kind(StrEnum):
    """What is counted. The value is the beginning of the settings' names."""

    REQUESTS = "requests"
    """Debug requests that wait."""
    ATTACHMENTS = "attachments"
    """Debug attachments that are not over: held, being attached, attached."""
    STREAMS = "streams"
    """Streams through the tunnel."""


_WORDS = {
    Kind.REQUESTS: "waiting debug requests",
    Kind.ATTACHMENTS: "debug attachments",
    Kind.STREAMS: "streams through the tunnel",
}


@dataclass(frozen=True)
class Limits:
    """The most of each kind, for one owner and for one image."""

    owner: dict[Kind, int]
    image: dict[Kind, int]

    @classmethod
    def of(cls, settings: CoordinatorSettings) -> "Limits":
        return cls(
            owner={kind: getattr(settings, f"max_{kind}_per_owner") for kind in Kind},
            image={kind: getattr(settings, f"max_{kind}_per_image") for kind in Kind},
        )


class Usage:
    """How much there is now."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._of_owner: Counter[tuple[Kind, str]] = Counter()
        self._of_image: Counter[tuple[Kind, str]] = Counter()

    def check(self, kind: Kind, owner: str | None, image: str | None) -> None:
        """Raises ApiError 429 when one more would be too many. What has no owner counts for its image alone."""
        for by, name, count, most in (
            ("owner", owner, self._of_owner[kind, owner] if owner else 0, self._limits.owner[kind]),
            ("image", image, self._of_image[kind, images.key(image)] if image else 0, self._limits.image[kind]),
        ):
            if count >= most:
                message = f"{by} {name!r} has {count} {_WORDS[kind]}, as many as may be (max_{kind}_per_{by} = {most})"
                raise ApiError(429, Reason.LIMIT_REACHED, message)

    def check_attachment(self, spec: AttachmentSpec) -> None:
        self.check(Kind.ATTACHMENTS, spec.owner, spec.image)

    def check_request(self, spec: RequestSpec) -> None:
        self.check(Kind.REQUESTS, spec.owner, spec.image)

    def apply(self, changes: Iterable[Change]) -> None:
        """Counts what a decision changed."""
        for change in changes:
            if isinstance(change, AttachmentChange):
                self._count(Kind.ATTACHMENTS, _alive(change.before), -1)
                self._count(Kind.ATTACHMENTS, _alive(change.after), +1)
            else:
                self._count(Kind.REQUESTS, _waiting(change.before), -1)
                self._count(Kind.REQUESTS, _waiting(change.after), +1)

    @contextmanager
    def stream(self, spec: AttachmentSpec, client: str) -> Iterator[None]:
        """While it is open: one of this client, if anybody knows who that is. Raises ApiError 429."""
        self.check(Kind.STREAMS, client, spec.image)
        self._add(Kind.STREAMS, client, spec.image, +1)
        try:
            yield
        finally:
            self._add(Kind.STREAMS, client, spec.image, -1)

    def _count(self, kind: Kind, spec: AttachmentSpec | RequestSpec | None, step: int) -> None:
        if spec:
            self._add(kind, spec.owner, spec.image, step)

    def _add(self, kind: Kind, owner: str | None, image: str | None, step: int) -> None:
        for counter, name in ((self._of_owner, owner), (self._of_image, images.key(image) if image else None)):
            if name:
                counter[kind, name] += step
                if not counter[kind, name]:
                    del counter[kind, name]


def _alive(attachment: DebugAttachment | None) -> AttachmentSpec | None:
    if attachment is None or attachment.status.state is State.ERROR or attachment.status.phase is Phase.DETACHED:
        return None
    return attachment.spec


def _waiting(request: DebugRequest | None) -> RequestSpec | None:
    return request.spec if request and not request.status.debug_attachment_ref else None
