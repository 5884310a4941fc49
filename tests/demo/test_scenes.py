"""The services in Go, Node and Java as real processes: the bug that is debugged, right answers beside it, bad input."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from demo import scenes
from demo.caller import get
from demo.scenes import LEDGER, PRICING, PROMOTION, SERVICES, SHIPPING, STOCK, Scene
from demo.telling import line_of

SCENES = [SHIPPING, PROMOTION, LEDGER]


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where each listens; all of them end with status 0 when they are told to."""
    place = tmp_path_factory.mktemp("services")
    commands: dict[str, Callable[[], list[str]]] = {
        "shipping": lambda: _go(place),
        "promotion": lambda: ["node", str(SERVICES / "promotion.js")],
        "ledger": lambda: _java(place),
    }
    with ExitStack() as ends:
        found = {}
        for name, command in commands.items():
            argv = [*command(), "--listen", "127.0.0.1:0"]
            process = ends.enter_context(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            ends.callback(process.kill)
            assert process.stdout
            said = process.stdout.readline()
            assert said.startswith(f"{name} ready on http://127.0.0.1:")
            found[name] = said.split()[-1]
            ends.callback(_end, process)
        yield found


def _go(place: Path) -> list[str]:
    environment = {**os.environ, "CGO_ENABLED": "0", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", place / "shipping", SERVICES / "shipping.go"], check=True, env=environment)
    return [str(place / "shipping")]


def _java(place: Path) -> list[str]:
    subprocess.run(["javac", "-Xlint:all", "-Werror", "-g", "-d", place, SERVICES / "Ledger.java"], check=True)
    return ["java", "-XX:TieredStopAtLevel=1", "-cp", str(place), "Ledger"]


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    # A JVM tells by its status that it was SIGTERM that it ended by.
    assert process.wait(30) in (0, 128 + signal.SIGTERM)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_what_is_debugged_is_wrong(urls: dict[str, str], scene: Scene) -> None:
    answer = get(urls[scene.name] + scene.page)
    assert answer.status == 200
    assert scene.shown(answer.body) == scene.wrong != scene.right


@pytest.mark.parametrize(
    ("scene", "page", "right"),
    [
        (SHIPPING, "/shipping?items=melon:3,apple:1", (1, "4.90")),
        (SHIPPING, "/shipping?items=melon:4,plum:1", (2, "9.80")),
        (PROMOTION, "/gift?points=49", None),
        (PROMOTION, "/gift?points=99", "sticker"),
        (LEDGER, "/order?number=1002", True),
        (LEDGER, "/order?number=1003", False),
    ],
)
def test_beside_it_all_is_right(urls: dict[str, str], scene: Scene, page: str, right: Any) -> None:
    assert scene.shown(get(urls[scene.name] + page).body) == right


@pytest.mark.parametrize(
    ("name", "page", "complaint"),
    [
        ("shipping", "/shipping", "items is missing"),
        ("shipping", "/shipping?items=unicorn:1", "no such item"),
        ("shipping", "/shipping?items=apple:-1", "whole number from 1 to 999"),
        ("shipping", "/shipping?items=apple:1,apple:2", "in the cart twice"),
        ("promotion", "/gift", "points is missing"),
        ("promotion", "/gift?points=many", "whole number from 0 to 999999"),
        ("ledger", "/order", "number is missing"),
        ("ledger", "/order?number=%22%5C%00", "no such order"),
    ],
)
def test_bad_input_is_refused_with_a_message(urls: dict[str, str], name: str, page: str, complaint: str) -> None:
    answer = get(urls[name] + page)
    assert answer.status == 400
    assert complaint in answer.body["error"]


@pytest.mark.parametrize("name", ["shipping", "promotion", "ledger"])
def test_health_and_unknown_pages(urls: dict[str, str], name: str) -> None:
    assert get(f"{urls[name]}/healthz").body == {"status": "ok"}
    for page in ("/nothing", "/"):
        answer = get(urls[name] + page)
        assert (answer.status, "no such page" in answer.body["error"]) == (404, True)


@pytest.mark.parametrize("scene", [PRICING, STOCK, *SCENES], ids=lambda scene: scene.name)
def test_its_line_is_found(scene: Scene) -> None:
    assert line_of(scene.source, scene.line) > 1
    assert scene in vars(scenes).values()
