"""kill -9 of the agent, or of what it has started, while a debugger sits in a service of a container.

Within 10 s the service runs untraced and answers; and when the agent is back, nothing is left of the session.
"""

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from squash.calls import delete_attachment
from squash.model import State
from tests import drivers
from tests.drivers.languages import NUMBER, USUAL, ask
from tests.eventually import eventually
from tests.runtimes.cells import Kind, Running, Table
from tests.runtimes.facts import helpers, settled
from tests.runtimes.pods import ServicePods

pytestmark = pytest.mark.timeout(600)
PROMISED = 10.0
"""Seconds after a kill -9 in which the service runs untraced and answers."""
CASES = [
    ("python", "agent"),
    ("cpp", "agent"),
    ("cpp", "tracer"),
    ("cpp", "agent.guard"),
    ("go", "agent"),
    ("go", "tracer"),
    ("go", "agent.delve_start"),
    ("node", "agent"),
    ("java", "agent"),
]
"""The tracer is gdbserver, or delve. The other three debuggers are in the process: nobody can kill them alone."""


@pytest.mark.parametrize("moment", ["ready", "stopped"])
@pytest.mark.parametrize(("language", "victim"), CASES)
def test_the_service_runs_on(language: str, victim: str, moment: str, service_pods: ServicePods, shaken: Table) -> None:
    with service_pods.running(language, Kind.PLAIN) as service, ThreadPoolExecutor(1) as asking:
        before = shaken.facts(service)
        attachment = shaken.attach(service)
        assert attachment.status.state is State.ATTACHED, attachment.status
        with (
            shaken.tunnel(attachment) as tunnel,
            drivers.connect(service.ware.language.debugger, tunnel.address) as client,
        ):
            client.begin(service.spot)
            answer: Future[int] | None = None
            if moment == "stopped":
                answer = asking.submit(ask, service.where)
                client.stopped()
            os.kill(_pid(shaken, service, victim), signal.SIGKILL)
            begun = time.monotonic()
            assert answer is None or answer.result(PROMISED) == NUMBER * USUAL
            assert ask(service.where, PROMISED) == NUMBER * USUAL
            left = begun + PROMISED - time.monotonic()
            assert eventually(lambda: shaken.facts(service).tracers, lambda found: found == {0}, left) == {0}
            assert not shaken.facts(service).states
        shaken.agent.process.poll()
        shaken.mend()
        shaken.client.send(delete_attachment(attachment.name))
        remains = settled(lambda: shaken.facts(service), before, 60)
        assert not remains, f"afterwards {remains}"
        assert service.answers


def _pid(table: Table, service: Running, victim: str) -> int:
    if victim == "agent":
        return table.agent.pid
    if victim == "tracer":
        # Not one by name: gdbserver has a helper of the same name in the container's mount namespace.
        return max(table.facts(service).tracers)
    found = [pid for pid, words in helpers(table.world).items() if victim in words]
    assert len(found) == 1, f"{victim} among {helpers(table.world)}"
    return found[0]
