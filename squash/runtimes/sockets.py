"""Where container runtimes listen. Apart from asking them, so that looking takes no library of theirs."""

from collections.abc import Iterator
from pathlib import Path

from squash.errors import SettingError

SOCKETS = (
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
    "/run/cri-dockerd.sock",
)
"""Of runtimes that speak CRI, in the order in which they are looked for: containerd, k3s, CRI-O, microk8s, Docker's."""
DOCKER = "/var/run/docker.sock"
ROOT = Path("/")


def there(root: Path = ROOT) -> Iterator[Path]:
    """Those of SOCKETS that are there below `root`, as far as this user may look."""
    return (place for place in _places(root) if not _obstacle(place))


def find_socket(given: Path | None, root: Path = ROOT) -> Path:
    """The runtime's socket: the one given, else the first that is there below `root`. Raises SettingError."""
    if given:
        if not (problem := _obstacle(given)):
            return given
        raise SettingError(f"runtime_socket = '{given}' cannot be used: {problem}")
    if found := next(there(root), None):
        return found
    looked = ", ".join(map(_seen, _places(root)))
    raise SettingError(f"no container runtime found (looked for {looked}): name its socket by runtime_socket")


_NONE = "there is no such socket"


def _places(root: Path) -> list[Path]:
    return [root / place.removeprefix("/") for place in SOCKETS]


def _seen(place: Path) -> str:
    why = _obstacle(place)
    return str(place) if why == _NONE else f"{place} ({why})"


def _obstacle(place: Path) -> str:
    """Why it is no socket that can be used; empty when it is one."""
    try:
        return "" if place.is_socket() else _NONE
    except PermissionError:
        return "its directory may not be entered by this user"
