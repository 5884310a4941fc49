"""Prices a cart: `GET /price?items=apple:3,pear:1`. A service of the demo; stands alone, on the standard library."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

PRICES = {"apple": 120, "pear": 140, "plum": 90, "melon": 350, "cheese": 1200}
"""Cents apiece."""

DISCOUNTS = ((1000, 5), (5000, 10), (10000, 15))
"""From this subtotal on, in cents, this many percent off; the last that applies counts."""


class BadCartError(Exception):
    """The cart cannot be priced; the message is for whoever sent it."""


def parse_cart(items: str) -> dict[str, int]:
    """`apple:3,pear:1` as quantities by item. Raises BadCartError."""
    cart: dict[str, int] = {}
    for part in items.split(","):
        item, _, count = part.partition(":")
        if item not in PRICES:
            raise BadCartError(f"no such item: {item!r}; there are {', '.join(PRICES)}")
        if not (count.isascii() and count.isdigit() and len(count) < 4 and int(count) > 0):
            raise BadCartError(f"{item}: a quantity is a whole number from 1 to 999, not {count!r}")
        if item in cart:
            raise BadCartError(f"{item} is in the cart twice")
        cart[item] = int(count)
    return cart


def discount_rate(subtotal: int) -> int:
    """Percent off for a cart of `subtotal` cents."""
    rate = 0
    for threshold, percent in DISCOUNTS:
        if subtotal > threshold:
            rate = percent
    return rate


def price(cart: dict[str, int]) -> dict[str, Any]:
    """What the cart costs, line by line and in all."""
    lines = {item: PRICES[item] * quantity for item, quantity in cart.items()}
    subtotal = sum(lines.values())
    rate = discount_rate(subtotal)
    discount = subtotal * rate // 100
    total = subtotal - discount
    return {
        "lines": {item: money(cents) for item, cents in lines.items()},
        "subtotal": money(subtotal),
        "rate": rate,
        "discount": money(discount),
        "total": money(total),
    }


def money(cents: int) -> str:
    """`1250` as `12.50`."""
    return f"{cents // 100}.{cents % 100:02}"


class Handler(BaseHTTPRequestHandler):
    """One connection, kept open between requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/healthz":
            return self.answer(200, {"status": "ok"})
        if url.path != "/price":
            return self.answer(404, {"error": f"no such page: {url.path}; try /price?items=apple:3,pear:1"})
        items = parse_qs(url.query).get("items")
        if not items:
            return self.answer(400, {"error": "items is missing; try /price?items=apple:3,pear:1"})
        try:
            cart = parse_cart(items[0])
        except BadCartError as error:
            return self.answer(400, {"error": str(error)})
        return self.answer(200, price(cart))

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


def stop(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="price carts over HTTP")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with Server(options.listen, Handler) as server:
        print(f"pricing ready on http://{server.server_address[0]!s}:{server.server_address[1]}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
