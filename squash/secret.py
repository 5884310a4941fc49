"""A text that must not be read by chance: in a log, an error, a traceback or a dump of settings."""

import hmac

_MASK = "******"
_LONGEST = 4_096


class Secret:
    """Shows itself as asterisks, whoever asks; `reveal` gives the text to those who mean it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Raises ValueError for what cannot go into a header: it says why, and not what was given."""
        text = text.strip()
        if not text or len(text) > _LONGEST or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"expected 1 to {_LONGEST} printable ASCII characters without spaces")
        self._text = text

    def reveal(self) -> str:
        """The text itself. Not for anything that is written down."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text, other._text)

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return _MASK

    def __repr__(self) -> str:
        return f"Secret({_MASK!r})"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not copied or pickled")
