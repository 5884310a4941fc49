"""Shows a cart: `GET /cart?items=apple:3,pear:1`, from the services `pricing` and `stock`.

A service of the demo; stands alone, on the standard library.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

PROPAGATED = ("x-squash-debug", "x-request-id", "traceparent", "tracestate", "baggage")
"""Request headers passed on to the services called: a mark reaches its service only so."""

PATIENCE = 600.0
"""Seconds to wait for a service: somebody may be stepping through it in a debugger."""


class Shop:
    """The services behind the shop window."""

    def __init__(self, pricing: SplitResult, stock: SplitResult) -> None:
        self.pricing = pricing
        self.stock = stock

    def cart(self, items: str, headers: dict[str, str]) -> dict[str, Any]:
        """The cart with prices and availability. Raises CallError."""
        query = f"items={quote(items, safe=':,')}"
        priced = call("pricing", self.pricing, f"/price?{query}", headers)
        stocked = call("stock", self.stock, f"/stock?{query}", headers)["items"]
        return {
            "items": {item: {"price": cost, **stocked[item]} for item, cost in priced["lines"].items()},
            "subtotal": priced["subtotal"],
            "discount": priced["discount"],
            "total": priced["total"],
            "deliverable": all(item["missing"] == 0 for item in stocked.values()),
        }


class CallError(Exception):
    """A service refused (400: whoever asked is wrong) or failed (502)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def call(service: str, url: SplitResult, path: str, headers: dict[str, str]) -> Any:
    """The JSON that `path` of a service answers with. Raises CallError."""
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        content = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallError(502, f"{service} at {url.geturl()} failed: {error}") from error
    finally:
        connection.close()
    if answer.status == 400:
        raise CallError(400, content["error"])
    if answer.status != 200:
        raise CallError(502, f"{service} at {url.geturl()} answered {answer.status}")
    return content


class Handler(BaseHTTPRequestHandler):
    """One connection, kept open between requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    shop: Shop

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        if url.path != "/cart":
            return self.answer(404, {"error": f"no such page: {url.path}; try /cart?items=apple:3,pear:1"})
        items = parse_qs(url.query).get("items")
        if not items:
            return self.answer(400, {"error": "items is missing; try /cart?items=apple:3,pear:1"})
        headers = {name: value for name in PROPAGATED if (value := self.headers[name]) is not None}
        try:
            cart = self.shop.cart(items[0], headers)
        except CallError as error:
            return self.answer(error.status, {"error": str(error)})
        return self.answer(200, cart)

    def answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing per request."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, not {text!r}")
    return host, int(port)


def service_url(text: str) -> SplitResult:
    url = urlsplit(text)
    try:
        plain = url.scheme == "http" and url.hostname and url.port != 0 and url.path in {"", "/"}
    except ValueError:
        plain = False
    if not plain:
        raise argparse.ArgumentTypeError(f"expected http://HOST:PORT, not {text!r}")
    return url


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="show carts over HTTP")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--pricing", type=service_url, required=True, metavar="URL")
    parser.add_argument("--stock", type=service_url, required=True, metavar="URL")
    options = parser.parse_args()
    Handler.shop = Shop(options.pricing, options.stock)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with Server(options.listen, Handler) as server:
        print(f"storefront ready on http://{server.server_address[0]!s}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
