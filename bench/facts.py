"""What has to be known of the machine to make sense of a figure."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import cores
from demo.world import ENVOY, ROOT

_PACKAGES = ("squash", "debugpy", "uvicorn", "uvloop", "httptools", "starlette", "msgspec")


def machine() -> dict[str, Any]:
    plan = cores.plan()
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "load_and_measured_share_a_core": plan.shared,
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "load_average": os.getloadavg(),
    }


def caption(machine: dict[str, Any]) -> str:
    """The facts in a line, with the one that most often explains an odd figure: what else the machine had to do."""
    load = machine["load_average"][0]
    return f"{machine['processor']}, {machine['cores_usable']} cores, load average {load:.1f} before"


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "envoy": _said(str(ENVOY), "--version").rsplit(" ", 1)[-1],
        "gdbserver": _said("gdbserver", "--version"),
        "gdb": _said("gdb", "--version"),
        "wrk": _said("wrk", "--version"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def _said(*argv: str) -> str:
    """The first line that a program says which is not empty."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except OSError:
        return "not there"
    return next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), "")


def _field(path: str, name: str) -> str:
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "unknown")
