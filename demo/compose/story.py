"""The story of `make compose-demo`: five services in five languages, in containers, each behind an Envoy of its own."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demo import scenes
from demo.caller import Request, get
from demo.compose.shop import Shop
from demo.debugging import Debugging
from demo.scenes import Scene
from demo.telling import Chapter, CheckError, Teller, check, until
from demo.world import BIN
from squash.model import Outcome
from squash.procfs import status
from squash.reasons import Reason
from squash.result import MARK

FILES = {
    "pricing": "/app/pricing.py",
    "stock": "stock.cpp",
    "shipping": "/src/shipping.go",
    "promotion": "/app/promotion.js",
    "ledger": "Ledger.java",
}
"""Each service's source, as its container or its debug information names it."""


class ComposeStory(Debugging):
    def __init__(self, shop: Shop) -> None:
        super().__init__(Teller("make compose-demo"), shop.directory)
        self.shop = shop
        self._environment = shop.environment()
        self._addresses = {name: shop.address(name, 8080) for name in FILES}

    def tell(self) -> bool:
        """True when every step was as it should be."""
        chapters: tuple[Chapter, ...] = (
            ("nobody waits for a marked request: it passes at once", self.nobody_waits),
            ("Python: a marked request runs into a breakpoint", lambda: self.debug(scenes.PRICING)),
            ("C++, nothing but the program in its image: with gdb", lambda: self.debug(scenes.STOCK)),
            ("Go, nothing but the program in its image: with delve", lambda: self.debug(scenes.SHIPPING)),
            ("Node: with its inspector", lambda: self.debug(scenes.PROMOTION)),
            ("Java: with jdb", lambda: self.debug(scenes.LEDGER)),
            ("a held request is released by the developer", self.release),
        )
        self.teller.out.print(f"The shop is up, as the Compose project {self.shop.project}", markup=False)
        return self.teller.tell(chapters)

    def nobody_waits(self) -> None:
        for scene in (scenes.PRICING, scenes.STOCK, scenes.SHIPPING, scenes.PROMOTION, scenes.LEDGER):
            answer = get(self.url(scene), marked=True)
            self.teller.say(f"{scene.page} → {answer.body}; x-squash-result: {answer.result}")
            check("the same wrong answer", scene.shown(answer.body), scene.wrong)
            check("the outcome", answer.result and answer.result.outcome, Outcome.NO_MATCH)
            check("the reason", answer.result and answer.result.reason, Reason.NO_PENDING_REQUEST)

    def release(self) -> None:
        wish = self.ctl("debug-request", "demo/pricing")
        held = Request(self.url(scenes.PRICING), marked=True)
        attachment = self.listening(wish)
        check("the request is held", held.answered, False)
        self.ctl("release", attachment["metadata"]["name"])
        answer = held.answer()
        self.teller.say(f"x-squash-result: {answer.result}")
        check("the outcome", answer.result and answer.result.outcome, Outcome.RELEASED)
        self.is_free(attachment["status"]["pid"])

    def stay(self) -> None:
        """Says what to type, and waits for Ctrl-C."""
        self.teller.out.print("\nIt is all up until Ctrl-C. To stop a request in pricing yourself:\n", style="bold")
        url = self.url(scenes.PRICING)
        for what, *lines in (
            (
                "In a second terminal ask for a debugger, here the console:",
                f"export SQUASH_SERVER_URL={self._environment['SQUASH_SERVER_URL']}",
                # Not the token itself: it is good for a year, and what is printed may be kept.
                f"export SQUASH_TOKEN=$({self.shop.token_command()})",
                f"{BIN / 'squashctl'} debug image demo/pricing --console",
            ),
            ("In a third send the request:", f"curl -i -H {MARK}:1 '{url}'"),
        ):
            self.teller.say(what, style="dim")
            for typed in lines:
                self.teller.out.print(f"     {typed}", markup=False)
        signal.pause()

    # -- how this one gets at the services -----------------------------------------------------------

    def environment(self) -> dict[str, str]:
        return self._environment

    def url(self, scene: Scene) -> str:
        return f"http://{self._addresses[scene.name]}{scene.page}"

    def file(self, scene: Scene) -> str:
        return FILES[scene.name]

    def program(self, scene: Scene) -> Path | None:
        return None

    @contextlib.contextmanager
    def reach(self, attachment: Mapping[str, Any]) -> Iterator[str]:
        argv = [str(BIN / "squashctl"), "connect", attachment["metadata"]["name"], "--json"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=self._environment, start_new_session=True) as connect:
            assert connect.stdout is not None  # noqa: S101 - for the type checker
            try:
                told = json.loads(connect.stdout.readline() or b"{}")
                if "listen" not in told:
                    raise CheckError(f"squashctl connect ended with status {connect.wait()}")
                self.teller.say(f"$ {' '.join(['squashctl', *argv[1:-1]])}", style="dim")
                yield f"{told['listen']['host']}:{told['listen']['port']}"
            finally:
                connect.terminate()

    def is_the_service(self, scene: Scene, pid: int) -> None:
        cgroups = Path(f"/proc/{pid}/cgroup").read_text()
        check(f"process {pid} is of the container", self.shop.container(scene.name) in cgroups, True)

    def is_free(self, pid: int) -> None:
        free = {"tracer": "0", "stopped": False}
        check(f"process {pid} is free", until(lambda: _facts(pid), lambda found: found == free), free)


def _facts(pid: int) -> dict[str, Any]:
    found = status(pid) or {}
    return {"tracer": found.get("TracerPid"), "stopped": found.get("State", "?")[0] in "tT"}
