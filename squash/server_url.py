"""Where the coordinator answers, as it is typed."""

from urllib.parse import SplitResult, urlsplit

from squash.errors import SettingError

_EXPECTED = "expected http://HOST:PORT or https://HOST:PORT"


def split(url: str) -> SplitResult:
    """Its parts, with a host and, if any, a port that there can be. Raises SettingError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # Resolvers find out as late as when they are asked: labels that are empty, or longer than 63 characters.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise unusable(url, str(error)) from error
    if not usable or not url.isprintable() or " " in url:
        raise unusable(url)
    return parts


def unusable(url: str, why: str = "") -> SettingError:
    """The refusal of a URL."""
    return SettingError(f"server_url = {url!r} cannot be used: {f'{why}; ' if why else ''}{_EXPECTED}")
