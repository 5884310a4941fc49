"""Fixtures for every test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# As the Makefile has it: a delve that reads what this machine's Go makes, where the system's own does not.
os.environ["PATH"] = f"{Path(__file__).parent.parent / 'build/delve/bin'}:{os.environ['PATH']}"


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory whose path is short enough for unix sockets inside."""
    with tempfile.TemporaryDirectory(prefix="sq-") as directory:
        yield Path(directory)
