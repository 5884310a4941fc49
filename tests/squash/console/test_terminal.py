"""squashctl console at a terminal, with everything real behind it: coordinator, agent, a process, debugpy."""

import os
import signal
import stat
from pathlib import Path

import pytest

from demo.story import facts
from squash.calls import delete_attachment
from squash.model import Phase, State
from tests.eventually import eventually
from tests.squash.console.bench import LINE, SERVICE, Bench

FREE = {"tracer": 0, "stopped": False}


def free(bench: Bench) -> None:
    """The service runs, untraced and not stopped, or soon so."""

    def look() -> dict[str, object]:
        found = facts(bench.service.pid)
        return {key: found[key] for key in FREE}

    assert eventually(look, lambda found: found == FREE, 10.0) == FREE
    assert bench.service.process.poll() is None


def test_break_look_and_leave(bench: Bench) -> None:
    name = bench.attachment()
    with bench.terminal(name) as terminal:
        terminal.until("set breakpoints, then `continue`")
        terminal.do(f"b service.py:{LINE}", f"1 break {SERVICE}:{LINE}")
        terminal.do("c", "-> result = number + extra")
        assert eventually(lambda: bench.get(name).status.phase, lambda phase: phase is Phase.READY) is Phase.READY
        terminal.do("p order.lines", "['a', 'b']")
        terminal.do("n", "-> order.total += result")
        terminal.do("", "-> return result")
        terminal.do("p 6 * 7", "42")
        terminal.do("p order.hostile", r"'\x1b[2J\x07'")
        terminal.do("threads", r"resting \x1b[1m")
        terminal.do("p order.long", "more characters; `full EXPRESSION` shows all")
        terminal.do("nonsense(", "*** SyntaxError")
        terminal.do("q", "the process runs on")
        assert terminal.end() == 0
    free(bench)
    assert bench.get(name).status.state is State.ATTACHED


def test_ctrl_c_gives_the_prompt_back_and_the_process_runs_on(bench: Bench) -> None:
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        terminal.do(f"b {SERVICE}:{LINE} if number < 0", "1 break")
        terminal.do("c", "Ctrl-C gives the prompt back")
        terminal.interrupt()
        terminal.until("`pause` stops it")
        terminal.until("(running)")
        assert bench.running()
        terminal.do("where", "*** the process runs: `pause` stops it")
        terminal.do("pause", "stopped: ")
        terminal.do("where", "main()")
        terminal.do("clear 1", "is gone")
        terminal.do("c", "Ctrl-C gives the prompt back")
        terminal.interrupt()
        terminal.until("(running)")
        # A stop that comes while a line is being typed is told above it.
        terminal.do(f"b {SERVICE}:{LINE}", "-> result = number + extra")
        terminal.do("c", "stopped: breakpoint 2")
        terminal.until("(squash)")
        terminal.type("\x04")
        assert terminal.end() == 0
    free(bench)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stands", [True, False])
def test_whatever_ends_the_console_the_process_runs(bench: Bench, number: signal.Signals, stands: bool) -> None:
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        if stands:
            terminal.do(f"b {SERVICE}:{LINE}", "1 break")
            terminal.do("c", "-> result")
        terminal.kill(number)
        assert terminal.process.wait(30) == (-9 if number is signal.SIGKILL else 143)
    free(bench)


def test_completion_and_history(bench: Bench) -> None:
    state = Path(bench.ctl.env["XDG_STATE_HOME"]) / "squash/console-history"
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        terminal.type("tbr\t")
        terminal.until("tbreak")
        terminal.do(f" {SERVICE}:{LINE}", "1 tbreak")
        terminal.do("c", "break here")
        terminal.type("p numb\t")
        terminal.until("p numb")
        terminal.until("er")
        terminal.do("", "\n")
        terminal.do("b", "no breakpoints")
        terminal.do(" p 'not kept'", "'not kept'")
        terminal.do("q", "runs on")
        terminal.end()
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    kept = state.read_text()
    assert "+p number\n" in kept
    assert "not kept" not in kept


def test_history_can_be_switched_off(bench: Bench) -> None:
    with bench.terminal(bench.attachment(), SQUASH_SQUASHCTL_CONSOLE_HISTORY="false") as terminal:
        terminal.until("`continue`")
        terminal.do("help next", "over calls")
        terminal.do("q", "runs on")
        terminal.end()
    assert not (Path(bench.ctl.env["XDG_STATE_HOME"]) / "squash/console-history").exists()


@pytest.mark.parametrize("width", [20, 400])
def test_narrow_and_wide_without_colours(bench: Bench, width: int) -> None:
    with bench.terminal(bench.attachment(), width=width, NO_COLOR="1") as terminal:
        terminal.until("help")
        terminal.do(f"b {SERVICE}:{LINE}", "1 break")
        terminal.do("c", "-> result")
        assert "\x1b[1;36m" not in terminal.raw
        terminal.do("w", "> #0")
        terminal.do("q", "runs on")
        assert terminal.end() == 0


def test_the_process_ends(bench: Bench) -> None:
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        terminal.do(f"b {SERVICE}:{LINE}", "1 break")
        terminal.do("c", "-> result")
        os.kill(bench.service.pid, signal.SIGKILL)
        terminal.until("the process has ended")
        assert terminal.end() == 0


def test_a_coordinator_that_comes_back(bench: Bench) -> None:
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        terminal.do(f"b {SERVICE}:{LINE}", "1 break")
        terminal.do("c", "-> result")
        bench.coordinator.kill()
        terminal.until("connect again? [Y/n]")
        bench.world.coordinator()
        terminal.do("y", "connected again")
        terminal.until("-> result = number + extra")
        terminal.do("p 6 * 7", "42")
        terminal.do("q", "runs on")
        assert terminal.end() == 0
    free(bench)


def test_an_attachment_that_is_deleted(bench: Bench) -> None:
    name = bench.attachment()
    with bench.terminal(name) as terminal:
        terminal.until("`continue`")
        bench.client.send(delete_attachment(name))
        terminal.until("was deleted")
        assert terminal.end() == 1
    free(bench)


def test_another_client_takes_over(bench: Bench) -> None:
    name = bench.attachment()
    with bench.terminal(name) as first:
        first.until("`continue`")
        with bench.terminal(name, "--takeover") as second:
            second.until("`continue`")
            first.until("has taken over this session")
            first.until("connect again?")
            first.do("n", "")
            assert first.end() == 1
            second.do("q", "runs on")
            assert second.end() == 0


def test_kill_only_where_it_is_allowed(bench: Bench) -> None:
    with bench.terminal(bench.attachment()) as terminal:
        terminal.until("`continue`")
        terminal.do("kill", "*** this debug attachment does not allow to end the process")
        terminal.do("q", "runs on")
        terminal.end()
    assert bench.running()
