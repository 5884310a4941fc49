"""What msgspec says of a value that does not fit, with words where it shows a regular expression."""

import msgspec

from squash.access import SUBJECT_PATTERN
from squash.model import IMAGE_PATTERN, METHOD_PATTERN, NAME_PATTERN, PATH_PATTERN
from squash.ticket import PREFIX_PATTERN

_WORDS = {
    NAME_PATTERN: "a name of lower-case letters, digits, `-` and `.`",
    IMAGE_PATTERN: "an image without control characters in its name",
    METHOD_PATTERN: "a method, like GET",
    PATH_PATTERN: "a path, which begins with `/` or `*`",
    SUBJECT_PATTERN: "somebody's name without spaces and control characters",
    PREFIX_PATTERN: "the beginning of a path: `/`, then printable ASCII characters",
}


def in_words(error: msgspec.ValidationError) -> str:
    """What was expected, and where in the object."""
    text = str(error)
    for pattern, words in _WORDS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", words)
    return text
