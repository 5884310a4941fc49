"""Fixtures: the streets of the end-to-end tests."""

from tests.e2e.conftest import caller, street

__all__ = ["caller", "street"]
