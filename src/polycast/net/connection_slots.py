"""Connection slots: how many connections are accepted, and which one is closed for a new client if there are too
many."""

from __future__ import annotations

import asyncio
import sys
from typing import Final, Generic, Protocol, TypeVar

from polycast.net.loop_local import LoopLocal
from polycast.security.addresses import network_of

MAXIMUM_CONNECTIONS: Final = 16_384
"""Connections of the servers of one process; an idle one takes about 20 kB."""

SILENT_SECONDS: Final = 2.0
"""Seconds after which a connection without a request may be closed for another one: honest clients have sent theirs."""

REFUSAL_SECONDS: Final = 10.0
"""Seconds between two log messages about refused connections."""

ADDRESS_DIVISOR: Final = 2
"""One address may have half of all slots: the other half always remains for other clients."""

_FILES_PART: Final = 0.8
"""Share of the process's file descriptors that connections may use."""


class SlotHolder(Protocol):
    """A connection that has a slot. It is hashed by identity."""

    @property
    def silent_since(self) -> float | None:
        """Monotonic seconds since which it has sent no request; None once it has sent one."""

    def evict(self) -> None:
        """Close: another client needs the slot."""


_Holder = TypeVar("_Holder", bound=SlotHolder)


class ConnectionSlots(Generic[_Holder]):
    """The connections that have a slot, by address, in the order of arrival.

    A connection that is silent for ``patience`` seconds may lose its slot to another one.
    """

    def __init__(self, limit: int, patience: float) -> None:
        self.limit = limit
        self._patience = patience
        self._refused = 0
        self._next_line = 0.0
        self._networks: dict[_Holder, str] = {}
        self._holders: dict[str, dict[_Holder, None]] = {}
        """By network, in the order of arrival."""

    def __len__(self) -> int:
        return len(self._networks)

    def acquire(self, holder: _Holder, host: str) -> None:
        """Give a slot to a connection."""
        network = self._networks[holder] = network_of(host)
        self._holders.setdefault(network, {})[holder] = None

    def release(self, holder: _Holder) -> None:
        """Release a slot; ignored if it has been released already."""
        network = self._networks.pop(holder, None)
        if network is not None:
            holders = self._holders[network]
            del holders[holder]
            if not holders:
                del self._holders[network]

    def count_refused(self, now: float) -> int:
        """Count a refused connection; return how many there were if it is time to log that, otherwise 0."""
        self._refused += 1
        if now < self._next_line:
            return 0
        self._next_line = now + REFUSAL_SECONDS
        count, self._refused = self._refused, 0
        return count

    def is_exceeded(self, host: str) -> bool:
        """Whether there are too many connections in total, or from ``host``."""
        return len(self) > self.limit or len(self._of(host)) > max(1, self.limit // ADDRESS_DIVISOR)

    def oldest_silent(self, host: str, now: float) -> _Holder | None:
        """Return the connection to close after ``host`` has taken a slot too many: the oldest silent one of the
        address with the most connections; None if none is silent."""
        holders = max(self._holders.values(), key=len) if len(self) > self.limit else self._of(host)
        for holder in holders:
            since = holder.silent_since
            if since is not None and now - since >= self._patience:
                return holder
        return None

    def _of(self, host: str) -> dict[_Holder, None]:
        return self._holders.get(network_of(host), {})


def _make_slots(loop: asyncio.AbstractEventLoop) -> ConnectionSlots[SlotHolder]:
    return ConnectionSlots(connection_limit(), SILENT_SECONDS)


_SLOTS: Final = LoopLocal("connection_slots", _make_slots)


def connection_slots_of(loop: asyncio.AbstractEventLoop) -> ConnectionSlots[SlotHolder]:
    """Return the slots of the connections accepted by the servers of a loop."""
    return _SLOTS.get(loop)


def connection_limit() -> int:
    """Return how many connections the servers of this process may have."""
    if sys.platform == "win32":
        return MAXIMUM_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAXIMUM_CONNECTIONS if files < 0 else max(16, min(MAXIMUM_CONNECTIONS, int(files * _FILES_PART)))
