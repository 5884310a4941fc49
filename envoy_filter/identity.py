"""Whose requests a sidecar holds that pods share: those of the pod at the other end of each connection, and no others.

The kernel says who that is, by the socket: no header can change it. What a pod is, a plug-in knows (entry points
`squash.peers`). A front end may tell the pod with each request as well, and its container; that has to fit.
"""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol

from squash import procfs
from squash.errors import SettingError, SquashError
from squash.model import LONGEST_TEXT
from squash.reasons import Reason

GROUP = "squash.peers"
POD, NAMESPACE, CONTAINER = "x-squash-pod", "x-squash-namespace", "x-squash-container"
CLAIMS = {POD: "SQUASH_POD", NAMESPACE: "SQUASH_NAMESPACE", CONTAINER: "SQUASH_CONTAINER"}
"""Headers of a call to the sidecar that say whose request it is, by the variables of Envoy's environment."""
_CREDENTIALS = struct.Struct("3i")
_SO_PEERPIDFD = 77
"""Linux 6.5 (asm-generic/socket.h); Python has no name for it."""


class Pod(NamedTuple):
    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Peer:
    """The other end of a connection: a process of this machine by a unix socket, or an address by TCP.

    `environ` is that of the process when it connected.
    """

    pid: int | None = None
    uid: int | None = None
    environ: Mapping[str, str] | None = None
    address: str | None = None


class Peers(Protocol):
    """Knows pods by their ends of connections; is asked once for each connection."""

    def pod_of(self, peer: Peer) -> Pod | None: ...


class LocalPeers:
    """The platform `local`: a process belongs to the pod that its environment names (see `squash.local`)."""

    def pod_of(self, peer: Peer) -> Pod | None:
        environ = peer.environ or {}
        name, namespace = environ.get("SQUASH_POD"), environ.get("SQUASH_NAMESPACE") or "default"
        if not name or not all(len(text) <= LONGEST_TEXT and text.isprintable() for text in (name, namespace)):
            return None
        return Pod(name, namespace)


@dataclass(frozen=True)
class Identity:
    """Whose request is held; `container` as far as Envoy tells."""

    pod: Pod
    container: str | None = None

    @property
    def environ(self) -> dict[str, str]:
        """The variables of the template that are the pod's, not the sidecar's."""
        return {
            "SQUASH_POD": self.pod.name,
            "SQUASH_NAMESPACE": self.pod.namespace,
            "SQUASH_CONTAINER": self.container or "",
        }


def load(name: str) -> Peers:
    """The installed plug-in of this name. Raises SettingError."""
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        raise SettingError(f"peers = {name!r} cannot be used: installed are {', '.join(sorted(installed))}")
    peers: Peers = installed[name].load()()
    return peers


def identified(pod: Pod | None, claims: Mapping[str, str]) -> Identity:
    """Whose request this is: of the `pod` at the other end. Raises SquashError when that is unknown or denied."""
    if pod is None:
        raise SquashError(Reason.POD_UNKNOWN)
    # A variable that is not set: Envoy writes `-`.
    told = {name: value for name, value in claims.items() if value not in ("", "-")}
    claimed = Pod(told.get(POD, pod.name), told.get(NAMESPACE, pod.namespace))
    if claimed != pod:
        raise SquashError(Reason.POD_MISMATCH, f"a process of pod {pod} claimed to speak for {claimed}")
    return Identity(pod, told.get(CONTAINER))


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end of a connection that was just accepted."""
    if sock.family != socket.AF_UNIX:
        return Peer(address=sock.getpeername()[0])
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    with _pinned(sock) as alive:
        # Zero: a process of a pid namespace that we cannot see into.
        environ = procfs.environ(pid) if pid else None
        # What the number means now may be another process than the one that connected.
        return Peer(pid, uid, environ if alive() else None)


class _Alive(Protocol):
    def __call__(self) -> bool: ...


@contextlib.contextmanager
def _pinned(sock: socket.socket) -> Iterator[_Alive]:
    """Tells whether the very process that connected still lives. Kernels before 6.5 cannot tell: then it does."""
    try:
        pidfd = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        yield lambda: True
        return
    try:
        yield lambda: not select.select([pidfd], [], [], 0)[0]
    finally:
        os.close(pidfd)
