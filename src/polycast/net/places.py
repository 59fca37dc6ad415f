"""Places for connections, and who gives one up when there are none left."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
import weakref
from typing import Final, Generic, Protocol, TypeVar

MAXIMUM_CONNECTIONS: Final = 16_384
"""Connections of the servers of one process; an idle one takes about 20 kB."""

SILENT_SECONDS: Final = 2.0
"""After which a connection without a request may have to make room for another one: honest clients have sent theirs."""

REFUSAL_SECONDS: Final = 10.0
"""Seconds from one line of the log about refused connections to the next."""

ADDRESS_DIVISOR: Final = 2
"""One address may have half of all places: the other half remains for others, whatever it does."""

_FILES_PART: Final = 0.8
"""Part of the files that the process may open which connections may take."""

_NETWORK_LENGTH: Final = 64
"""Bits of an IPv6 address that count: one customer has all addresses of such a network."""


class Occupant(Protocol):
    """A connection that has a place. It can be hashed by identity."""

    @property
    def silent_since(self) -> float | None:
        """Since when it has not shown what it wants (monotonic seconds); None once it has."""

    def give_way(self) -> None:
        """Close: another client needs the place."""


_Occupant = TypeVar("_Occupant", bound=Occupant)


class Places(Generic[_Occupant]):
    """Who has a place, by address, in the order of arrival.

    Who is silent for ``patience`` seconds may lose its place to another one.
    """

    def __init__(self, limit: int, patience: float) -> None:
        self.limit = limit
        self._patience = patience
        self._refused = 0
        self._next_line = 0.0
        self._networks: dict[_Occupant, str] = {}
        self._occupants: dict[str, dict[_Occupant, None]] = {}
        """By network, in the order of arrival."""

    def __len__(self) -> int:
        return len(self._networks)

    def take(self, occupant: _Occupant, host: str) -> None:
        """Give a place."""
        network = self._networks[occupant] = _network_of(host)
        self._occupants.setdefault(network, {})[occupant] = None

    def leave(self, occupant: _Occupant) -> None:
        """Give a place back; one that was given back already is ignored."""
        network = self._networks.pop(occupant, None)
        if network is not None:
            occupants = self._occupants[network]
            del occupants[occupant]
            if not occupants:
                del self._occupants[network]

    def refuse(self, now: float) -> int:
        """Count a connection that got no place; return how many there were, when it is time to tell, else 0."""
        self._refused += 1
        if now < self._next_line:
            return 0
        self._next_line = now + REFUSAL_SECONDS
        count, self._refused = self._refused, 0
        return count

    def is_over(self, host: str) -> bool:
        """Whether there are too many altogether, or of ``host``."""
        return len(self) > self.limit or len(self._of(host)) > max(1, self.limit // ADDRESS_DIVISOR)

    def victim(self, host: str, now: float) -> _Occupant | None:
        """Return who has to go after ``host`` has taken a place too many: the oldest silent one of the address that
        has most; None when nobody there is."""
        occupants = max(self._occupants.values(), key=len) if len(self) > self.limit else self._of(host)
        for occupant in occupants:
            since = occupant.silent_since
            if since is not None and now - since >= self._patience:
                return occupant
        return None

    def _of(self, host: str) -> dict[_Occupant, None]:
        return self._occupants.get(_network_of(host), {})


_by_loop: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Places[Occupant]]] = weakref.WeakKeyDictionary()


def places_of(loop: asyncio.AbstractEventLoop) -> Places[Occupant]:
    """Return the places of the connections that the servers of a loop have accepted."""
    places = _by_loop.get(loop)
    if places is None:
        places = _by_loop[loop] = Places(connection_limit(), SILENT_SECONDS)
    return places


def connection_limit() -> int:
    """Return how many connections the servers of this process may have."""
    if sys.platform == "win32":
        return MAXIMUM_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAXIMUM_CONNECTIONS if files < 0 else max(16, min(MAXIMUM_CONNECTIONS, int(files * _FILES_PART)))


def _network_of(host: str) -> str:
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host, _NETWORK_LENGTH), strict=False))
    except ValueError:
        return host
