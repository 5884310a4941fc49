"""Names of container images: when two of them mean the same one. Pure.

The grammar is that of the distribution project (its package `reference`), as Docker, containerd and Kubernetes read it:
`shop` is `docker.io/library/shop:latest`. With a digest the tag means nothing: `shop:1.2@sha256:…` is those very bytes.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_NAME = r"[^:@]+(?::\d+/[^:@]+)?|\[[^\]]+\][^@]*?"
_REFERENCE = re.compile(rf"({_NAME})(?::([\w][\w.-]{{0,127}}))?(?:@({_DIGEST}))?", re.ASCII)
_DOMAIN = re.compile(rf"{_HOST}(?::\d+)?", re.ASCII)
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_SCHEMES = ("docker-pullable://", "docker://", "containerd://", "cri-o://")
"""What Kubernetes writes before the ids of images."""
_DEFAULT_DOMAIN, _DEFAULT_PATH, _DEFAULT_TAG = "docker.io", "library/", "latest"
_OLD_DOMAIN = "index.docker.io"


class Reference(NamedTuple):
    """A name of an image, whole."""

    repository: str
    """Domain and path: `docker.io/library/shop`."""
    tag: str
    """Empty when only a digest was given."""
    digest: str
    """Like `sha256:…`; empty without one."""

    @classmethod
    def parse(cls, text: str) -> "Reference | None":
        """None when it is no reference: an image's id, or a name of somebody's own kind."""
        if _ID.fullmatch(text) or not (match := _REFERENCE.fullmatch(text)):
            return None
        name, tag, digest = match[1], match[2] or "", (match[3] or "").lower()
        if not (repository := _repository(name)):
            return None
        return cls(repository, tag if tag or digest else _DEFAULT_TAG, digest)

    @property
    def key(self) -> str:
        """What tells it from every other image."""
        return f"{self.repository}@{self.digest}" if self.digest else f"{self.repository}:{self.tag}"


def _repository(name: str) -> str:
    """The name with its domain; empty when it is none."""
    first, slash, rest = name.partition("/")
    # A first part is a domain when it could not be one of a path.
    is_domain = slash and (set(first) & set(".:") or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if is_domain else ("", name)
    if domain in ("", _OLD_DOMAIN):
        domain = _DEFAULT_DOMAIN
    if domain == _DEFAULT_DOMAIN and "/" not in path:
        path = f"{_DEFAULT_PATH}{path}"
    return f"{domain}/{path}" if _DOMAIN.fullmatch(domain) and _PATH.fullmatch(path) else ""


@lru_cache(maxsize=8_192)
def key(image: str) -> str:
    """What two names of the same image have in common. A name that is no reference stands for itself alone."""
    text = _plain(image)
    if found := _ID.fullmatch(text):
        return f"sha256:{found[1]}"
    reference = Reference.parse(text)
    return reference.key if reference else image


def keys(image: str, others: Iterable[str] = ()) -> frozenset[str]:
    """The keys of an image that a container runs, by all the names that it is known by."""
    return _keys((image, *others))


@lru_cache(maxsize=8_192)
def _keys(names: tuple[str, ...]) -> frozenset[str]:
    found = set()
    for name in names:
        found.add(key(name))
        reference = Reference.parse(_plain(name))
        if reference and reference.tag and reference.digest:
            found.add(reference._replace(digest="").key)
    return frozenset(found)


def same(wanted: str, image: str, others: Iterable[str] = ()) -> bool:
    """Whether a container of `image`, which has `others` for names too, is of the image that is wanted."""
    return wanted == image or key(wanted) in keys(image, others)


@lru_cache(maxsize=8_192)
def repository(image: str) -> str:
    """Without tag and digest; the whole text of what is no reference."""
    reference = Reference.parse(_plain(image))
    return reference.repository if reference else image


def _plain(image: str) -> str:
    for scheme in _SCHEMES:
        image = image.removeprefix(scheme)
    return image
