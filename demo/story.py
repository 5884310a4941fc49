"""The story of `make demo`: every step is done for real and checked; a failed one is named."""

import contextlib
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demo import scenes
from demo.caller import Request, get
from demo.dap import Dap
from demo.debugging import Debugging
from demo.scenes import WRONG_CART, WRONG_STOCK, Scene
from demo.shop import PATIENCE, STOCK, STOCK_PROGRAM, Pod, Shop
from demo.telling import Chapter, CheckError, Teller, check, line_of, until
from demo.world import BIN
from squash.model import Outcome
from squash.procfs import status
from squash.reasons import Reason
from squash.result import MARK

REQUEST_TIMEOUT = 1.0
"""Seconds: the sidecar's default for the coordinator's answer."""
SLACK = 2.0
"""Seconds more, for a slow and busy machine."""


class Story(Debugging):
    def __init__(self, shop: Shop) -> None:
        super().__init__(Teller("make demo"), shop.world.directory)
        self.shop = shop

    def tell(self) -> bool:
        """True when every step was as it should be."""
        chapters: tuple[Chapter, ...] = (
            ("an unmarked request passes, and shows the wrong price", self.unmarked),
            ("nobody waits for a marked request: it passes at once", self.nobody_waits),
            ("Python: a marked request runs into a breakpoint", lambda: self.debug(scenes.PRICING)),
            ("C++: the same with gdb", lambda: self.debug(scenes.STOCK)),
            ("a held request is released by the developer", self.release),
            ("a caller that hangs up while held frees everything", self.hang_up),
            ("the coordinator is killed and comes back during a hold", self.coordinator_returns),
            ("without a coordinator a marked request goes on", self.coordinator_gone),
            ("when the sidecar is killed, what it holds goes on", self.sidecar_gone),
        )
        where, files = self.shop.storefront.url, self.shop.world.directory
        self.teller.out.print(f"The shop is up: {where}; logs in {files} while it runs", markup=False)
        return self.teller.tell(chapters)

    # -- the chapters --------------------------------------------------------------------------------

    def unmarked(self) -> None:
        answer = get(self._cart(WRONG_CART))
        self.teller.say(
            f"GET /cart?items={WRONG_CART} → total {answer.body['total']}, discount {answer.body['discount']}"
        )
        check("the wrong total", answer.body["total"], "47.50")
        check("no word of squash on the answer", answer.result, None)

    def nobody_waits(self) -> None:
        answer = get(self._cart(WRONG_CART), marked=True)
        self.teller.say(f"x-squash-result: {answer.result}")
        check("the same answer", answer.body["total"], "47.50")
        if answer.result is None:
            raise CheckError("the answer has no x-squash-result")
        check("the outcome", answer.result.outcome, Outcome.NO_MATCH)
        check("the reason", answer.result.reason, Reason.NO_PENDING_REQUEST)
        self.teller.say(
            f"{answer.result.reason}: {Reason.NO_PENDING_REQUEST.meaning}; {Reason.NO_PENDING_REQUEST.remedy}"
        )

    def release(self) -> None:
        attachment, held = self._hold()
        released = self.ctl("release", attachment["metadata"]["name"])
        answer = held.answer()
        seconds = answer.received - released["status"]["times"]["released"]
        self.teller.say(f"x-squash-result: {answer.result}; {seconds * 1000:.0f} ms after the release")
        check("the outcome", answer.result and answer.result.outcome, Outcome.RELEASED)
        check("let go within a second", seconds < 1.0, True)
        self.is_free(self.shop.pricing.service.pid)

    def hang_up(self) -> None:
        attachment, held = self._hold()
        name = attachment["metadata"]["name"]
        held.hang_up()
        gone = until(lambda: self._attachment(name), lambda found: found["status"]["state"] == "error")
        self.teller.say(f"the attachment says: {gone['status']['reason']}: {gone['status'].get('message')}")
        check("the reason", gone["status"]["reason"], Reason.CALLER_GONE)
        holds = until(lambda: open_holds(self.shop.pricing), lambda number: number == 0)
        check("no hold is open", holds, 0)
        self.is_free(self.shop.pricing.service.pid)

    def coordinator_returns(self) -> None:
        attachment, held = self._hold()
        wish = self.ctl("debug-request", "demo/stock")
        self.shop.coordinator.kill()
        self.teller.say("kill -9 of the coordinator, with one request held and one debug request pending")
        check("the request is still held", held.answered, False)
        self.shop.coordinator = self.shop.world.coordinator()
        with Dap(attachment["status"]["debug_server_address"]) as client:
            client.attach({})
            answer = held.answer()
        self.teller.say(f"back again; its client came: x-squash-result: {answer.result}")
        check("the outcome", answer.result and answer.result.outcome, Outcome.ATTACHED)
        self.detach(attachment)
        matched = Request(f"{self.shop.stock.url}/stock?items={WRONG_STOCK}", marked=True)
        bound = self.ctl("wait", wish["metadata"]["name"], "--for", "matched")
        self.teller.say("and the debug request made before is matched")
        self.ctl("release", bound["metadata"]["name"])
        answer = matched.answer()
        check("the outcome", answer.result and answer.result.outcome, Outcome.RELEASED)

    def coordinator_gone(self) -> None:
        self.shop.coordinator.kill()
        answer = get(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        self.teller.say(f"x-squash-result: {answer.result}; after {answer.seconds:.3f} s")
        check("the outcome", answer.result and answer.result.outcome, Outcome.UNAVAILABLE)
        check("the reason", answer.result and answer.result.reason, Reason.COORDINATOR_UNREACHABLE)
        check("within the request timeout and a bit", answer.seconds < REQUEST_TIMEOUT + SLACK, True)
        self.shop.coordinator = self.shop.world.coordinator()

    def sidecar_gone(self) -> None:
        attachment, held = self._hold()
        begun = time.monotonic()
        self.shop.pricing.sidecar.kill()
        answer = held.answer()
        self.teller.say(
            f"held when it died: x-squash-result: {answer.result}; {(time.monotonic() - begun) * 1000:.0f} ms later"
        )
        check("the outcome", answer.result and answer.result.outcome, Outcome.UNAVAILABLE)
        self.ctl("delete", attachment["metadata"]["name"])
        self.is_free(self.shop.pricing.service.pid)
        answer = get(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        self.teller.say(f"without it: x-squash-result: {answer.result}; after {answer.seconds:.3f} s")
        check("the reason", answer.result and answer.result.reason, Reason.SIDECAR_UNREACHABLE)
        check("within the request timeout and a bit", answer.seconds < REQUEST_TIMEOUT + SLACK, True)
        listen = self.shop.pricing.sidecar.where.removeprefix("http://")
        self.shop.pricing.sidecar = self.shop.world.sidecar("pricing", *PATIENCE, listen=listen)

    # -- what they share -------------------------------------------------------------------------------

    def stay(self) -> None:
        """Says what to type, and waits for Ctrl-C."""
        line = line_of(STOCK, scenes.STOCK_LINE)
        url = f"{self.shop.stock.url}/stock?items={WRONG_STOCK}"
        self.teller.out.print(
            "\nIt is all up until Ctrl-C. To stop a request in the stock service yourself:\n", style="bold"
        )
        for what, *lines in (
            (
                "In a second terminal ask for a debugger; once the request has come, this shows a gdb command:",
                f"export SQUASH_SERVER_URL={self.shop.coordinator.where}",
                f"{BIN / 'squashctl'} debug-request demo/stock --wait --timeout 5m",
            ),
            ("In a third send the request:", f"curl -i -H {MARK}:1 '{url}'"),
            (
                "In a fourth type that gdb command, and after it on the same line:",
                f"-ex 'break {STOCK.name}:{line}' -ex continue {STOCK_PROGRAM}",
            ),
            ("The shop's cart:", f"curl '{self._cart(WRONG_CART)}'"),
            ("Logs and everything else:", f"ls {self.shop.world.directory}"),
        ):
            self.teller.say(what, style="dim")
            for typed in lines:
                self.teller.out.print(f"     {typed}", markup=False)
        signal.pause()

    def _cart(self, items: str) -> str:
        return f"{self.shop.storefront.url}/cart?items={items}"

    def _hold(self) -> tuple[dict[str, Any], Request]:
        """A marked request held at pricing, whose debugger listens for a client that does not come."""
        wish = self.ctl("debug-request", "demo/pricing")
        held = Request(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        attachment = self.listening(wish)
        check("the request is held", held.answered, False)
        return attachment, held

    def _attachment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            a for a in self.ctl("list", "attachments")["attachments"] if a["metadata"]["name"] == name
        )
        return found

    # -- how this one gets at the services -----------------------------------------------------------

    def environment(self) -> dict[str, str]:
        return self.shop.world.environment({"SQUASH_SERVER_URL": self.shop.coordinator.where})

    def url(self, scene: Scene) -> str:
        return self._cart(WRONG_CART) if scene is scenes.PRICING else self._pod(scene).url + scene.page

    def file(self, scene: Scene) -> str:
        return scene.source.name if scene is scenes.STOCK else str(scene.source)

    def program(self, scene: Scene) -> Path | None:
        return STOCK_PROGRAM if scene is scenes.STOCK else None

    @contextlib.contextmanager
    def reach(self, attachment: Mapping[str, Any]) -> Iterator[str]:
        yield attachment["status"]["debug_server_address"]

    def is_the_service(self, scene: Scene, pid: int) -> None:
        check("the process that runs already", pid, self._pod(scene).service.pid)

    def is_free(self, pid: int) -> None:
        """Waits for the debugger to leave; both of ours show as a tracer or as threads of their own."""
        free = {"tracer": 0, "stopped": False, "debugger": False}
        check(f"process {pid} is free", until(lambda: facts(pid), lambda found: found == free), free)

    def _pod(self, scene: Scene) -> Pod:
        return self.shop.pricing if scene is scenes.PRICING else self.shop.stock


def facts(pid: int) -> dict[str, Any]:
    """Whether somebody traces the process, it is stopped, or it has a line to an agent (our services have no other)."""
    found = status(pid) or {}
    local = {line.split()[6] for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]}
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            links.add(os.readlink(entry))
    return {
        "tracer": int(found.get("TracerPid", "-1")),
        "stopped": found.get("State", "?")[0] in "tT",
        "debugger": any(f"socket:[{inode}]" in links for inode in local),
    }


def open_holds(pod: Pod) -> int:
    """From the sidecar's metrics."""
    with urllib.request.urlopen(f"{pod.sidecar.where}/metrics") as answer:  # noqa: S310 - our own sidecar
        text = answer.read().decode()
    found = re.search(r"^squash_\w*open\w* (\d+)", text, re.MULTILINE)
    if not found:
        raise CheckError("the sidecar's metrics do not tell the open holds")
    return int(found[1])
