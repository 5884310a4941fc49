"""The shop: storefront, pricing and stock, each behind its own Envoy with our filter and its sidecar."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.world import ENVOY, ROOT, Child, StartError, World
from squash import serve
from squash.options import Address

SERVICES = ROOT / "demo" / "services"
PRICING = SERVICES / "pricing.py"
STOCK = SERVICES / "stock.cpp"
STOCK_PROGRAM = ROOT / "build" / "stock"
PATIENCE = ("--attachment-timeout", "300")
"""Longest hold in seconds, for whoever types along with KEEP=1."""


@dataclass
class Pod:
    """A service, its sidecar and its Envoy; callers go to `url`."""

    name: str
    image: str
    service: Child
    sidecar: Child
    envoy: Child

    @property
    def url(self) -> str:
        return self.envoy.where


class Shop:
    """A context manager: a coordinator, an agent and three pods on this machine."""

    def __init__(self, port: str = "0") -> None:
        """`port` is where the storefront's Envoy listens, 0 for a free one.

        Raises SettingError when it is taken, StartError when something is missing on this machine.
        """
        self.listen = _free(port)
        _complete()
        _may_trace()

    def __enter__(self) -> Self:
        self.world = World("squash-demo")
        try:
            self._open()
        except BaseException:
            self.world.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.close()

    def _open(self) -> None:
        self.coordinator = self.world.coordinator()
        self.agent = self.world.agent()
        self.pricing = self._pod("pricing", [sys.executable, str(PRICING)])
        self.stock = self._pod("stock", [str(STOCK_PROGRAM)])
        shop = [
            sys.executable,
            str(SERVICES / "storefront.py"),
            "--pricing",
            self.pricing.url,
            "--stock",
            self.stock.url,
        ]
        self.storefront = self._pod("storefront", shop, self.listen)

    def _pod(self, name: str, argv: list[str], listen: str = "127.0.0.1:0") -> Pod:
        image = f"demo/{name}"
        service = self.world.service(name, image, [*argv, "--listen", "127.0.0.1:0"])
        sidecar = self.world.sidecar(name, *PATIENCE)
        envoy = self.world.envoy(name, service.where, sidecar.where, *PATIENCE, listen=listen)
        return Pod(name, image, service, sidecar, envoy)


def _free(port: str) -> str:
    try:
        address = Address.parse(f"127.0.0.1:{port}")
    except ValueError:
        raise StartError(f"PORT = {port!r} is no port: a number from 0 to 65535, 0 for a free one") from None
    serve.bind(address, "PORT=N make demo").close()
    return str(address)


def _complete() -> None:
    """Says before anything is started what this machine lacks."""
    missing = [f"{name} (not on PATH)" for name in ("gdb", "gdbserver") if shutil.which(name) is None]
    missing += [str(path) for path in (ENVOY, STOCK_PROGRAM) if not os.access(path, os.X_OK)]
    if missing:
        raise StartError(f"missing: {', '.join(missing)}; `make demo` sets everything up, or says what to install")


def _may_trace() -> None:
    """Says before anything is started that this machine does not let one process of a user debug another."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0":
        raise StartError(
            "this kernel lets only root debug running processes (kernel.yama.ptrace_scope is "
            f"{scope.read_text().strip()}); run as root, or once: sudo sysctl kernel.yama.ptrace_scope=0"
        )
