"""What squashctl's commands do to the coordinator, and what they say."""

from uuid import uuid4

import pytest

from squash import __version__
from squash.cli.person import person
from tests.coordinator.program import Coordinator
from tests.squash.ctl import Ctl


def an_image() -> str:
    return f"demo/{uuid4().hex}"


def test_debug_request_makes_one(ctl: Ctl, board: Coordinator) -> None:
    image = an_image()
    flags = ("--process-name", "shop", "--hold-until", "ready", "--ttl", "1h30m")
    made = ctl.json("debug-request", image, "debugpy", *flags)
    assert made["spec"] == {
        "image": image,
        "debugger": "debugpy",
        "process_name": "shop",
        "hold_until": "ready",
        "ttl": 5400.0,
        "owner": person(),
    }
    assert board.http.get(f"/api/v2/debugrequest/{made['metadata']['name']}").json() == made


def test_debug_request_with_a_trigger(ctl: Ctl) -> None:
    image = an_image()
    flags = ["--trigger", "5xx", "--path", "/cart/*", "--status", "500", "--status", "503"]
    flags += ["--method", "get", "--method", "VERSION-CONTROL"]
    made = ctl.json("debug-request", image, *flags)
    terms = {"trigger": "5xx", "statuses": [500, 503], "methods": ["GET", "VERSION-CONTROL"], "path": "/cart/*"}
    assert made["spec"].items() >= terms.items()
    done = ctl("debug-request", image, *flags)
    assert f"the next GET or VERSION-CONTROL /cart/* of image {image} that is answered 500 or 503" in done.stdout
    assert "x-squash-debug" not in done.stdout
    slow = ctl("debug-request", image, "--trigger", "latency", "--threshold", "2s")
    assert "GET or HEAD or OPTIONS any path" in slow.stdout
    assert "took 2 s or longer" in slow.stdout
    listed = ctl("list", "requests").stdout
    assert "5xx" in listed
    assert "latency" in listed


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--trigger", "6xx"), "6xx"),
        (("--trigger", "5xx", "--status", "404"), "`int` >= 500 - at `$.statuses[0]`"),
        (("--trigger", "5xx", "--status", "500,503"), "'--status': Input should be a valid integer"),
        (("--trigger", "5xx", "--method", "G:T"), "at `$.methods[0]`"),
        (("--trigger", "5xx", "--path", "cart"), "at `$.path`"),
        (("--trigger", "latency", "--threshold", "0.01s"), "`float` >= 0.1 - at `$.threshold`"),
        (("--status", "500"), "statuses does not go with the trigger"),
        (("--trigger", "5xx", "--threshold", "2s"), "threshold does not go with the trigger"),
        (("--trigger", "latency", "--threshold", "soon"), "no duration"),
    ],
)
def test_terms_that_cannot_be_meant(ctl: Ctl, flags: tuple[str, ...], said: str) -> None:
    done = ctl("debug-request", "demo/x", *flags)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_debug_request_holds_until_the_developer_is_ready_unless_told_otherwise(ctl: Ctl) -> None:
    image = an_image()
    assert ctl.json("debug-request", image)["spec"]["hold_until"] == "ready"
    assert ctl.json("debug-request", image, "--hold-until", "attached")["spec"]["hold_until"] == "attached"


def test_debug_request_tells_what_to_do_next(ctl: Ctl) -> None:
    image = an_image()
    done = ctl("debug-request", image)
    assert done.returncode == 0
    assert f"the next marked request that reaches image {image}" in done.stdout
    assert "x-squash-debug" in done.stdout


def test_debug_container_makes_an_attachment(ctl: Ctl, pod: str) -> None:
    made = ctl.json("debug-container", pod, "-n", "default", "-c", "app", "--image", f"demo/{pod}", "--debugger", "gdb")
    assert made["spec"]["attachment"] == {"pod": pod, "namespace": "default", "container": "app"}
    assert (made["spec"]["debugger"], made["spec"]["node"]) == ("gdb", "here")
    assert made["status"]["state"] == "none"


def test_debug_container_refused(ctl: Ctl, pod: str) -> None:
    assert ctl.failure("debug-container", "nowhere", status=5)["reason"] == "container_not_found"
    error = ctl.failure("debug-container", pod, "--image", "other", status=1)
    assert error["reason"] == "image_mismatch"
    assert error["message"]
    assert error["remedy"]


def test_list_shows_both_kinds(ctl: Ctl, board: Coordinator, pod: str) -> None:
    request = board.wish(f"demo/{pod}")
    attachment = board.attached(pod, match=True)
    waiting = board.wish(an_image())
    listed = ctl.json("list")
    assert attachment in [each["metadata"]["name"] for each in listed["attachments"]]
    assert {request, waiting} <= {each["metadata"]["name"] for each in listed["requests"]}
    lines = ctl("list").stdout.splitlines()
    assert next(line for line in lines if line.startswith(attachment)).split()[1:4] == [
        "none",
        "located",
        f"default/{pod}/app",
    ]
    assert next(line for line in lines if line.startswith(request)).split()[1] == "matched"
    assert next(line for line in lines if line.startswith(waiting)).split()[1] == "waiting"


def test_list_one_kind_and_states(ctl: Ctl, board: Coordinator, pod: str) -> None:
    name = board.attached(pod)
    board.patch(name, state="attaching", agent="a")
    assert ctl.json("list", "requests").keys() == {"requests"}
    listed = ctl.json("list", "attachments", "--state", "attaching", "--state", "attached")
    assert listed.keys() == {"attachments"}
    assert name in [each["metadata"]["name"] for each in listed["attachments"]]
    errors = ctl.json("list", "attachments", "--state", "error")["attachments"]
    assert name not in [each["metadata"]["name"] for each in errors]


def test_list_of_nothing_says_so(alone: Ctl, own: Coordinator) -> None:
    assert alone("list", "--server", own.url).stdout == "no debug attachments\n\nno debug requests\n\n"


def test_release_lets_a_request_go(ctl: Ctl, board: Coordinator, pod: str) -> None:
    request = board.wish(f"demo/{pod}")
    attachment = board.attached(pod, match=True)
    assert ctl("release", request).stdout == f"released {attachment}\n"
    assert ctl.json("release", attachment)["status"]["reason"] == "released"


def test_release_too_late_or_too_early(ctl: Ctl, board: Coordinator, pod: str) -> None:
    attachment = board.attached(pod)
    board.patch(attachment, state="attached")
    late = ctl.failure("release", attachment, status=1)
    assert late["reason"] == "illegal_step"
    assert "gone on already" in late["message"]
    early = ctl.failure("release", board.wish(an_image()), status=1)
    assert "nothing is held" in early["message"]


def test_release_of_what_failed_says_why_it_is_over(ctl: Ctl, board: Coordinator, pod: str) -> None:
    attachment = board.attached(pod)
    board.patch(attachment, state="error", reason="attach_failed")
    assert ctl("release", attachment).stdout == f"{attachment} was over already: attach_failed\n"


def test_delete_removes_all_that_are_named(ctl: Ctl, board: Coordinator, pod: str) -> None:
    request, attachment = board.wish(an_image()), board.attached(pod)
    assert ctl.json("delete", request, attachment, request) == {"deleted": [request, attachment]}
    assert board.http.get(f"/api/v2/debugrequest/{request}").status_code == 404
    assert board.http.get(f"/api/v2/debugattachment/{attachment}").status_code == 404


def test_delete_with_an_unknown_id_removes_nothing(ctl: Ctl, board: Coordinator) -> None:
    request = board.wish(an_image())
    assert ctl.failure("delete", request, "unknown", status=5)["reason"] == "not_found"
    assert board.http.get(f"/api/v2/debugrequest/{request}").status_code == 200


def test_ids_may_be_shortened(alone: Ctl, own: Coordinator) -> None:
    for name in ("ab-1", "ab-2", "ab", "b-1"):
        own.http.post("/api/v2/debugrequest", json={"metadata": {"name": name}, "spec": {"image": "i", "debugger": ""}})
    ctl = Ctl(alone.home, own.url)
    ambiguous = ctl.failure("delete", "a", status=2)
    assert "ab, ab-1, ab-2" in ambiguous["message"]
    assert ctl("delete", "b", "ab").stdout == "deleted b-1\ndeleted ab\n"


@pytest.mark.parametrize("text", ["no/such", "..", "ü b" * 99, "%2e?a=b#"])
def test_an_id_is_never_taken_for_a_path(ctl: Ctl, text: str) -> None:
    assert ctl.failure("release", text, status=5)["reason"] == "not_found"


def test_an_empty_id_is_refused(ctl: Ctl) -> None:
    assert ctl.failure("release", "", status=2)["message"] == "an empty text is no id"


def test_version_of_both(ctl: Ctl, board: Coordinator) -> None:
    assert ctl.json("version") == {"client": __version__, "server": __version__, "server_url": board.url}
    assert ctl("--version").stdout == f"squashctl {__version__}\n"


def test_version_without_a_coordinator(alone: Ctl) -> None:
    done = alone("version", "--server", "http://127.0.0.1:1")
    assert done.returncode == 3
    assert done.stdout.splitlines()[0].split() == ["squashctl", __version__]
    assert "coordinator_unreachable" in done.stderr


def test_plugins_are_mounted(alone: Ctl) -> None:
    done = alone("envoy", "config", "--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:5000", "--json")
    assert done.returncode == 0
    assert done.stdout.startswith("{")


@pytest.mark.parametrize("command", ["delete", "wait", "release"])
@pytest.mark.parametrize("text", [".", "..", "../debugrequest", "UPPER", "a\n"])
def test_what_can_be_no_id_is_not_found(ctl: Ctl, command: str, text: str) -> None:
    error = ctl.failure(command, text, status=5)
    assert error["message"] == f"no debug request or debug attachment has an id that begins with {text!r}"


def test_audit_tells_who_did_what(ctl: Ctl, board: Coordinator, pod: str) -> None:
    image = f"demo/{pod}"
    ctl("debug-request", image)
    name = board.attached(pod, match=True, holder="sidecar-1")
    ctl("delete", name)
    story = ctl.json("audit", name)
    assert [entry["action"] for entry in story] == ["matched", "deleted"]
    assert (story[0]["actor"], story[1]["actor"]) == ("sidecar-1", person())
    assert ctl.json("audit", name, "--action", "deleted", "--actor", person(), "--since", "5m") == story[1:]
    assert ctl.json("audit", "--limit", "1") == ctl.json("audit")[-1:]
    lines = ctl("audit", name).stdout.splitlines()
    assert lines[0].split() == ["TIME", "ACTOR", "ACTION", "DETAIL", "IMAGE", "DEBUG", "ATTACHMENT"]
    assert (len(lines), name in lines[1]) == (3, True)
    assert "nothing of that kind" in ctl("audit", name, "--action", "changed").stderr
    assert ctl.failure("audit", "--since", "soon", status=2)["message"]
