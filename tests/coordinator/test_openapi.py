"""The document tells the truth, and nothing that it allows breaks the coordinator."""

import json
import subprocess
from pathlib import Path

import pytest

from coordinator import openapi
from coordinator.agents import Agents
from coordinator.api import Api
from coordinator.records import Records
from coordinator.token_api import TokenApi
from coordinator.tunnel import Tunnel
from tests.coordinator.guarded import Guarded
from tests.coordinator.program import ATTACHMENTS, BIN, Coordinator, Pods, environment

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
    "response_headers_conformance,unsupported_method"
)
PATIENCE = 280
"""Seconds for one run of schemathesis, which makes some hundreds of calls."""


def test_each_operation_has_its_handler() -> None:
    ids = [operation.id for operation in openapi.OPERATIONS]
    assert len(set(ids)) == len(ids)
    owners = (Api, Records, Agents, TokenApi, Tunnel)
    assert all(sum(callable(getattr(owner, name, None)) for owner in owners) == 1 for name in ids)


def test_document_is_whole(shared: Coordinator) -> None:
    answer = shared.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    text = json.dumps(document)
    for used in set(text.split('"#/components/schemas/')[1:]):
        assert used.split('"')[0] in document["components"]["schemas"]
    assert set(document["paths"]) == {operation.path for operation in openapi.OPERATIONS}
    assert "(?!" not in text
    for calls in document["paths"].values():
        for call in calls.values():
            assert call["summary"]
            assert {"403", "500"} <= call["responses"].keys()
    name = document["components"]["schemas"]["Metadata"]["properties"]["name"]["anyOf"][0]
    assert name["pattern"].endswith("[a-z0-9])?$")
    filters = {parameter["name"] for parameter in document["paths"][ATTACHMENTS]["get"]["parameters"]}
    assert {"node", "holder", "state", "states", "names"} <= filters


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("known", [False, True])
def test_nothing_that_it_allows_is_a_server_error(tmp_path: Path, pods: Pods, known: bool) -> None:
    """schemathesis, once with ids of its own and once with those of objects that exist."""
    config, more = tmp_path / "schemathesis.toml", []
    config.write_text('[parameters]\n"path.id" = "known"\n' if known else "")
    if known:
        more = ["--exclude-method", "DELETE"]
    pods.run("known", "known")
    with Coordinator(tmp_path, "--max-wait", "0.05", "--store", "memory") as coordinator:
        body = {"metadata": {"name": "known"}, "spec": {"image": "known", "debugger": ""}}
        coordinator.http.post("/api/v2/debugrequest", json=body)
        assert coordinator.attach("known", name="known", match=True).status_code == 201
        run = subprocess.run(
            [
                *(BIN / "schemathesis", "--config-file", config, "run", f"{coordinator.url}/openapi.json"),
                *("--generation-deterministic", "--max-examples", "12", "--checks", CHECKS, "--no-color", *more),
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert "Traceback" not in coordinator.log
        assert coordinator.end() == 0


@pytest.mark.timeout(PATIENCE + 20)
def test_no_call_forgets_to_ask_who_it_is(tmp_path: Path) -> None:
    """schemathesis with an admin's token: what the document protects is protected, and does as the document says."""
    with Guarded(tmp_path, "--max-wait", "0.05", "--store", "memory") as coordinator:
        run = subprocess.run(
            [
                *(BIN / "schemathesis", "run", f"{coordinator.url}/openapi.json"),
                *("-H", f"Authorization: Bearer {coordinator.admin}", "--generation-deterministic"),
                *("--max-examples", "4", "--checks", f"ignored_auth,{CHECKS}", "--no-color"),
            ],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        assert "Traceback" not in coordinator.log
        assert coordinator.admin not in coordinator.log
        assert coordinator.end() == 0
