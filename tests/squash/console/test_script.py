"""squashctl console without a terminal, with everything real behind it: coordinator, agent, a process, debugpy."""

from squash.calls import delete_attachment
from squash.model import Phase, State
from tests.squash.console.bench import LINE, SERVICE, Bench


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
