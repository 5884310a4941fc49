"""Runs in the emulated machine, as its only program: the tests that are named, and a report of them on the console."""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

BEGIN, END = "--8<-- results", "--8<-- end"
_SIOCSIFFLAGS, _UP = 0x8914, 1
_POWER_OFF = 0x4321FEDC


def loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _UP))


def main() -> None:
    loopback()
    results = Path("/tmp/results.xml")  # noqa: S108 - nobody else is on this machine
    argv = ["-q", "-p", "no:cacheprovider", "--color=no", "-o", "timeout=900", f"--junit-xml={results}"]
    subprocess.run([sys.executable, "-m", "pytest", *argv, *sys.argv[1:]], check=False, stdin=subprocess.DEVNULL)
    said = results.read_text() if results.exists() else ""
    sys.stdout.write(f"\n{BEGIN}\n{said}\n{END}\n")
    sys.stdout.flush()
    os.sync()
    ctypes.CDLL(None).reboot(_POWER_OFF)


if __name__ == "__main__":
    main()
