"""The template of the attachment that a marked request creates: `{{ NAME }}` becomes an environment variable."""

import json
import re
from collections.abc import Mapping

import msgspec

from squash.errors import SettingError
from squash.logs import Log
from squash.model import DebugAttachment

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}", re.ASCII)
_log = Log("template")


def render(template: str, environ: Mapping[str, str]) -> DebugAttachment:
    """The attachment that the template describes.

    Values are escaped as JSON strings are; a variable that is missing becomes empty, with a warning in the log.
    A template that does not say `match_request` gets true. Raises SettingError when the outcome is no attachment.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            _log.warning("environment variable missing, left empty in the template", variable=name)
        # What is not UTF-8 in the environment arrives as lone surrogates, which JSON cannot carry.
        clean = environ.get(name, "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return json.dumps(clean)[1:-1]

    text = _PLACEHOLDER.sub(value, template)
    try:
        attachment = msgspec.json.decode(text, type=DebugAttachment)
    except msgspec.DecodeError as error:
        raise SettingError(f"template = {template!r} cannot be used: {error}; it became {text!r}") from error
    if attachment.spec.match_request is None:
        spec = msgspec.structs.replace(attachment.spec, match_request=True)
        attachment = msgspec.structs.replace(attachment, spec=spec)
    return attachment
