"""squashctl console without a terminal, with everything real behind it: coordinator, agent, a process, debugpy."""

import json
import os
import subprocess
from pathlib import Path

from demo.shop import STOCK_PROGRAM
from squash.calls import delete_attachment
from squash.model import Phase, State
from tests.squash.console.bench import LINE, SERVICE, Bench
from tests.squash.ctl import SQUASHCTL


def test_a_whole_session(bench: Bench) -> None:
    name = bench.attachment()
    done = bench.script(
        name,
        "# a comment, and an empty line",
        "",
        f"break service.py:{LINE} if number > 3",
        "continue",
        "where",
        "args",
        "pp order",
        "whatis order",
        "next",
        "up",
        "p number",
        "down",
        "set result = 1000",
        "print result",
        "!result = result + 1",
        "result",
        "list",
        "break",
        "clear 1",
        "return",
        "threads",
    )
    assert (done.returncode, done.stderr.count("listening")) == (0, 1), done
    out = done.stdout
    assert f"1 break {SERVICE}:{LINE} if number > 3\n" in out
    assert f"stopped: breakpoint 1, thread 1 (MainThread)\n> {SERVICE}({LINE})tick()\n-> result = number + extra" in out
    assert "> #0   " in out
    assert "-> value = tick(number)" in out
    assert "extra = 1" in out
    assert "  lines: ['a', 'b']" in out
    assert "(squash) whatis order\nOrder\n" in out
    assert "(squash) print result\n1000\n" in out
    assert "(squash) result\n1001\n" in out
    assert f"{LINE:4} B       result = number + extra" in out
    assert "stopped here 1 time" in out
    assert "breakpoint 1 is gone" in out
    assert "> 1    MainThread" in out
    attached = bench.get(name)
    assert (attached.status.state, attached.status.phase) == (State.ATTACHED, Phase.READY)
    assert bench.running()
    bench.client.send(delete_attachment(name))


def test_documents(bench: Bench) -> None:
    found = bench.documents(bench.attachment(), "where", "p number", argv=("-b", f"service.py:{LINE}", "--go"))
    commands = {each["command"]: each for each in found if "command" in each}
    stop = next(each for each in found if each.get("event") == "stopped")
    assert stop["path"] == str(SERVICE)
    assert (stop["line"], stop["function"], stop["breakpoints"]) == (LINE, "tick", [1])
    assert commands["where"]["frames"][0] == {"path": str(SERVICE), "line": LINE, "function": "tick"}
    assert commands["p number"]["value"].isdigit()
    assert all(each["ok"] for each in commands.values())


def test_the_first_failure_ends_a_script(bench: Bench) -> None:
    done = bench.script(bench.attachment(), "break nowhere.py:3", "continue")
    assert done.returncode == 1
    assert "*** no file 'nowhere.py' is known" in done.stdout
    assert "continue" not in done.stdout.split("***")[1].replace("`continue`", "")
    assert bench.running()


def test_messages_temporary_stops_jumps_and_exceptions(bench: Bench, tmp_path: Path) -> None:
    commands = tmp_path / "commands"
    commands.write_text(f"# beforehand\ntrace {SERVICE}:{LINE} number is {{number}}\n\ntbreak {SERVICE}:{LINE + 1}\n")
    done = bench.script(
        bench.attachment(),
        "until",
        f"jump {LINE + 1}",
        "full order.long",
        "p order.long",
        "watch number",
        "watch order.total",
        "next",
        "unwatch order.total",
        "exceptions",
        "exceptions raised uncaught",
        "exceptions off",
        "ignore 1 5",
        "disable 1",
        "enable",
        f"until {LINE + 2}",
        "ll",
        "thread",
        "step",
        "frame 1",
        "status",
        "help until",
        argv=("-x", str(commands), "--go"),
    )
    assert done.returncode == 0, done
    out = done.stdout
    assert "number is " in out
    assert "stopped: breakpoint 2" in out
    assert "(squash) until\n> " in out
    assert out.count("-> order.total += result") == 2
    assert "x" * 5_000 in out
    assert "… and 4002 more characters" in out
    assert "watch 2: order.total = " in out
    assert "off raised" in out
    assert "on  uncaught" in out
    assert f"1 trace {SERVICE}:{LINE} hits > 5 number is {{number}}, disabled" in out
    assert f"{LINE - 2:4}     def tick(number: int, *, extra: int = 1) -> int:" in out


def test_a_session_that_may_only_look(bench: Bench) -> None:
    for argv, spec in ((("--read-only",), {}), ((), {"read_only": True})):
        name = bench.attachment(**spec)
        at = ("-b", f"{SERVICE}:{LINE}", "--go", *argv)
        done = bench.script(name, "p number", "p order.total", "locals", "next", "kill", argv=at)
        assert done.returncode == 1, done
        assert "(squash) p number\n" in done.stdout, done.stdout
        assert "number = " in done.stdout
        assert "-> order.total += result" in done.stdout
        refused = bench.script(name, "p number + 1", argv=argv)
        assert refused.returncode == 1
        assert "nothing stands yet" in refused.stdout
        refused = bench.script(name, "p number + 1", argv=at)
        assert "may look, but change nothing" in refused.stdout.split("***")[1]
        refused = bench.script(name, f"break {SERVICE}:{LINE} if number > 3", argv=argv)
        assert "may look, but change nothing" in refused.stdout.split("***")[1]
        bench.client.send(delete_attachment(name))
    assert bench.running()


def test_a_stop_that_does_not_come(bench: Bench) -> None:
    done = bench.script(
        bench.attachment(), f"break {SERVICE}:{LINE} if number < 0", "continue", "where", argv=("--timeout", "3")
    )
    assert done.returncode == 4, done
    assert "*** nothing happened for 3 s" in done.stdout
    assert bench.running()


def test_the_last_continue_of_a_script_does_not_wait(bench: Bench) -> None:
    done = bench.script(bench.attachment(), f"break {SERVICE}:{LINE} if number < 0", "continue")
    assert done.returncode == 0, done


def test_kill_where_it_is_allowed(bench: Bench) -> None:
    done = bench.script(bench.attachment(allow_terminate=True), f"break {SERVICE}:{LINE}", "continue", "kill")
    assert done.returncode == 0, done
    assert "the process is told to end" in done.stdout
    bench.service.process.wait(20)


def test_another_protocol(bench: Bench) -> None:
    stock = f"stock-{bench.pod}"
    bench.world.service(stock, "demo/stock", [str(STOCK_PROGRAM), "--listen", "127.0.0.1:0"])
    bench.pod = stock
    name = bench.attachment(debugger="gdb")
    done = bench.script(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"gdb -ex 'target remote | squashctl connect {name} --stdio'" in done.stderr


def test_a_script_that_cannot_be_read(bench: Bench) -> None:
    done = bench.script(bench.attachment(), argv=("-x", "/nowhere/at/all"))
    assert done.returncode == 2
    assert "-x '/nowhere/at/all' cannot be read" in done.stderr


def test_json_of_a_failure(bench: Bench) -> None:
    done = bench.script(bench.attachment(), "next", argv=("--json",))
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["command"], document["ok"]) == ("next", False)
    assert "nothing stands yet" in document["error"]


def test_a_client_that_holds_the_session_is_named(bench: Bench) -> None:
    name = bench.attachment()
    with bench.terminal(name) as terminal:
        terminal.until("`continue`")
        done = bench.script(name)
        assert done.returncode == 1
        assert "session_busy" in done.stderr
        terminal.do("q", "runs on")


def test_a_script_that_goes_on_after_the_end_of_the_process(bench: Bench) -> None:
    ours, theirs = os.pipe()
    try:
        with subprocess.Popen(
            [SQUASHCTL, "console", bench.attachment(), "-b", f"{SERVICE}:{LINE}", "--go"],
            stdin=ours,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=bench.ctl.env,
            text=True,
        ) as process:
            assert process.stdout
            assert any("-> result" in line for line in process.stdout)
            os.write(theirs, b"p number\nc\xff\n")
            assert any("*** " in line for line in process.stdout)
            _, err = process.communicate(timeout=60)
            assert process.returncode == 1
            assert "Fatal" not in err
    finally:
        os.close(ours)
        os.close(theirs)
