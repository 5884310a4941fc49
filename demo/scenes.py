"""What is found with a debugger in each service: the same in every story, wherever the service runs.

Each scene is played while a marked request is held in front of the service: a client of the service's own debugger
sets a breakpoint, the request runs into it, the locals show what is wrong, one is changed, and the request goes on.
"""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from demo.caller import Request
from demo.dap import Dap
from demo.inspector import Inspector
from demo.jdb import Jdb
from demo.telling import CheckError, check

SERVICES = Path(__file__).parent / "services"
PRICING_LINE = "discount = subtotal * rate // 100"
STOCK_LINE = "return left;"
WRONG_CART = "melon:4,cheese:3"
"""Costs exactly 50.00, from where on there should be ten percent off."""
WRONG_STOCK = "plum:1"
"""More plums are reserved than there are."""


@dataclass(frozen=True)
class Desk:
    """What whoever debugs has at hand."""

    say: Callable[[str], None]
    address: str
    """Where the debug server is reached: HOST:PORT or unix:PATH."""
    file: str
    """The source, as the process knows it."""
    line: int
    held: Request
    directory: Path
    environment: Mapping[str, str]
    program: Path | None = None
    """With symbols, where the debugger cannot fetch it from the process."""


@dataclass(frozen=True)
class Scene:
    name: str
    """Of the service; its image is demo/NAME."""
    source: Path
    line: str
    """Text of the line where it stops."""
    page: str
    """Path and query of the request that shows the bug."""
    shown: Callable[[Any], Any]
    """Of the answer's body, what is wrong in it."""
    wrong: Any
    right: Any
    """With the variable changed."""
    play: Callable[[Desk], None]


def _pricing(desk: Desk) -> None:
    with Dap(desk.address) as client:
        found = client.attach({desk.file: [desk.line]})
        check("the breakpoint is set", [place["verified"] for place in found[desk.file]], [True])
        thread, frame, scope, names = _stopped(client, desk)
        check("where it stopped", (frame["name"], frame["line"]), ("price", desk.line))
        desk.say(f"locals: subtotal = {names['subtotal']}, rate = {names['rate']}")
        check("the locals", (names["subtotal"], names["rate"]), ("5000", "5"))
        rate = client.ask("evaluate", expression="discount_rate(subtotal + 1)", frameId=frame["id"], context="repl")
        desk.say(f"discount_rate(subtotal + 1) → {rate['result']}: one cent more, and the discount is right")
        check("the expression", rate["result"], "10")
        client.ask("setVariable", variablesReference=scope, name="rate", value="10")
        desk.say("rate = 10")
        _go_on(client, desk, thread)


def _shipping(desk: Desk) -> None:
    with Dap(desk.address) as client:
        found = client.attach({desk.file: [desk.line]})
        check("the breakpoint is set", [place["verified"] for place in found[desk.file]], [True])
        thread, frame, scope, names = _stopped(client, desk)
        check("where it stopped", (frame["name"], frame["line"]), ("main.parcels", desk.line))
        desk.say(f"locals: weight = {names['weight']}, count = {names['count']}: a parcel takes 5000, one is empty")
        check("the locals", (names["weight"], names["count"]), ("5000", "2"))
        client.ask("setVariable", variablesReference=scope, name="count", value="1")
        desk.say("count = 1")
        _go_on(client, desk, thread)


def _stopped(client: Dap, desk: Desk) -> tuple[int, dict[str, Any], int, dict[str, str]]:
    """Waits for the breakpoint: the thread, its frame, the reference of the frame's locals, and these by name."""
    thread = client.event("stopped")["threadId"]
    frame = client.ask("stackTrace", threadId=thread)["stackFrames"][0]
    desk.say(f"stopped in {frame['name']}, {PurePath(frame['source']['path']).name}:{frame['line']}")
    scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
    variables = client.ask("variables", variablesReference=scope)["variables"]
    return thread, frame, scope, {each["name"]: each["value"] for each in variables}


def _go_on(client: Dap, desk: Desk, thread: int) -> None:
    check("the request is still held at the breakpoint", desk.held.answered, False)
    client.ask("continue", threadId=thread)
    desk.held.answer()


def _stock(desk: Desk) -> None:
    """gdb as a person would use it: a breakpoint, a look, a changed variable, and off again."""
    commands = [
        f"target remote {desk.address.removeprefix('unix:')}",
        f"break {desk.file}:{desk.line}",
        "continue",
        "backtrace 1",
        "info locals",
        "print left = 0",
        "detach",
    ]
    argv = ["gdb", "-nx", "-batch", *(word for command in commands for word in ("-ex", command))]
    done = subprocess.run(
        argv + ([str(desk.program)] if desk.program else []),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
        env=desk.environment,
        cwd=desk.directory,  # gdb leaves a core file when it is ended at the wrong moment
    )  # fmt: skip
    said = done.stdout + done.stderr
    for text in re.findall(r"^(#0 .*|left = .*|\$\d+ = .*)$", said, re.MULTILINE):
        desk.say(text)
    for what, pattern in (
        ("the backtrace", r"^#0 .*available \(sku=.*reserved=8\)"),
        ("the local", "^left = -2$"),
        ("the change", r"^\$1 = 0$"),
    ):
        if not re.search(pattern, said, re.MULTILINE):
            raise CheckError(f"{what}: expected {pattern!r} among what gdb says, found:\n{said.strip()}")


def _promotion(desk: Desk) -> None:
    with Inspector(desk.address) as client:
        client.ask("Runtime.enable")
        client.ask("Debugger.enable")
        place = re.escape(PurePath(desk.file).name) + "$"
        set_at = client.ask("Debugger.setBreakpointByUrl", urlRegex=place, lineNumber=desk.line - 1)["locations"]
        check("the breakpoint is set", [found["lineNumber"] for found in set_at], [desk.line - 1])
        client.ask("Runtime.runIfWaitingForDebugger")
        frame = client.event("Debugger.paused")["callFrames"][0]
        line = frame["location"]["lineNumber"] + 1
        desk.say(f"stopped in {frame['functionName']}, {PurePath(desk.file).name}:{line}")
        check("where it stopped", (frame["functionName"], line), ("gift", desk.line))
        kinds = [scope["type"] for scope in frame["scopeChain"]]
        local = kinds.index("local")
        properties = client.ask("Runtime.getProperties", objectId=frame["scopeChain"][local]["object"]["objectId"])
        names = {
            each["name"]: each["value"].get("value", each["value"].get("description")) for each in properties["result"]
        }
        reached = client.ask(
            "Debugger.evaluateOnCallFrame", callFrameId=frame["callFrameId"], expression="reached.join()"
        )
        desk.say(
            f"locals: reached = {reached['result']['value']}, best = {names['best']}: sorted as words, not as numbers"
        )
        check("the locals", (reached["result"]["value"], names["best"]), ("100,250,50", "50"))
        client.ask(
            "Debugger.setVariableValue",
            scopeNumber=local, variableName="best", newValue={"value": "250"}, callFrameId=frame["callFrameId"],
        )  # fmt: skip
        desk.say("best = '250'")
        check("the request is still held at the breakpoint", desk.held.answered, False)
        client.ask("Debugger.resume")
        desk.held.answer()


def _ledger(desk: Desk) -> None:
    with Jdb(desk.address) as jdb:
        where = f"{PurePath(desk.file).stem}:{desk.line}"
        jdb.until("Initializing jdb")
        jdb.ask(f"stop at {where}", f"Set breakpoint {where}")
        jdb.ask("resume", "resumed")
        hit = jdb.until(r"Breakpoint hit: .*, (\S+), line=(\d+)")
        desk.say(f"stopped in {hit[1].removesuffix(',')}, {PurePath(desk.file).name}:{hit[2]}")
        due, paid, equal = (jdb.ask(f"print {name}", rf"{name} = (\S+)\n")[1] for name in ("due", "paid", "equal"))
        desk.say(f"locals: due = {due}, paid = {paid}, equal = {equal}: == asks whether they are the same object")
        check("the locals", (due, paid, equal), ('"4750"', '"4750"', "false"))
        jdb.ask("set equal = true", "equal = true = true")
        desk.say("equal = true")
        check("the request is still held at the breakpoint", desk.held.answered, False)
        jdb.ask(f"clear {where}", "Removed")
        jdb.ask("cont", "")
        desk.held.answer()
        jdb.quit()


PRICING = Scene(
    "pricing", SERVICES / "pricing.py", PRICING_LINE, f"/price?items={WRONG_CART}",
    lambda body: (body["total"], body["discount"]), ("47.50", "2.50"), ("45.00", "5.00"), _pricing,
)  # fmt: skip
STOCK = Scene(
    "stock", SERVICES / "stock.cpp", STOCK_LINE, f"/stock?items={WRONG_STOCK}",
    lambda body: body["items"]["plum"]["available"], -2, 0, _stock,
)  # fmt: skip
SHIPPING = Scene(
    "shipping", SERVICES / "shipping.go", "return count", "/shipping?items=melon:4",
    lambda body: (body["parcels"], body["price"]), (2, "9.80"), (1, "4.90"), _shipping,
)  # fmt: skip
PROMOTION = Scene(
    "promotion", SERVICES / "promotion.js", "const name =", "/gift?points=300",
    lambda body: body["gift"], "sticker", "bag", _promotion,
)  # fmt: skip
LEDGER = Scene(
    "ledger", SERVICES / "Ledger.java", "return equal;", "/order?number=1001",
    lambda body: body["settled"], False, True, _ledger,
)  # fmt: skip
