"""Variables of the environment that seem to be meant for settings."""

import pytest

from squash.misspelt import doubts
from squash.options import rows
from squash.settings import AgentSettings, SquashctlSettings


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SQUASH_SERVER", "SQUASH_SERVER_URL"),
        ("SQUASH_SERVERURL", "SQUASH_SERVER_URL"),
        ("SQUASHCTL_SERVER_URL", "SQUASH_SERVER_URL"),
        ("SQUASH_TOKENFILE", "SQUASH_TOKEN_FILE"),
        ("SQUASH_TIMEOUT", "SQUASHCTL_TIMEOUT"),
        ("SQUASH_CONF", "SQUASH_CONFIG"),
        ("SQUASH_PODS", "SQUASH_POD"),
        ("SQUASH_AGENT_NODES", "SQUASH_AGENT_NODE"),
        ("SQUASH_COORDINATR_LISTEN", "SQUASH_COORDINATOR_LISTEN"),
    ],
)
def test_a_variable_that_is_misspelt_is_told(name: str, meant: str) -> None:
    assert list(doubts([name])) == [
        f"the environment variable {name} is not known and has no effect; did you mean {meant}?"
    ]


def test_what_begins_with_a_program_is_meant_for_it() -> None:
    [line] = doubts(["SQUASH_SIDECAR_WHATEVER"])
    assert "did you mean SQUASH_SIDECAR_" in line


def test_what_is_known_is_not_doubted() -> None:
    known = [row.env for program, cls in (("agent", AgentSettings), ("squashctl", SquashctlSettings))
             for row in rows(cls, program)]  # fmt: skip
    assert list(doubts([*known, "SQUASH_CONFIG", "SQUASH_POD", "SQUASH_IMAGE", "HOME", "DOCKER_HOSTS"])) == []


def test_variables_of_others_are_not_doubted() -> None:
    """Those of our demo, tests and compose file, what Kubernetes makes for services, and what a template may name."""
    ours = ["SQUASH_WORLD", "SQUASH_ENVOY", "SQUASH_GDB", "SQUASH_SEED", "SQUASH_RUNS", "SQUASH_DEBUGGERS"]
    ours += ["SQUASH_SLOWNESS", "SQUASH_SOAK", "SQUASH_TEST_PAUSE", "SQUASH_DETOURED", "SQUASH_AARCH64_LIMIT"]
    ours += ["SQUASH_DOCKER_SOCKET", "SQUASH_BUILD_NETWORK", "SQUASH_BASE", "SQUASH_PORT", "SQUASH_DEVELOPER"]
    service = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8602_TCP", "PORT_8602_TCP_ADDR"]
    others = [f"SQUASH_COORDINATOR_{each}" for each in service]
    assert list(doubts([*ours, *others, "SQUASH_TEAM", "MY_SQUASH_AGENT_NODES"])) == []
