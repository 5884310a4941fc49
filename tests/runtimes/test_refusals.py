"""What cannot be debugged in a container is refused, with the true reason, and goes on as if nobody had asked."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from squash.model import State
from squash.reasons import Reason
from tests.agent import java
from tests.drivers.languages import JDWP, compile_go
from tests.runtimes.cells import Kind, Running, Table
from tests.runtimes.facts import settled
from tests.runtimes.kubelet import Limits
from tests.runtimes.pods import ServicePods
from tests.runtimes.wares import LISTEN

pytestmark = pytest.mark.timeout(600)
MEGABYTE = 1024 * 1024


@contextmanager
def untouched(table: Table, service: Running) -> Iterator[None]:
    before = table.facts(service)
    yield
    left = settled(lambda: table.facts(service), before)
    assert not left, f"afterwards {left}"
    assert service.answers


def refused(table: Table, service: Running) -> tuple[Reason | None, str]:
    with untouched(table, service):
        status = table.attach(service).status
        assert status.state is State.ERROR, status
        return status.reason, status.message or ""


@pytest.mark.parametrize("language", ["python"])
def test_too_little_memory(language: str, service_pods: ServicePods, table: Table) -> None:
    with service_pods.service(language, Kind.PLAIN) as made:
        reason, message = refused(table, made.start(limits=Limits(memory=24 * MEGABYTE)))
    assert reason is Reason.MEMORY_SHORT
    assert re.search(r"\d+ MiB of the container's 24 MiB are free, and this debugger adds about \d+ MiB", message)


@pytest.mark.parametrize("language", ["java"])
def test_a_jvm_without_jdwp(language: str, service_pods: ServicePods, table: Table) -> None:
    with service_pods.service(language, Kind.HARDENED) as made:
        reason, message = refused(table, made.start(environment={}))
    assert reason is Reason.DEBUGGER_UNSUITED
    assert "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n" in message


@pytest.mark.skipif(not java.sleeps(), reason="this Java does not know onjcmd=y")
@pytest.mark.parametrize("language", ["java"])
def test_a_jvm_that_sleeps_and_has_no_room_for_being_woken(
    language: str, service_pods: ServicePods, table: Table
) -> None:
    asleep = {"JAVA_TOOL_OPTIONS": f"{JDWP},onjcmd=y,address=127.0.0.1:0"}
    with service_pods.service(language, Kind.HARDENED) as made:
        reason, message = refused(table, made.start(environment=asleep))
    assert reason is Reason.DEBUGGER_UNSUITED
    assert "its /tmp is read-only" in message


@pytest.mark.parametrize("language", ["go"])
def test_a_stripped_go_program(language: str, service_pods: ServicePods, table: Table, tmp_path: Path) -> None:
    stripped = compile_go(tmp_path / "stripped", "-ldflags=-s -w")
    with service_pods.service(language, Kind.BARE) as made:
        service = made.start(["/stripped", LISTEN], mounts={"/stripped": stripped})
        reason, message = refused(table, service)
    assert reason is Reason.DEBUGGER_UNSUITED
    assert "delve could not open debug info" in message
