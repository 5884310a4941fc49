"""A service that counts what reaches it: `/counts` says how often each path came, everything else is told back."""

import hashlib
import json
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COUNTS: Counter[str] = Counter()
LOCK = threading.Lock()


def told_back(path: str, body: bytes) -> dict[str, Any]:
    count = COUNTS[path]
    return {"path": path, "count": count, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["content-length"])))

    def answer(self, body: bytes) -> None:
        if self.path == "/counts":
            said: dict[str, Any] = dict(COUNTS)
        else:
            with LOCK:
                COUNTS[self.path] += 1
            said = told_back(self.path, body)
        text = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing per request."""


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


if __name__ == "__main__":
    with Server(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"counting ready on http://127.0.0.1:{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
