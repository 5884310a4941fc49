"""The debug requests that wait for a match, found in the same time however many they are."""

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import product
from typing import TypeVar

from squash import images
from squash.model import Trigger

OPEN = ""
"""A debugger or process name that was left open."""


class _Any:
    """Stands for every debugger or process name, the open one too."""


_ANY = _Any()
_Slot = str | _Any
_Key = tuple[Trigger, str, _Slot, _Slot, _Slot]
_Terms = tuple[Trigger, str, str, str, str]
# OrderedDict, because finding the first key of a plain dict walks over all that were removed before it.
_Bucket = OrderedDict[int, str]
_NOTHING: _Bucket = OrderedDict()


class Pending:
    """Each request lies in four buckets: under its own debugger and process name, and under "any" for each of them.

    So the oldest fitting one is always the first of a few buckets. A namespace is never "any" to those that look for
    one: a request that names a namespace is for that one alone. A fifth bucket has every request for the image, a sixth
    every one for its repository, whatever the tag. All of it is once for each trigger, which are never mixed up.

    A request is for one key of an image (`squash.images`); a container's image may have several.
    """

    def __init__(self) -> None:
        self._buckets: dict[_Key, _Bucket] = {}
        self._known: dict[str, tuple[int, _Terms]] = {}
        self._of_repository: dict[tuple[Trigger, str], _Bucket] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def add(
        self,
        name: str,
        image: str,
        debugger: str,
        process_name: str,
        namespace: str = OPEN,
        trigger: Trigger = Trigger.MARK,
    ) -> None:
        """Puts a request behind all others; `OPEN` leaves debugger, process name or namespace to the attachment."""
        self._count += 1
        where = (trigger, images.key(image), debugger, process_name, namespace)
        self._known[name] = self._count, where
        for key in _keys(*where):
            self._buckets.setdefault(key, OrderedDict())[self._count] = name
        self._of_repository.setdefault(_repository(where), OrderedDict())[self._count] = name

    def remove(self, name: str) -> None:
        """Takes a request out; one that does not wait is no error."""
        if name not in self._known:
            return
        number, where = self._known.pop(name)
        for key in _keys(*where):
            _take_out(self._buckets, key, number)
        _take_out(self._of_repository, _repository(where), number)

    def oldest(
        self,
        known_as: frozenset[str],
        debugger: str,
        process_name: str,
        usable: Callable[[str], bool],
        namespace: str = OPEN,
        trigger: Trigger = Trigger.MARK,
    ) -> str | None:
        """The oldest usable request for an image of these keys whose debugger and process name do not contradict.

        One that names a namespace only fits that `namespace`.
        """
        debuggers: tuple[_Slot, ...] = (debugger, OPEN) if debugger else (_ANY,)
        processes: tuple[_Slot, ...] = (process_name, OPEN) if process_name else (_ANY,)
        namespaces: tuple[_Slot, ...] = (namespace, OPEN) if namespace else (OPEN,)
        firsts = (
            next(((number, name) for number, name in bucket.items() if usable(name)), None)
            for image in known_as
            for slots in product(debuggers, processes, namespaces)
            if (bucket := self._buckets.get((trigger, image, *slots)))
        )
        found = min((first for first in firsts if first), default=None)
        return found[1] if found else None

    def of_image(self, known_as: frozenset[str], trigger: Trigger = Trigger.MARK) -> Iterator[str]:
        """Every request for an image of these keys with this trigger, oldest first."""
        buckets = (self._buckets.get((trigger, image, _ANY, _ANY, _ANY), _NOTHING) for image in known_as)
        return (name for _, name in heapq.merge(*(bucket.items() for bucket in buckets)))

    def of_repository(self, repository: str, trigger: Trigger = Trigger.MARK) -> Iterator[str]:
        """Every request for an image of this repository, whatever its tag or digest, oldest first."""
        return iter(self._of_repository.get((trigger, repository), _NOTHING).values())


K = TypeVar("K")


def _take_out(buckets: dict[K, _Bucket], key: K, number: int) -> None:
    bucket = buckets[key]
    del bucket[number]
    if not bucket:
        del buckets[key]


def _repository(where: _Terms) -> tuple[Trigger, str]:
    return where[0], images.repository(where[1])


def _keys(trigger: Trigger, image: str, debugger: str, process_name: str, namespace: str) -> Iterator[_Key]:
    debuggers: tuple[_Slot, ...] = (debugger, _ANY)
    processes: tuple[_Slot, ...] = (process_name, _ANY)
    for pair in product(debuggers, processes):
        yield (trigger, image, *pair, namespace)
    yield trigger, image, _ANY, _ANY, _ANY
