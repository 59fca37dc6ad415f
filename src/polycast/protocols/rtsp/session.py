"""An RTSP session: reader or publisher of a path, with its log messages and API item."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.items import SessionState
from polycast.net.address import join_host_port
from polycast.protocols.rtsp.context import SessionConnection, SessionContext
from polycast.protocols.rtsp.item import RtspSessionItem
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.recording import Recording
from polycast.protocols.rtsp.stray_bytes import StrayBytes
from polycast.protocols.session_fields import session_fields
from polycast.wire.rtsp.server_session import SESSION_TIMEOUT, STREAMING, ServerSession
from polycast.wire.rtsp.states import State
from polycast.wire.rtsp.transport_choice import Protocol

TRANSPORT_NAMES = {Protocol.UDP: "UDP", Protocol.MULTICAST: "UDP-multicast", Protocol.TCP: "TCP"}

_SHOWN_STATES: dict[State, SessionState] = {State.PLAYING: "read", State.RECORDING: "publish"}


class Session(Publisher):
    """One session. Requests are parsed by the engine, and executed by `RequestHandler`."""

    def __init__(
        self,
        wire: ServerSession,
        session_id: str,
        peer: tuple[str, int],
        context: SessionContext,
        connection_of: Callable[[ServerSession], SessionConnection | None],
        on_ended: Callable[[Session], None],
    ) -> None:
        self.wire = wire
        self.id = session_id
        """Its name in logs and in the API."""
        self.created = datetime.now(UTC)
        self.peer = peer
        """Of the connection that it was created on."""
        self.user = ""
        self.log = context.log.child(f"session {session_id}")
        self.media: Reading | Recording | None = None
        self._context = context
        self._connection_of = connection_of
        self._on_ended = on_ended
        self.counters = Counters()
        self._stray_bytes = StrayBytes(self.log)

    @property
    def query(self) -> str:  # type: ignore[override]
        """The query of the client's URL."""
        return self.wire.query

    @property
    def connection(self) -> SessionConnection | None:
        return self._connection_of(self.wire)

    @property
    def transport_name(self) -> str:
        protocol = self.wire.protocol
        if protocol is None:
            return "no transport"
        name = TRANSPORT_NAMES[protocol]
        if self.wire.is_secure:
            return f"{name}/SRTP"
        return f"{name}/TLS" if self._context.endpoint.is_encrypted else name

    def reference(self) -> Reference:
        return Reference(self._context.session_type, self.id)

    def item(self) -> RtspSessionItem:
        """Return the item for the API."""
        protocol = self.wire.protocol
        profile = "SAVP" if self.wire.is_secure else "AVP"
        return RtspSessionItem(
            address=join_host_port(*self.peer),
            state=_SHOWN_STATES.get(self.wire.state, "idle"),
            path=self.wire.path_name,
            query=self.wire.query,
            user=self.user,
            user_agent=self.wire.user_agent,
            transport=TRANSPORT_NAMES[protocol] if protocol is not None else "",
            profile=profile if protocol is not None else "",
            **session_fields(self.created, self.counters),
        )

    def begin(self, media: Reading | Recording) -> None:
        """A request has claimed a path: from now on the session is in use."""
        if self.media is None:
            self.log.info("created by %s", join_host_port(*self.peer))
        self.media = media

    # Life cycle

    def tick(self, now: float) -> None:
        """Called about once a second: timeouts, reports."""
        media = self.media
        if media is not None and self.wire.state in STREAMING:
            media.tick(now)
        elif now - self.wire.last_request >= SESSION_TIMEOUT:
            self.close("no RTSP requests received in a while")
        connection = self.connection
        if connection is not None:
            self._stray_bytes.update(connection.skipped)

    def close_publisher(self, reason: str) -> None:
        self.close(reason)

    def close(self, reason: str, *, keep_connection: bool = False) -> None:
        """End the session, and also its connection if media was flowing, unless ``keep_connection`` is set.

        Also with UDP: a player has no other way to notice the end of the stream.
        """
        if self.wire.has_ended:
            return
        connection, transport_connection = self.connection, self.wire.connection
        is_connections_own = transport_connection is not None and transport_connection.session is self.wire
        if connection is not None:
            self._stray_bytes.update(connection.skipped)
        was_streaming = self.wire.end() in STREAMING
        if self.media is not None:
            self._leave(self.media.path, reason)
        if self._context.groups is not None:
            self._context.groups.leave(self)
        self._on_ended(self)
        self._stray_bytes.close()
        # An unused session is a request that was refused, which is logged in more detail.
        (self.log.info if self.media is not None else self.log.debug)("destroyed (%s)", reason)
        self.media = None  # it refers to the session
        if connection is not None and is_connections_own and was_streaming and not keep_connection:
            connection.close(reason)

    def _leave(self, path: Path, reason: str) -> None:
        if self.media is not None:
            self.media.stop()
        path.remove_publisher(self, reason)
        self._context.hub.release(path)
