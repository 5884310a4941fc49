"""The shell around the leases: hears agents and whoever watches, and ends what nobody carries on."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from coordinator.decision import Change
from coordinator.leases import Leases, Lost, Watcher
from coordinator.selection import Selection
from squash.errors import ApiError
from squash.logs import Log
from squash.model import Agent
from squash.reasons import Reason

ASLEEP = 2.0
"""Seconds by which an alarm is late when the whole process stood still: then nobody could be heard of."""
RETRY = 5.0
"""Seconds until what could not be kept is tried again."""
_log = Log("leases")


class Presence:
    """`on_lost` ends attachments and takes note of lost agents. Raises ApiError when that cannot be kept."""

    def __init__(self, agent_lease: float, holder_lease: float) -> None:
        self._leases = Leases(agent_lease, holder_lease, self._now())
        self._on_lost: Callable[[list[Lost], list[Agent]], None] = lambda _, __: None
        self._told: dict[str, Agent] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_for: float | None = None

    def start(self, on_lost: Callable[[list[Lost], list[Agent]], None]) -> None:
        self._on_lost = on_lost
        self._set_alarm()

    def stop(self) -> None:
        if self._alarm:
            self._alarm.cancel()

    def renew(self, agent: Agent) -> tuple[Agent, bool]:
        """The agent as it is listed, and whether that is news, until `noted`. Raises ApiError: there are too many."""
        now = time.time()
        before = self._told.get(agent.name)
        try:
            came = self._leases.renew(agent, self._now())
        except ValueError as error:
            raise ApiError(429, Reason.LIMIT_REACHED, str(error)) from error
        if before is None:
            self._forget()
        since = before.since if before and not came else now
        told = self._told[agent.name] = replace(agent, since=since, seen=now, lost=False)
        self._set_alarm()
        return told, came

    def noted(self, name: str) -> None:
        """That an agent came was kept."""
        self._leases.noted(name, True, self._now())
        self._set_alarm()

    def find(self, name: str) -> Agent | None:
        """An agent that is listed."""
        self._forget()
        return self._told.get(name)

    def give_up(self, name: str) -> Agent | None:
        """The agent goes; None when it was not there."""
        gone = self._leases.give_up(name, self._now())
        self._told.pop(name, None)
        self._set_alarm()
        return gone

    def node_of(self, name: str) -> str | None:
        """The node of an agent that was heard of."""
        told = self._told.get(name)
        return told.node if told else None

    def agents(self) -> list[Agent]:
        """By node and name."""
        there = self._forget()
        listed = [replace(told, lost=not there[name]) for name, told in self._told.items()]
        return sorted(listed, key=lambda agent: (agent.node, agent.name))

    def _forget(self) -> dict[str, bool]:
        """Drops those that are listed no more; gives which of the others are there."""
        there = {agent.name: alive for agent, alive in self._leases.agents(self._now())}
        self._told = {name: told for name, told in self._told.items() if name in there}
        return there

    @contextmanager
    def watching(self, chosen: Selection) -> Iterator[None]:
        """For the time of a long poll."""
        watchers: list[Watcher] = [("node", node) for node in chosen.nodes]
        if chosen.holder:
            watchers.append(("holder", chosen.holder))
        for watcher in watchers:
            self._leases.watching(watcher, self._now())
        try:
            yield
        finally:
            for watcher in watchers:
                self._leases.watched(watcher, self._now())

    def track(self, changes: Iterable[Change]) -> None:
        self._leases.track(changes, self._now())
        self._set_alarm()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _judge(self) -> None:
        due, self._alarm, self._alarm_for = self._alarm_for, None, None
        now, pause = self._now(), 0.0
        if due is not None and now > due + ASLEEP:
            _log.warning("this process stood still: everybody gets time to be heard of", seconds=now - due)
            self._leases.forgive(now)
        lost, gone = self._leases.due(now)
        if lost or gone:
            try:
                self._on_lost(lost, gone)
            except ApiError as error:
                _log.warning("cannot keep who is lost, trying again", error=error.message, pause=RETRY)
                pause = RETRY
            else:
                for agent in gone:
                    self._leases.noted(agent.name, False, now)
        self._set_alarm(pause)

    def _set_alarm(self, pause: float = 0.0) -> None:
        """Wakes when somebody is to be judged next, in `pause` seconds at the earliest."""
        due = self._leases.next()
        if due == self._alarm_for and self._alarm:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm = None
        if due is not None:
            due = max(due, self._now() + pause)
            self._alarm = asyncio.get_running_loop().call_at(due, self._judge)
        self._alarm_for = due
