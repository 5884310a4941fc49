"""A client of the Java Debug Wire Protocol, with the few commands that a breakpoint needs (Java SE, JDWP)."""

import struct
from collections import deque
from typing import NamedTuple, Self

from demo.dialling import dial
from tests.drivers import PATIENCE, ClientError, Spot

HANDSHAKE = b"JDWP-Handshake"
CLASSES_BY_SIGNATURE, DISPOSE, ID_SIZES, RESUME = (1, 2), (1, 6), (1, 7), (1, 9)
METHODS, LINE_TABLE, VARIABLE_TABLE, FRAMES = (2, 5), (6, 1), (6, 2), (11, 6)
SET_EVENT, CLEAR_EVENT, GET_VALUES, SET_VALUES = (15, 1), (15, 2), (16, 1), (16, 2)
COMPOSITE = (64, 100)
BREAKPOINT, LOCATION_ONLY, EVENT_THREAD = 2, 7, 1
_HEADER = struct.Struct(">IIBBB")
_REPLY = 0x80
THREAD_NOT_SUSPENDED = 13
_INT = b"I"


class JvmError(ClientError):
    """The JVM answers with an error."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the JVM answers with error {code}")
        self.code = code


class Sizes(NamedTuple):
    """How many bytes identifiers have in this JVM."""

    field: int
    method: int
    object: int
    type: int
    frame: int


class Words:
    """Reads the fields of a packet one after the other."""

    def __init__(self, data: bytes, sizes: Sizes) -> None:
        self._data = data
        self._at = 0
        self.sizes = sizes

    def raw(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, count: int = 4) -> int:
        return int.from_bytes(self.raw(count), "big", signed=True)

    def text(self) -> str:
        return self.raw(self.number()).decode()

    def location(self) -> bytes:
        return self.raw(1 + self.sizes.type + self.sizes.method + 8)


class JdwpClient:
    def __init__(self, address: str, timeout: float = PATIENCE) -> None:
        self._socket = dial(address, timeout)
        self._number = 0
        self._events: deque[bytes] = deque()
        self._sizes = Sizes(8, 8, 8, 8, 8)
        self._request = 0
        self._spot = Spot("", 0, "")
        self._method = b""
        self._thread = self._frame = b""
        try:
            self._sizes = self._greet()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spot: Spot) -> None:
        name, _, function = spot.function.rpartition(".")
        self._spot = spot
        self._method = self._find(f"L{name.replace('.', '/')};", function)
        table = self._words(self._ask(LINE_TABLE, self._method))
        table.raw(16)
        lines = [(table.number(8), table.number()) for _ in range(table.number())]
        index = next(index for index, line in lines if line == spot.line)
        location = b"\1" + self._method + index.to_bytes(8, "big")
        wish = struct.pack(">BBIB", BREAKPOINT, EVENT_THREAD, 1, LOCATION_ONLY) + location
        self._request = self._words(self._ask(SET_EVENT, wish)).number()
        self._ask(RESUME)

    def stopped(self) -> str:
        while True:
            while not self._events:
                self._hear()
            try:
                return self._looked(self._words(self._events.popleft()))
            except JvmError as error:
                # It ran into the breakpoint before the Resume that ended `begin`, and runs on by that.
                if error.code != THREAD_NOT_SUSPENDED:
                    raise

    def _looked(self, event: Words) -> str:
        event.raw(5)
        kind, request = event.number(1), event.number()
        if (kind, request) != (BREAKPOINT, self._request):
            raise ClientError(f"stopped for another reason: event {kind} of request {request}")
        self._thread = event.raw(self._sizes.object)
        frames = self._words(self._ask(FRAMES, self._thread + struct.pack(">II", 0, 1)))
        frames.number()
        self._frame = frames.raw(self._sizes.frame)
        if self._method not in frames.location():
            raise ClientError("stopped in another method")
        return f"{self._spot.function.rpartition('.')[2]}:{self._spot.line}"

    def value(self, name: str) -> int:
        wish = struct.pack(">II", 1, self._slot(name)) + _INT
        found = self._words(self._ask(GET_VALUES, self._thread + self._frame + wish))
        found.raw(5)
        return found.number()

    def change(self, name: str, value: int) -> None:
        wish = struct.pack(">II", 1, self._slot(name)) + _INT + value.to_bytes(4, "big", signed=True)
        self._ask(SET_VALUES, self._thread + self._frame + wish)

    def go_on(self) -> None:
        self._ask(RESUME)

    def leave(self) -> None:
        if self._request:
            self._ask(CLEAR_EVENT, struct.pack(">BI", BREAKPOINT, self._request))
        self._ask(DISPOSE)

    def close(self) -> None:
        self._socket.close()

    def _greet(self) -> Sizes:
        self._socket.sendall(HANDSHAKE)
        if (said := self._take(len(HANDSHAKE))) != HANDSHAKE:
            raise ClientError(f"no handshake but {said!r}")
        return Sizes(*struct.unpack(">5I", self._ask(ID_SIZES)))

    def _find(self, signature: str, name: str) -> bytes:
        """The method, as type and method: how the protocol names it everywhere."""
        text = signature.encode()
        classes = self._words(self._ask(CLASSES_BY_SIGNATURE, len(text).to_bytes(4, "big") + text))
        if not classes.number():
            raise ClientError(f"no class {signature} is loaded")
        classes.raw(1)
        kind = classes.raw(self._sizes.type)
        methods = self._words(self._ask(METHODS, kind))
        for _ in range(methods.number()):
            method = methods.raw(self._sizes.method)
            if methods.text() == name:
                return kind + method
            methods.text()
            methods.number()
        raise ClientError(f"{signature} has no method {name}")

    def _slot(self, name: str) -> int:
        table = self._words(self._ask(VARIABLE_TABLE, self._method))
        table.number()
        for _ in range(table.number()):
            table.raw(8)
            found = table.text()
            table.text()
            table.number()
            slot = table.number()
            if found == name:
                return slot
        raise ClientError(f"there is no variable {name}")

    def _words(self, data: bytes) -> Words:
        return Words(data, self._sizes)

    def _ask(self, command: tuple[int, int], data: bytes = b"") -> bytes:
        self._number += 1
        self._socket.sendall(_HEADER.pack(_HEADER.size + len(data), self._number, 0, *command) + data)
        while True:
            if (answer := self._hear()) is not None:
                return answer

    def _hear(self) -> bytes | None:
        """The body of the reply to what was asked last; None when an event came, which is kept."""
        length, number, flags, high, low = _HEADER.unpack(self._take(_HEADER.size))
        body = self._take(length - _HEADER.size)
        if not flags & _REPLY:
            if (high, low) == COMPOSITE:
                self._events.append(body)
            return None
        if error := high << 8 | low:
            raise JvmError(error)
        if number != self._number:
            raise ClientError(f"a reply to {number} in place of {self._number}")
        return body

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            got = self._socket.recv(count - len(data))
            if not got:
                raise ClientError(f"the JVM hung up; it said {data!r}")
            data += got
        return data
