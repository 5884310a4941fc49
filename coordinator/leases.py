"""Who is still there: agents by the leases that they renew, nodes and sidecars by what they watch.

Pure: time is passed in, in seconds of a clock that never goes back. Nothing is judged before it could have been heard
of: for one lease after the start, after an attachment came, and after an agent claimed it.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from coordinator.deadlines import Deadlines
from coordinator.decision import AttachmentChange, Change
from squash.model import Agent, DebugAttachment, Phase, State
from squash.reasons import Reason

Watcher = tuple[Literal["node", "holder", "left"], str]
"""Whose attachments a long poll watches: those of a node, or of the sidecar that holds for them.

`left` is a node that an agent took its leave of.
"""
KEPT = 3_600.0
"""Seconds that a lost agent is still listed."""
MOST = 10_000
"""Agents that are listed at once, lost ones included: the longest lost of them make room."""
_MANY = 1_000


class Lost(NamedTuple):
    """An attachment that nobody carries on, and why."""

    attachment: str
    reason: Reason
    message: str


class _Watch:
    """How many long polls are under way, and when there last was one."""

    def __init__(self, now: float) -> None:
        self.polls = 0
        self.seen = now


@dataclass
class _Lease:
    agent: Agent
    until: float
    known: bool
    """Its coming was taken note of, and its loss was not yet."""


class _Tracked(NamedTuple):
    attachment: DebugAttachment
    since: float
    """When it came, or was claimed."""


class Leases:
    """`agent_lease`: seconds that a node's attachments may be without an agent; `holder_lease`: those of a sidecar."""

    def __init__(self, agent_lease: float, holder_lease: float, now: float) -> None:
        self._agent_lease = agent_lease
        self._holder_lease = holder_lease
        self._start = now
        self._leases: dict[str, _Lease] = {}
        self._watches: dict[Watcher, _Watch] = {}
        self._tracked: dict[str, _Tracked] = {}
        self._checks = Deadlines()

    # -- what is heard ------------------------------------------------------------------------------

    def renew(self, agent: Agent, now: float) -> bool:
        """The agent is there; whether that is news, until `noted`. Raises ValueError when there are too many.

        Who served the node before its machine started anew is not there any more.
        """
        for other in list(self._leases.values()):
            rebooted = agent.boot and other.agent.boot and other.agent.boot != agent.boot
            if rebooted and other.agent.node == agent.node and other.until > now:
                self._end(other, now)
        before = self._leases.get(agent.name)
        if before is None and len(self._leases) >= MOST:
            self._make_room(now)
        known = before is not None and before.known
        until = now + (agent.ttl or self._agent_lease)
        self._leases[agent.name] = _Lease(agent, until, known)
        self._checks.set(("agent", agent.name), until)
        if before and until < before.until:
            self._check_all(now)
        return not known

    def noted(self, name: str, there: bool, now: float) -> None:
        """That the agent came, or is lost, has been taken note of."""
        if lease := self._leases.get(name):
            lease.known = there
            self._checks.set(("agent", name), max(lease.until, now))

    def give_up(self, name: str, now: float) -> Agent | None:
        """The agent says that it goes; None when there was none of that name."""
        lease = self._leases.pop(name, None)
        self._checks.set(("agent", name), None)
        if lease is None:
            return None
        # Another one may follow it at once: its node is seen until now.
        self._seen(("left", lease.agent.node), now)
        self._check_all(now)
        return lease.agent

    def watching(self, watcher: Watcher, now: float) -> None:
        """A long poll begins."""
        self._seen(watcher, now).polls += 1

    def watched(self, watcher: Watcher, now: float) -> None:
        """A long poll is over."""
        self._seen(watcher, now).polls -= 1

    def track(self, changes: Iterable[Change], now: float) -> None:
        """Attachments came, went on, or were finished."""
        for change in changes:
            if isinstance(change, AttachmentChange):
                self._track(change, now)

    def forgive(self, now: float) -> None:
        """Nobody could be heard of for a while: everybody gets one lease's time anew."""
        self._start = now

    # -- who is lost --------------------------------------------------------------------------------

    def next(self) -> float | None:
        """When somebody is to be judged next."""
        return self._checks.next()

    def due(self, now: float) -> tuple[list[Lost], list[Agent]]:
        """Attachments that nobody carries on, and lost agents.

        They come again until `track` is told of the one's end, and `noted` of the other.
        """
        lost: list[Lost] = []
        gone: list[Agent] = []
        for kind, name in list(self._checks.due(now)):
            if kind == "agent":
                gone.extend(self._judge_agent(name, now))
            elif found := self._judge(self._tracked[name], now):
                lost.append(found)
        return lost, gone

    def agents(self, now: float) -> Iterator[tuple[Agent, bool]]:
        """Every agent that is there, or was within the last hour; and whether it is there."""
        for lease in self._leases.values():
            yield lease.agent, lease.until > now

    # -- in detail ----------------------------------------------------------------------------------

    def _judge_agent(self, name: str, now: float) -> Iterator[Agent]:
        lease = self._leases[name]
        until = max(lease.until, self._start + self._agent_lease)
        if until > now:
            self._checks.set(("agent", name), until)
        elif lease.known:
            yield lease.agent
        elif until + KEPT > now:
            self._checks.set(("agent", name), until + KEPT)
        else:
            self._forget(name)

    def _make_room(self, now: float) -> None:
        until, name = min((lease.until, name) for name, lease in self._leases.items())
        if until > now:
            raise ValueError(f"{MOST} agents are there already")
        self._forget(name)

    def _forget(self, name: str) -> None:
        del self._leases[name]
        self._checks.set(("agent", name), None)

    def _judge(self, tracked: _Tracked, now: float) -> Lost | None:
        attachment = tracked.attachment
        holder, agent = self._holder_until(tracked), self._agent_until(tracked)
        if (until := min(holder, agent)) > now:
            # Whoever watches may stop right now: its lease would not run out before this.
            again = min(until, now + min(self._holder_lease, self._agent_lease))
            self._checks.set(("attachment", attachment.name), again)
            return None
        if holder <= now:
            message = f"{attachment.spec.holder} has not been heard of for {self._holder_lease:g} s"
            return Lost(attachment.name, Reason.HOLD_LOST, message)
        return Lost(attachment.name, Reason.AGENT_LOST, self._why(attachment))

    def _why(self, attachment: DebugAttachment) -> str:
        node, agent = attachment.spec.node, attachment.status.agent
        if agent:
            return f"agent {agent} of node {node} has not been heard of for {self._agent_lease:g} s"
        known = any(lease.agent.node == node for lease in self._leases.values())
        ever = "has been heard of for" if known else "was ever heard of, within"
        return f"no agent of node {node} {ever} {self._agent_lease:g} s"

    def _holder_until(self, tracked: _Tracked) -> float:
        spec, status = tracked.attachment.spec, tracked.attachment.status
        if spec.holder is None or status.outcome is not None or status.state.final:
            return math.inf
        floor = max(self._start, tracked.since) + self._holder_lease
        return max(floor, self._watch_until(("holder", spec.holder), self._holder_lease))

    def _agent_until(self, tracked: _Tracked) -> float:
        attachment = tracked.attachment
        floor = max(self._start, tracked.since) + self._agent_lease
        if name := attachment.status.agent:
            lease = self._leases.get(name)
            return max(floor, lease.until) if lease else floor
        return max(floor, self._node_until(attachment.spec.node))

    def _node_until(self, node: str | None) -> float:
        if node is None:
            return math.inf
        untils = [lease.until for lease in self._leases.values() if lease.agent.node == node]
        # Agents of the first generation have no lease; they watch their node all the time. With a lease only that
        # counts: a machine that is lost without a word leaves its long poll open.
        watched = -math.inf if untils else self._watch_until(("node", node), self._agent_lease)
        return max([*untils, watched, self._watch_until(("left", node), self._agent_lease)])

    def _watch_until(self, watcher: Watcher, lease: float) -> float:
        watch = self._watches.get(watcher)
        if watch is None:
            return -math.inf
        return math.inf if watch.polls else watch.seen + lease

    def _seen(self, watcher: Watcher, now: float) -> _Watch:
        if watcher not in self._watches and len(self._watches) >= _MANY:
            self._forget_watches(now)
        watch = self._watches.setdefault(watcher, _Watch(now))
        watch.seen = now
        return watch

    def _forget_watches(self, now: float) -> None:
        longest = max(self._agent_lease, self._holder_lease)
        kept = {who: watch for who, watch in self._watches.items() if watch.polls or watch.seen + longest > now}
        self._watches = kept

    def _end(self, lease: _Lease, now: float) -> None:
        lease.until = now
        self._checks.set(("agent", lease.agent.name), now)
        self._check_all(now)

    def _check_all(self, now: float) -> None:
        for name in self._tracked:
            self._checks.set(("attachment", name), now)

    def _track(self, change: AttachmentChange, now: float) -> None:
        name, before, after = change
        if after is None or not _unfinished(after):
            self._tracked.pop(name, None)
            self._checks.set(("attachment", name), None)
            return
        old = self._tracked.get(name)
        claimed = before is not None and before.status.agent != after.status.agent
        since = now if old is None or claimed else old.since
        self._tracked[name] = _Tracked(after, since)
        if old is None:
            first = min(self._holder_lease, self._agent_lease) if after.spec.holder else self._agent_lease
            self._checks.set(("attachment", name), now + first)


def _unfinished(attachment: DebugAttachment) -> bool:
    """Whether somebody is still to do something about it."""
    return attachment.status.state is not State.ERROR and attachment.status.phase is not Phase.DETACHED
