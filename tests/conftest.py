"""Fixtures for every test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory whose path is short enough for unix sockets inside."""
    with tempfile.TemporaryDirectory(prefix="sq-") as directory:
        yield Path(directory)
