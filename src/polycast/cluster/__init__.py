"""Nodes that find each other: the worker processes of one machine, and servers on several machines.

Who owns what
    A path has one owner: the node to which its publisher is connected, or which runs its source. The owner holds a
    `Claim` on the path, with a *revision* that only grows: a later claim on the same path always has a higher one.
    A claim is valid as long as the process that made it lives, which its heartbeats prove (`Directory`): when they stay
    away for `NODE_LIFETIME_SECONDS`, or the registry reports that the node has left, all its claims lapse at once.

What readers accept
    A node that has readers for a path of another node opens one subscription to the owner. It accepts an owner only if
    the revision of its claim is at least the highest one that it has accepted for this path: a former owner that does
    not know yet that its claim was moved is never read again by those who know. Two nodes never have claims of the same
    revision.

How a publisher moves a claim
    A client that publishes on another node claims the path there. If ``overridePublisher`` is off, the claim is
    refused, and so is the client. Otherwise the claim moves: the former owner learns that its claim was superseded and
    closes its publisher, and the subscribers continue with the new owner.

When the registry is away
    All of this is soft state. A node without its registry keeps its publishers, its readers and its subscriptions; it
    forgets no node and lets no claim lapse, since it cannot tell who lives. New publishers are accepted. When the
    registry is back, every node claims again what it has. If two nodes have a publisher for one path by then, the one
    that claims first keeps it, and the other one closes its publisher.

The registry is behind an interface (`Registry`). `KeyValueRegistry` implements it on a store with compare-and-set, a
watch and messages (`Store`).
"""

from polycast.cluster.directory import HEARTBEAT_SECONDS, NODE_LIFETIME_SECONDS, Directory
from polycast.cluster.key_value import Conflict, KeyValueRegistry, Store, StoreListener
from polycast.cluster.ownership import Ownership
from polycast.cluster.registry import (
    Claim,
    ClaimRefused,
    Load,
    NodeInfo,
    NodeUnreachable,
    Registry,
    RegistryAway,
    Watcher,
)

__all__ = [
    "HEARTBEAT_SECONDS",
    "NODE_LIFETIME_SECONDS",
    "Claim",
    "ClaimRefused",
    "Conflict",
    "Directory",
    "KeyValueRegistry",
    "Load",
    "NodeInfo",
    "NodeUnreachable",
    "Ownership",
    "Registry",
    "RegistryAway",
    "Store",
    "StoreListener",
    "Watcher",
]
