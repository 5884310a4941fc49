"""`squashctl ticket` against a real coordinator."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.coordinator.program import Coordinator
from tests.squash.ctl import Ctl


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(tmp_path) as running:
        yield running


@pytest.fixture
def ctl(tmp_path: Path, coordinator: Coordinator) -> Ctl:
    return Ctl(tmp_path, coordinator.url)


def test_create_and_show(ctl: Ctl) -> None:
    made = ctl("ticket", "create", "--image", "demo/pricing", "--for", "2h", "--method", "get", "--path-prefix", "/a")
    assert made.returncode == 0, made
    value = made.stdout.strip()
    assert value not in made.stderr
    assert "for demo/pricing" in made.stderr
    document = ctl.json("ticket", "show", value)
    claims = document["claims"]
    assert (document["valid"], claims["methods"], claims["path_prefix"], claims["uses"]) == (True, ["GET"], "/a", 1)
    assert claims["exp"] - claims["iat"] == 7200
    shown = ctl("ticket", "show", value)
    assert "GET" in shown.stdout
    assert "valid" in shown.stdout


def test_the_owner_is_that_of_debug_requests(ctl: Ctl, coordinator: Coordinator) -> None:
    issued = ctl.json("ticket", "create", "--image", "demo/pricing")
    wish = ctl.json("debug-request", "demo/pricing")
    assert issued["claims"]["sub"] == wish["spec"]["owner"]
    bound = ctl.json("ticket", "create", "--image", "demo/pricing", "--request", wish["metadata"]["name"][:8])
    assert bound["claims"]["request"] == wish["metadata"]["name"]


def test_a_forged_one_is_shown_for_what_it_is(ctl: Ctl) -> None:
    head, payload, signature = ctl.json("ticket", "create", "--image", "demo/pricing")["ticket"].split(".")
    done = ctl("ticket", "show", f"{head}.{payload}.{signature[:-4]}AAAA", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["valid"], document["reason"]) == (False, "ticket_forged")
    assert ctl.failure("ticket", "show", "1", status=1)["reason"] == "ticket_malformed"


def test_keys_rotate_and_verify_offline(ctl: Ctl, tmp_path: Path) -> None:
    value = ctl.json("ticket", "create", "--image", "demo/pricing")["ticket"]
    before = ctl.json("ticket", "keys")
    after = ctl.json("ticket", "rotate")
    assert after["keys"][1:] == before["keys"]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(before))
    away = Ctl(tmp_path, "http://127.0.0.1:9")
    assert away.json("ticket", "show", value, "--keys", str(file))["valid"] is True
    lines = ctl("ticket", "keys").stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["signs new tickets", "verifies earlier ones"]
    assert len(ctl.json("ticket", "rotate", "--revoke")["keys"]) == 1
    done = ctl("ticket", "show", value, "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "ticket_unknown_key")


@pytest.mark.parametrize(
    "wrong",
    [
        ("create",),
        ("create", "--image", "a", "--for", "soon"),
        ("create", "--image", "a", "--method", "a b"),
        ("create", "--image", "a", "--uses", "0"),
        ("show", "eyJh.eyJh.eyJh", "--keys", "/none/such"),
    ],
)
def test_wrong_use(ctl: Ctl, wrong: tuple[str, ...]) -> None:
    done = ctl("ticket", *wrong)
    assert done.returncode in (1, 2), done
    assert "Traceback" not in done.stderr


def test_for_too_long(ctl: Ctl) -> None:
    error = ctl.failure("ticket", "create", "--image", "a", "--for", "100h", status=1)
    assert "ticket_longest" in error["message"]
