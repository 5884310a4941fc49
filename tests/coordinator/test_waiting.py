"""Who is woken, by what, and that nobody misses anything."""

import asyncio
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.board import Board, Policy
from coordinator.decision import AttachmentChange, RequestChange
from coordinator.selection import Selection
from coordinator.waiting import ANY, Key, Waiting
from coordinator.watch import everything, news
from squash.model import AttachmentSpec, Changes, DebugAttachment, Metadata, State
from squash.tasks import spawn


def change(name: str = "one", node: str = "n", holder: str = "h") -> AttachmentChange:
    spec = AttachmentSpec(attachment={}, node=node, holder=holder)
    return AttachmentChange(name, None, DebugAttachment(metadata=Metadata(name=name), spec=spec))


class Looks:
    """Someone who waits: counts the looks, and finds something when told to."""

    def __init__(self, waiting: Waiting, keys: Iterable[Key], seconds: float = 60.0) -> None:
        self.counts: list[int] = []
        self.finds = False
        self.hung_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = spawn(waiting.wait(keys, self.look, seconds, self.hung_up), "waiter")

    def look(self, count: int) -> str | None:
        self.counts.append(count)
        return "found" if self.finds else None


async def settle() -> None:
    """Lets everything that is ready run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_only_those_are_woken_who_wait_for_it() -> None:
    waiting = Waiting()
    others = [Looks(waiting, [("node", f"other{number}")]) for number in range(1_000)]
    mine = [Looks(waiting, [key]) for key in (ANY, ("node", "n"), ("holder", "h"), ("attachment", "one"))]
    await settle()
    assert len(waiting) == 1_004
    waiting.notify([change()])
    await settle()
    assert all(len(one.counts) == 1 for one in others)
    assert all(len(one.counts) == 2 for one in mine)
    waiting.close()
    assert await asyncio.gather(*(one.task for one in others + mine)) == [None] * 1_004
    assert len(waiting) == 0
    assert not waiting._waiters


async def test_requests_have_keys_of_their_own() -> None:
    waiting = Waiting()
    request, attachment = Looks(waiting, [("request", "one")]), Looks(waiting, [("attachment", "one")])
    await settle()
    waiting.notify([RequestChange("one", None, None)])
    await settle()
    assert (len(request.counts), len(attachment.counts)) == (2, 1)
    waiting.close()
    await asyncio.gather(request.task, attachment.task)


async def test_look_is_told_where_the_news_begin() -> None:
    waiting = Waiting()
    waiting.notify([change("other", node="m")])
    one = Looks(waiting, [("node", "n")])
    await settle()
    waiting.notify([change("other", node="m"), change("one"), change("other", node="m")])
    await settle()
    assert one.counts == [1, 2]
    assert [entry.name for entry in waiting.since(2)] == ["other", "one"]
    one.finds = True
    waiting.notify([change()])
    assert await one.task == "found"


async def test_time_runs_out() -> None:
    assert await Looks(Waiting(), [ANY], seconds=0.0).task is None


async def test_last_look_comes_after_the_time_ran_out() -> None:
    waiting = Waiting()
    one = Looks(waiting, [ANY], seconds=0.0)
    await asyncio.sleep(0)
    one.finds = True
    assert await one.task == "found"


async def test_client_that_hangs_up_ends_the_wait() -> None:
    waiting = Waiting()
    one = Looks(waiting, [ANY])
    await settle()
    one.hung_up.set_result(None)
    assert await one.task is None
    assert not waiting._waiters


async def test_after_the_end_nobody_waits() -> None:
    waiting = Waiting()
    waiting.close()
    assert await Looks(waiting, [ANY]).task is None


def test_revisions_of_another_life_or_too_old_or_of_nobody_are_unknown() -> None:
    waiting = Waiting(log_length=3)
    first = waiting.revision
    assert waiting.count_of(first) == 0
    waiting.notify(change() for _ in range(3))
    assert waiting.count_of(first) == 0
    waiting.notify([change()])
    assert waiting.count_of(first) is None
    assert waiting.count_of(waiting.revision) == 4
    epoch = first.split(".")[0]
    for odd in ("", "x", epoch, f"{epoch}.", f"{epoch}.5", f"{epoch}.-1", f"{epoch}.٣", f"{epoch}." + "9" * 5_000):
        assert waiting.count_of(odd) is None
    assert Waiting().count_of(waiting.revision) is None


class Follower:
    """What a client of GET /changes knows."""

    def __init__(self, chosen: Selection) -> None:
        self.chosen = chosen
        self.revision = ""
        self.known: dict[str, DebugAttachment] = {}

    def learn(self, answer: Changes) -> None:
        if answer.reset:
            self.known.clear()
        for name in answer.deleted:
            self.known.pop(name, None)
        self.known |= {attachment.name: attachment for attachment in answer.attachments}
        self.revision = answer.revision


class World:
    """A board that tells its changes."""

    def __init__(self, log_length: int) -> None:
        self.board = Board(Policy(100, 100), str)
        self.waiting = Waiting(log_length)

    def step(self, name: str, node: str) -> None:
        """Makes, moves on and at last deletes an attachment."""
        old = self.board.attachments.get(name)
        if old is None:
            spec = AttachmentSpec(attachment={}, node=node, holder=f"h{node}")
            wanted = DebugAttachment(metadata=Metadata(name=name), spec=spec)
            changes = self.board.create_attachment(wanted, 0).changes
        elif old.status.state is State.ERROR:
            changes = self.board.delete_attachment(name).changes
        else:
            changes = self.board.release_attachment(name, 0).changes
        self.board.apply(changes)
        self.waiting.notify(changes)

    def ask(self, follower: Follower) -> Changes | None:
        count = self.waiting.count_of(follower.revision)
        if count is None:
            return everything(self.board, self.waiting, follower.chosen)
        return news(self.board, self.waiting, follower.chosen, count)


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["1", "2"]), st.booleans()), max_size=40)
CHOSEN = st.sampled_from([Selection(), Selection(nodes=frozenset("1")), Selection(holder="h2")])


@given(STEPS, CHOSEN, st.integers(1, 10))
def test_follower_knows_what_is(steps: list[tuple[str, str, bool]], chosen: Selection, log_length: int) -> None:
    world, follower = World(log_length), Follower(chosen)
    for name, node, asks in [*steps, ("a", "1", True)]:
        world.step(name, node)
        if asks and (answer := world.ask(follower)):
            follower.learn(answer)
    assert list(follower.known) == [] or follower.revision
    assert follower.known == {one.name: one for one in chosen.of(world.board)}


@settings(deadline=None, max_examples=50)
@given(STEPS, st.integers(1, 10))
def test_every_waiter_is_woken(steps: list[tuple[str, str, bool]], log_length: int) -> None:
    """Followers that wait while things happen know everything at the end, however the two interleave."""

    async def follow(world: World, follower: Follower) -> None:
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        while not world.waiting.closed:
            answer = world.ask(follower)
            if answer is None:
                answer = await world.waiting.wait(
                    follower.chosen.keys,
                    lambda count: news(world.board, world.waiting, follower.chosen, count),
                    60,
                    gone,
                )
            if answer:
                follower.learn(answer)

    async def play() -> None:
        world = World(log_length)
        followers = [
            Follower(Selection(**chosen))
            for chosen in ({}, {"nodes": frozenset("1")}, {"nodes": frozenset("12")}, {"holder": "h2"})
        ]
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                group.create_task(follow(world, follower), name="follower")
            for name, node, pauses in steps:
                world.step(name, node)
                if pauses:
                    await asyncio.sleep(0)
            await settle()
            for follower in followers:
                assert follower.known == {one.name: one for one in follower.chosen.of(world.board)}
            world.waiting.close()

    asyncio.run(play())
