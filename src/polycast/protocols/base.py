"""The interface of a protocol: its declarations and its servers.

All tables of protocols are derived from the declarations. Neither this module nor the ``__init__`` of a protocol's
folder imports a server or a source, or their dependencies: that happens when one is started.
"""

from __future__ import annotations

import secrets
import typing
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from polycast.config.declarations import DestinationKind, SourceKind
from polycast.config.fields import field_value, restart_keys
from polycast.config.schema import Configuration
from polycast.config.section import Section
from polycast.errors import missing_packages
from polycast.items import ConnectionItem, MetricBlock, SessionItem, ViewerItem

if TYPE_CHECKING:
    import asyncio
    import socket

    from polycast.hub.hub import Hub
    from polycast.log import Log
    from polycast.net.http.transaction import Transaction
    from polycast.protocols.handing_over import HandedOver
    from polycast.protocols.pull import Puller
    from polycast.protocols.push import Pusher
    from polycast.wire.hls.directives import DeliveryDirectives
    from polycast.wire.hls.resource import Refusal, Resource
    from polycast.wire.http.response import Response


def always(_: Configuration) -> bool:
    """Independent of the configuration."""
    return True


class NoFields(typing.TypedDict):
    """Nothing."""


def no_fields(_: object) -> NoFields:
    """Return nothing."""
    return NoFields()


class Listener(Struct, frozen=True, eq=False):
    """An address on which a server listens."""

    key: str
    """Configuration key of the address, ``host:port``."""
    is_datagram: bool = False
    """Whether it is UDP; else TCP."""
    is_used: Callable[[Configuration], bool] = always
    follows: str = ""
    """Key of another listener. If a program sets its port to 0, this port is also 0, unless it is set."""
    worker_step: int = 0
    """Of a port that clients are told: each worker has one of its own, so many after that of the worker before it.
    0: all workers share the port."""

    def address(self, configuration: Configuration) -> str:
        """Return the configured address."""
        return str(field_value(configuration, self.key))


class Certificate(Struct, frozen=True, eq=False):
    """The keys that name the files of a server's certificate."""

    certificate: str
    key: str
    is_used: Callable[[Configuration], bool] = always

    def files(self, configuration: Configuration) -> tuple[str, str]:
        """Return the files of the certificate and of its private key."""
        return str(field_value(configuration, self.certificate)), str(field_value(configuration, self.key))


class Address(Struct, frozen=True, eq=False):
    """The URL of a stream for users: ``scheme://host:port/path``, with the port of the first listener."""

    scheme: Callable[[Configuration], str]
    is_page: bool = False
    """Whether it is a web page that plays the stream; else it is for players."""
    is_shown: bool = True
    """Whether the demo links to it."""

    def url(self, configuration: Configuration, host: str, port: int, path: str) -> str:
        """Return the address of a path."""
        return f"{self.scheme(configuration)}://{host}:{port}/{path}{'/' if self.is_page and path else ''}"


class ServerKind(Struct, frozen=True, eq=False, kw_only=True):
    """A server of a protocol; most have one, or one with TLS and one without."""

    name: str
    """In logs and for users: ``RTSP``."""
    collection: str
    """In the API's URLs: ``rtspsessions``."""
    metric: str
    """Name of the metric family that counts its sessions by state, or has its items by name: ``rtsp_sessions``."""
    is_enabled: Callable[[Configuration], bool]
    load: Callable[[], Callable[[ServerKind, ServerContext, Configuration], Server]]
    """Imports the server's class; called in a thread if other servers are running."""
    listeners: tuple[Listener, ...]
    """The first one is the main one."""
    certificate: Certificate | None = None
    address: Address | None = None
    connections: str = ""
    """In the URLs of API v3, the collection of connections: ``rtspconns``; empty if they are the sessions."""
    viewers: str = ""
    """In the URLs of API v3, the collection of viewers: ``hlssessions``; empty if they are the sessions."""
    blocks: tuple[MetricBlock, ...] = ()
    """Its metrics under the names of MediaMTX, made of its collections in API v3."""
    v3: Callable[[Any], Mapping[str, Any]] = no_fields
    """Returns the fields that an item has in API v3 in addition to those of all sessions, or of all other items. It
    declares the TypedDict that it returns: the API's document is made of it."""
    item: type[Struct] = SessionItem
    """The items in the API; a `SessionItem`, or another type if they are not sessions."""
    can_kick: bool = True
    """Whether its sessions can be closed by their id."""
    packages: Mapping[str, str] = {}
    """Optional packages that it needs: how to install each, by the imported name."""
    switch: str = ""
    """Key that enables it, for a server that some dialects enable by default although it needs optional packages."""
    advice: str = ""
    """Advice if one of them is missing."""
    find_missing: Callable[[Configuration], str] = lambda configuration: ""
    """Returns which packages are missing that only some settings need, as a text for the user; empty for none."""
    preload: Callable[[], None] | None = None
    """Loads data that the server keeps in memory; called in a thread."""

    @property
    def restart_keys(self) -> frozenset[str]:
        """Configuration keys whose change requires a new server, as declared by the keys."""
        return restart_keys(self.name)

    def create(self, context: ServerContext, configuration: Configuration) -> Server:
        """Return a new server, not started yet. Raises OSError with a text for the user."""
        return self.load_for(configuration)(self, context, configuration)

    def load_for(self, configuration: Configuration) -> Callable[[ServerKind, ServerContext, Configuration], Server]:
        """Return what makes a server with this configuration. Raises OSError with a text for the user."""
        try:
            made = self.load()
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in self.packages:
                raise
            raise OSError(missing_packages(self.name, *self.packages.values()) + self.advice) from error
        missing = self.find_missing(configuration)
        if missing:
            raise OSError(missing)
        return made


class Pull(Struct, frozen=True, eq=False):
    """A kind of source that a protocol can pull."""

    kind: SourceKind
    load: Callable[[], type[Puller]]
    """Imports its puller."""
    prepare: Callable[[], None] | None = None
    """Imports later dependencies in advance, which would otherwise block the loop."""
    is_for_library: bool = True
    """Whether ``polycast.read`` accepts its URLs."""


class Destination(Struct, frozen=True):
    """A server to publish to."""

    url: str
    fingerprint: str = ""
    """SHA-256 fingerprint of its certificate; empty: the certificate is verified."""
    bearer_token: str = ""
    """Sent to servers over HTTP instead of user and password."""


class PushKind(Struct, frozen=True, eq=False):
    """A kind of server that a protocol can publish to."""

    kind: DestinationKind
    open: Callable[[Destination], Callable[[Log], Pusher]]
    """Accepts a destination. Raises PolycastError for an invalid URL, MissingDependency."""
    prepare: Callable[[], object]
    """Imports its pusher and what that imports later, which would otherwise block the loop. Raises MissingDependency.
    """


class Protocol(Struct, frozen=True, eq=False, kw_only=True):
    """A protocol: a row of the registry."""

    name: str
    configuration: type[Section] | None = None
    """Its settings."""
    servers: tuple[ServerKind, ...] = ()
    """In the order of starting; stopped in reverse order."""
    pulls: tuple[Pull, ...] = ()
    pushes: tuple[PushKind, ...] = ()
    embedded: Mapping[str, Any] = {}
    """Settings with a different default if a Python program embeds the server."""

    @property
    def sources(self) -> tuple[SourceKind, ...]:
        """The kinds of sources that it can pull."""
        return tuple(pull.kind for pull in self.pulls)

    @property
    def destinations(self) -> tuple[DestinationKind, ...]:
        """The kinds of servers that it can publish to."""
        return tuple(push.kind for push in self.pushes)


class ConnectionObserver(typing.Protocol):
    """Observer of client connections: the commands that run for each of them.

    ``kind`` and ``identifier``: the names of the connection for commands, such as ``rtspConn`` and a UUID."""

    def on_connected(self, connection: object, kind: str, identifier: str, log: Log) -> None: ...
    def on_disconnected(self, connection: object, kind: str, identifier: str, log: Log) -> None: ...


class Workers(typing.Protocol):
    """The worker processes of a server, as one of them sees them."""

    index: int
    """Of this worker, from 0."""
    count: int

    async def take_socket(self, key: str, address: str) -> socket.socket:
        """Return this worker's socket of those that share the UDP port of a listener, by its configuration key and its
        address.

        The system gives a datagram to the worker whose index a number in it leaves as a remainder when it is divided by
        the count of workers. Raises OSError.
        """
        ...

    def owner_of(self, path: str, transaction: Transaction) -> int | None:
        """Return the index of the other worker that is to answer a request for a path; None if it is this one."""
        ...

    async def place(self, path: str) -> int | None:
        """Return the index of the other worker that has the stream of a path, or is to start what provides it; None if
        it is this one, or if there is nothing to start."""
        ...

    async def pass_on(self, index: int, server: str, transaction: Transaction) -> Response:
        """Return the answer of another worker's server, by its name, to a request."""
        ...

    @property
    def secret(self) -> bytes:
        """Random bytes that all workers know."""
        ...

    def streaming(self, path: str) -> int | None:
        """Return the index of the other worker that has the stream of a path; None if it is this one, or unknown."""
        ...

    def home_of(self, path: str) -> int | None:
        """Return the index of the other worker that publishers of a path must be served by, because it has the stream
        also while nobody publishes; None if any worker can."""
        ...

    async def hand_over(self, index: int, server: str, connection: HandedOver, descriptor: int) -> bool:
        """Let another worker's server, by its name, serve a connection; return whether it does.

        ``descriptor`` is that of the socket; the other one has a copy of it.
        """
        ...

    def pass_datagram(self, index: int, server: str, data: bytes, address: tuple[Any, ...]) -> None:
        """Let another worker's server process a datagram, as though it had received it."""
        ...


class RecordedStreams(typing.Protocol):
    """Live playlists that reach back over recordings."""

    async def playlist(
        self, path: str, length: float, shortest: float, directives: DeliveryDirectives
    ) -> Resource | Refusal:
        """Return the playlist of the last ``length`` seconds of a path; segments have at least ``shortest`` seconds."""
        ...

    async def file(self, path: str, name: str) -> Resource | Refusal:
        """Return a file that such a playlist names."""
        ...


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What a server gets from the application."""

    loop: asyncio.AbstractEventLoop
    hub: Hub
    log: Log
    connections: ConnectionObserver | None = None
    """Called for each client that connects over TCP."""
    workers: Workers | None = None
    """None unless the process is one of several workers."""
    recorded: Callable[[], RecordedStreams] | None = None
    """None where nothing is recorded."""


class Server(ABC):
    """A running protocol server. Created by its `ServerKind` in the registry."""

    kind: ServerKind
    """Its declaration."""
    internal_errors: int = 0
    """Internal errors; each closed only one session."""

    @property
    def name(self) -> str:
        """In logs: ``RTSP``."""
        return self.kind.name

    @property
    def collection(self) -> str:
        """In the API's URLs: ``rtspsessions``."""
        return self.kind.collection

    @property
    def metric(self) -> str:
        """Name of its metric family."""
        return self.kind.metric

    @property
    def can_kick(self) -> bool:
        """Whether its sessions can be closed by their id."""
        return self.kind.can_kick

    @property
    def connections_collection(self) -> str:
        """In the URLs of API v3: ``rtspconns``; empty if its connections are its sessions."""
        return self.kind.connections

    @property
    def viewers_collection(self) -> str:
        """In the URLs of API v3: ``hlssessions``; empty if its viewers are its sessions."""
        return self.kind.viewers

    @property
    def metric_blocks(self) -> tuple[MetricBlock, ...]:
        """Its metrics under the names of MediaMTX."""
        return self.kind.blocks

    @property
    def item_fields(self) -> Callable[[Any], Mapping[str, Any]]:
        """Returns the fields of an item in API v3 that others do not have."""
        return self.kind.v3

    @property
    def item(self) -> type[Struct]:
        """The type of `items`."""
        return self.kind.item

    @abstractmethod
    async def start(self) -> None:
        """Open the listeners. Raises OSError with a text for the user."""

    @abstractmethod
    async def stop(self, reason: str) -> None:
        """Close the listeners and all sessions."""

    @abstractmethod
    def items(self) -> Mapping[str, Struct]:
        """Return the current items of the API collection, by id."""

    def sessions(self) -> Mapping[str, SessionItem]:
        """Return the current sessions, by id; none for a server whose items are not sessions."""
        return typing.cast("Mapping[str, SessionItem]", self.items()) if issubclass(self.item, SessionItem) else {}

    def connections(self) -> Mapping[str, ConnectionItem]:
        """Return the current connections by id, if they are not the same as the sessions."""
        return {}

    def viewers(self) -> Mapping[str, ViewerItem]:
        """Return the current viewers by id, if they are not the same as the sessions. They can be kicked."""
        return {}

    @abstractmethod
    def kick(self, session_id: str) -> bool:
        """Close a session; False if there is none with this id."""

    async def take(self, end: socket.socket, handed: HandedOver) -> None:
        """Serve a client of another worker; close its socket if that is not possible."""
        end.close()

    def receive_datagram(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Process a datagram that another worker has received."""

    @abstractmethod
    def apply(self, configuration: Configuration) -> None:
        """Apply changed settings that need no restart."""

    @property
    @abstractmethod
    def ports(self) -> dict[str, int]:
        """The ports it listens on, by configuration key; useful if 0 was configured."""


ID_STEP: typing.Final = 1_000
"""The remainder of an id tells the worker: there are fewer of them."""


def new_session_id(taken: Callable[[str], bool], workers: Workers | None = None) -> str:
    """Return a random nine-digit id for logs and the API, as in rtsp-simple-server.

    With several workers, its last three digits are the index of the worker.
    """
    while True:
        number = 100_000_000 + secrets.randbelow(899_999_999)
        if workers is not None:
            number += workers.index - number % ID_STEP
        session_id = str(number)
        if not taken(session_id):
            return session_id


def new_secret(workers: Workers | None) -> str:
    """Return a random UUID; with several workers, its last byte is the index of the worker."""
    secret = uuid.uuid4()
    return str(secret if workers is None else uuid.UUID(int=secret.int & ~0xFF | workers.index))


def worker_of_secret(secret: str, workers: Workers | None) -> int | None:
    """Return the index of the other worker that made a secret; None if it is this one, or none."""
    if workers is None:
        return None
    index = uuid.UUID(secret).int & 0xFF
    return index if index != workers.index and index < workers.count else None
