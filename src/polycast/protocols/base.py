"""What every protocol server is to the rest: something that starts, stops, takes new settings and has sessions."""

from __future__ import annotations

import asyncio
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from msgspec import Struct

from polycast.config.fields import restart_keys
from polycast.config.schema import Configuration
from polycast.hub.hub import Hub
from polycast.items import SessionItem
from polycast.log import Log


class ConnectionObserver(Protocol):
    """Whoever wants to know of clients that connect: the command that runs for each of them."""

    def on_connected(self, connection: object, log: Log) -> None: ...
    def on_disconnected(self, connection: object) -> None: ...


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a server gets from the application."""

    loop: asyncio.AbstractEventLoop
    hub: Hub
    log: Log
    connections: ConnectionObserver | None = None
    """Told of each client that connects over TCP."""


class Server(ABC):
    """A running protocol server. Made by the `ServerKind` that the registry lists."""

    name: ClassVar[str]
    """In logs: ``RTSP``."""
    collection: ClassVar[str]
    """In the API's URLs: ``rtspsessions``."""
    metric: ClassVar[str]
    """Name of the metric family that counts its sessions by state, or has its items by name: ``rtsp_sessions``."""
    can_kick: ClassVar[bool] = True
    """Whether its sessions can be closed by their id."""
    item: ClassVar[type[Struct]] = SessionItem
    """What `items` gives; a `SessionItem`, or something else if they are no sessions."""
    internal_errors: int = 0
    """Exceptions that should not have happened; each closed one session only."""

    @abstractmethod
    async def start(self) -> None:
        """Open the listeners. Raises OSError with a text for the user."""

    @abstractmethod
    async def stop(self, reason: str) -> None:
        """Close the listeners and all sessions."""

    @abstractmethod
    def items(self) -> Mapping[str, Struct]:
        """Return what the API lists in the collection as it is now, by id."""

    def sessions(self) -> dict[str, SessionItem]:
        """Return all sessions as they are now, by id; none for a server whose items are no sessions."""
        return {key: item for key, item in self.items().items() if isinstance(item, SessionItem)}

    @abstractmethod
    def kick(self, session_id: str) -> bool:
        """Close a session; False when there is none with this id."""

    @abstractmethod
    def apply(self, configuration: Configuration) -> None:
        """Take changed settings that need no restart."""

    @property
    @abstractmethod
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by configuration key; useful where 0 was configured."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    """A row of the registry: when a server runs, how it is made, and which keys touch it."""

    name: str
    is_enabled: Callable[[Configuration], bool]
    create: Callable[[ServerContext, Configuration], Server]
    module: str = ""
    """What `create` imports; imported beside the loop when a server is started while others run."""

    @property
    def restart_keys(self) -> frozenset[str]:
        """Configuration keys whose change needs a new server, as they themselves say."""
        return restart_keys(self.name)


def new_session_id(taken: Callable[[str], bool]) -> str:
    """Return a random nine-digit id for logs and the API, as rtsp-simple-server gives them."""
    while True:
        session_id = str(100_000_000 + secrets.randbelow(899_999_999))
        if not taken(session_id):
            return session_id
