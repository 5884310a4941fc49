"""What a Go program says of itself in its executable: who built it and how, and whether it can be debugged.

Source: Go's debug/buildinfo and runtime/debug (the section .go.buildinfo), DWARF 4 and 5, section 7.5.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.elf import Elf, NotElfError, opened

MAGIC = b"\xff Go buildinf:"
_HEADER = 32
_LONGEST = 1_048_576
"""Bytes of the build information that are looked at."""
_INLINE = 2
"""In its flags: the strings stand in it (since Go 1.18); otherwise there are pointers to them."""
_MARK = 16
"""Bytes before and after the settings, by which Go finds them."""
_CHDR = 24
_ZLIB = 1


@dataclass(frozen=True)
class GoProgram:
    version: str
    """Such as `go1.22.4`; empty where it is older than Go 1.18 and does not say in a way that can be read cheaply."""
    settings: Mapping[str, str]
    """How it was built, such as `-ldflags`: `"-s -w"`, as far as that was recorded."""
    dwarf: int
    """Version of the debug information; 0 when there is none, -1 when there is one that cannot be told."""

    @classmethod
    def read(cls, executable: Path) -> Self | None:
        """None when it is no Go program. Raises OSError."""
        try:
            with opened(executable) as elf:
                place = elf.named.get(".go.buildinfo")
                text = elf.content(place, _LONGEST) if place else b""
                if not text.startswith(MAGIC):
                    return None
                version, settings = _strings(text)
                return cls(version, settings, _dwarf(elf))
        except (NotElfError, struct.error):
            return None  # packed or damaged: nothing that it says can be relied on

    @property
    def optimised(self) -> bool | None:
        """Whether the compiler moved things about; None when the build does not say."""
        if not self.settings:
            return None
        flags = self.settings.get("-gcflags", "").strip('"').removeprefix("all=").split()
        return "-N" not in flags


def _strings(text: bytes) -> tuple[str, Mapping[str, str]]:
    if len(text) < _HEADER or not text[15] & _INLINE:
        return "", {}
    version, at = _string(text, _HEADER)
    about, _ = _string(text, at)
    lines = about[_MARK:-_MARK].decode(errors="replace").splitlines()
    pairs = (line.removeprefix("build\t").partition("=") for line in lines if line.startswith("build\t"))
    return version.decode(errors="replace"), {key: value for key, _, value in pairs}


def _string(text: bytes, at: int) -> tuple[bytes, int]:
    """A string with its length before it, as a varint; and where the next begins."""
    length = shift = 0
    while at < len(text):
        byte = text[at]
        at += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return text[at : at + length], at + length


def _dwarf(elf: Elf) -> int:
    """Of the first unit: a length of 4 bytes (12, if those are all ones), then the version."""
    found = elf.named
    place = found.get(".debug_info") or found.get(".zdebug_info")
    if place is None or not place.size:
        return 0
    head = elf.content(place, 4096)
    if ".debug_info" not in found and head[:4] == b"ZLIB":
        head = _inflated(head[12:])
    elif place.compressed:
        head = _inflated(head[_CHDR:]) if struct.unpack_from("<I", head)[0] == _ZLIB else b""
    at = 12 if head[:4] == b"\xff\xff\xff\xff" else 4
    return int(struct.unpack_from("<H", head, at)[0]) if len(head) >= at + 2 else -1


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, 64)
    except zlib.error:
        return b""
