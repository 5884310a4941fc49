"""What squashctl does with names that are misspelt, empty, or written as lists show them."""

import re

import pytest
import typer

from squash.cli.main import app
from squash.client import Client, renew_agent
from squash.model import Agent
from tests.coordinator.program import Coordinator
from tests.squash.ctl import Ctl

UNKNOWN = "the debugger is to be 'debugpi', and no agent has it: they have debugpy, delve"
ASKING = (
    ("debug-request", "demo/x", "debugpi"),
    ("debug-container", "pod", "--debugger", "debugpi"),
    ("debug", "image", "demo/x", "--debugger", "debugpi"),
    ("debug", "container", "pod", "--debugger", "debugpi"),
)


@pytest.fixture
def near(alone: Ctl, own: Coordinator) -> Ctl:
    """squashctl for a coordinator that no other test knows."""
    return Ctl(alone.home, own.url)


def agent(own: Coordinator, name: str, *debuggers: str) -> None:
    with Client(own.url) as client:
        client.send(renew_agent(Agent(name=name, node=name, debuggers=list(debuggers))))


def created(own: Coordinator) -> list[object]:
    return [*own.http.get("/api/v2/debugrequest").json(), *own.http.get("/api/v2/debugattachment").json()]


def test_a_debugger_that_no_agent_has_is_refused_and_nothing_is_made(near: Ctl, own: Coordinator) -> None:
    agent(own, "here", "debugpy")
    agent(own, "there", "delve")
    for argv in ASKING:
        error = near.failure(*argv, status=1)
        assert (error["reason"], error["message"]) == ("unknown_debugger", UNKNOWN)
    assert created(own) == []


def test_a_debugger_that_some_agent_may_have_is_not_refused(near: Ctl, own: Coordinator) -> None:
    """By the name that people call it by; any, while an agent is there that does not tell what it has."""
    agent(own, "here", "debugpy", "delve")
    assert near.json("debug-request", "demo/x", "pdb")["spec"]["debugger"] == "pdb"
    agent(own, "silent")
    assert near.json("debug-request", "demo/x", "debugpi")["spec"]["debugger"] == "debugpi"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("debug", "image", ""), "'' is no image"),
        (("debug-request", " "), "' ' is no image"),
        (("debug-request", "demo/x\n"), r"'demo/x\n' is no image: control characters are in it"),
        (("debug-container", "p", "--image", ""), "'' is no image"),
        (("ticket", "create", "--image", ""), "'' is no image"),
        (("debug", "container", ""), "'' is no pod"),
        (("debug-container", ""), "'' is no pod"),
        (("debug-container", "p", "-n", ""), "'' is no namespace"),
        (("debug", "image", "demo/x", "-n", ""), "'' is no namespace"),
        (("debug", "container", "p", "-c", ""), "'' is no container"),
        (("debug-request", "demo/x", "--process-name", ""), "'' is no process"),
        (("debug", "container", "demo/p", "-n", "other"), "'demo/p' and --namespace other cannot both be"),
        (("debug-container", "demo/p/app", "-c", "web"), "'demo/p/app' and --container web cannot both be"),
        (("debug-container", "demo/"), "'demo/' is no pod: expected POD, NAMESPACE/POD or NAMESPACE/POD/CONTAINER"),
        (("debug", "container", "a/b/c/d"), "'a/b/c/d' is no pod"),
    ],
)
def test_a_name_that_can_be_none(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(typer.BadParameter, match=re.escape(said)):
        app(argv, standalone_mode=False)


def test_a_name_that_can_be_none_asks_nobody(alone: Ctl) -> None:
    """There is no coordinator here: to ask it would end with another status."""
    assert "'' is no image" in alone.failure("debug", "image", "", status=2)["message"]
    for argv in (("ticket", "create", "--image", "demo/x", "--request", ""), ("audit", "")):
        assert alone.failure(*argv, status=2)["message"] == "an empty text is no id"


def test_a_container_may_be_named_as_lists_show_it(near: Ctl, own: Coordinator, pod: str) -> None:
    near.json("debug-container", f"default/{pod}")
    near.json("debug-container", f"default/{pod}/app", "-n", "default", "-c", "app")
    near("debug", "container", f"default/{pod}", "--timeout", "1s")
    made = [each["spec"]["attachment"] for each in own.http.get("/api/v2/debugattachment").json()]
    assert made == [{"pod": pod, "namespace": "default", "container": "app"}] * 3
