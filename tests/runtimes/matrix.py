"""The table of five languages in five kinds of containers, as a page: for people, and for the next run."""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.drivers.languages import LANGUAGES
from tests.runtimes.cells import Kind, Seen

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "matrix.md"
BUILD = ROOT / "build"
Key = tuple[str, str, str]
"""Runtime, language, kind of container."""
_NAMES = {"python": "Python", "cpp": "C++", "go": "Go", "node": "Node", "java": "Java"}
_HEAD = """# What works where

Each cell was played by `make runtimes` on a real containerd (pods made through the CRI) or a real Docker engine, by way
of coordinator, agent and tunnel: attach, a breakpoint, a real request that runs into it, its locals read, one of them
changed and seen in the answer, continue, detach. Afterwards no tracer, thread, file, socket or process of the debugger
is left, the same ports are open as before, and the service answers. A run fails when it does not see what this page
says; it writes what it saw to `build/matrix.md`, and with times to `build/matrix.json`.
"""

_TAIL = """## Beside the table

The same runs show, in containers of the same images:

- What cannot be done is refused, with its reason, and the service is as it was: too little memory below the limit for
  the debugger (`memory_short`), a JVM without JDWP, one whose JDWP sleeps and that cannot be woken because its /tmp
  is read-only, a stripped Go program (`debugger_unsuited`).
- After kill -9 of the agent, of gdbserver, of delve or of one of their guards, with a breakpoint set or a request
  standing at it, the service runs untraced and answers within 10 seconds. When the agent is back, nothing is left of
  the session.
- A pod that is deleted under a debugger is gone at once, and the attachment ends with `process_gone`. A container
  that ends while a debugger is on its way in ends it with a reason that says so; the new container is not touched, or
  is the one that is debugged.

For Java the JVM was started with JDWP on a port of its loopback. While a debugger is in, that port is closed;
afterwards it is open as before. In the wrapped container JDWP slept (`onjcmd=y`): what the JVM starts when it is
woken, it keeps, but no port is open afterwards while the agent lives ([more](debuggers.md#java-jdwp)).
"""


def page(seen: Mapping[Key, Seen]) -> str:
    """In Markdown."""
    kinds = "\n".join(f"| {kind} | {kind.meaning} |" for kind in Kind)
    parts = [_HEAD, f"| container | |\n|---|---|\n{kinds}\n"]
    parts += [_table(title, runtime, seen) for title, runtime in (("containerd (CRI)", "cri"), ("Docker", "docker"))]
    return "\n".join([*parts, _refusals(seen)])


def keep(seen: Mapping[Key, Seen]) -> None:
    """Writes it below build/."""
    BUILD.mkdir(exist_ok=True)
    (BUILD / "matrix.md").write_text(page(seen))
    rows = [
        {"runtime": runtime, "language": language, "container": kind, **vars(found)}
        for (runtime, language, kind), found in sorted(seen.items())
    ]
    (BUILD / "matrix.json").write_text(json.dumps(rows, indent=1) + "\n")


def times(seen: Mapping[Key, Seen]) -> str:
    """For the terminal."""
    lines = [
        f"{runtime:7}{language:8}{kind:10}{found.attach_ms:7.0f} ms  {found.outcome}"
        for (runtime, language, kind), found in sorted(seen.items())
    ]
    return "\n".join(lines)


def _table(title: str, runtime: str, seen: Mapping[Key, Seen]) -> str:
    kinds = [kind for kind in Kind if any((runtime, name, kind) in seen for name in LANGUAGES)]
    rows = [["", *kinds], ["---"] * (len(kinds) + 1)]
    rows += [[_NAMES[name], *(_cell(seen.get((runtime, name, kind))) for kind in kinds)] for name in LANGUAGES]
    return f"## {title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(found: Seen | None) -> str:
    return found.outcome if found else "not played"


def _refusals(seen: Mapping[Key, Seen]) -> str:
    refused = sorted((key, found) for key, found in seen.items() if found.message)
    told = "".join(f"- {_NAMES[key[1]]}, {key[2]} ({key[0]}): {found.message}\n" for key, found in refused)
    return f"{told or 'No cell was refused.'}\n\n{_TAIL}"
