"""Debug servers that cannot do everything, do it in another order, or do not keep to the protocol."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from squash.cli.console import console as console_module
from squash.cli.console.console import QuitError
from squash.cli.console.dap_client import LostError, RefusedError
from squash.cli.console.debuggee import Stage
from squash.tasks import spawn
from tests.squash.console.double import FRAME, Double, event


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    made = Double()
    yield made
    await made.close()


async def test_a_server_that_can_do_nothing_beyond_the_least(double: Double) -> None:
    console = await double.attached()
    for line, says in {
        "break total": "no breakpoints on functions",
        "break /a.py:3 if n": "no conditions",
        "break /a.py:3 hits 2": "no hit counts",
        "trace /a.py:3 n is {n}": "no messages instead of stops",
        "exceptions raised": "does not stop at exceptions",
    }.items():
        assert says in await console.run_line(line)
    assert len(console.session.breakpoints) == 0
    assert await console.run_line("break /a.py:3") == ""
    assert "1 break /a.py:3, not verified" in double.said
    double.send(event("stopped", reason="entry", threadId=1))
    assert await console.run_line("continue") == ""
    assert "configurationDone" not in double.commands()
    assert "cannot jump" in await console.run_line("jump 3")
    assert await console.run_line("set n = 4") == ""
    assert [each["arguments"]["expression"] for each in double.asked if each["command"] == "evaluate"] == ["n = 4", "n"]


async def test_a_stop_before_the_breakpoints_are_said_to_be_set(double: Double) -> None:
    double.capabilities = {"supportsConfigurationDoneRequest": True}
    double.before["setBreakpoints"] = [event("stopped", reason="breakpoint", threadId=1)]
    console = await double.attached()
    assert await console.run_line("break /nowhere/app.py:2") == ""
    assert "a thread stands at a breakpoint already" in "\n".join(double.said)
    assert "nothing stands yet" in await console.run_line("p n")
    assert await console.run_line("continue") == ""
    assert "continue" not in double.commands()
    assert double.commands().count("configurationDone") == 1
    assert "stopped: breakpoint 1, thread 1 (main)" in double.said
    assert await console.run_line("p n") == ""


async def test_an_early_stop_that_is_over_is_none(double: Double) -> None:
    console = await double.attached()
    double.send(event("stopped", reason="breakpoint", threadId=1), event("continued", allThreadsContinued=True))
    assert await console.run_line("threads") == ""
    assert not console.session.debuggee.configured()
    assert console.session.debuggee.stage is Stage.RUNNING


async def test_a_stop_before_the_answer_that_lets_it_run(double: Double) -> None:
    double.before["next"] = [
        event("continued", threadId=1, allThreadsContinued=True),
        event("stopped", reason="step", threadId=1),
    ]
    console = await double.standing()
    double.answers["stackTrace"] = {"stackFrames": [FRAME | {"line": 3}]}
    assert await console.run_line("next") == ""
    assert console.session.debuggee.stage is Stage.STOPPED
    assert "> /nowhere/app.py(3)total()" in double.said


async def test_threads_that_stand_too_do_not_take_the_prompt_away(double: Double) -> None:
    console = await double.standing()
    double.send(event("stopped", reason="breakpoint", threadId=2))
    assert await console.run_line("threads") == ""
    assert console.session.debuggee.thread == 1
    assert "thread 2 stands too: breakpoint" in double.said


async def test_a_refused_step_leaves_it_standing(double: Double) -> None:
    console = await double.standing()
    double.refused["next"] = "not now\x1b[2J"
    assert await console.run_line("next") == r"not now\x1b[2J"
    assert await console.run_line("p n") == ""


async def test_a_refused_breakpoint_is_none(double: Double) -> None:
    console = await double.attached()
    double.refused["setBreakpoints"] = "no"
    assert await console.run_line("break /a.py:3") == "no"
    assert len(console.session.breakpoints) == 0


async def test_a_temporary_breakpoint_is_gone_after_its_stop(double: Double) -> None:
    console = await double.attached()
    assert await console.run_line("tbreak /nowhere/app.py:2") == ""
    double.send(event("stopped", reason="breakpoint", threadId=1))
    assert await console.run_line("continue") == ""
    assert len(console.session.breakpoints) == 0
    told = [each["arguments"] for each in double.asked if each["command"] == "setBreakpoints"]
    assert [each["breakpoints"] for each in told] == [[{"line": 2}], []]


async def test_in_a_session_that_may_only_look_names_are_looked_up(double: Double) -> None:
    double.refused["evaluate"] = "this session may look, but change nothing"
    console = await double.standing(read_only=True)
    assert await console.run_line("p n") == ""
    assert double.said[-1] == "3"
    assert "may look" in await console.run_line("p n + 1")
    assert "may look" in await console.run_line("p m")
    assert await console.run_line("watch n + 1") == ""
    assert "watch 1: n + 1 = *** this session may look" in double.said[-1]


async def test_answers_of_another_form_are_refused_by_name(double: Double) -> None:
    console = await double.standing()
    bodies: list[Any] = [[1], {"variables": 3}, {"variables": [{"name": []}]}]
    for body in bodies:
        double.answers["variables"] = body
        assert "answer to variables cannot be read" in await console.run_line("locals")
    double.send(event("stopped", threadId="x"), event("thread", threadId=[]), {"type": "event"}, {"type": "x"}, {})
    assert await console.run_line("threads") == ""
    assert "an event stopped that cannot be read" in "\n".join(double.said)


async def test_answers_that_nobody_waits_for_are_nothing(double: Double) -> None:
    console = await double.standing()
    double.send({"type": "response", "request_seq": 1}, {"type": "response", "request_seq": "x", "success": True})
    assert await console.run_line("p n") == ""


async def test_what_the_server_asks_is_declined(double: Double) -> None:
    console = await double.standing()
    double.send({"type": "request", "seq": 9, "command": "runInTerminal", "arguments": {}})
    assert await console.run_line("p n") == ""
    declined = next(each for each in double.asked if each.get("type") == "response")
    assert (declined["request_seq"], declined["success"], declined["command"]) == (9, False, "runInTerminal")


@pytest.mark.parametrize("garbage", [b"x" * 5_000, b"Content-Length: 5\r\n\r\nhello", b"Content-Length: x\r\n\r\n"])
async def test_garbage_ends_the_connection_with_a_word(double: Double, garbage: bytes) -> None:
    console = await double.standing()
    double.mute.add("evaluate")
    asking = spawn(console.run_line("p n"), "p")
    double.writer.write(garbage)
    assert "does not speak the Debug Adapter Protocol" in await asking
    assert console.session.debuggee.stage is Stage.LOST
    await console.over.wait()
    with pytest.raises(LostError):
        await console.session.ask("threads", dict)


async def test_a_connection_that_ends_ends_the_wait_for_a_stop(double: Double) -> None:
    console = await double.standing()
    going = spawn(console.run_line("continue"), "c")
    await double.heard("continue")
    double.writer.close()
    await going
    assert console.session.debuggee.stage is Stage.LOST


async def test_the_end_of_the_process_is_told_with_its_status(double: Double) -> None:
    console = await double.standing()
    double.after["continue"] = [event("exited", exitCode=3), event("terminated")]
    assert await console.run_line("continue") == ""
    assert "the process has ended with status 3" in double.said
    assert "has ended the session" in await console.run_line("next")


async def test_slow_answers_are_said_and_can_be_given_up(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "SLOW", 0.01)
    console = await double.standing()
    monkeypatch.setattr(double.input, "interactive", True)
    double.mute.add("evaluate")
    double.input.asked.clear()
    asking = spawn(console.run_line("p n"), "p")
    await double.input.asked.wait()
    assert "waiting for the debugger to answer `evaluate`; Ctrl-C gives up" in double.said
    double.input.impatient.set()
    assert "gave up" in await asking
    assert await console.run_line("where") == ""


async def test_a_script_that_has_no_more_to_say_does_not_wait(double: Double) -> None:
    console = await double.standing()
    double.input.impatient.set()
    with pytest.raises(QuitError):
        await console.run_line("continue")


async def test_an_attach_that_is_refused(double: Double) -> None:
    double.refused["attach"] = "{name} is no process"
    console = await double.start()
    with pytest.raises(RefusedError, match="is no process"):
        await console.session.attach(double.client)


async def test_kill(double: Double) -> None:
    console = await double.attached(may_kill=True)
    with pytest.raises(QuitError) as told:
        await console.run_line("kill")
    assert told.value.kill
    await console.session.leave(kill=True)
    assert double.asked[-1]["arguments"]["terminateDebuggee"] is True


async def test_many_threads_and_frames(double: Double) -> None:
    double.answers["threads"] = {"threads": [{"id": n, "name": f"t{n}"} for n in range(1, 3_000)]}
    double.answers["stackTrace"] = {"stackFrames": [FRAME | {"id": n} for n in range(400)], "totalFrames": 9_000}
    console = await double.standing()
    assert await console.run_line("where") == ""
    assert "  … 8600 older frames" in double.said
    assert await console.run_line("thread 2999") == ""
    assert await console.run_line("up 9999999") == ""
    assert "this is the oldest frame" in await console.run_line("up")
    assert "there is no thread 4000" in await console.run_line("thread 4000")


async def test_breakpoint_news_are_learned(double: Double) -> None:
    double.answers["setBreakpoints"] = {"breakpoints": [{"id": 4, "verified": False, "message": "not loaded"}]}
    console = await double.attached()
    assert await console.run_line("break /a.py:3") == ""
    assert double.said[-1] == "1 break /a.py:3, not verified: not loaded"
    double.send(event("breakpoint", reason="changed", breakpoint={"id": 4, "verified": True, "line": 4}))
    assert await console.run_line("threads") == ""
    assert await console.run_line("break") == ""
    assert double.said[-1] == "1 break /a.py:3 (at line 4)"
