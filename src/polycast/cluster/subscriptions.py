"""The connections of other nodes: how many there may be, and their regular checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from polycast.net.connection_slots import SILENT_SECONDS, ConnectionSlots, SlotHolder, connection_limit
from polycast.net.housekeeping import Housekeeping

MAXIMUM_CONNECTIONS: Final = 10_000
"""Subscriptions to this node: more than any cluster has paths on one node."""

MAXIMUM_STRANGERS: Final = 4_096
"""Connections that have not proven yet that they know the token of the cluster; one address may have half of them. A
node that starts subscribes to all paths that its readers want at once, and proves itself within a round trip."""

_STRANGERS_DIVISOR: Final = 4
"""Strangers may have a quarter of the connections that the process may have."""


class Member(SlotHolder, Protocol):
    """The connection of a node."""

    def tick(self, now: float) -> None:
        """Called about once a second."""

    def close(self, reason: str) -> None:
        """Close once everything queued was sent."""

    def abort(self, reason: str) -> None:
        """Close at once."""

    def on_internal_error(self) -> None:
        """Called while an unexpected exception of `tick` is being handled."""


class Subscriptions:
    """The connections of other nodes. Those that have not proven that they belong to the cluster have a limit of their
    own, and a limit per address: they never take places of nodes."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], on_second: Callable[[float], None]
    ) -> None:
        """``clock`` returns monotonic seconds; ``on_second`` is called with them after each round of checks."""
        self.members: set[Member] = set()
        self.strangers: ConnectionSlots[SlotHolder] = ConnectionSlots(
            min(MAXIMUM_STRANGERS, connection_limit() // _STRANGERS_DIVISOR), SILENT_SECONDS
        )
        """The slots of those that have not proven yet that they belong to the cluster."""
        self.housekeeping: Housekeeping[Member] = Housekeeping(
            loop, clock, lambda: self.members, lambda member: member.on_internal_error(), on_second
        )

    def add(self, member: Member) -> None:
        """A node, or a stranger, has connected."""
        self.members.add(member)

    def admit(self, member: Member) -> None:
        """It has proven that it belongs to the cluster."""
        self.strangers.release(member)
        if len(self.members) - len(self.strangers) > MAXIMUM_CONNECTIONS:
            member.abort("too many subscriptions")

    def remove(self, member: Member) -> None:
        """A connection has ended."""
        self.members.discard(member)
