"""An aarch64 Linux, emulated by qemu-system-aarch64: `make aarch64` sets it up (scripts/aarch64.py).

All of it lies in memory: an archive with the system, and behind it one with this tree. The tests that it is told run in
there, and what came of them is read from its serial console.
"""

import os
import shutil
import subprocess
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from scripts.aarch64 import pack, tree
from tests.aarch64.inside import BEGIN, END

ROOT = Path(__file__).parents[2]
SYSTEM = ROOT / "build/aarch64"
LIMIT = float(os.environ.get("SQUASH_AARCH64_LIMIT", "3600"))
"""Seconds for all of it: what is emulated takes thirty times as long."""
_TREE = ("agent", "coordinator", "demo", "envoy_filter", "scripts", "squash", "tests", "pyproject.toml")
_MACHINE = (
    *("-machine", "virt", "-cpu", "max,pauth-impdef=on", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048"),
    *("-nographic", "-no-reboot", "-nic", "none"),
)


@dataclass(frozen=True)
class Outcome:
    test: str
    """Its name, parameters included."""
    failure: str
    skipped: str


def detoured(directory: Path) -> Path:
    """tests/agent/detoured.c for the machine: a compiler would take minutes in there."""
    path = directory / "detoured"
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-pthread"]
    subprocess.run(["aarch64-linux-gnu-gcc", *flags, "-o", path, ROOT / "tests/agent/detoured.c"], check=True)
    return path


def play(directory: Path, tests: list[str]) -> tuple[dict[str, list[Outcome]], str]:
    """What came of each test, by `path::function`, and what the console said. `directory` is for files of its own."""
    arguments, archive = directory / "arguments", directory / "archive"
    arguments.write_text(" ".join(tests))
    with archive.open("wb") as file:
        with (SYSTEM / "system.cpio").open("rb") as system:
            shutil.copyfileobj(system, file)
        pack(file, _files(arguments, detoured(directory)))
    argv: list[str | Path] = ["qemu-system-aarch64", *_MACHINE, "-kernel", SYSTEM / "kernel", "-initrd", archive]
    argv += ["-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init"]
    with (directory / "console").open("wb+") as console:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=console, stderr=console) as emulator:
            try:
                emulator.wait(LIMIT)
            except subprocess.TimeoutExpired:
                pass  # what it has said by then is all that there is
            finally:
                emulator.kill()
        console.seek(0)
        said = console.read().decode(errors="replace").replace("\r\n", "\n")
    archive.unlink()
    return _outcomes(said), said


def _files(arguments: Path, program: Path) -> Iterator[tuple[str, Path]]:
    yield "init", ROOT / "tests/aarch64/init"
    yield "arguments", arguments
    yield "detoured", program
    yield "squash", ROOT / "squash"
    installed = Path(str(metadata.distribution("squash").locate_file("")))
    information = f"squash-{metadata.metadata('squash')['Version']}.dist-info"
    for root, name in (*((ROOT, name) for name in _TREE), (installed, information)):
        yield f"squash/{name}", root / name
        if (root / name).is_dir():
            yield from ((f"squash/{inside}", path) for inside, path in tree(root, name) if "__pycache__" not in inside)


def _outcomes(said: str) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    _, begun, rest = said.rpartition(f"\n{BEGIN}\n")
    results, ended, _ = rest.partition(f"\n{END}\n")
    if not (begun and ended and results.strip()):
        return {}
    for case in Xml.fromstring(results).iter("testcase"):  # noqa: S314 - our own
        name = case.get("name", "")
        test = f"{case.get('classname', '').replace('.', '/')}.py::{name.partition('[')[0]}"
        failures = [*case.findall("failure"), *case.findall("error")]
        skipped = [element.get("message", "") for element in case.findall("skipped")]
        failure = "\n".join(str(element.text or element.get("message")) for element in failures)
        found.setdefault(test, []).append(Outcome(name, failure, " ".join(skipped)))
    return found
