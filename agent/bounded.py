"""A socket to somebody who is not trusted to come to an end: a time and a size for all that is said on it."""

import socket
import time
from typing import Self


class Bounded(socket.socket):
    """Reading raises TimeoutError and ConnectionError past the limits, which hold for the whole connection.

    A limit for each read alone would let one byte now and then keep the reader for ever.
    """

    _until = 0.0
    _room = 0

    @classmethod
    def of(cls, connection: socket.socket, seconds: float, most: int) -> Self:
        """Takes the connection over. `most`: bytes that it may say."""
        found = cls(connection.family, connection.type, connection.proto, connection.detach())
        found._until, found._room = time.monotonic() + seconds, most
        found.settimeout(seconds)
        return found

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        self._wait()
        data = super().recv(size, flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, flags: int = 0, /) -> int:  # type: ignore[override]
        self._wait()
        number = super().recv_into(buffer, size, flags)
        self._count(number)
        return number

    def _wait(self) -> None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("it did not come to an end in time")
        self.settimeout(left)

    def _count(self, number: int) -> None:
        self._room -= number
        if self._room < 0:
            raise ConnectionError("it says more than it should")
