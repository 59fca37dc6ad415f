"""What a node knows of the others: claims and nodes. Without I/O; ``now`` is monotonic seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

HEARTBEAT_SECONDS: Final = 1.0
"""Between two heartbeats of a node."""

NODE_LIFETIME_SECONDS: Final = 5.0
"""Without a heartbeat after which a node counts as dead: four may be lost or late, as a loop may be busy for seconds
when a node starts."""


SILENCE_SECONDS: Final = 2.5
"""Seconds without a message of any node, including this one, after which the registry itself is considered silent."""


class Load(Struct, frozen=True):
    """What a node has to do."""

    cpu: float = 0.0
    """Share of one core that its event loop uses, 0 to 1."""
    bit_rate: float = 0.0
    """Of everything that its publishers send, in bit/s."""
    readers: int = 0
    publishers: int = 0


class NodeInfo(Struct, frozen=True):
    """A node as the others see it."""

    name: str
    instance: str
    """Random, for each start of the process: claims of an earlier one are void."""
    address: str
    """Where it accepts subscriptions: ``host:port``, or the path of a Unix socket, which begins with a slash."""
    load: Load = Load()
    is_draining: bool = False
    """Whether it takes no new publishers and sources."""
    started: float = 0.0
    """Unix time of the start of the process. Of two with the same name, the one that started later is the node."""

    clients: dict[str, str] = {}
    """Where clients reach its servers, ``scheme://host:port`` by the name of the server; only for redirections."""

    def replaces(self, other: NodeInfo) -> bool:
        """Whether this is a later process under the same name."""
        is_other = self.instance != other.instance
        return is_other and (self.started, self.instance) > (other.started, other.instance)


class Claim(Struct, frozen=True):
    """The right of a node to publish a path."""

    path: str
    node: str
    instance: str
    revision: int
    """Grows with each claim on the path, by whomever; never 0."""


class _Member:
    __slots__ = ("info", "seen")

    def __init__(self, info: NodeInfo, seen: float) -> None:
        self.info = info
        self.seen = seen
        """When its last heartbeat came."""


class Directory:
    """All claims and nodes that a node knows of.

    Claims are kept also while their node is unknown or dead: it may be heard of later.
    """

    def __init__(self, lifetime: float = NODE_LIFETIME_SECONDS) -> None:
        self._lifetime = lifetime
        self._claims: dict[str, Claim] = {}
        self._members: dict[str, _Member] = {}
        self._is_connected = False
        self._heard = -math.inf
        """When the last message of any node arrived, in monotonic seconds."""

    # Claims

    def claim_of(self, path: str) -> Claim | None:
        """Return the last claim on a path, also if its node is dead."""
        return self._claims.get(path)

    def owner_of(self, path: str) -> Claim | None:
        """Return the valid claim on a path: its node lives."""
        claim = self._claims.get(path)
        return claim if claim is not None and self.is_valid(claim) else None

    def is_valid(self, claim: Claim) -> bool:
        """Whether the process that made a claim lives."""
        member = self._members.get(claim.node)
        return member is not None and member.info.instance == claim.instance

    def claims(self) -> Iterator[Claim]:
        """Yield all valid claims."""
        return filter(self.is_valid, tuple(self._claims.values()))

    def on_claim(self, claim: Claim) -> bool:
        """Store a claim; False for one that is older than what is known."""
        known = self._claims.get(claim.path)
        if known is not None and known.revision >= claim.revision:
            return False
        self._claims[claim.path] = claim
        return True

    def on_release(self, path: str, revision: int) -> bool:
        """The claim on a path was released at a revision; False if a later claim is known, or none."""
        known = self._claims.get(path)
        if known is None or known.revision > revision:
            return False
        del self._claims[path]
        return True

    def keep_claims(self, paths: Iterable[str]) -> list[str]:
        """Forget all claims but those on these paths; return the paths that were forgotten."""
        kept = frozenset(paths)
        forgotten = [path for path in self._claims if path not in kept]
        for path in forgotten:
            del self._claims[path]
        return forgotten

    # Nodes

    @property
    def nodes(self) -> dict[str, NodeInfo]:
        """The living nodes, by name."""
        return {name: member.info for name, member in self._members.items()}

    def node(self, name: str) -> NodeInfo | None:
        """Return a living node."""
        member = self._members.get(name)
        return None if member is None else member.info

    def on_node(self, info: NodeInfo, now: float) -> bool:
        """Process a heartbeat; return whether anything is new. One of a process that was replaced is ignored."""
        self._heard = now
        member = self._members.get(info.name)
        if member is None:
            self._members[info.name] = _Member(info, now)
            return True
        if member.info.replaces(info):
            return False
        is_new = member.info != info
        member.info, member.seen = info, now
        return is_new

    def on_node_left(self, name: str, instance: str) -> bool:
        """A node has ended; False if it was not known."""
        member = self._members.get(name)
        if member is None or member.info.instance != instance:
            return False
        del self._members[name]
        return True

    # Time

    def on_connection(self, *, is_connected: bool, now: float) -> None:
        """The registry was reached or lost. Nothing lapses while it is away, nor before nodes could be heard again."""
        self._is_connected = is_connected
        if is_connected:
            for member in self._members.values():
                member.seen = now

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is to be called."""
        if not self._is_connected or not self._members or self._lifetime == math.inf:
            return None
        return min(member.seen for member in self._members.values()) + self._lifetime

    def handle_timeout(self, now: float) -> list[str]:
        """Forget the nodes whose heartbeats stay away; return their names."""
        due = self.next_timeout()
        if due is None:
            return []
        if now - due > HEARTBEAT_SECONDS or now - self._heard > SILENCE_SECONDS:
            # Our own loop stood still, or the machine slept: what has arrived meanwhile was not read yet. Or not even
            # our own heartbeats come back: the registry is slow, and says nothing about the nodes.
            self.on_connection(is_connected=True, now=now)
            return []
        dead = [name for name, member in self._members.items() if member.seen + self._lifetime <= now]
        for name in dead:
            del self._members[name]
        return dead
