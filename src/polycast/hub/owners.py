"""The interface by which servers ask which paths other nodes of the cluster publish."""

from __future__ import annotations

from typing import Protocol


class Owners(Protocol):
    """The nodes that publish paths."""

    def is_owned_elsewhere(self, path: str) -> bool:
        """Whether another node publishes a path."""

    def redirection(self, path: str, server: str) -> str:
        """Return the address, without a path, of the node that clients of a server are to read a path from instead;
        empty if they are to read here. ``server`` is the name of the protocol's server."""
