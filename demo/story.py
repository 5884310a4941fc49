"""The story of `make demo`: every step is done for real and checked; a failed one is named."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.caller import Request, get
from demo.dap import Dap, DapError
from demo.shop import PATIENCE, PRICING, STOCK, STOCK_PROGRAM, Pod, Shop
from demo.world import BIN, StartError
from squash.errors import SquashError
from squash.model import Outcome
from squash.procfs import status
from squash.reasons import Reason
from squash.result import MARK

WRONG_CART = "melon:4,cheese:3"
"""Costs exactly 50.00, from where on there should be ten percent off."""
PRICING_LINE = "discount = subtotal * rate // 100"
WRONG_STOCK = "plum:1"
"""More plums are reserved than there are."""
STOCK_LINE = "return left;"
REQUEST_TIMEOUT = 1.0
"""Seconds: the sidecar's default for the coordinator's answer."""
SLACK = 2.0
"""Seconds more, for a slow and busy machine."""


class CheckError(Exception):
    """Something was not as it should be; the message says what was expected and what came."""


FAILURES = (
    CheckError, DapError, StartError, SquashError, OSError, ValueError, LookupError, TypeError, HTTPException,
    subprocess.SubprocessError,
)  # fmt: skip
"""What an answer that is not as it should be may lead to: each of them is a failed step, and told as one."""


@dataclass(frozen=True)
class Step:
    title: str
    seconds: float
    error: str = ""


class Story:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.steps: list[Step] = []
        self._out = Console(highlight=False, emoji=False, soft_wrap=True)

    def tell(self) -> bool:
        """True when every step was as it should be; the rest is not told after one that was not."""
        chapters: tuple[tuple[str, Callable[[], None]], ...] = (
            ("an unmarked request passes, and shows the wrong price", self.unmarked),
            ("nobody waits for a marked request: it passes at once", self.nobody_waits),
            ("Python: a marked request runs into a breakpoint", self.python),
            ("C++: the same with gdb", self.native),
            ("a held request is released by the developer", self.release),
            ("a caller that hangs up while held frees everything", self.hang_up),
            ("the coordinator is killed and comes back during a hold", self.coordinator_returns),
            ("without a coordinator a marked request goes on", self.coordinator_gone),
            ("when the sidecar is killed, what it holds goes on", self.sidecar_gone),
        )
        where, files = self.shop.storefront.url, self.shop.world.directory
        self._out.print(f"The shop is up: {where}; logs in {files} while it runs", markup=False)
        for number, (title, chapter) in enumerate(chapters, 1):
            self._out.print(f"\n[bold]{number}. {title}[/bold]")
            begun = time.monotonic()
            error = ""
            try:
                chapter()
            except FAILURES as failure:
                error = f"{type(failure).__name__}: {failure}"
            self.steps.append(Step(title, time.monotonic() - begun, error))
            if error:
                break
        self._summary(len(chapters))
        return all(not step.error for step in self.steps) and len(self.steps) == len(chapters)

    # -- the chapters --------------------------------------------------------------------------------

    def unmarked(self) -> None:
        answer = get(self._cart(WRONG_CART))
        self._say(f"GET /cart?items={WRONG_CART} → total {answer.body['total']}, discount {answer.body['discount']}")
        check("the wrong total", answer.body["total"], "47.50")
        check("no word of squash on the answer", answer.result, None)

    def nobody_waits(self) -> None:
        answer = get(self._cart(WRONG_CART), marked=True)
        self._say(f"x-squash-result: {answer.result}")
        check("the same answer", answer.body["total"], "47.50")
        if answer.result is None:
            raise CheckError("the answer has no x-squash-result")
        check("the outcome", answer.result.outcome, Outcome.NO_MATCH)
        check("the reason", answer.result.reason, Reason.NO_PENDING_REQUEST)
        self._say(f"{answer.result.reason}: {Reason.NO_PENDING_REQUEST.meaning}; {Reason.NO_PENDING_REQUEST.remedy}")

    def python(self) -> None:
        line = line_of(PRICING, PRICING_LINE)
        process = self.shop.pricing.service.pid
        wish = self._ctl("debug-request", "demo/pricing")
        held = Request(self._cart(WRONG_CART), marked=True)
        self._say(held.curl)
        attachment = self._listening(wish)
        check("the process that runs already", attachment["status"]["pid"], process)
        self._say(f"held; {attachment['status']['debugger']} attached to process {process}, no restart, no flag")
        with Dap(attachment["status"]["debug_server_address"]) as client:
            found = client.attach({str(PRICING): [line]})
            check("the breakpoint is set", [place["verified"] for place in found[str(PRICING)]], [True])
            thread = client.event("stopped")["threadId"]
            frames = client.ask("stackTrace", threadId=thread)["stackFrames"]
            self._say(f"stopped in {frames[0]['name']}, {Path(frames[0]['source']['path']).name}:{frames[0]['line']}")
            check("where it stopped", (frames[0]["name"], frames[0]["line"]), ("price", line))
            scope = client.ask("scopes", frameId=frames[0]["id"])["scopes"][0]["variablesReference"]
            names = {v["name"]: v["value"] for v in client.ask("variables", variablesReference=scope)["variables"]}
            self._say(f"locals: subtotal = {names['subtotal']}, rate = {names['rate']}")
            check("the locals", (names["subtotal"], names["rate"]), ("5000", "5"))
            rate = client.ask(
                "evaluate", expression="discount_rate(subtotal + 1)", frameId=frames[0]["id"], context="repl"
            )
            self._say(f"discount_rate(subtotal + 1) → {rate['result']}: one cent more, and the discount is right")
            check("the expression", rate["result"], "10")
            client.ask("setVariable", variablesReference=scope, name="rate", value="10")
            self._say("rate = 10")
            check("the request is still held at the breakpoint", held.answered, False)
            client.ask("continue", threadId=thread)
            answer = held.answer()
        self._say(
            f"the answer, with the changed value: total {answer.body['total']}, discount {answer.body['discount']}"
        )
        check("the changed answer", (answer.body["total"], answer.body["discount"]), ("45.00", "5.00"))
        self._detach(attachment, process)
        check("the service as it was", get(self._cart(WRONG_CART)).body["total"], "47.50")

    def native(self) -> None:
        line = line_of(STOCK, STOCK_LINE)
        process = self.shop.stock.service.pid
        url = f"{self.shop.stock.url}/stock?items={WRONG_STOCK}"
        check("the wrong stock", get(url).body["items"]["plum"]["available"], -2)
        wish = self._ctl("debug-request", "demo/stock")
        held = Request(url, marked=True)
        self._say(held.curl)
        attachment = self._listening(wish)
        check("the process that runs already", attachment["status"]["pid"], process)
        said = self._gdb(attachment["status"]["debug_server_address"], line)
        for text in re.findall(r"^(#0 .*|left = .*|\$\d+ = .*)$", said, re.MULTILINE):
            self._say(text)
        for what, pattern in (
            ("the backtrace", r"^#0 .*available \(sku=.*reserved=8\)"),
            ("the local", "^left = -2$"),
            ("the change", r"^\$1 = 0$"),
        ):
            if not re.search(pattern, said, re.MULTILINE):
                raise CheckError(f"{what}: expected {pattern!r} among what gdb says, found:\n{said.strip()}")
        answer = held.answer()
        self._say(
            f"the answer, with the changed value: {answer.body['items']['plum']}; x-squash-result: {answer.result}"
        )
        check("the changed answer", answer.body["items"]["plum"]["available"], 0)
        check("the outcome", answer.result and answer.result.outcome, Outcome.ATTACHED)
        self._detach(attachment, process)
        check("the service as it was", get(url).body["items"]["plum"]["available"], -2)

    def release(self) -> None:
        attachment, held = self._hold()
        released = self._ctl("release", attachment["metadata"]["name"])
        answer = held.answer()
        seconds = answer.received - released["status"]["times"]["released"]
        self._say(f"x-squash-result: {answer.result}; {seconds * 1000:.0f} ms after the release")
        check("the outcome", answer.result and answer.result.outcome, Outcome.RELEASED)
        check("let go within a second", seconds < 1.0, True)
        self._untraced(self.shop.pricing.service.pid)

    def hang_up(self) -> None:
        attachment, held = self._hold()
        name = attachment["metadata"]["name"]
        held.hang_up()
        gone = self._until(lambda: self._attachment(name), lambda found: found["status"]["state"] == "error")
        self._say(f"the attachment says: {gone['status']['reason']}: {gone['status'].get('message')}")
        check("the reason", gone["status"]["reason"], Reason.CALLER_GONE)
        holds = self._until(lambda: open_holds(self.shop.pricing), lambda number: number == 0)
        check("no hold is open", holds, 0)
        self._untraced(self.shop.pricing.service.pid)

    def coordinator_returns(self) -> None:
        attachment, held = self._hold()
        wish = self._ctl("debug-request", "demo/stock")
        self.shop.coordinator.kill()
        self._say("kill -9 of the coordinator, with one request held and one debug request pending")
        check("the request is still held", held.answered, False)
        self.shop.coordinator = self.shop.world.coordinator()
        with Dap(attachment["status"]["debug_server_address"]) as client:
            client.attach({})
            answer = held.answer()
        self._say(f"back again; its client came: x-squash-result: {answer.result}")
        check("the outcome", answer.result and answer.result.outcome, Outcome.ATTACHED)
        self._detach(attachment, self.shop.pricing.service.pid)
        matched = Request(f"{self.shop.stock.url}/stock?items={WRONG_STOCK}", marked=True)
        bound = self._ctl("wait", wish["metadata"]["name"], "--for", "matched")
        self._say("and the debug request made before is matched")
        self._ctl("release", bound["metadata"]["name"])
        answer = matched.answer()
        check("the outcome", answer.result and answer.result.outcome, Outcome.RELEASED)

    def coordinator_gone(self) -> None:
        self.shop.coordinator.kill()
        answer = get(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        self._say(f"x-squash-result: {answer.result}; after {answer.seconds:.3f} s")
        check("the outcome", answer.result and answer.result.outcome, Outcome.UNAVAILABLE)
        check("the reason", answer.result and answer.result.reason, Reason.COORDINATOR_UNREACHABLE)
        check("within the request timeout and a bit", answer.seconds < REQUEST_TIMEOUT + SLACK, True)
        self.shop.coordinator = self.shop.world.coordinator()

    def sidecar_gone(self) -> None:
        attachment, held = self._hold()
        begun = time.monotonic()
        self.shop.pricing.sidecar.kill()
        answer = held.answer()
        self._say(
            f"held when it died: x-squash-result: {answer.result}; {(time.monotonic() - begun) * 1000:.0f} ms later"
        )
        check("the outcome", answer.result and answer.result.outcome, Outcome.UNAVAILABLE)
        self._ctl("delete", attachment["metadata"]["name"])
        self._untraced(self.shop.pricing.service.pid)
        answer = get(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        self._say(f"without it: x-squash-result: {answer.result}; after {answer.seconds:.3f} s")
        check("the reason", answer.result and answer.result.reason, Reason.SIDECAR_UNREACHABLE)
        check("within the request timeout and a bit", answer.seconds < REQUEST_TIMEOUT + SLACK, True)
        listen = self.shop.pricing.sidecar.where.removeprefix("http://")
        self.shop.pricing.sidecar = self.shop.world.sidecar("pricing", *PATIENCE, listen=listen)

    # -- what they share -------------------------------------------------------------------------------

    def stay(self) -> None:
        """Says what to type, and waits for Ctrl-C."""
        line = line_of(STOCK, STOCK_LINE)
        url = f"{self.shop.stock.url}/stock?items={WRONG_STOCK}"
        self._out.print("\nIt is all up until Ctrl-C. To stop a request in the stock service yourself:\n", style="bold")
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
            self._say(what, style="dim")
            for typed in lines:
                self._out.print(f"     {typed}", markup=False)
        signal.pause()

    def _cart(self, items: str) -> str:
        return f"{self.shop.storefront.url}/cart?items={items}"

    def _hold(self) -> tuple[dict[str, Any], Request]:
        """A marked request held at pricing, whose debugger listens for a client that does not come."""
        wish = self._ctl("debug-request", "demo/pricing")
        held = Request(f"{self.shop.pricing.url}/price?items={WRONG_CART}", marked=True)
        attachment = self._listening(wish)
        check("the request is held", held.answered, False)
        return attachment, held

    def _listening(self, wish: dict[str, Any]) -> dict[str, Any]:
        return self._ctl("wait", wish["metadata"]["name"], "--for", "listening", "--timeout", "30")

    def _attachment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            a for a in self._ctl("list", "attachments")["attachments"] if a["metadata"]["name"] == name
        )
        return found

    def _detach(self, attachment: dict[str, Any], pid: int) -> None:
        self._ctl("delete", attachment["metadata"]["name"])
        self._untraced(pid)
        self._say(f"detached: process {pid} runs on, untraced")

    def _untraced(self, pid: int) -> None:
        """Waits for the debugger to leave; both of ours show as a tracer or as threads of their own."""
        calm = self._until(
            lambda: facts(pid), lambda found: found == {"tracer": 0, "stopped": False, "debugger": False}
        )
        check(f"process {pid} is free", calm, {"tracer": 0, "stopped": False, "debugger": False})

    def _gdb(self, address: str, line: int) -> str:
        """gdb as a person would use it: a breakpoint, a look, a changed variable, and off again."""
        commands = [
            f"target remote {address.removeprefix('unix:')}",
            f"break {STOCK.name}:{line}",
            "continue",
            "backtrace 1",
            "info locals",
            "print left = 0",
            "detach",
        ]
        argv = [
            "gdb",
            "-nx",
            "-batch",
            *(word for command in commands for word in ("-ex", command)),
            str(STOCK_PROGRAM),
        ]
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
            env=self.shop.world.environment(),
            cwd=self.shop.world.directory,  # gdb leaves a core file when it is ended at the wrong moment
        )  # fmt: skip
        return done.stdout + done.stderr

    def _ctl(self, *words: str) -> dict[str, Any]:
        """`squashctl … --json`; raises CheckError with its own words when it fails."""
        self._say(f"$ squashctl {' '.join(words)}", style="dim")
        environment = self.shop.world.environment({"SQUASH_SERVER_URL": self.shop.coordinator.where})
        done = subprocess.run(
            [str(BIN / "squashctl"), *words, "--json"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment, timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise CheckError(f"squashctl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def _until(self, look: Callable[[], Any], good: Callable[[Any], bool], limit: float = 10.0) -> Any:
        """What `look` sees once it is good, or at last: for facts that tell nobody when they change."""
        deadline = time.monotonic() + limit
        while not good(found := look()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(f"   {text}", style=style, markup=False)

    def _summary(self, planned: int) -> None:
        table = Table(title="make demo", title_justify="left")
        table.add_column("step")
        table.add_column("", justify="right")
        table.add_column("seconds", justify="right")
        for number, step in enumerate(self.steps, 1):
            table.add_row(f"{number}. {step.title}", "failed" if step.error else "ok", f"{step.seconds:.2f}")
        self._out.print()
        self._out.print(table)
        for number, step in enumerate(self.steps, 1):
            if step.error:
                self._out.print(f"step {number} of {planned} failed: {step.error}", markup=False)


def check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckError(f"{what}: expected {expected!r}, found {found!r}")


def line_of(path: Path, text: str) -> int:
    """The number of the one line that has this text."""
    found = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    if len(found) != 1:
        raise CheckError(f"{path.name} has {len(found)} lines with {text!r}")
    return found[0]


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
