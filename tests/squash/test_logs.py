"""Log lines, as whoever collects them sees them."""

import json
import re
import subprocess
import sys

PROGRAM = """
from squash import logs
from squash.logs import Log
import logging, sys
logs.setup(sys.argv[1], sys.argv[2])
log = Log("sidecar", hold="h1").bind(attachment="a b", none=None)
log.debug("unseen")
log.info("let go", seconds=1.23456, path="/x\\ny", quote='"', empty="", count=3)
log.warning("hm", hold="h2")
try:
    1 / 0
except ZeroDivisionError as error:
    log.error("failed", exc=error)
logging.getLogger("httpx").info("unseen")
logging.getLogger("other").warning("of another's %s", "library")
"""


def lines(level: str, form: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, level, form], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_text() -> None:
    said = lines("info", "text")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert len(said) == 4
    fields = r'hold=h1 attachment="a b" seconds=1\.235 path="/x\\ny" quote="\\"" empty="" count=3'
    assert re.fullmatch(f"{stamp} INFO    sidecar: let go {fields}", said[0])
    assert re.fullmatch(stamp + r' WARNING sidecar: hm hold=h2 attachment="a b"', said[1])
    assert "ERROR   sidecar: failed" in said[2]
    assert "ZeroDivisionError" in said[2]
    assert said[3].endswith("WARNING other: of another's library")


def test_json() -> None:
    said = [json.loads(line) for line in lines("info", "json")]
    assert [line["event"] for line in said] == ["let go", "hm", "failed", "of another's library"]
    assert said[0].pop("time").endswith("Z")
    assert said[0] == {
        "level": "info",
        "logger": "sidecar",
        "event": "let go",
        "hold": "h1",
        "attachment": "a b",
        "seconds": 1.23456,
        "path": "/x\ny",
        "quote": '"',
        "empty": "",
        "count": 3,
    }
    assert "ZeroDivisionError" in said[2]["traceback"]


def test_level() -> None:
    assert "unseen" in lines("debug", "text")[0]
    assert len(lines("error", "text")) == 1
