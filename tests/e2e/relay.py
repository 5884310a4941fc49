"""A service that calls the next one and passes on some headers: `relay.py NEXT_URL NAME...`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

NEXT, *PASSED_ON = sys.argv[1:]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        headers = {name: self.headers[name] for name in PASSED_ON if name in self.headers}
        body = httpx.get(NEXT + self.path, headers=headers, timeout=60, trust_env=False).content
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing per request."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"relay ready on http://127.0.0.1:{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
