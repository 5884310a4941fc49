"""Containers that end or start again while a debugger is on its way into them, or sits in them."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from squash.calls import delete_attachment, get_attachment
from squash.model import AttachmentStatus, Phase, State
from squash.reasons import Reason
from tests import drivers
from tests.drivers.languages import LANGUAGES, ask
from tests.eventually import eventually
from tests.runtimes.cells import Kind, Table
from tests.runtimes.facts import helpers
from tests.runtimes.pods import ServicePods

pytestmark = pytest.mark.timeout(600)
ROUNDS = 6
LATEST = 0.4
"""Seconds from the wish for a debugger to the end of the container: longer than an attach takes as a rule."""


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_pod_is_deleted_under_the_debugger(language: str, service_pods: ServicePods, shaken: Table) -> None:
    with service_pods.service(language, Kind.PLAIN) as made, ThreadPoolExecutor(1) as asking:
        service = made.start()
        attachment = shaken.attach(service)
        with (
            shaken.tunnel(attachment) as tunnel,
            drivers.connect(service.ware.language.debugger, tunnel.address) as client,
        ):
            client.begin(service.spot)
            asked = asking.submit(ask, service.where)
            client.stopped()
            made.pod.remove()
            assert asked.exception(60) is not None
            over = _over(shaken, attachment.name)
        assert (over.state, over.reason) == (State.ERROR, Reason.PROCESS_GONE)
        _nothing_is_left(shaken)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_container_starts_again_while_it_is_attached_to(
    language: str, service_pods: ServicePods, shaken: Table
) -> None:
    """At a random moment of the attach: it ends with a reason that says so, or it is the new one that has it."""
    chance = random.Random(language)  # noqa: S311 - no secret
    with service_pods.service(language, Kind.PLAIN) as made, ThreadPoolExecutor(1) as attaching:
        service = made.start()
        for _ in range(ROUNDS):
            attached = attaching.submit(shaken.attach, service)
            # The random moment is what is tested.
            time.sleep(chance.uniform(0, LATEST))
            os.kill(service.pid, signal.SIGKILL)
            fresh = made.start()
            name = attached.result().name
            status = _settled(shaken, name, fresh.pid)
            if status.pid == fresh.pid and status.state is State.ATTACHED:
                shaken.client.send(delete_attachment(name))
            else:
                assert status.reason in (Reason.PROCESS_GONE, Reason.PROCESS_NOT_FOUND), status
            _nothing_is_left(shaken)
            facts = shaken.facts(fresh)
            assert (facts.tracers, facts.states) == (frozenset({0}), frozenset())
            assert not [name for name in facts.tree if "squash" in name]
            assert fresh.answers
            service = fresh


def _settled(table: Table, name: str, fresh: int) -> AttachmentStatus:
    """Its status once it is over, or once it is in the new container."""

    def good(status: AttachmentStatus) -> bool:
        return status.phase is Phase.DETACHED or (status.pid == fresh and status.state is State.ATTACHED)

    return eventually(lambda: table.client.send(get_attachment(name)).status, good)


def _over(table: Table, name: str) -> AttachmentStatus:
    return _settled(table, name, -1)


def _nothing_is_left(table: Table) -> None:
    assert eventually(lambda: helpers(table.world), lambda found: not found) == {}
    place = table.world.directory / "agent/target"
    assert eventually(lambda: list(place.iterdir()), lambda found: not found) == []
