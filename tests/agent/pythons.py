"""The CPythons of this machine to try things on, one of each minor version."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.soak.width import WIDE

ROOT = Path(__file__).parents[2]
NEWEST = ROOT / "build/python3.14/bin/python3.14"
"""`make test` sets it up."""
_VERSIONS = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"


def pythons() -> list[str]:
    """The tests' own and the newest; in `make soak` also the others, from 3.8 on."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    if NEWEST.exists():
        found["3.14"] = str(NEWEST)
    for minor in range(8, 14) if WIDE else ():
        on_path = shutil.which(f"python3.{minor}")
        for path in [*filter(None, [on_path]), *map(str, sorted(_VERSIONS.glob(f"3.{minor}.*/bin/python3")))]:
            # A shim is on the path also when there is nothing behind it.
            if subprocess.run([path, "-c", "import socket"], check=False, capture_output=True).returncode == 0:
                found.setdefault(f"3.{minor}", path)
    return list(found.values())
