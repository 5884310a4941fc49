"""The sidecar's process, and a coordinator that fails it: unreadable, late, lost or gone."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from squash.model import DebugAttachment, Outcome, State
from squash.reasons import Reason
from squash.result import Result
from squash.tasks import spawn
from tests.envoy_filter.calling import Caller, calling, hang
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(401, Reason.TOKEN_EXPIRED), Result(Outcome.ERROR, None, 0, Reason.TOKEN_EXPIRED)),
        (refusal(403, Reason.NOT_YOURS), Result(Outcome.ERROR, None, 0, Reason.NOT_YOURS)),
        (refusal(429, Reason.LIMIT_REACHED), Result(Outcome.OVERLOADED, None, 0, Reason.LIMIT_REACHED)),
        (refusal(404, Reason.NO_PENDING_REQUEST), Result(Outcome.NO_MATCH, reason=Reason.NO_PENDING_REQUEST)),
        (refusal(404, Reason.CONTAINER_NOT_FOUND), Result(Outcome.ERROR, reason=Reason.CONTAINER_NOT_FOUND)),
        (refusal(409, Reason.NAME_TAKEN), Result(Outcome.ERROR, reason=Reason.NAME_TAKEN)),
        (refusal(503, Reason.STORE_UNAVAILABLE), Result(Outcome.UNAVAILABLE, reason=Reason.STORE_UNAVAILABLE)),
        (Reply(500, b"oops"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b"not JSON"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b"\xff\xfe"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b""), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b'{"spec": {"attachment": {}}}'), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(301, b"", (("location", "/"),)), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
async def test_creation_answered_by_anything_else(
    caller: Caller, double: CoordinatorDouble, answer: Reply, expected: Result
) -> None:
    async def create(request: Request) -> Reply:
        return answer

    double.instead["create"] = create
    result = await caller.hold()
    assert (result.outcome, result.id, result.reason) == (expected.outcome, None, expected.reason)
    assert double.calls.count("create") == 1


async def test_creation_answered_200_instead_of_201(caller: Caller, double: CoordinatorDouble) -> None:
    async def create(request: Request) -> Reply:
        return Reply(200, (await double.create(request)).body)

    double.instead["create"] = create
    assert (await caller.hold()).reason is Reason.COORDINATOR_REFUSED


@pytest.mark.parametrize(
    "rest", [None, b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{", b"220 smtp ready\r\n\r\n"]
)
async def test_lost_answer_to_a_creation_that_landed(
    caller: Caller, double: CoordinatorDouble, rest: bytes | None
) -> None:
    async def create(request: Request) -> bytes | None:
        await double.create(request)
        del double.instead["create"]
        return rest

    double.instead["create"] = create
    holding = spawn(caller.hold(), "hold")
    await double.until(lambda: double.calls.count("get") == 1)
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    assert (await holding).outcome is Outcome.ATTACHED


async def test_creation_that_landed_under_another_holder(caller: Caller, double: CoordinatorDouble) -> None:
    async def create(request: Request) -> None:
        name = msgspec.json.decode(request.body, type=DebugAttachment).metadata.name
        await double.create(Request(body=msgspec.json.encode({"metadata": {"name": name}, "spec": {"attachment": {}}})))
        del double.instead["create"]

    double.instead["create"] = create
    assert (await caller.hold()).outcome is Outcome.ERROR


async def test_creation_that_hangs_and_lands_late_is_cancelled(tmp_path: Path, double: CoordinatorDouble) -> None:
    go = asyncio.Event()

    async def create(request: Request) -> Reply:
        await go.wait()
        return await double.create(request)

    double.instead["create"] = create
    async with calling(tmp_path, double, "--request-timeout", "0.2") as caller:
        result = await caller.hold()
        assert result.outcome is Outcome.UNAVAILABLE
        assert result.reason is Reason.COORDINATOR_UNREACHABLE
        go.set()
        [name] = await double.created()
        await double.until(lambda: double.attachments[name].status.state is State.ERROR)
    assert double.attachments[name].status.outcome is Outcome.UNAVAILABLE


async def test_nobody_listens_at_the_coordinator(tmp_path: Path, double: CoordinatorDouble) -> None:
    await double.stop()
    async with calling(tmp_path, double, "--request-timeout", "0.2") as caller:
        assert (await caller.hold()).reason is Reason.COORDINATOR_UNREACHABLE
        assert (await caller.get("/readyz")).status_code == 200


async def test_coordinator_comes_within_the_request_timeout(tmp_path: Path, double: CoordinatorDouble) -> None:
    await double.stop()
    async with calling(tmp_path, double, "--request-timeout", "30") as caller:
        placing = spawn(caller.place(), "place")
        await asyncio.wait([placing], timeout=0.1)
        await double.start()
        assert (await placing).status_code == 202


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Reply(500, b"oops"),
        Reply(200, b"not JSON"),
        Reply(200, b"[]"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=str,
)
async def test_unreadable_polls_are_tried_again(
    caller: Caller, double: CoordinatorDouble, answer: Reply | bytes | None
) -> None:
    async def changes(request: Request) -> Reply | bytes | None:
        return answer

    double.instead["changes"] = changes
    holding = spawn(caller.hold(), "hold")
    [name] = await double.created()
    await double.until(lambda: double.calls.count("changes") >= 4)
    await double.change(name, State.ATTACHED)
    del double.instead["changes"]
    assert (await holding).outcome is Outcome.ATTACHED


async def test_hold_survives_the_coordinators_restart(caller: Caller, double: CoordinatorDouble) -> None:
    holding = [spawn(caller.hold(), "hold") for _ in range(3)]
    kept, attached, deleted = await double.created(3)
    await double.until(lambda: double.calls.count("changes") >= 2)
    await double.stop()
    double.forget_revisions()
    del double.attachments[deleted]
    await double.change(attached, State.ATTACHED)
    await double.start()
    done, _ = await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
    await double.change(kept, State.ATTACHED)
    results = {result.id: result for result in await asyncio.gather(*holding)}
    assert done
    assert results[attached].outcome is results[kept].outcome is Outcome.ATTACHED
    assert (results[deleted].outcome, results[deleted].reason) == (Outcome.RELEASED, Reason.DELETED)


async def test_report_outlives_an_outage(caller: Caller, double: CoordinatorDouble) -> None:
    double.instead["patch"] = hang
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: "patch" in double.calls)
    await double.stop()
    del double.instead["patch"]
    await double.start()
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE


@pytest.mark.parametrize("code", [500, 503])
async def test_report_that_the_coordinator_cannot_keep_is_sent_again(
    caller: Caller, double: CoordinatorDouble, code: int
) -> None:
    async def patch(request: Request) -> Reply:
        if double.calls.count("patch") == 3:
            del double.instead["patch"]
        return refusal(code, Reason.STORE_UNAVAILABLE)

    double.instead["patch"] = patch
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE


async def test_cancel_of_what_is_in_error_already_still_tells_the_outcome(
    caller: Caller, double: CoordinatorDouble
) -> None:
    async def create(request: Request) -> Reply:
        answer = await double.create(request)
        await double.change(next(iter(double.attachments)), State.ERROR, Reason.ATTACH_FAILED)
        return answer

    double.instead |= {"create": create, "changes": hang}
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: len(double.patched(name)) == 2)
    status = double.attachments[name].status
    assert (status.reason, status.outcome) == (Reason.ATTACH_FAILED, Outcome.CALLER_GONE)
