"""Who gets in at all: the first token, addresses that others reach, certificates, and what is never shown."""

import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash.access import Role
from tests.coordinator.guarded import TOKENS, Guarded
from tests.coordinator.program import ATTACHMENTS, BIN, REQUESTS, Coordinator, environment
from tests.squash.authority import Authority

EVERYWHERE = "0.0.0.0:0"


def refused(directory: Path, *flags: str) -> str:
    """What a coordinator that does not start says."""
    run = subprocess.run(
        [BIN / "squash-coordinator", "--listen", "127.0.0.1:0", "--database", str(directory / "c.db"), *flags],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert "Traceback" not in run.stderr
    assert run.stderr.splitlines()[-1].startswith("squash-coordinator: ")
    return run.stderr


# -- addresses that other machines reach ------------------------------------------------------------


@pytest.mark.parametrize("listen", [EVERYWHERE, "[::]:0", "coordinator.example:0"])
def test_no_open_door_by_accident(tmp_path: Path, listen: str) -> None:
    said = refused(tmp_path, "--listen", listen)
    assert "whoever reaches this machine" in said
    assert "--auth token" in said
    assert "--insecure" in said
    assert not (tmp_path / "c.db").exists()


def test_open_door_on_purpose_is_told(tmp_path: Path) -> None:
    with Coordinator(tmp_path, "--listen", EVERYWHERE, "--insecure") as coordinator:
        assert "WARNING" in coordinator.log
        assert "anybody who reaches this address" in coordinator.log


def test_tokens_in_the_open_are_told(tmp_path: Path) -> None:
    with Guarded(tmp_path, "--listen", EVERYWHERE) as coordinator:
        assert "plain HTTP" in coordinator.log
        assert coordinator.http.get(REQUESTS).status_code == 200


# -- the first token --------------------------------------------------------------------------------


def test_first_token_lies_in_a_file_of_the_user_alone_and_nowhere_else(tmp_path: Path) -> None:
    with Guarded(tmp_path) as coordinator:
        assert stat.S_IMODE(coordinator.token_file.stat().st_mode) == 0o600
        assert str(coordinator.token_file) in coordinator.log
        (listed,) = coordinator.http.get(TOKENS).json()
        assert (listed["role"], listed["subject"]) == ("admin", "admin")
        assert coordinator.admin not in coordinator.http.get(TOKENS).text
        coordinator.token(Role.VIEWER, "eve")
        assert coordinator.end() == 0
    secret = coordinator.admin.rsplit("_", 1)[1].encode()
    for path in tmp_path.iterdir():
        assert (secret in path.read_bytes()) == (path == coordinator.token_file), path


def test_tokens_live_on(tmp_path: Path) -> None:
    with Guarded(tmp_path) as first:
        token, _ = first.token(Role.VIEWER, "eve")
        gone, name = first.token(Role.VIEWER, "joe")
        first.http.delete(f"{TOKENS}/{name}")
        admin = first.admin
        assert first.end() == 0
    with Guarded(tmp_path) as again:
        assert again.admin == admin
        assert again.call("GET", REQUESTS, token).status_code == 200
        assert again.call("GET", REQUESTS, gone).json()["reason"] == "token_revoked"


def test_lost_admin_token_is_made_anew(tmp_path: Path) -> None:
    with Guarded(tmp_path) as first:
        (listed,) = first.http.get(TOKENS).json()
        assert first.http.delete(f"{TOKENS}/{listed['id']}").status_code == 200
        assert first.http.get(TOKENS).status_code == 401
        assert first.end() == 0
    with Guarded(tmp_path) as again:
        assert again.admin != first.admin
        assert again.http.get(TOKENS).status_code == 200


def test_installer_brings_its_own(tmp_path: Path) -> None:
    file, text = tmp_path / "mine", f"squash_{'a' * 16}_{'b' * 64}"
    file.write_text(f"{text}\n")
    file.chmod(0o600)
    with Coordinator(tmp_path, "--auth", "token", "--admin-token-file", str(file)) as coordinator:
        answer = coordinator.http.get(TOKENS, headers={"authorization": f"Bearer {text}"})
        assert [token["id"] for token in answer.json()] == ["a" * 16]
        assert "b" * 64 not in coordinator.log


@pytest.mark.parametrize(("mode", "text", "said"), [(0o644, "", "others may use it"), (0o600, "hello", "no token")])
def test_file_that_cannot_be_trusted(tmp_path: Path, mode: int, text: str, said: str) -> None:
    file = tmp_path / "mine"
    file.write_text(text or f"squash_{'a' * 16}_{'b' * 64}")
    file.chmod(mode)
    words = refused(tmp_path, "--auth", "token", "--admin-token-file", str(file))
    assert said in words
    assert "b" * 64 not in words


def test_store_that_forgets_makes_one_each_time(tmp_path: Path) -> None:
    with Guarded(tmp_path, "--store", "memory") as first:
        admin = first.admin
        assert first.end() == 0
    with Guarded(tmp_path, "--store", "memory") as again:
        # It is still in its file, so it is still the admin's.
        assert again.admin == admin
        assert again.http.get(TOKENS).status_code == 200


# -- without authentication -------------------------------------------------------------------------


def test_nothing_is_asked_by_default(own: Coordinator, pod: str, tmp_path: Path) -> None:
    wish = own.http.post(REQUESTS, json={"spec": {"image": "i", "debugger": "", "owner": "ann@desk"}}).json()
    assert wish["spec"]["owner"] == "ann@desk"
    name = own.attached(pod)
    answer = own.http.get(ATTACHMENTS, headers={"authorization": "Bearer whatever"})
    assert answer.status_code == 200
    assert own.http.post(f"{ATTACHMENTS}/{name}/token", json={}).status_code == 201
    refusal = own.http.post(TOKENS, json={"role": "admin", "subject": "me"})
    assert (refusal.status_code, refusal.json()["reason"]) == (409, "no_authentication")
    assert not list(tmp_path.glob("*.admin-token"))


# -- what tokens may be asked for -------------------------------------------------------------------


@pytest.mark.parametrize(
    "wish",
    [
        {"role": "king", "subject": "ann"},
        {"role": "viewer"},
        {"role": "viewer", "subject": ""},
        {"role": "viewer", "subject": "ann\nbob"},
        {"role": "viewer", "subject": "ann", "ttl": 0},
        {"role": "viewer", "subject": "ann", "ttl": 1e9},
        {"role": "viewer", "subject": "ann", "node": "n"},
        {"role": "agent", "subject": "ann", "namespace": "n"},
    ],
)
def test_unfit_wishes(guarded: Guarded, wish: dict[str, object]) -> None:
    answer = guarded.http.post(TOKENS, json=wish)
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with Guarded(tmp_path_factory.mktemp("guarded")) as coordinator:
        yield coordinator
        coordinator.end()


def test_owner_is_whose_token_it_is(guarded: Guarded) -> None:
    token, _ = guarded.token(Role.DEVELOPER, "ann")
    made = guarded.call("POST", REQUESTS, token, {"spec": {"image": "i", "debugger": "", "owner": "bob"}})
    assert made.json()["spec"]["owner"] == "ann"
    answer = guarded.http.get("/api/v2/audit", params={"actor": "ann"})
    assert [entry["action"] for entry in answer.json()] == ["request_created"]


@pytest.mark.parametrize("header", ["Basic YTpi", "squash_x", "Bearer", "Bearer a, Bearer b"])
def test_headers_that_are_no_bearer(guarded: Guarded, header: str) -> None:
    with httpx.Client(base_url=guarded.url, trust_env=False) as client:
        answer = client.get(REQUESTS, headers=[("authorization", header)])
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        twice = [("authorization", f"Bearer {guarded.admin}")] * 2
        assert client.get(REQUESTS, headers=twice).status_code == 401


# -- limits -----------------------------------------------------------------------------------------


def test_limits_name_themselves_and_their_setting(tmp_path: Path, pod: str, image: str) -> None:
    limits = ("--max-requests-per-owner", "1", "--max-requests-per-image", "2", "--max-attachments-per-image", "1")
    with Coordinator(tmp_path, *limits) as coordinator:
        coordinator.wish(image, owner="ann")
        body = {"spec": {"image": image, "debugger": "", "owner": "ann"}}
        refusal = coordinator.http.post(REQUESTS, json=body)
        assert (refusal.status_code, refusal.json()["reason"]) == (429, "limit_reached")
        assert "max_requests_per_owner = 1" in refusal.json()["message"]
        coordinator.wish(image, owner="bob")
        body["spec"]["owner"] = "eve"
        assert "max_requests_per_image = 2" in coordinator.http.post(REQUESTS, json=body).json()["message"]
        name = coordinator.attached(pod, match=True)
        refusal = coordinator.attach(pod, match=True)
        assert "max_attachments_per_image = 1" in refusal.json()["message"]
        assert len(coordinator.http.get(REQUESTS).json()) == 2, "what was refused took no debug request"
        coordinator.patch(name, state="error", reason="released")
        coordinator.attached(pod, match=True)
        assert coordinator.end() == 0
    with Coordinator(tmp_path, *limits) as again:
        assert again.attach(pod).status_code == 429, "it counts what it loads"


# -- TLS --------------------------------------------------------------------------------------------


class Encrypted(Guarded):
    """Answers by HTTPS; `authority` signs for both sides."""

    def __init__(self, directory: Path, authority: Authority, *flags: str) -> None:
        self.authority = authority
        certificate = authority.sign("coordinator")
        super().__init__(directory, "--tls-certificate", str(certificate), *flags)


def trusting(authority: Authority, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.path)
    if certificate:
        context.load_cert_chain(certificate)
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_https_and_nothing_else(tmp_path: Path, authority: Authority) -> None:
    with Encrypted(tmp_path, authority) as coordinator:
        assert coordinator.url.startswith("https://")
        with httpx.Client(base_url=coordinator.url, verify=trusting(authority), trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
            assert client.get(REQUESTS).status_code == 401
            bearer = {"authorization": f"Bearer {coordinator.admin}"}
            assert client.get(REQUESTS, headers=bearer).status_code == 200
        with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as stranger:
            stranger.get(f"{coordinator.url}/healthz")
        with pytest.raises(httpx.RemoteProtocolError), httpx.Client(trust_env=False) as plain:
            plain.get(f"{coordinator.url.replace('https', 'http')}/healthz")


def test_certificate_is_exchanged_without_a_restart(tmp_path: Path, authority: Authority) -> None:
    def shown(url: str) -> bytes:
        host, port = url.removeprefix("https://").split(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as plain,
            trusting(authority).wrap_socket(plain, server_hostname=host) as connection,
        ):
            return connection.getpeercert(binary_form=True) or b""

    with Encrypted(tmp_path, authority) as coordinator:
        first = shown(coordinator.url)
        assert shown(coordinator.url) == first
        authority.sign("coordinator")
        second = shown(coordinator.url)
        assert second != first
        (tmp_path / "coordinator.pem").write_text("spoiled")
        assert shown(coordinator.url) == second
        assert "keeping the former" in coordinator.log


def test_client_certificate_stands_for_a_token(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / "others").mkdir()
    others = Authority(tmp_path / "others", "others")
    with Encrypted(tmp_path, authority, "--tls-client-ca", str(authority.path)) as coordinator:

        def call(path: str, who: str, role: str, token: str = "") -> httpx.Response:
            shown = authority.sign("client", who=who, role=role) if who or role else None
            headers = {"authorization": f"Bearer {token}"} if token else {}
            with httpx.Client(verify=trusting(authority, shown), trust_env=False) as client:
                return client.get(coordinator.url + path, headers=headers)

        assert call(REQUESTS, "ann", "viewer").status_code == 200
        assert call(TOKENS, "ann", "viewer").json()["reason"] == "forbidden"
        assert call(TOKENS, "root", "admin").status_code == 200
        assert call(f"{ATTACHMENTS}?node=n7", "n7", "agent").status_code == 200
        assert call(f"{ATTACHMENTS}?node=n8", "n7", "agent").json()["reason"] == "not_yours"
        assert call(REQUESTS, "", "").json()["reason"] == "unauthenticated"
        assert call(REQUESTS, "ann", "king").status_code == 401
        assert call(REQUESTS, "", "viewer").status_code == 401
        assert call(TOKENS, "ann", "viewer", token=coordinator.admin).status_code == 200, "the token counts"
        assert call(TOKENS, "root", "admin", token="squash_wrong").status_code == 401
        foreign = others.sign("client", who="root", role="admin")
        with (
            pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)),
            httpx.Client(verify=trusting(authority, foreign), trust_env=False) as client,
        ):
            client.get(coordinator.url + TOKENS)


def test_files_of_tls_that_cannot_be_used(tmp_path: Path, authority: Authority) -> None:
    missing = str(tmp_path / "missing")
    assert "missing) cannot be used" in refused(tmp_path, "--tls-certificate", missing)
    assert "without tls_certificate" in refused(tmp_path, "--tls-key", missing)
    certificate = str(authority.sign("coordinator"))
    said = refused(tmp_path, "--tls-certificate", certificate, "--tls-client-ca", str(authority.path))
    assert "tls_client_ca is of no use with auth = none" in said


def test_expired_tokens_say_so(guarded: Guarded) -> None:
    token, _ = guarded.token(Role.VIEWER, "eve", ttl=0.05)
    guarded.until(lambda: guarded.call("GET", REQUESTS, token).status_code == 401, "its end")
    refusal = guarded.call("GET", REQUESTS, token).json()
    assert refusal["reason"] == "token_expired"
    assert "eve" in refusal["message"]
    (listed,) = [one for one in guarded.http.get(TOKENS).json() if one["subject"] == "eve"]
    assert listed["expires"] < time.time()
