"""The GDB remote serial protocol, as far as one who stands between gdb and gdbserver must follow it.

Source: the gdb manual, appendix "GDB Remote Serial Protocol". Pure, all-stop mode. Imports the standard library
only: the guard runs without site-packages.
"""

import re
from typing import NamedTuple

LONGEST = 4 * 1024 * 1024
"""Bytes of one packet; gdbserver itself takes 18 KiB."""

INTERRUPT = b"\x03"
OK = b"OK"
_RUN = re.compile(rb"(.)\*(.)", re.DOTALL)
_ESCAPED = re.compile(rb"}(.)", re.DOTALL)
_THREAD = re.compile(rb";thread:([p0-9a-f.]+);")
_FORK = re.compile(rb"[0-9a-f;]v?fork:p?([0-9a-f]+)")
_RESUMES = re.compile(rb"vCont;|[cCsS]")


class ViolationError(Exception):
    """The bytes are not of this protocol."""


def packet(body: bytes) -> bytes:
    return b"$%b#%02x" % (body, sum(body) & 0xFF)


def error(words: str, *, named: bool) -> bytes:
    """An answer that refuses. `named`: with its words, which not every gdb takes; the number alone is EPERM's."""
    return b"E." + re.sub(rb"[#$}*\x80-\xff]", b"?", words.encode()) if named else b"E01"


def body(token: bytes) -> bytes:
    """What stands between `$` (or `%`) and the checksum."""
    return token[1:-3]


class Splitter:
    """Cuts one direction into tokens: `+`, `-`, the interrupt byte, `$body#cc` and `%body#cc`; drops the rest."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The tokens completed by `data`. Raises ViolationError."""
        self._buffer += data
        tokens, at, size = [], 0, len(self._buffer)
        while at < size:
            length = self._length(at)
            if not length:
                break
            token = self._buffer[at : at + length]
            if token[:1] in b"+-$%\x03":
                tokens.append(token)
            at += length
        self._buffer = self._buffer[at:]
        if len(self._buffer) > LONGEST:
            raise ViolationError("a packet without end")
        return tokens

    def _length(self, at: int) -> int:
        """Of the token that starts there; 0 while it is incomplete."""
        if self._buffer[at] not in b"$%":
            return 1
        end = self._buffer.find(b"#", at)
        return end + 3 - at if 0 <= end <= len(self._buffer) - 3 else 0


def expand(text: bytes) -> bytes:
    """An answer without run-length encoding: `0*"` stands for `0000`."""
    return _RUN.sub(lambda run: run[1] * max(1, run[2][0] - 28), text)


def sender(answer: bytes) -> int | None:
    """Who sent the signal that a thread stopped by: of the answer to `qXfer:siginfo:read` (si_pid, sigaction(2))."""
    if answer[:1] not in (b"l", b"m"):
        return None
    found = _ESCAPED.sub(lambda escaped: bytes([escaped[1][0] ^ 0x20]), expand(answer[1:]))
    return int.from_bytes(found[16:20], "little") if len(found) >= 20 else None


def trapped(text: bytes) -> bytes | None:
    """The thread of a stop reply that says: it stands at a software breakpoint."""
    match = _THREAD.search(expand(text)) if text.startswith(b"T05") and b"swbreak:" in text else None
    return match[1] if match else None


class Point(NamedTuple):
    """A breakpoint or watchpoint: the digit after `Z` (0 is a software breakpoint), where, and how many bytes."""

    type: int
    address: int
    size: int

    @classmethod
    def parse(cls, text: bytes) -> "Point | None":
        """Of the body of a `Z` or `z` packet; None when it is none."""
        match = re.match(rb"[Zz]([0-4]),([0-9a-f]+),([0-9a-f]+)", text)
        return cls(int(match[1]), int(match[2], 16), int(match[3], 16)) if match else None

    @property
    def removal(self) -> bytes:
        return b"z%d,%x,%x" % self


class Conversation:
    """What is known of gdbserver from the packets that went by."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.acks = True
        self.multiprocess = False
        self.asked: bytes | None = None
        """The request whose answer is due."""
        self.running = False
        """The answer due is a stop reply: the process runs until then."""
        self.exited = False
        self.signal = b""
        """With which the process stopped last: two hexadecimal digits, as gdb counts signals."""
        self.named_errors = False
        """The client takes errors in words."""
        self.points: dict[Point, None] = {}
        """Inserted, or perhaps inserted; in the order of insertion."""
        self.children: set[int] = set()
        """Forked while traced, and not detached since."""

    @property
    def detach(self) -> bytes:
        return b"D;%x" % self._pid if self.multiprocess else b"D"

    def sends(self, text: bytes) -> None:
        """A request goes to gdbserver. Raises ViolationError when it may not now."""
        if self.running:
            raise ViolationError(f"{text!r:.40} while the process runs")
        if text.startswith(b"qSupported"):
            self.named_errors = b"error-message+" in text
        self.asked = text
        self.running = _RESUMES.match(text) is not None
        if text[:1] == b"Z" and (point := Point.parse(text)):
            self.points[point] = None

    def receives(self, text: bytes) -> None:
        """A packet comes from gdbserver. Raises ViolationError."""
        if self.running:
            self._stopped(expand(text))
        elif self.asked is not None:
            asked, self.asked = self.asked, None
            self._answered(asked, expand(text) if asked.startswith(b"qSupported") else text)

    def _stopped(self, text: bytes) -> None:
        if text[:1] not in (b"T", b"S", b"W", b"X", b"N", b"E"):
            return  # output of the process or a request to gdb; it still runs
        self.asked, self.running = None, False
        self.signal = text[1:3] if text[:1] in (b"T", b"S") else b""
        self.exited = text[:1] in (b"W", b"X")
        if match := _FORK.search(text):
            self.children.add(int(match[1], 16))
        if b"exec:" in text:
            self.points.clear()  # the kernel replaced the memory that they were in

    def _answered(self, asked: bytes, text: bytes) -> None:
        if asked.startswith(b"qSupported"):
            self.multiprocess = b"multiprocess+" in text
        elif asked == b"?":
            self.signal = text[1:3] if text[:1] in (b"T", b"S") else b""
        elif asked == b"QStartNoAckMode":
            self.acks = text != OK
        elif asked.startswith(b"D;") and text == OK:
            self.children.discard(int(asked[2:], 16))
        elif (point := Point.parse(asked)) and (text == OK) == (asked[:1] == b"z"):
            self.points.pop(point, None)
