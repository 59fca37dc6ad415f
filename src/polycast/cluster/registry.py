"""The interface of a registry: which node owns which path, which nodes there are, and messages between them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from polycast.cluster.directory import Claim, Directory, Load, NodeInfo
from polycast.errors import PolycastError

__all__ = ["Claim", "ClaimRefused", "Load", "NodeInfo", "NodeUnreachable", "Registry", "RegistryAway", "Watcher"]


class RegistryAway(PolycastError):
    """The registry cannot be reached, or did not answer in time: whether a claim was made is not known."""


class ClaimRefused(PolycastError):
    """Another node owns the path."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(f"path '{claim.path}' is published on node '{claim.node}'")
        self.claim = claim


class NodeUnreachable(PolycastError):
    """A node did not answer a request."""


class Watcher(Protocol):
    """What a registry tells its node. Called on the event loop, after the directory was updated; must not raise."""

    def on_claim(self, path: str, claim: Claim | None) -> None:
        """A path was claimed, or its claim was released; also for the node's own claims."""

    def on_node(self, name: str, info: NodeInfo | None) -> None:
        """A node has come, has changed, or (None) has gone, and its claims with it."""

    def on_connection(self, *, is_connected: bool) -> None:
        """The registry was reached or lost."""

    async def on_request(self, subject: str, body: bytes) -> bytes:
        """Answer a request of another node."""


class Registry(ABC):
    """The registry as one node sees it. Used on one event loop.

    ``directory`` is its copy of all claims and nodes, so that nothing has to be asked when a reader comes.
    """

    directory: Directory

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether the registry can be reached now."""

    @abstractmethod
    async def join(self, info: NodeInfo, watcher: Watcher) -> None:
        """Become a node, and learn of the others; returns at once if the registry is away, and connects later.

        Raises PolycastError for what cannot succeed later either: wrong credentials, an invalid address.
        """

    @abstractmethod
    async def claim(self, path: str, *, moves: bool) -> Claim:
        """Become the owner of a path; a node that owns it already gets its claim.

        ``moves``: take it from its owner, if it has one. Raises ClaimRefused, RegistryAway.
        """

    @abstractmethod
    async def release(self, claim: Claim) -> None:
        """Give up a claim; one that was superseded is ignored. Raises RegistryAway."""

    @abstractmethod
    async def heartbeat(self, info: NodeInfo) -> None:
        """Tell the others that the node lives, and its load. Raises RegistryAway."""

    @abstractmethod
    async def request(self, node: str, subject: str, body: bytes, timeout: float) -> bytes:
        """Ask another node; return its answer. Raises NodeUnreachable, RegistryAway. ``timeout`` in seconds."""

    @abstractmethod
    async def leave(self) -> None:
        """Leave, and give up all claims."""
