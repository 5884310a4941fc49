"""Which container of a pod is meant: the one named, or the only one that could be. Pure."""

from collections.abc import Collection, Iterable

from squash.errors import ApiError
from squash.reasons import Reason

_SHOWN = 10


def choose(named: str | None, containers: Collection[str], left_out: Collection[str], pod: str) -> str:
    """The name of the container that is meant.

    `left_out` are mesh proxies and init containers, chosen only by name or when there is nothing else. `pod` is for the
    message. Raises ApiError 404 with the names that there are.
    """
    if named is not None:
        if named in containers:
            return named
        message = f"{pod} has no container {named!r}; it has {shortened(containers)}"
        raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
    if len(containers) == 1:
        return next(iter(containers))
    own = [name for name in containers if name not in left_out]
    if len(own) == 1:
        return own[0]
    names = shortened(own or containers)
    raise ApiError(404, Reason.CONTAINER_AMBIGUOUS, f"{pod} has several containers that could be meant: {names}")


def shortened(names: Iterable[str]) -> str:
    """The first few of the names, in order, and how many more there are."""
    ordered = sorted(set(names))
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more if ordered else "none"
