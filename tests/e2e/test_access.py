"""Every program with a token over TLS: what works with it, what does not without, and that nobody writes it down."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from demo.dap import Dap
from demo.world import Child, World
from squash.result import HEADER
from tests.eventually import eventually
from tests.squash.authority import Authority
from tests.squash.ctl import Ctl, Running

SERVICE = """
import time
print("app ready on nothing", flush=True)
while True:
    time.sleep(0.01)
"""


class Fortress:
    """Coordinator, agent, sidecar and a service; `ann` and the others are squashctl with their tokens."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self._home = home
        self.authority = Authority(home)
        certificate = self.authority.sign("coordinator")
        self.coordinator = world.coordinator("--auth", "token", "--tls-certificate", str(certificate))
        self.secrets = [(world.directory / "coordinator.admin-token").read_text().strip()]
        self.admin = self.ctl("admin", world.directory / "coordinator.admin-token")
        self.ids: dict[str, str] = {}
        self.ann = self.person("ann", "developer")
        self.bob = self.person("bob", "developer")
        self.eve = self.person("eve", "viewer")
        self.token("agent", "agent", "--node", "here")
        self.token("shop", "filter", "--namespace", world.namespace)
        self.image = f"demo/{world.namespace}"
        world.service("shop", self.image, [sys.executable, "-c", SERVICE])
        trusted = ("--tls-ca", str(self.authority.path))
        self.agent = world.agent(*trusted, "--token-file", str(self.file("agent")))
        self.sidecar = world.sidecar(
            "shop", *trusted, "--token-file", str(self.file("shop")), "--request-timeout", "10"
        )

    def file(self, who: str) -> Path:
        return self._home / f"{who}.token"

    def token(self, who: str, role: str, *more: str) -> None:
        """Makes one with squashctl, and puts it into the file that its user reads."""
        made = self.admin.json("token", "create", "--for", who, "--role", role, *more)
        self.ids[who] = made["token"]["id"]
        self.secrets.append(made["secret"])
        new = self._home / "new.token"
        new.write_text(made["secret"] + "\n")
        new.replace(self.file(who))

    def person(self, who: str, role: str) -> Ctl:
        self.token(who, role)
        return self.ctl(who, self.file(who))

    def ctl(self, who: str, token: Path | None) -> Ctl:
        ctl = Ctl(self._home / who, self.coordinator.where)
        ctl.env["SQUASH_TLS_CA"] = str(self.authority.path)
        if token:
            ctl.env["SQUASH_TOKEN_FILE"] = str(token)
        return ctl

    def hold(self) -> str:
        """Places a hold at the sidecar as Envoy would; `x-squash-result` when it is over, or empty while it waits."""
        answer = httpx.post(f"{self.sidecar.where}/holds", headers={"x-squash-method": "GET"}, trust_env=False)
        return str(answer.headers.get(HEADER, ""))

    def until(self, good: Callable[[], bool], what: str) -> None:
        assert eventually(good, limit=60), f"{what} did not come"

    def said(self, child: Child) -> str:
        return child.log.read_text()


@pytest.fixture(scope="module")
def fortress(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fortress]:
    with World("squash-fortress") as world:
        fortress = Fortress(world, tmp_path_factory.mktemp("fortress"))
        yield fortress
        logs = "".join(path.read_text(errors="replace") for path in world.directory.glob("*.log"))
        assert "Traceback" not in logs
        for token in fortress.secrets:
            assert token not in logs
            assert token.rsplit("_", 1)[1] not in logs


def attached(fortress: Fortress, ctl: Ctl) -> str:
    made = ctl.json("debug-container", "shop", "-n", fortress.world.namespace, "-c", "app")
    name = str(made["metadata"]["name"])
    ctl.json("wait", name, "--for", "listening")
    return name


@contextmanager
def connected(ctl: Ctl, name: str, *flags: str) -> Iterator[str]:
    """`squashctl connect` while it serves; the address of its local end."""
    running: Running = ctl.start("connect", name, *flags)
    try:
        line = running.line()
        found = re.search(r"(127\.0\.0\.1:\d+)", line)
        assert found, f"{line!r} {running.end()}"
        yield found[1]
    finally:
        running.kill()


def test_owner_debugs_a_held_request_through_it_all(fortress: Fortress) -> None:
    wish = fortress.ann.json("debug-request", fortress.image, "--hold-until", "attached")
    assert wish["spec"]["owner"] == "ann"
    assert fortress.hold() == "", "it waits"
    name = fortress.ann.json("wait", wish["metadata"]["name"])["metadata"]["name"]
    shown = fortress.eve.json("wait", name)
    assert (shown["spec"]["owner"], shown["spec"]["creator"]) == ("ann", "shop")
    with connected(fortress.ann, name) as address, Dap(address) as dap:
        assert dap.ask("initialize", adapterID="squash")["supportsConfigurationDoneRequest"]
        fortress.until(
            lambda: fortress.eve.json("wait", name)["status"].get("client") == "ann", "the client's name in the status"
        )
    assert fortress.bob.failure("delete", name, status=6)["reason"] == "not_yours"
    assert fortress.eve.failure("delete", name, status=6)["reason"] == "forbidden"
    assert fortress.ann("delete", name).returncode == 0


def test_strangers_get_nowhere(fortress: Fortress) -> None:
    nobody = fortress.ctl("nobody", None)
    failure = nobody.failure("list", status=6)
    assert failure["reason"] == "unauthenticated"
    assert "SQUASH_TOKEN_FILE" in failure["remedy"]
    assert fortress.ann.failure("token", "list", status=6)["reason"] == "forbidden"
    untrusting = fortress.ctl("untrusting", fortress.file("ann"))
    del untrusting.env["SQUASH_TLS_CA"]
    assert "certificate" in untrusting.failure("list", status=3)["message"].lower()


def test_revoked_and_exchanged_while_everything_runs(fortress: Fortress) -> None:
    for who, child in (("agent", fortress.agent), ("shop", fortress.sidecar)):
        said = fortress.admin("token", "revoke", fortress.ids[who][:8])
        assert said.returncode == 0, said
        assert f"of {who}" in said.stdout
        if who == "shop":
            assert re.match(r"error; .*reason=token_revoked", fortress.hold())
        fortress.until(lambda: "token_revoked" in fortress.said(child), "the reason in its log")  # noqa: B023 - called now
    listed = {token["subject"]: token for token in fortress.admin.json("token", "list")}
    assert listed["agent"]["revoked"]
    assert not listed["ann"].get("revoked")
    fortress.token("agent", "agent", "--node", "here")
    fortress.token("shop", "filter", "--namespace", fortress.world.namespace)
    assert fortress.hold().startswith("no_match"), "the sidecar reads its new token"
    name = attached(fortress, fortress.ann)
    assert fortress.ann("delete", name).returncode == 0


def test_token_of_another_namespace_holds_nothing(fortress: Fortress) -> None:
    fortress.token("shop", "filter", "--namespace", "bank")
    assert re.match(r"error; .*reason=not_yours", fortress.hold())
    fortress.token("shop", "filter", "--namespace", fortress.world.namespace)
    assert fortress.hold().startswith("no_match")


def test_secret_is_shown_once_and_lists_are_for_people(fortress: Fortress) -> None:
    made = fortress.admin("token", "create", "--for", "joe", "--ttl", "2d")
    assert re.fullmatch(r"squash_[0-9a-f]{16}_[0-9a-f]{64}\n", made.stdout)
    assert "not shown again" in made.stderr
    assert made.stdout.strip().rsplit("_", 1)[1] not in made.stderr
    fortress.secrets.append(made.stdout.strip())
    listed = fortress.admin("token", "list").stdout
    row = next(line for line in listed.splitlines() if " joe " in line)
    assert "developer" in row
    assert row.rstrip().endswith(("2d left", "47h left"))
    assert not any(secret.rsplit("_", 1)[1] in listed for secret in fortress.secrets)
    assert fortress.admin.failure("token", "revoke", "unknown", status=5)["reason"] == "not_found"
    assert fortress.admin.failure("token", "create", "--for", "two words", status=1)["reason"] == "invalid"
    assert json.dumps(fortress.admin.json("token", "list")).count('"secret"') == 0
