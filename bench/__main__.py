"""`make bench`: measures, prints a table, writes bench/results/latest.json and leaves nothing behind.

Status 0 when every bar was met, 1 when one was missed or something could not be measured, 130 after Ctrl-C.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.status import Status
from rich.table import Table

from bench import (
    armed,
    attach,
    coordinator,
    crowd,
    envoy,
    facts,
    front_ends,
    holds,
    marked,
    memory,
    python,
    report,
    resolve,
    tunnel,
)
from bench.bars import ROWS
from bench.measure import QUICK, BenchError, Effort, Measurement, Subject, Tell
from demo.world import StartError
from squash.errors import SquashError

RESULTS = Path(__file__).parent / "results" / "latest.json"
SUBJECTS: dict[str, Subject] = {
    "envoy": envoy.measure,
    "front-ends": front_ends.measure,
    "armed": armed.measure,
    "marked": marked.measure,
    "holds": holds.measure,
    "crowd": crowd.measure,
    "coordinator": coordinator.measure,
    "tunnel": tunnel.measure,
    "memory": memory.measure,
    "resolve": resolve.measure,
    "attach": attach.measure,
    "python": python.measure,
}
_FAILURES = (BenchError, StartError, SquashError, OSError, TimeoutError, subprocess.SubprocessError, ExceptionGroup)


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    # Progress does not belong into what may be piped on.
    progress = Console(stderr=True, highlight=False)
    try:
        document, drawn = _run(options.only or list(SUBJECTS), QUICK if options.quick else Effort(), progress)
    except KeyboardInterrupt:
        progress.print("bench: interrupted; everything it started is gone")
        return 130
    document = {"quick": options.quick, **document}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        Console(highlight=False).print(drawn)
        print(f"Details: {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")
    return 0 if document["all_met"] else 1


def _run(names: Sequence[str], effort: Effort, progress: Console) -> tuple[dict[str, object], Table]:
    found: list[Measurement] = []
    failures: dict[str, str] = {}
    begun, machine = datetime.now(UTC), facts.machine()
    started = time.monotonic()
    for name in names:
        try:
            with progress.status(name) as shown:
                for one in SUBJECTS[name](effort, _teller(shown, name)):
                    found.append(one)
                    progress.print(f"{one.key:<28} {report.figure(one.value, one.unit)}")
        except _FAILURES as error:
            failures[name] = _why(error)
            progress.print(f"{name} could not be measured: {failures[name]}", style="red", markup=False)
    about = {
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        "subjects": list(names),
        "machine": machine,
        "versions": facts.versions(),
    }
    return report.document(found, failures, about), report.table(found, facts.caption(machine))


def _why(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _teller(shown: Status, name: str) -> Tell:
    return lambda text: shown.update(f"{name}: {text}")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    keys = "\n".join(f"  {row.key:<27} {row.what}" for row in ROWS)
    parser = argparse.ArgumentParser(
        "python -m bench",
        description="Measures Squash on this machine.",
        epilog=f"what is measured:\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", action="append", choices=SUBJECTS, help="measure this alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the JSON instead of the table")
    parser.add_argument("--quick", action="store_true", help="show that it runs; too little for figures to rely on")
    return parser.parse_args(argv)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
