"""Asking a CRI runtime (containerd, CRI-O, k3s): `runtime.v1` over gRPC on its unix socket."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import grpc
import msgspec
from grpc import aio

from squash.errors import SquashError
from squash.messages import classes
from squash.reasons import Reason
from squash.runtimes.cri_protocol import IMAGES, MESSAGES, PACKAGE, RUNNING, SERVICE
from squash.runtimes.sockets import there

POD, NAMESPACE, CONTAINER = "io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.container.name"
"""Labels by which the kubelet tells what a container is of."""
_REMEMBERED = 1_024
"""Images whose names are kept, those asked for last."""
FRESH = 30.0
"""Seconds for which they are: a tag may be moved to another image at any time."""
TIMEOUT = 5.0
"""Seconds for one answer; a runtime that is well takes a millisecond."""
# Without it the socket's path would be the host's name, which runtimes refuse.
_OPTIONS = (("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 64 * 1024 * 1024))


class CriContainer(NamedTuple):
    """A container that runs."""

    id: str
    pod: str
    namespace: str
    name: str
    image: str
    """As the pod's specification names it, when the runtime tells; else the reference it was resolved to."""
    image_ref: str
    created_at: int
    """Unix nanoseconds."""


class _Info(msgspec.Struct):
    pid: int = 0


class Cri:
    """One runtime. Its connection is made at the first call, and again when it was lost."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._messages = classes(PACKAGE, MESSAGES)
        self._channel: aio.Channel | None = None
        self._images: dict[str, tuple[float, frozenset[str]]] = {}
        """By reference, with when it was asked; the oldest first."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._channel:
            await self._channel.close()
            self._channel = None

    async def running(self, labels: Mapping[str, str]) -> list[CriContainer]:
        """The containers that run and bear all these labels, the youngest first. Raises SquashError."""
        wanted = self._messages["ContainerFilter"](label_selector=dict(labels), state={"state": RUNNING})
        answer = await self._call("ListContainers", filter=wanted)
        found = (_told(container) for container in answer.containers)
        return sorted(found, key=lambda container: -container.created_at)

    async def pid(self, ident: str) -> int | None:
        """Pid of a container's first process as the runtime's machine counts; 0 when this runtime does not tell it.

        None when no such container runs. Raises SquashError.
        """
        try:
            answer = await self._call("ContainerStatus", container_id=ident, verbose=True)
        except _UnknownError:
            return None
        if answer.status.state != RUNNING:
            return None
        try:
            return msgspec.json.decode(answer.info.get("info", "{}"), type=_Info).pid
        except msgspec.DecodeError:
            return 0

    async def image_names(self, container: CriContainer) -> frozenset[str]:
        """Every name of the container's image: tags, digests, its id. Raises SquashError."""
        known = {container.image, container.image_ref} - {""}
        asked = container.image_ref or container.image
        when, names = self._images.get(asked, (-FRESH, frozenset()))
        if time.monotonic() - when >= FRESH:
            found = (await self._call("ImageStatus", IMAGES, image={"image": asked})).image
            names = frozenset({*found.repo_tags, *found.repo_digests, found.id} - {""})
            self._images.pop(asked, None)
            while len(self._images) >= _REMEMBERED:
                del self._images[next(iter(self._images))]
            self._images[asked] = time.monotonic(), names
        return names | known

    async def output(self, container: CriContainer, command: Iterable[str]) -> bytes | None:
        """What a command prints that is run inside; None when it fails or the image does not have it."""
        try:
            answer = await self._call("ExecSync", container_id=container.id, cmd=list(command), timeout=round(TIMEOUT))
        except SquashError:
            return None
        return bytes(answer.stdout) if answer.exit_code == 0 else None

    async def _call(self, name: str, service: str = SERVICE, **fields: Any) -> Any:
        request, response = self._messages[f"{name}Request"], self._messages[f"{name}Response"]
        serialize: Callable[[Any], bytes] = request.SerializeToString
        ask = self._connected().unary_unary(
            f"/{service}/{name}", request_serializer=serialize, response_deserializer=response.FromString
        )
        try:
            return await ask(request(**fields), timeout=TIMEOUT, wait_for_ready=False)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise _UnknownError(Reason.CONTAINER_NOT_FOUND, f"{name}: {error.details()}") from error
            raise SquashError(Reason.RUNTIME_UNREACHABLE, self._explained(name, error)) from error

    def _connected(self) -> aio.Channel:
        if self._channel is None:
            self._channel = aio.insecure_channel(f"unix://{self._socket.absolute()}", options=_OPTIONS)
        return self._channel

    def _explained(self, name: str, error: aio.AioRpcError) -> str:
        """The runtime's words, and what they mean where they do not say it."""
        words = f"{name} at {self._socket}: {error.details()}"
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            others = ", ".join(str(place) for place in there() if place != self._socket)
            hint = f"; other runtimes are at {others}: name one by runtime_socket" if others else ""
            return f"{words} (the runtime's CRI plugin is disabled, or older than CRI v1{hint})"
        if not os.access(self._socket, os.W_OK):
            return f"{words} (the socket may not be written by uid {os.geteuid()})"
        return words


class _UnknownError(SquashError):
    """What was asked about is not there, or not any more."""


def _told(container: Any) -> CriContainer:
    labels = container.labels
    return CriContainer(
        container.id,
        labels.get(POD, ""),
        labels.get(NAMESPACE, ""),
        labels.get(CONTAINER, "") or container.metadata.name,
        container.image.image or container.image_ref,
        container.image_ref,
        container.created_at,
    )
