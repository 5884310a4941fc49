"""Keeps this node as the coordinator wants it: one worker an attachment, and what an earlier life left is undone."""

import asyncio

from agent import leavings
from agent.attach import Attachment, Tools
from agent.places import Place
from agent.report import PAUSES, Reporter
from agent.tunnel import Door
from squash.client import changes
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import Changes, DebugAttachment, Phase, State, StatusPatch
from squash.reasons import Reason
from squash.tasks import spawn

WATCH = 30.0
"""Seconds of one long poll: short enough that a connection lost without a word is noticed."""


class Loop:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._log = Log("loop", node=tools.settings.node)
        self._workers: dict[str, tuple[Attachment, asyncio.Task[None]]] = {}
        self._anew: dict[str, DebugAttachment] = {}
        """Made again under the name of one that is still being detached: started after it."""

    async def run(self) -> None:
        """Follows the coordinator until cancelled; then every debugger is out."""
        await self._recover()
        try:
            await self._follow()
        finally:
            await self._stop()

    def door(self, name: str) -> Door | None:
        """Where clients of an attachment's debug server come in; None while there is none."""
        known = self._workers.get(name)
        return known[0].door if known else None

    def let_go_unwatched(self) -> None:
        """The coordinator is out of reach for too long: nobody can come to a debugger that has no client yet."""
        for worker, _ in list(self._workers.values()):
            if worker.door is None or not worker.door.occupied:
                worker.end(Reason.COORDINATOR_UNREACHABLE)

    async def _follow(self) -> None:
        since, tries = "", 0
        while True:
            try:
                news = await self._tools.client.send(changes(since=since, node=self._tools.settings.node, wait=WATCH))
            except (UnreachableError, ApiError) as error:
                if error.reason is Reason.WAIT_TIMEOUT:
                    continue
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
                tries += 1
                self._log.warning("cannot watch the coordinator", error=error.message, reason=error.reason, pause=pause)
                await asyncio.sleep(pause)
                continue
            since, tries = news.revision, 0
            self._apply(news)

    def _apply(self, news: Changes) -> None:
        gone = set(news.deleted)
        if news.reset:
            gone |= self._workers.keys() - {attachment.name for attachment in news.attachments}
        for name in gone & self._workers.keys():
            self._workers[name][0].end(Reason.DELETED)
        for attachment in news.attachments:
            self._look_at(attachment, whole=news.reset)

    def _look_at(self, attachment: DebugAttachment, *, whole: bool) -> None:
        """`whole`: from a list of everything, where what an earlier life of this agent attached is found."""
        name, status = attachment.name, attachment.status
        known = self._workers.get(name)
        if known:
            if status.state is State.ERROR:
                known[0].end(status.reason or Reason.RELEASED, told=True)
            elif attachment.spec.ready_by_hand:
                known[0].say_ready()
            elif status.state is State.NONE:
                self._anew[name] = attachment
        elif status.state is State.NONE:
            self._start(attachment)
        elif whole and status.agent == self._tools.agent and _unfinished(attachment):
            spawn(self._disown(attachment), f"disown {name}")

    def _start(self, wanted: DebugAttachment) -> None:
        worker = Attachment(wanted, self._tools)
        task = spawn(worker.run(), f"attachment {wanted.name}")
        self._workers[wanted.name] = worker, task
        task.add_done_callback(lambda _: self._over(wanted.name))

    def _over(self, name: str) -> None:
        self._workers.pop(name, None)
        if anew := self._anew.pop(name, None):
            self._start(anew)

    async def _disown(self, attachment: DebugAttachment) -> None:
        """Ours by name, but of an earlier life: the debugger is out already (`_recover`)."""
        status = StatusPatch(state=State.ERROR, phase=Phase.DETACHED, reason=Reason.AGENT_RESTARTED)
        await Reporter(self._tools.client, attachment.name, self._log, lambda: None).deliver(status)

    async def _recover(self) -> None:
        # All at once: what was left in a process may hold it until it is out.
        async with asyncio.TaskGroup() as group:
            for place in list(self._tools.places.left_behind()):
                group.create_task(self._recover_one(place), name=f"recover {place.directory.name}")

    async def _recover_one(self, place: Place) -> None:
        debugger = self._tools.debuggers.get(place.debugger)
        if not debugger or not place.directory.is_dir():
            self._tools.places.remove(place)
        elif await leavings.undo(place, debugger, self._tools.places, self._log):
            self._log.info("cleaned up after an earlier life", debugger=debugger.name)

    async def _stop(self) -> None:
        self._anew.clear()
        tasks = [task for _, task in self._workers.values()]
        for worker, _ in list(self._workers.values()):
            worker.end(Reason.AGENT_STOPPED)
        if tasks:
            await asyncio.wait(tasks)


def _unfinished(attachment: DebugAttachment) -> bool:
    status = attachment.status
    return status.state is not State.ERROR and status.phase is not Phase.DETACHED
