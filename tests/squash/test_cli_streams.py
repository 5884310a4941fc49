"""squashctl where its standard output takes nothing, or not every character, and with arguments that are no text."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.coordinator.program import Coordinator
from tests.squash.ctl import SQUASHCTL, Ctl

ASCII = {"PYTHONIOENCODING": "ascii"}


def full(ctl: Ctl, *argv: str) -> tuple[int, str]:
    """Its status and what it says when its output goes to a disk that is full."""
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [SQUASHCTL, *argv], env=ctl.env, stdout=nowhere, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("argv", [("list",), ("envoy", "edge")])
def test_a_full_disk_is_one_line(ctl: Ctl, argv: tuple[str, ...]) -> None:
    assert full(ctl, *argv) == (1, "squashctl: cannot write to standard output: No space left on device\n")


def test_a_full_disk_takes_back_what_was_asked_for(alone: Ctl, own: Coordinator) -> None:
    status, said = full(Ctl(alone.home, own.url), "debug", "image", "demo/x", "--json")
    error = json.loads(said)["error"]
    assert (status, error["message"]) == (1, "cannot write to standard output: No space left on device")
    assert own.http.get("/api/v2/debugrequest").json() == []


def test_an_output_that_is_closed_is_one_line(ctl: Ctl) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {SQUASHCTL} list >&-"], env=ctl.env, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        "squashctl: cannot write to standard output: Bad file descriptor\n",
    )


def test_what_ascii_lacks_is_replaced(ctl: Ctl, board: Coordinator) -> None:
    name = board.wish("demo/grün-💥")
    done = ctl("list", "requests", env=ASCII)
    assert done.returncode == 0
    assert "demo/gr?n-?" in done.stdout
    listed = json.loads(ctl("list", "requests", "--json", env=ASCII).stdout)["requests"]
    assert next(each["spec"]["image"] for each in listed if each["metadata"]["name"] == name) == "demo/grün-💥"


@pytest.mark.parametrize(
    "argv",
    [
        ("debug-request", "demo/\udcff"),
        ("debug", "image", "demo/\udcff"),
        ("audit", "--actor", "\udcff"),
        ("\udcff",),
        ("list", "--server", "http://\udcff"),
    ],
    ids=ascii,
)
def test_an_argument_that_is_no_text(ctl: Ctl, argv: tuple[str, ...]) -> None:
    assert ctl.failure(*argv, status=2)["message"]


def test_an_argument_that_is_no_text_is_one_line(ctl: Ctl) -> None:
    done = ctl("debug-container", "\udcff")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "squashctl: '\\udcff' is no text in utf-8\n"


def test_an_id_that_is_no_text_is_not_found(ctl: Ctl) -> None:
    assert ctl.failure("release", "\udcff", status=5)["reason"] == "not_found"


def test_a_file_may_be_called_as_it_likes(alone: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "sq\udcff.toml"
    os.close(os.open(os.fsencode(file), os.O_CREAT | os.O_WRONLY))
    file.write_text('[squashctl]\nserver_url = "http://named:1"\n')
    done = alone("version", "--json", "--config", str(file))
    assert json.loads(done.stdout)["server_url"] == "http://named:1"
