"""From what a person types to the object that is meant."""

import re
from collections.abc import Sequence
from typing import TypeVar

from squash.client import Call, Client, get_attachment, get_request, list_attachments, list_requests
from squash.errors import ApiError, SettingError, SquashError
from squash.model import NAME_PATTERN, DebugAttachment, DebugRequest
from squash.reasons import Reason

T = TypeVar("T")
Found = DebugAttachment | DebugRequest
_SHOWN = 5
_EMPTY = "an empty text is no id"


def find(client: Client, text: str) -> Found:
    """The one object whose id is, or else begins with, `text`. Raises SquashError when there is none or several."""
    if not text:
        raise SettingError(_EMPTY)
    # What is no id by itself may still begin one; in a path it could mean another place (`.` and `..` do).
    if re.match(NAME_PATTERN, text) and (
        exact := _exact(client, get_attachment(text)) or _exact(client, get_request(text))
    ):
        return exact
    everything: list[Found] = [*client.send(list_attachments()), *client.send(list_requests())]
    found = [each for each in everything if each.name.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise SettingError(f"{text!r} is the beginning of several ids: {_named(found)}; type more of it")
    raise SquashError(Reason.NOT_FOUND, f"no debug request or debug attachment has an id that begins with {text!r}")


def whole_id(client: Client, text: str) -> str:
    """The attachment's id that begins with `text`; `text` itself when there is none any more. Raises SettingError."""
    if not text:
        raise SettingError(_EMPTY)
    found = [each.name for each in client.send(list_attachments()) if each.name.startswith(text)]
    if text in found or not found:
        return text
    if len(found) > 1:
        raise SettingError(f"{text!r} is the beginning of several ids: {', '.join(sorted(found)[:_SHOWN])}")
    return found[0]


def find_all(client: Client, texts: Sequence[str]) -> list[Found]:
    """Each object once. Raises as `find`, before anything is done to one of them."""
    return list({(type(each), each.name): each for each in (find(client, text) for text in texts)}.values())


def _exact(client: Client, call: Call[T]) -> T | None:
    try:
        return client.send(call)
    except ApiError as error:
        if error.reason is Reason.NOT_FOUND:
            return None
        raise


def _named(found: list[Found]) -> str:
    names = ", ".join(sorted(each.name for each in found)[:_SHOWN])
    return names + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
