"""Five languages in five kinds of containers: debugged from the attach to the detach, and nothing is left of it."""

import sys
from collections.abc import Iterator

import pytest

from tests.drivers.languages import LANGUAGES
from tests.runtimes import matrix
from tests.runtimes.cells import Kind, Seen, Table
from tests.runtimes.matrix import Key
from tests.runtimes.pods import ServiceContainers, ServicePods

pytestmark = pytest.mark.timeout(600)
"""The first test of all also makes the images, and waits until they are unpacked."""
CRI = [("cri", language, kind) for language in LANGUAGES for kind in Kind]
DOCKER = [("docker", language, Kind.PLAIN) for language in LANGUAGES]


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[Key, Seen]]:
    """What was seen by the tests of this module; kept and printed when they are over; the page is to say the same."""
    found: dict[Key, Seen] = {}
    yield found
    matrix.keep(found)
    sys.stdout.write(f"\n{matrix.times(found)}\n")
    if not {*CRI, *DOCKER} - set(found):
        assert matrix.PAGE.read_text() == matrix.page(found), f"see {matrix.BUILD}/matrix.md"


@pytest.mark.parametrize(("runtime_name", "language", "kind"), CRI, ids=str)
def test_cri(
    runtime_name: str, language: str, kind: Kind, service_pods: ServicePods, table: Table, seen: dict[Key, Seen]
) -> None:
    with service_pods.running(language, kind) as service:
        seen[runtime_name, language, kind] = table.play(service)


@pytest.mark.parametrize(("runtime_name", "language", "kind"), DOCKER, ids=str)
def test_docker(
    runtime_name: str,
    language: str,
    kind: Kind,
    service_containers: ServiceContainers,
    docker_table: Table,
    seen: dict[Key, Seen],
) -> None:
    with service_containers.running(language, kind) as service:
        seen[runtime_name, language, kind] = docker_table.play(service)
