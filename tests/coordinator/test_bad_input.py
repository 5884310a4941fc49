"""Whatever comes: a clear answer, nothing lost, nothing slow."""

import json
import socket
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from squash.options import Address
from tests.coordinator.guarded import Guarded
from tests.coordinator.program import API, ATTACHMENTS, REQUESTS, Coordinator

GOOD = '{"spec": {"attachment": {"pod": "nobody"}}}'


def refused(answer: httpx.Response, code: int, reason: str) -> str:
    assert answer.status_code == code, answer.text
    assert answer.json()["reason"] == reason
    return str(answer.json()["message"])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"hello",
        b"{",
        GOOD.encode()[:-1],
        GOOD.encode() + b"}",
        b"\xff\xfe\x00",
        b'{"spec": {"attachment": {"pod": "\xff"}}}',
        b'{"spec": {"attachment": {"pod": "\\ud800"}}}',
        b'\xef\xbb\xbf{"spec": {"attachment": {}}}',
        b"{'spec': 1}",
        b'{"spec": {"attachment": {"a": NaN}}}',
        GOOD.encode("utf-16"),
    ],
)
@pytest.mark.parametrize("path", [ATTACHMENTS, REQUESTS])
def test_what_is_no_json(shared: Coordinator, path: str, body: bytes) -> None:
    refused(shared.http.post(path, content=body), 400, "malformed")


@pytest.mark.parametrize(
    "body",
    [
        "null",
        "[]",
        "5",
        '"text"',
        "{}",
        '{"spec": null}',
        '{"spec": []}',
        '{"spec": {"attachment": []}}',
        '{"spec": {"attachment": null}}',
        '{"spec": {"attachment": {"pod": 5}}}',
        '{"spec": {"attachment": {"pod": "p"}, "match_request": "yes"}}',
        '{"spec": {"attachment": {"pod": "p"}, "debugger": 1}}',
        '{"spec": {"attachment": {"pod": "p"}, "hold_until": "forever"}}',
        '{"spec": {"attachment": {"pod": "p"}, "ttl": -1}}',
        '{"spec": {"attachment": {"pod": "p"}, "ttl": 1e300}}',
        '{"spec": {"attachment": {"pod": "p", "a": 1e999}}}',
        '{"spec": {"attachment": {"pod": "p"}, "image": "' + "i" * 1_025 + '"}}',
        '{"spec": {"attachment": {"pod": "p", "a": ' + "[" * 40 + "]" * 40 + "}}}",
        '{"spec": {"attachment": {"pod": "p", "a": ' + "[" * 50_000 + "]" * 50_000 + "}}}",
        '{"spec": {"attachment": {"pod": "p", "a": ' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "}}}",
        '{"spec": {"attachment": {"pod": "p", "a": ' + "9" * 5_000 + "}}}",
    ],
)
def test_wrong_types_and_values(shared: Coordinator, body: str) -> None:
    assert refused(shared.http.post(ATTACHMENTS, content=body), 422, "invalid")


@pytest.mark.parametrize(
    "name", ["a/b", "../x", "ü", "A", "a b", "-a", "a-", "", "a\n", "a\0", "a" * 129, "💥", "a\r\nx: y", "a%2Fb"]
)
def test_names_that_cannot_be(shared: Coordinator, pod: str, name: str) -> None:
    refused(shared.attach(pod, name=name), 422, "invalid")
    body = {"metadata": {"name": name}, "spec": {"image": "i", "debugger": ""}}
    refused(shared.http.post(REQUESTS, json=body), 422, "invalid")
    if not name:
        return
    for kind in (ATTACHMENTS, REQUESTS):
        path = f"{kind}/{quote(name, safe='')}"
        refused(shared.http.get(path), 404, "not_found")
        assert shared.http.delete(path).status_code == 200
    refused(shared.http.patch(f"{ATTACHMENTS}/{quote(name, safe='')}", json={}), 404, "not_found")


def test_text_of_any_script_comes_back_as_it_went(shared: Coordinator, pod: str) -> None:
    printed = 'ü 💥 \u202e "\\ </script>'
    text = f"{printed}\x01 \n"
    name = shared.attached(pod, process_name=text)
    assert shared.http.get(f"{ATTACHMENTS}/{name}").json()["spec"]["process_name"] == text
    image = f"{printed}/{pod}"
    wish = shared.wish(image)
    assert shared.http.get(f"{REQUESTS}/{wish}").json()["spec"]["image"] == image
    assert all(line.startswith("20") for line in shared.log.splitlines()), "one event a line"


@pytest.mark.parametrize("image", ["demo/x\n", "a\x00b", "\x1b[2J", "\x7f", "a\tb"])
def test_images_that_cannot_be(shared: Coordinator, pod: str, image: str) -> None:
    said = "Expected an image without control characters in its name - at `$.spec.image`"
    wish = {"spec": {"image": image, "debugger": ""}}
    assert refused(shared.http.post(REQUESTS, json=wish), 422, "invalid") == said
    assert refused(shared.attach(pod, image=image), 422, "invalid") == said
    ticket = shared.http.post(f"{API}/ticket", json={"image": image, "owner": "ann"})
    assert refused(ticket, 422, "invalid") == said.replace("spec.", "")


def test_a_line_feed_at_the_end_is_seen(shared: Coordinator) -> None:
    prefix = shared.http.post(f"{API}/ticket", json={"image": "i", "owner": "ann", "path_prefix": "/cart\n"})
    assert "the beginning of a path" in refused(prefix, 422, "invalid")
    token = shared.http.post(f"{API}/token", json={"role": "viewer", "subject": "ann\n"})
    assert "somebody's name without spaces" in refused(token, 422, "invalid")


def test_oversized_bodies(shared: Coordinator) -> None:
    large = json.dumps({"spec": {"attachment": {"pod": "x" * 300_000}}})
    assert "262144 bytes" in refused(shared.http.post(ATTACHMENTS, content=large), 413, "too_large")
    chunks = (b"[" * 65_536 for _ in range(32))
    refused(shared.http.post(ATTACHMENTS, content=chunks), 413, "too_large")
    refused(shared.http.patch(f"{ATTACHMENTS}/x", content=large), 413, "too_large")
    refused(shared.http.post(REQUESTS, content=large), 413, "too_large")


def test_body_of_just_the_limit_is_read(shared: Coordinator) -> None:
    body = GOOD + " " * (262_144 - len(GOOD))
    refused(shared.http.post(ATTACHMENTS, content=body), 404, "container_not_found")


def test_headers_of_64_kilobytes(shared: Coordinator) -> None:
    answer = shared.http.get(ATTACHMENTS, headers={"x-squash-debug": "x" * 65_536, "X-Timeout": "7" * 65_536})
    assert answer.status_code == 200
    message = refused(shared.http.get(ATTACHMENTS, headers={"X-Timeout": "x" * 65_536}), 422, "invalid")
    assert len(message) < 200


def test_long_queries_and_paths(shared: Coordinator) -> None:
    assert shared.http.get(ATTACHMENTS, params={"names": ",".join(map(str, range(5_000)))}).json() == []
    assert len(refused(shared.http.get(f"{ATTACHMENTS}/{'x' * 20_000}"), 404, "not_found")) < 200
    assert len(refused(shared.http.get("/" + "y" * 20_000), 404, "not_found")) < 200
    assert len(refused(shared.http.get(ATTACHMENTS, params={"state": "z" * 20_000}), 422, "invalid")) < 200
    refused(shared.http.get(f"{API}/changes", params={"since": "\0" * 100, "state": "\0"}), 422, "invalid")


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-timeout: \x01\x02\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-timeout: 1\x00\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"POST /api/v2/debugrequest HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /api/v2/debugrequest HTTP/1.1\r\nhost: x\r\ncontent-length: " + b"9" * 40 + b"\r\n\r\n",
        b"POST /api/v2/debugrequest HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v2/debugrequest HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{",
    ],
)
def test_raw_bytes_on_the_socket(shared: Coordinator, raw: bytes) -> None:
    with socket.create_connection(Address.parse(shared.url.removeprefix("http://")), timeout=30) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer == b"" or answer.split()[1][:1] in (b"2", b"4"), answer
    assert shared.http.get("/healthz").status_code == 200


def test_ten_thousand_pending_requests(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path, "--max-requests-per-image", "20000") as coordinator:
        _ten_thousand(coordinator, pod, image)


def _ten_thousand(own: Coordinator, pod: str, image: str) -> None:
    last = own.wish(image, "last")
    with httpx.Client(base_url=own.url, trust_env=False, timeout=60) as client:
        for number in range(10_000):
            body = {"spec": {"image": image, "debugger": f"d{number % 100}", "process_name": f"p{number}"}}
            assert client.post(REQUESTS, json=body).status_code == 201
        assert len(client.get(REQUESTS).json()) == 10_001
    refused(own.attach(pod, match=True, debugger="nobody"), 404, "no_pending_request")
    taken = own.attach(pod, match=True, debugger="d7", process_name="p4207").json()
    assert (taken["spec"]["debugger"], taken["spec"]["process_name"]) == ("d7", "p4207")
    assert own.attach(pod, match=True).json()["spec"]["debug_request"] == last
    assert len(own.http.get(REQUESTS).json()) == 10_001
    assert own.end() == 0


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_no_web_page_drives_it(shared: Coordinator, method: str, header: dict[str, str]) -> None:
    # What a page may send without asking first: text/plain, whatever is in it.
    body = b'{"metadata": {"name": "of-a-page"}, "spec": {"image": "i", "debugger": ""}}'
    path = f"{REQUESTS}/of-a-page" if method == "DELETE" else REQUESTS
    answer = shared.http.request(method, path, content=body, headers={"content-type": "text/plain"} | header)
    refused(answer, 403, "foreign_origin")
    assert shared.http.get(f"{REQUESTS}/of-a-page").status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8602", "127.0.0.1.evil.example", "localhost.evil:1"])
def test_no_name_leads_a_page_here(shared: Coordinator, host: str) -> None:
    refused(shared.http.get(REQUESTS, headers={"Host": host}), 403, "foreign_origin")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8602", "127.0.0.1:1", "[::1]:8602"])
def test_names_of_this_machine(shared: Coordinator, host: str) -> None:
    assert shared.http.get(REQUESTS, headers={"Host": host}).status_code == 200


def test_any_name_will_do_where_tokens_are_asked_for(tmp_path: Path) -> None:
    with Guarded(tmp_path) as coordinator:
        assert coordinator.http.get(REQUESTS, headers={"Host": "squash.example"}).status_code == 200
        assert coordinator.end() == 0


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_a_browser_may_open_it(shared: Coordinator, site: str) -> None:
    assert shared.http.get(REQUESTS, headers={"Sec-Fetch-Site": site}).status_code == 200
