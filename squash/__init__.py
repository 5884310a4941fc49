"""Squash: debug microservices where they run."""

from importlib.metadata import version

__version__ = version("squash")
