"""Questions to a coordinator over its REST API: refusals as they have to be, and long polls."""

import asyncio

import httpx

from squash.tasks import spawn
from tests.coordinator.program import Coordinator


def reason(answer: httpx.Response, code: int) -> str:
    """The reason of a refusal, which always looks the same."""
    assert answer.status_code == code, answer.text
    body = answer.json()
    assert body.keys() == {"code", "reason", "message", "remedy"}
    assert body["code"] == code
    assert body["message"]
    assert body["remedy"]
    assert answer.headers["content-type"] == "application/json"
    return str(body["reason"])


class Poll:
    """A long poll that is under way when `start` returns."""

    def __init__(self, task: asyncio.Task[httpx.Response]) -> None:
        self._task = task

    @classmethod
    async def start(
        cls, on: Coordinator, web: httpx.AsyncClient, path: str, *, seconds: str = "30", **params: str
    ) -> "Poll":
        before = on.waiters()
        asked = web.get(path, params={"wait": "true", **params}, headers={"X-Timeout": seconds})
        task = spawn(asked, "a test's long poll")
        await asyncio.to_thread(on.until, lambda: on.waiters() > before, "the long poll")
        return cls(task)

    async def answer(self) -> httpx.Response:
        return await self._task

    async def hang_up(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
