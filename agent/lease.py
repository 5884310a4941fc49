"""The agent's lease: it tells the coordinator that it is there, and lets go when it cannot for too long."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

from squash import __version__
from squash.calls import give_up_agent, renew_agent
from squash.client import AsyncClient
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import Agent
from squash.tasks import spawn

TTL = 12.0
"""Seconds after which the coordinator takes an agent for lost: those that a busy machine may keep it from renewing."""
RENEW = 2.0
NO_LEASES = frozenset({404, 405, 426})
"""Answers of a coordinator that has no such call; any other refusal is of us, and then our lease runs out."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


def describe(name: str, node: str, debuggers: Iterable[str]) -> Agent:
    """What the agent says of itself."""
    return Agent(
        name=name, node=node, version=__version__, debuggers=sorted(debuggers), ttl=TTL, boot=_BOOT.read_text().strip()
    )


class Lease:
    """`let_go` is called again and again while the lease has run out: by then the coordinator has given us up.

    `client` should be the lease's own: renewals are not to stand behind whatever else is sent. `heard` is called with
    each renewal.
    """

    def __init__(
        self, client: AsyncClient, agent: Agent, let_go: Callable[[], None], heard: Callable[[], None]
    ) -> None:
        self._client = client
        self._agent = agent
        self._let_go = let_go
        self._heard = heard
        self._log = Log("lease", agent=agent.name)
        self._until = asyncio.get_running_loop().time() + TTL
        self._lost = False
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Renews until cancelled."""
        try:
            while True:
                # Does not wait for the one before: an answer that comes late, but within the lease, is good too.
                task = spawn(self._renew(), "renewal of the lease")
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                await asyncio.sleep(RENEW)
                self._look()
        finally:
            await self._stop()

    async def give_up(self) -> None:
        """Nobody needs to wait for the lease to run out."""
        try:
            await self._client.send(give_up_agent(self._agent.name))
        except (UnreachableError, ApiError) as error:
            self._log.info("could not say goodbye", error=error.message)

    async def _stop(self) -> None:
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way)

    async def _renew(self) -> None:
        asked = asyncio.get_running_loop().time()
        if await self._renewed():
            self._until = max(self._until, asked + TTL)
            self._heard()
            self._look()

    async def _renewed(self) -> bool:
        try:
            await self._client.send(renew_agent(self._agent), TTL)
        except UnreachableError:
            return False
        except ApiError as error:
            if error.code not in NO_LEASES:
                self._log.warning("the lease is refused", error=error.message, reason=error.reason)
                return False
            self._log.debug("the coordinator knows no leases", error=error.message)
        return True

    def _look(self) -> None:
        lost = asyncio.get_running_loop().time() > self._until
        if lost != self._lost:
            self._lost = lost
            if lost:
                self._log.warning("the coordinator has not renewed our lease in time", seconds=TTL)
            else:
                self._log.info("the coordinator renews our lease again")
        if lost:
            self._let_go()
