"""A marked request from its caller into `squashctl console`, and back with what was changed there."""

import asyncio
import os
from pathlib import Path

from demo.scenes import PRICING_LINE
from demo.shop import PRICING
from demo.telling import line_of
from squash.calls import delete_attachment
from squash.model import Outcome
from squash.tasks import spawn
from tests.e2e.street import Caller, Street, free, no_holds, result
from tests.squash.ctl import SQUASHCTL

CART = "/price?items=melon:4,cheese:3"


async def test_a_held_request_runs_into_a_breakpoint_of_the_console(
    street: Street, caller: Caller, tmp_path: Path
) -> None:
    street.world.agent()
    pod = street.pod("pricing")
    wish = street.wish(pod, debugger="pdb")
    price = spawn(caller.get(pod.url + CART), "price")
    process = await asyncio.create_subprocess_exec(
        SQUASHCTL,
        "console",
        wish,
        "-b",
        f"{PRICING}:{line_of(PRICING, PRICING_LINE)}",
        env={key: value for key, value in os.environ.items() if not key.startswith("SQUASH")}
        | {"SQUASH_SERVER_URL": street.coordinator.where, "HOME": str(tmp_path)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(b"status\ncontinue\nlocals\n"), 90)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, (out, err)
    shown = out.decode()
    assert f"request GET {CART} is held; set breakpoints, then `continue`" in shown
    assert f"ready: request GET {CART} goes on" in shown
    assert "stopped: breakpoint 1" in shown
    assert f"-> {PRICING_LINE.strip()}" in shown
    assert "squashctl console" in err.decode()
    assert result(await price).outcome is Outcome.ATTACHED
    no_holds(pod)
    attachment = await street.matched(wish)
    street.client.send(delete_attachment(attachment))
    free(pod)
