"""What a session with the inspector may do, and what is written down of it."""

from typing import Any

import pytest

from agent.protocols.inspector import OURS
from agent.protocols.interpreter import Event
from agent.terms import ORDINARY, Terms
from squash.model import Action
from tests.agent.protocols.inspection import AT, ENDING, GUEST, LOOKING, SET, Talk


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Runtime.evaluate", {"expression": "secret()"}),
        ("Runtime.evaluate", {"expression": "secret()", "throwOnSideEffect": "yes"}),
        ("Runtime.callFunctionOn", {"functionDeclaration": "secret"}),
        ("Runtime.runScript", {"scriptId": "1", "throwOnSideEffect": True}),
        ("Debugger.evaluateOnCallFrame", {"expression": "secret()"}),
        ("Debugger.setVariableValue", {"variableName": "secret"}),
        ("Debugger.setScriptSource", {"scriptSource": "secret"}),
        ("Debugger.setReturnValue", {"newValue": {"value": "secret"}}),
        ("Debugger.restartFrame", {}),
        (SET, {**AT, "condition": "secret()"}),
        ("Debugger.setBreakpointOnFunctionCall", {"objectId": "1", "condition": "secret()"}),
        ("NodeWorker.sendMessageToWorker", {"message": "secret"}),
        ("NodeTracing.start", {}),
        ("HeapProfiler.takeHeapSnapshot", {}),
        ("secret.secret", {}),
    ],
)
def test_what_would_change_something_is_refused_in_the_protocols_form(method: str, params: dict[str, Any]) -> None:
    talk = Talk(LOOKING)
    talk.say(7, method, **params)
    assert talk.quiet
    [answer] = talk.told
    assert answer["id"] == 7
    assert answer["error"]["code"] == -32000
    assert answer["error"]["message"].startswith("squash: this session may look, but change nothing, and ")
    [event] = talk.events
    assert event.action is Action.REFUSED
    assert "secret" not in event.detail


@pytest.mark.parametrize(
    ("method", "params"),
    [
        *((f"Debugger.{name}", {}) for name in ("enable", "pause", "resume", "stepInto", "stepOver", "stepOut")),
        *((f"Runtime.{name}", {}) for name in ("enable", "getProperties", "runIfWaitingForDebugger")),
        ("Debugger.getScriptSource", {"scriptId": "7"}),
        (SET, AT),
        (SET, {**AT, "condition": ""}),
        ("Runtime.evaluate", {"expression": "total", "throwOnSideEffect": True}),
        ("Debugger.evaluateOnCallFrame", {"expression": "total", "throwOnSideEffect": True}),
    ],
)
def test_who_only_looks_may_look_and_steer(method: str, params: dict[str, Any]) -> None:
    talk = Talk(LOOKING)
    talk.say(7, method, **params)
    assert [said["method"] for said in talk.asked] == [method]
    assert talk.told == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Debugger.pause", {}),
        ("Debugger.resume", {}),
        ("Debugger.stepInto", {}),
        (SET, AT),
        ("Debugger.setPauseOnExceptions", {"state": "all"}),
        ("Debugger.setSkipAllPauses", {"skip": False}),
    ],
)
def test_guests_stop_and_steer_nothing(method: str, params: dict[str, Any]) -> None:
    talk = Talk(GUEST)
    talk.say(7, method, **params)
    assert talk.quiet
    assert talk.told[0]["error"]["message"].endswith("only its owner stops and steers a process")


def test_a_statement_in_the_program_does_not_stop_it_for_a_guest() -> None:
    talk = Talk(GUEST)
    talk.say(1, "Debugger.enable")
    assert [(said["method"], said["params"]) for said in talk.asked] == [
        ("Debugger.enable", {}),
        ("Debugger.setSkipAllPauses", {"skip": True}),
    ]
    talk.answer(OURS)
    talk.answer(1)
    assert [said["id"] for said in talk.told] == [1]


@pytest.mark.parametrize("method", ["Runtime.terminateExecution", "Browser.close"])
@pytest.mark.parametrize("terms", [ORDINARY, LOOKING, Terms(read_only=True, allow_terminate=True)])
def test_ending_the_process_is_refused(method: str, terms: Terms) -> None:
    talk = Talk(terms)
    talk.say(7, method)
    assert talk.quiet
    assert talk.events == [Event(Action.TERMINATION_REFUSED, method)]
    assert "may not end the process" in talk.told[0]["error"]["message"]


def test_where_it_is_allowed_the_process_really_ends() -> None:
    talk = Talk(ENDING)
    talk.say(7, "Runtime.terminateExecution")
    assert [said["method"] for said in talk.asked] == ["Runtime.terminateExecution"]
    assert talk.events == [Event(Action.TERMINATED, "terminateExecution")]


@pytest.mark.parametrize(
    ("method", "params", "event"),
    [
        ("Runtime.evaluate", {"expression": "secret"}, Event(Action.EVALUATED)),
        ("Debugger.setVariableValue", {"variableName": "secret"}, Event(Action.CHANGED, "setVariableValue")),
        ("Debugger.resume", {}, Event(Action.RESUMED, "continue")),
        ("Debugger.stepOver", {}, Event(Action.RESUMED, "step")),
        ("Debugger.pause", {}, Event(Action.PAUSED)),
        (SET, {**AT, "condition": "secret"}, Event(Action.BREAKPOINTS, "1 in file:///app/shop.js:7")),
    ],
)
def test_what_is_written_down(method: str, params: dict[str, Any], event: Event) -> None:
    talk = Talk()
    talk.say(7, method, **params)
    assert talk.events == [event]


def test_a_name_twice_means_the_same_to_all() -> None:
    """Whoever reads the first, and whoever reads the last, must not read different things."""
    talk = Talk(LOOKING)
    said = b'{"id": 7, "method": "Runtime.evaluate", "method": "Debugger.enable", "params": {"a": 1, "a": 2}}'
    talk.web.send_text(said)
    talk._pass(talk.inspector.from_client)
    assert talk.flows[-1].server == [b'{"method":"Debugger.enable","id":7,"params":{"a":2}}\n']
