"""What is known, here, of the process that is debugged: what a client of the debugger wants to be told."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from squash import procfs
from squash.cli.editors import Place
from squash.model import DebugAttachment
from squash.options import Address


def place(
    attachment: DebugAttachment, address: Address, url: str, program: str, mappings: tuple[tuple[str, str], ...]
) -> Place:
    """Where clients connect to, and what they are to be told; `url` is the coordinator's."""
    status = attachment.status
    pid = status.pid or 0
    shares = _is_here(attachment, url) and _shares_our_files(pid)
    return Place(
        address,
        status.protocol or "",
        status.debugger or "",
        sysroot="/" if shares else "",
        program=program or (_executable(pid) if shares else ""),
        mappings=mappings,
    )


def _is_here(attachment: DebugAttachment, url: str) -> bool:
    """Whether the process runs on this machine, as far as this user can tell: the debug server's socket is here."""
    address = attachment.status.debug_server_address or ""
    if not (Address(urlsplit(url).hostname or "", 0).is_loopback and address.startswith("unix:")):
        return False
    try:
        return Path(address.removeprefix("unix:")).is_socket()
    except PermissionError:
        return False


def _shares_our_files(pid: int) -> bool:
    try:
        theirs = os.readlink(procfs.PROC / str(pid) / "ns/mnt")
    except OSError:
        return False
    return theirs == os.readlink(procfs.PROC / "self/ns/mnt")


def _executable(pid: int) -> str:
    """Its path, when that is still the file which runs."""
    running = procfs.PROC / str(pid) / "exe"
    try:
        path = os.readlink(running)
        return path if Path(path).samefile(running) else ""
    except OSError:
        return ""
