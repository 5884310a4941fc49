"""A coordinator that asks who calls, and tokens of every kind for it."""

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from squash.access import Role
from tests.coordinator.program import API, ATTACHMENTS, Coordinator

TOKENS = f"{API}/token"


class Guarded(Coordinator):
    """`http` calls as the admin whose token the coordinator wrote to its file."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.token_file = directory / "coordinator.admin-token"
        super().__init__(directory, "--auth", "token", *flags)
        self.admin = self.token_file.read_text().strip()
        self.http.headers["authorization"] = f"Bearer {self.admin}"
        self._anybody = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def token(self, role: Role, subject: str, **more: Any) -> tuple[str, str]:
        """Makes a token; its text and its id."""
        answer = self.http.post(TOKENS, json={"role": role, "subject": subject, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()["secret"], answer.json()["token"]["id"]

    def tunnel_token(self, attachment: str, token: str, **wish: Any) -> str:
        """A token for the tunnel to this attachment, asked for with another token."""
        answer = self.call("POST", f"{ATTACHMENTS}/{attachment}/token", token, wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"])

    def call(self, method: str, path: str, token: str | None, body: Any = None) -> httpx.Response:
        """A call as somebody else; without any token where it is None."""
        headers: Mapping[str, str] = {"authorization": f"Bearer {token}"} if token is not None else {}
        content = json.dumps(body) if body is not None else None
        return self._anybody.request(method, path, content=content, headers=headers)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self._anybody.close()
        return super().end(number)
