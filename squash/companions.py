"""Other programs of ours inside one process: plug-ins by the entry points `squash.companions`.

A companion runs while its context lasts. It is given settings that its host sets, by their keys, as text; the others
it has from its own environment variables and its own table of the file that `SQUASH_CONFIG` names.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from importlib.metadata import entry_points
from typing import Protocol

from squash.errors import SettingError

GROUP = "squash.companions"


class Companion(Protocol):
    """Raises SettingError when it cannot run with its settings."""

    def __call__(self, given: Mapping[str, str]) -> AbstractAsyncContextManager[None]: ...


def load(name: str) -> Companion:
    """The installed companion of this name. Raises SettingError."""
    for point in entry_points(group=GROUP, name=name):
        try:
            companion: Companion = point.load()
        except ImportError as error:
            raise SettingError(f"the companion {name!r} cannot be loaded: {error}") from error
        return companion
    raise SettingError(f"there is no companion {name!r}: install the package that has it")
