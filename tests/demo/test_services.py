"""The demo's services as real processes: right prices, the wrong one that the demo debugs, bad input, clean ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

SERVICES = Path(__file__).parents[2] / "demo/services"
PYTHON_SERVICES = {"pricing", "storefront"}
NOWHERE = ("--pricing", "http://127.0.0.1:9", "--stock", "http://127.0.0.1:9")


class Service(NamedTuple):
    process: subprocess.Popen[str]
    url: str

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, json.load(answer)
        finally:
            connection.close()

    def talk(self, sent: bytes) -> bytes:
        """Everything that comes back until the service closes the connection."""
        url = urlsplit(self.url)
        with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as connection:
            connection.sendall(sent)
            return b"".join(iter(lambda: connection.recv(65536), b""))


Start = Callable[..., Service]


@pytest.fixture(scope="module")
def stock_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("stock") / "stock"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-g", "-O0", "-pthread"]
    subprocess.run(["g++", *flags, "-o", binary, SERVICES / "stock.cpp"], check=True)
    return binary


@pytest.fixture(scope="module")
def command(stock_binary: Path) -> Callable[[str], list[str]]:
    def build(name: str) -> list[str]:
        # -I: no site directory of ours, no environment. They stand on the standard library alone.
        return [sys.executable, "-I", str(SERVICES / f"{name}.py")] if name in PYTHON_SERVICES else [str(stock_binary)]

    return build


@pytest.fixture(scope="module")
def start(command: Callable[[str], list[str]]) -> Iterator[Start]:
    with ExitStack() as ends:

        def start(name: str, *options: str) -> Service:
            argv = [*command(name), "--listen", "127.0.0.1:0", *options]
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            ends.enter_context(process)
            ends.callback(process.kill)
            assert process.stdout
            said = process.stdout.readline()
            assert said.startswith(f"{name} ready on http://127.0.0.1:")
            return Service(process, said.split()[-1])

        yield start


@pytest.fixture(scope="module")
def pricing(start: Start) -> Service:
    return start("pricing")


@pytest.fixture(scope="module")
def stock(start: Start) -> Service:
    return start("stock")


@pytest.fixture(scope="module")
def storefront(start: Start, pricing: Service, stock: Service) -> Service:
    return start("storefront", "--pricing", pricing.url, "--stock", stock.url)


@pytest.mark.parametrize(
    ("items", "subtotal", "discount", "total"),
    [
        ("apple:3,pear:1", "5.00", "0.00", "5.00"),
        ("melon:3", "10.50", "0.52", "9.98"),
        ("cheese:4,apple:1", "49.20", "2.46", "46.74"),
        ("cheese:4,apple:2", "50.40", "5.04", "45.36"),
        ("cheese:9", "108.00", "16.20", "91.80"),
    ],
)
def test_prices_are_right_beside_the_thresholds(
    pricing: Service, items: str, subtotal: str, discount: str, total: str
) -> None:
    status, priced = pricing.get(f"/price?items={items}")
    assert status == 200
    assert (priced["subtotal"], priced["discount"], priced["total"]) == (subtotal, discount, total)


def test_the_price_that_the_demo_debugs_is_wrong(pricing: Service) -> None:
    """A cart of exactly 50.00 gets 5 % off, though 10 % are promised from 50.00 on: it should cost 45.00."""
    status, priced = pricing.get("/price?items=melon:4,cheese:3")
    assert status == 200
    assert priced["subtotal"] == "50.00"
    assert (priced["rate"], priced["discount"], priced["total"]) == (5, "2.50", "47.50")


def test_stock_counts_what_is_left(stock: Service) -> None:
    status, found = stock.get("/stock?items=apple:3,melon:30")
    assert status == 200
    assert found == {
        "items": {
            "apple": {"quantity": 3, "available": 88, "missing": 0},
            "melon": {"quantity": 30, "available": 21, "missing": 9},
        }
    }


def test_the_stock_that_the_demo_debugs_is_wrong(stock: Service) -> None:
    """With more plums reserved than there are, none is left and one is missing, not three."""
    status, found = stock.get("/stock?items=plum:1")
    assert status == 200
    assert found["items"]["plum"] == {"quantity": 1, "available": -2, "missing": 3}


@pytest.mark.parametrize(
    ("name", "statement"), [("pricing.py", "discount = subtotal * rate // 100"), ("stock.cpp", "return left;")]
)
def test_the_demo_finds_its_breakpoint_lines(name: str, statement: str) -> None:
    lines = (SERVICES / name).read_text().splitlines()
    assert [line.strip() for line in lines].count(statement) == 1


def test_the_storefront_shows_the_whole_cart(storefront: Service) -> None:
    status, cart = storefront.get("/cart?items=apple%3A3%2Cplum%3A1")
    assert status == 200
    assert cart == {
        "items": {
            "apple": {"price": "3.60", "quantity": 3, "available": 88, "missing": 0},
            "plum": {"price": "0.90", "quantity": 1, "available": -2, "missing": 3},
        },
        "subtotal": "4.50",
        "discount": "0.00",
        "total": "4.50",
        "deliverable": False,
    }


@pytest.mark.parametrize(
    ("items", "complaint"),
    [
        ("unicorn:1", "no such item"),
        ("apple", "whole number from 1 to 999"),
        ("apple:0", "whole number from 1 to 999"),
        ("apple:-1", "whole number from 1 to 999"),
        ("apple:1000", "whole number from 1 to 999"),
        ("apple:%C2%B2", "whole number from 1 to 999"),
        ("apple:1,apple:2", "in the cart twice"),
        ("apple:1,", "no such item"),
        ("%00%22%5C%FF:1", "no such item"),
        ("", "items is missing"),
    ],
)
def test_a_bad_cart_is_refused_with_a_message(
    storefront: Service, pricing: Service, stock: Service, items: str, complaint: str
) -> None:
    for service, path in ((pricing, "price"), (stock, "stock"), (storefront, "cart")):
        status, answer = service.get(f"/{path}?items={items}")
        assert status == 400
        assert complaint in answer["error"]


def test_missing_items_and_unknown_pages_are_refused(storefront: Service, pricing: Service, stock: Service) -> None:
    for service, path in ((pricing, "price"), (stock, "stock"), (storefront, "cart")):
        assert service.get(f"/{path}")[0] == 400
        status, answer = service.get("/nothing")
        assert status == 404
        assert f"/{path}?items=" in answer["error"]


def test_health(storefront: Service, pricing: Service, stock: Service) -> None:
    for service in (storefront, pricing, stock):
        assert service.get("/healthz") == (200, {"status": "ok"})


def test_connections_are_kept(storefront: Service, pricing: Service, stock: Service) -> None:
    for service in (storefront, pricing, stock):
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert service.talk(one + one + last).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\r\n\r\n",
        b"GET /stock HTTP/9.9\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\n\r\n",
        b"POST /stock HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
        b"GET /stock HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"x" * 20000,
    ],
)
def test_stock_refuses_what_is_not_a_plain_get(stock: Service, sent: bytes) -> None:
    assert stock.talk(sent).startswith(b"HTTP/1.1 400 ")


class Recorder(HTTPServer):
    """Stands for both services and keeps the headers it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.seen: list[dict[str, str]] = []


class RecordingHandler(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.seen.append({name.lower(): value for name, value in self.headers.items()})
        body = json.dumps({"lines": {}, "items": {}, "subtotal": "0", "discount": "0", "total": "0"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_mark_and_the_trace_are_passed_on(start: Start, recorder: Recorder) -> None:
    url, seen = f"http://127.0.0.1:{recorder.server_port}", recorder.seen
    sent = {
        "x-squash-debug": "1",
        "x-request-id": "7b1c",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "baggage": "user=ann",
    }
    storefront = start("storefront", "--pricing", url, "--stock", url)
    assert storefront.get("/cart?items=apple:1", {**sent, "cookie": "not for them"})[0] == 200
    assert storefront.get("/cart?items=apple:1")[0] == 200
    assert len(seen) == 4
    for headers in seen[:2]:
        assert sent.items() <= headers.items()
        assert "cookie" not in headers
    for headers in seen[2:]:
        assert not sent.keys() & headers.keys()


def test_a_service_that_is_gone_is_named(start: Start, stock: Service) -> None:
    pricing = start("pricing")
    storefront = start("storefront", "--pricing", pricing.url, "--stock", stock.url)
    pricing.process.terminate()
    assert pricing.process.wait(30) == 0
    status, answer = storefront.get("/cart?items=apple:1")
    assert status == 502
    assert answer["error"].startswith(f"pricing at {pricing.url} failed")


@pytest.mark.parametrize("name", ["pricing", "storefront", "stock"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_with_0_when_told_to_stop(start: Start, name: str, number: signal.Signals) -> None:
    service = start(name, *(NOWHERE if name == "storefront" else ()))
    assert service.get("/healthz")[0] == 200
    service.process.send_signal(number)
    out, err = service.process.communicate(timeout=30)
    assert (service.process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("name", ["pricing", "storefront", "stock"])
@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:", "127.0.0.1:66666", ":80"])
def test_a_bad_address_is_refused(command: Callable[[str], list[str]], name: str, listen: str) -> None:
    options = NOWHERE if name == "storefront" else ()
    argv = [*command(name), "--listen", listen, *options]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "expected HOST:PORT" in ended.stderr


@pytest.mark.parametrize(
    "url", ["nonsense", "https://127.0.0.1:1", "http://127.0.0.1:99999", "http://127.0.0.1:1/path"]
)
def test_a_bad_service_url_is_refused(command: Callable[[str], list[str]], url: str) -> None:
    argv = [*command("storefront"), "--pricing", url, "--stock", "http://127.0.0.1:9"]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 2
    assert "expected http://HOST:PORT" in ended.stderr
