"""Each driver through a whole debugging of its language's service: agent, debug server, breakpoint, changed answer."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.world import World
from squash.calls import create_attachment, delete_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, Phase, State
from squash.reasons import Reason
from tests import drivers
from tests.drivers.languages import CHANGED, LANGUAGES, LOCAL, NUMBER, USUAL, Language, ask, tools
from tests.eventually import eventually


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_changed_variable_changes_the_answer(language: Language, tmp_path: Path) -> None:
    command, spot = language.built(tmp_path)
    with World("sq") as world, ThreadPoolExecutor(1) as asking:
        world.coordinator()
        world.agent(environment=tools())
        service = world.service("shop", "demo/shop", [*command, "127.0.0.1:0", "2"])
        before = language.look(service.pid)
        with world.client() as squash:
            place = {"pod": "shop", "namespace": world.namespace}
            wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, debugger=language.debugger))
            made = squash.send(create_attachment(wanted))
            found = squash.send(get_attachment(made.name, wait=60))
            assert found.status.state is State.ATTACHED, found.status
            with drivers.connect(language.debugger, found.status.debug_server_address or "") as client:
                client.begin(spot)
                asked = asking.submit(ask, service.where)
                assert client.stopped() == f"scaled:{spot.line}"
                assert (client.value("number"), client.value(LOCAL)) == (NUMBER, USUAL)
                client.change(LOCAL, CHANGED)
                client.go_on()
                assert asked.result() == NUMBER * CHANGED
                client.leave()
            squash.send(delete_attachment(made.name))
        assert ask(service.where) == NUMBER * USUAL
        assert eventually(lambda: language.look(service.pid), lambda now: now == before) == before


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_the_end_of_a_process_at_a_breakpoint_is_noticed(language: Language, tmp_path: Path) -> None:
    """Nobody is told of it while its tracer stands still."""
    command, spot = language.built(tmp_path)
    with World("sq") as world, ThreadPoolExecutor(1) as asking:
        world.coordinator()
        world.agent(environment=tools())
        service = world.service("shop", "demo/shop", [*command, "127.0.0.1:0"])
        with world.client() as squash:
            place = {"pod": "shop", "namespace": world.namespace}
            made = squash.send(create_attachment(DebugAttachment(spec=AttachmentSpec(attachment=place))))
            found = squash.send(get_attachment(made.name, wait=60))
            with drivers.connect(language.debugger, found.status.debug_server_address or "") as client:
                client.begin(spot)
                asked = asking.submit(ask, service.where)
                client.stopped()
                service.process.send_signal(signal.SIGKILL)
                assert asked.exception(60) is not None
                over = eventually(
                    lambda: squash.send(get_attachment(made.name)).status,
                    lambda status: status.phase is Phase.DETACHED,
                )
            assert (over.state, over.reason) == (State.ERROR, Reason.PROCESS_GONE)
            assert eventually(lambda: service.process.poll() is not None)
