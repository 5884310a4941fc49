"""A service of one function: GET /scaled?number=N answers {"answer": 2 N, "count": 1},
the latter the time it was asked for N (below 1000). Python 3.8 or newer.

`service.py HOST:PORT [BUSY]`: BUSY threads are at work meanwhile. Says `service ready on http://HOST:PORT`.
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COUNTS = [0] * 1000
LOCK = threading.Lock()


def counted(number: int) -> int:
    with LOCK:
        COUNTS[number % len(COUNTS)] += 1
        return COUNTS[number % len(COUNTS)]


def scaled(number: int) -> int:
    factor = 2
    return number * factor  # the tests break here


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        number = int(parse_qs(urlsplit(self.path).query)["number"][0])
        count = counted(number)
        body = json.dumps({"answer": scaled(number), "count": count}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing: nobody reads it."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def work() -> None:
    total = 0
    while True:
        for number in range(2000):
            total += number % 7
        time.sleep(0.001)


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        threading.Thread(target=work, daemon=True).start()
    server = Server((host, int(port)), Handler)
    sys.stdout.write(f"service ready on http://{host}:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


main()
