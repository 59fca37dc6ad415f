"""A session of an RTSP server at the protocol level, and the state that all connections of a server share.

Sessions are not part of a connection (RFC 2326 section 1.1): those with media over UDP outlive the one that they
were created on, and are controlled over others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp import transport_choice
from polycast.wire.rtsp.authentication import ALL_METHODS, AuthenticationMethod
from polycast.wire.rtsp.headers.key_mgmt import read_attribute, read_key_mgmt
from polycast.wire.rtsp.headers.transport import Pair, Transport
from polycast.wire.rtsp.message import Method
from polycast.wire.rtsp.states import State, next_state
from polycast.wire.rtsp.transport_choice import ChosenTransport, choose_transport
from polycast.wire.rtsp.url import RtspUrl
from polycast.wire.sdp import SessionDescription

SESSION_TIMEOUT: Final = 60
"""Session timeout in seconds, unless media flow over the connection itself; sent in the Session header."""

STREAMING: Final = (State.PLAYING, State.RECORDING)


@dataclass(slots=True)
class Endpoint:
    """Shared by the connections of one server: its capabilities and sessions."""

    new_secret: Callable[[], str]
    """Returns a random name for the Session header: anyone who knows it controls the session."""
    protocols: frozenset[transport_choice.Protocol] = frozenset(transport_choice.Protocol)
    """The transport protocols that are allowed."""
    is_encrypted: bool = False
    """Whether connections use TLS, so that media must be interleaved or SRTP."""
    authentication_methods: tuple[AuthenticationMethod, ...] = ALL_METHODS
    """The schemes offered, in order."""
    timeout: float = 10.0
    """Seconds for a client to complete a request."""
    sessions: dict[str, ServerSession] = field(default_factory=dict)
    """By the name in the Session header."""
    has_srtp: bool = False
    """Whether encrypted connections may use SRTP."""


@dataclass(frozen=True, slots=True)
class TrackSetup:
    """The result of SETUP for one track."""

    protocol: transport_choice.Protocol
    channels: Pair | None = None
    """Interleaved channels of RTP and RTCP; with TCP only."""
    client_port: Pair | None = None
    """The client's ports for RTP and RTCP; with UDP only."""
    is_secure: bool = False
    """Whether the packets are SRTP and SRTCP."""
    client_key: str | None = None
    """The MIKEY message in base64 with the client's key; with SRTP only, and not from all clients."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """The description in ANNOUNCE of the tracks that SETUP will name."""

    url: RtspUrl
    controls: Sequence[str | None]
    """``a=control`` of each track."""
    keys: Sequence[str | None]
    """The MIKEY message in base64 of each track's ``a=key-mgmt``."""

    @classmethod
    def of(cls, url: RtspUrl, description: SessionDescription) -> Announcement:
        """Return what the description in an ANNOUNCE of ``url`` announces."""
        medias, common = description.medias, description.attribute("key-mgmt")
        keys = [read_attribute(media.attribute("key-mgmt") or common) for media in medias]
        return cls(url, [media.control for media in medias], keys)


class TransportConnection(Protocol):
    """The connection that carries sessions."""

    remote_host: str
    session: ServerSession | None
    sessions: set[ServerSession]

    def expect_frames(self, session: ServerSession | None) -> None:
        """Skip bytes between the interleaved frames of a session's channels; None: of no session."""


class ServerSession:
    """What a client has set up, and its state. Created and driven by `ServerConnection`."""

    def __init__(self, endpoint: Endpoint, connection: TransportConnection, now: float) -> None:
        self.secret = endpoint.new_secret()
        """The name in the Session header."""
        self.remote_host = connection.remote_host
        self.path_name = ""
        self.query = ""
        self.user_agent = ""
        """What the client calls itself; empty if it does not say."""
        self.setups: dict[int, TrackSetup] = {}
        """By index of the track."""
        self.announcement: Announcement | None = None
        self.last_request = now
        """Time of the client's last activity: a request, or an RTCP packet that was reported to the session."""
        self.connection: TransportConnection | None = None
        """The connection that carries it; None for a session over UDP whose connection was closed."""
        self._endpoint = endpoint
        self._state = State.INIT
        self._ended_in: State | None = None
        self.move_to(connection)
        endpoint.sessions[self.secret] = self

    @property
    def state(self) -> State:
        """Changed only by `advance`, according to the table in `states`."""
        return self._state

    @property
    def has_ended(self) -> bool:
        return self._ended_in is not None

    @property
    def protocol(self) -> transport_choice.Protocol | None:
        """The transport of the tracks set up so far."""
        return next((setup.protocol for setup in self.setups.values()), None)

    @property
    def is_secure(self) -> bool:
        """Whether the tracks set up so far use SRTP."""
        return any(setup.is_secure for setup in self.setups.values())

    @property
    def is_bound(self) -> bool:
        """Whether media flow over the RTSP connection itself."""
        return self._state in STREAMING and self.protocol is transport_choice.Protocol.TCP

    @property
    def channels(self) -> set[int]:
        """The interleaved channels in use."""
        return {channel for setup in self.setups.values() for channel in setup.channels or ()}

    def advance(self, method: Method) -> None:
        """A request has succeeded. Raises RemoteProtocolError (455) if it is not valid in this state."""
        self._state = next_state(self._state, method)

    def choose_transport(
        self, offers: Sequence[Transport], track: int, *, records: bool, is_tunnelled: bool = False
    ) -> ChosenTransport:
        """Return the first usable transport of those offered for a track. Raises RemoteProtocolError."""
        if track in self.setups:
            raise RemoteProtocolError(f"track {track} has already been setup")
        chosen = choose_transport(
            offers,
            allowed=self._endpoint.protocols,
            encrypted=self._endpoint.is_encrypted,
            srtp=self._endpoint.has_srtp,
            record=records,
            tunnelled=is_tunnelled,
            used_protocol=self.protocol,
            used_security=self.is_secure if self.setups else None,
            used_channels=self.channels,
        )
        ports = chosen.client_port
        if ports is not None and any(setup.client_port == ports for setup in self.setups.values()):
            raise RemoteProtocolError(f"UDP ports {ports[0]} and {ports[1]} are already in use by another track")
        return chosen

    def client_key(self, header: str | None, track: int) -> str | None:
        """Return the MIKEY message in base64 with the client's key for a track, if there is one: that of the KeyMgmt
        header, or else of the announcement. Raises RemoteProtocolError (466).
        """
        if header is not None:
            return read_key_mgmt(header)
        return self.announcement.keys[track] if self.announcement is not None else None

    def move_to(self, connection: TransportConnection | None) -> None:
        """Move to another connection, or none."""
        old, self.connection = self.connection, connection
        if old is not None:
            old.sessions.discard(self)
            if old.session is self and old is not connection:
                old.session = None
        if connection is not None:
            connection.sessions.add(self)

    def end(self) -> State:
        """End for any reason, with the effect of TEARDOWN (RFC 2326 appendix A.2). Return the previous state."""
        if self._ended_in is None:
            self._ended_in = self._state
            self.advance(Method.TEARDOWN)
            del self._endpoint.sessions[self.secret]
            if self.connection is not None:
                self.connection.expect_frames(None)
            self.move_to(None)
        return self._ended_in
