"""Polycast: a live media server and proxy, and a library."""

from polycast._version import __version__

__all__ = ["__version__"]
