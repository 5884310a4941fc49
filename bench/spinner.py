"""A service that computes: GET answers the seconds of processor time that some rounds of plain Python took."""

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROUNDS = 300_000


def add(first: int, second: int) -> int:
    return first + second


def work(rounds: int) -> int:
    total = 0
    for number in range(rounds):
        total = add(total, number)
    return total


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        begun = time.thread_time()
        work(ROUNDS)
        body = json.dumps({"seconds": time.thread_time() - begun}).encode()  # the bench breaks here
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: nobody reads it."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"spinner ready on http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
