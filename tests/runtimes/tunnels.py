"""The developer's end of the tunnel as a unix socket, so that the scans for open ports see none that is theirs."""

import contextlib
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

from demo.world import BIN, World


class Tunnel:
    """A context manager. Each connection to `address` gets a `squashctl connect --stdio` of its own."""

    def __init__(self, world: World, url: str, attachment: str) -> None:
        self._argv = [str(BIN / "squashctl"), "connect", attachment, "--stdio", "--server", url]
        self._environment = world.environment()
        path = world.directory / f"{attachment}.sock"
        self.address = f"unix:{path}"
        self._path = path
        self._log = (world.directory / f"{attachment}.log").open("wb")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._programs: list[subprocess.Popen[bytes]] = []
        self._accepting = threading.Thread(target=self._accept, name="tunnel")
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for program in self._programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(10)
            program.kill()
            program.wait()
        self._log.close()
        self._path.unlink()

    @property
    def words(self) -> str:
        """What squashctl said."""
        return Path(os.fsdecode(self._log.name)).read_text()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                program = subprocess.Popen(
                    self._argv, stdin=client.fileno(), stdout=client.fileno(), stderr=self._log, env=self._environment
                )
            self._programs.append(program)
