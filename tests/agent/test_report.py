"""Reports to a coordinator that misbehaves on purpose: it answers from a script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent.report import Reporter
from squash.client import AsyncClient
from squash.logs import Log
from squash.model import AttachmentSpec, AttachmentStatus, DebugAttachment, Metadata, Refusal, State, StatusPatch
from squash.reasons import Reason
from squash.tasks import spawn

CLAIM = StatusPatch(state=State.ATTACHING, agent="me")
HANG_UP = None


def answer(code: int, body: msgspec.Struct) -> bytes:
    content = msgspec.json.encode(body)
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (code, len(content)) + content


def refused(code: int, reason: Reason) -> bytes:
    return answer(code, Refusal(code=code, reason=reason, message=reason.meaning, remedy=reason.remedy))


def claimed_by(agent: str) -> bytes:
    status = AttachmentStatus(state=State.ATTACHING, agent=agent)
    return answer(200, DebugAttachment(metadata=Metadata(name="da"), spec=AttachmentSpec(attachment={}), status=status))


CONFLICT = refused(409, Reason.ILLEGAL_STEP)


class Script:
    """Answers one request after another; None closes the connection instead."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = list(answers)
        self.seen: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().lower().splitlines()
                length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length")), 0)
                await reader.readexactly(length)
                self.seen.append(head.decode().split()[0])
                reply = self._answers.pop(0)
                if reply is None:
                    break
                writer.write(reply)
        except asyncio.IncompleteReadError:
            pass  # the client is done
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def reporter(script: Script) -> AsyncIterator[tuple[Reporter, list[str]]]:
    gone: list[str] = []
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AsyncClient(url) as client:
        yield Reporter(client, "da", Log("test"), lambda: gone.append("da")), gone
    server.close()


@pytest.mark.parametrize(
    ("script", "stands", "seen"),
    [
        ([claimed_by("me")], True, "PATCH"),
        ([CONFLICT], False, "PATCH"),
        ([refused(404, Reason.NOT_FOUND)], False, "PATCH"),
        ([HANG_UP, claimed_by("me")], True, "PATCH PATCH"),
        ([HANG_UP, CONFLICT, claimed_by("me")], True, "PATCH PATCH GET"),
        ([HANG_UP, CONFLICT, claimed_by("you")], False, "PATCH PATCH GET"),
        ([HANG_UP, CONFLICT, refused(404, Reason.NOT_FOUND)], False, "PATCH PATCH GET"),
        ([refused(503, Reason.STORE_UNAVAILABLE), claimed_by("me")], True, "PATCH PATCH"),
        ([refused(503, Reason.STORE_UNAVAILABLE)] * 9 + [claimed_by("me")], True, "PATCH " * 10),
        ([HANG_UP, CONFLICT, HANG_UP, CONFLICT, claimed_by("me")], True, "PATCH PATCH GET PATCH GET"),
        (
            [HANG_UP, CONFLICT, refused(503, Reason.STORE_UNAVAILABLE), CONFLICT, claimed_by("you")],
            False,
            "PATCH PATCH GET PATCH GET",
        ),
    ],
)
async def test_a_step_is_delivered_once_or_known_to_be_refused(
    script: list[bytes | None], stands: bool, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.report.PAUSES", (0.0,) * 5)
    coordinator = Script(*script)
    async with reporter(coordinator) as (found, _), asyncio.timeout(20):
        assert await found.deliver(CLAIM) is stands
    assert coordinator.seen == seen.split()


async def test_a_malformed_step_is_left_out() -> None:
    coordinator = Script(refused(422, Reason.INVALID), claimed_by("me"))
    async with reporter(coordinator) as (found, gone), asyncio.timeout(20):
        running = spawn(found.run(), "reports")
        for _ in range(2):
            found.report(CLAIM)
        await found.flush()
        assert gone == []
        running.cancel()
        await asyncio.wait({running})
    assert coordinator.seen == ["PATCH", "PATCH"]


async def test_what_cannot_be_sent_is_said_to_who_reports_it() -> None:
    async with reporter(Script()) as (found, _), asyncio.timeout(20):
        with pytest.raises(TypeError):
            found.report(StatusPatch(message=object()))  # type: ignore[arg-type]  # a plug-in's
        await found.flush()


async def test_steps_arrive_in_order_and_the_first_refusal_ends_it() -> None:
    coordinator = Script(claimed_by("me"), claimed_by("me"), CONFLICT)
    async with reporter(coordinator) as (found, gone), asyncio.timeout(20):
        running = spawn(found.run(), "reports")
        for _ in range(3):
            found.report(CLAIM)
        await found.flush()
        assert gone == ["da"]
        running.cancel()
        await asyncio.wait({running})
