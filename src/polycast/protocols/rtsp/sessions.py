"""The sessions of a server, and which connection carries each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from polycast.hub.path import Path
from polycast.protocols.base import new_session_id
from polycast.protocols.rtsp.context import SessionConnection, SessionContext
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.session import Session
from polycast.wire.rtsp.server import ServerConnection
from polycast.wire.rtsp.server_session import ServerSession, TransportConnection


class Sessions:
    """Maps the sessions and connections of the engine to those of the server."""

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._by_id: dict[str, Session] = {}
        self._by_wire: dict[ServerSession, Session] = {}
        self._connections: dict[TransportConnection, SessionConnection] = {}
        self.find: Callable[[ServerSession | None], Session | None] = self._by_wire.get  # type: ignore[assignment]
        """Return the session of the engine's session. On the hot path, so without a function of its own."""

    def __iter__(self) -> Iterator[Session]:
        return iter([*self._by_id.values()])

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, session_id: str) -> Session | None:
        """Return the session with this id of the API."""
        return self._by_id.get(session_id)

    def reading(self, path: Path) -> set[str]:
        """Return the ids of the sessions that read a path, or have set up what they will read."""
        medias = ((session.id, session.media) for session in self._by_id.values())
        return {key for key, media in medias if isinstance(media, Reading) and media.path is path}

    def join(self, wire: ServerSession, peer: tuple[str, int]) -> Session:
        """Return the session of the engine's session; ``peer`` sent the request, if the session is new."""
        session = self._by_wire.get(wire)
        if session is None:
            session_id = new_session_id(self._by_id.__contains__, self._context.workers)
            session = Session(wire, session_id, peer, self._context, self._connection_of, self._on_ended)
            self._by_id[session_id] = session
            self._by_wire[wire] = session
        return session

    def add_connection(self, engine: ServerConnection, connection: SessionConnection) -> None:
        """A client has connected."""
        self._connections[engine] = connection

    def remove_connection(self, engine: ServerConnection, reason: str) -> None:
        """A connection was closed: sessions over UDP outlive it until their timeout, others end with it."""
        for wire in engine.abandon():
            session = self._by_wire.get(wire)
            if session is not None:
                session.close(reason)
        self._connections.pop(engine, None)

    def _connection_of(self, wire: ServerSession) -> SessionConnection | None:
        return self._connections.get(wire.connection) if wire.connection is not None else None

    def _on_ended(self, session: Session) -> None:
        self._by_id.pop(session.id, None)
        self._by_wire.pop(session.wire, None)
