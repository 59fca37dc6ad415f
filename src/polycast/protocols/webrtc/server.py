"""The WebRTC server: signalling over HTTP, media over one UDP port and one TCP port."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final
from weakref import WeakKeyDictionary

from polycast.config.schema import Configuration
from polycast.errors import RemoteProtocolError
from polycast.hub.errors import CannotPublish
from polycast.hub.path import Path
from polycast.hub.stream import Stream
from polycast.items import LazyItems
from polycast.media.track import Track
from polycast.net.dtls import DtlsIdentity
from polycast.net.http.origins import allowed_origins
from polycast.net.http.server import HttpListener
from polycast.net.interfaces import interface_addresses
from polycast.protocols.base import ServerContext, ServerKind
from polycast.protocols.pages import Pages
from polycast.protocols.tcp_server import TcpServer
from polycast.protocols.transcoding import Target, transcoded_track
from polycast.protocols.webrtc.configuration import WebRtcConfiguration, WebRtcReorder
from polycast.protocols.webrtc.item import WebRtcSessionItem
from polycast.protocols.webrtc.media_ports import MediaPorts
from polycast.protocols.webrtc.names import look_up
from polycast.protocols.webrtc.outgoing import OutgoingTrack
from polycast.protocols.webrtc.outgoing_stream import OutgoingStream
from polycast.protocols.webrtc.peer import PeerState
from polycast.protocols.webrtc.session import PublisherSession, Session, ViewerSession
from polycast.protocols.webrtc.signalling import SignallingHandler
from polycast.security.addresses import IPNetwork
from polycast.wire.srtp.profiles import PROFILES
from polycast.wire.webrtc.candidates import Candidate
from polycast.wire.webrtc.description import parse_description

HANDSHAKE_TICK: Final = 0.05
"""Seconds between two checks of connections being established, for DTLS retransmissions."""

MAXIMUM_UNCONNECTED: Final = 1_000
"""Sessions that are not connected yet; each uses about 100 KB for up to ``webrtcHandshakeTimeout``. For another one,
the oldest session of the address with the most of them is closed."""

MAXIMUM_UNCONNECTED_OF_ADDRESS: Final = 250
"""Those of one IP address; more are refused. A browser connects within half a second."""


class WebRtcServer(TcpServer, HttpListener):
    """Publishers by WHIP, viewers by WHEP."""

    tells_observer = False
    handler: SignallingHandler

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        self.is_encrypted = self.settings.webrtc_encryption
        self.identity = DtlsIdentity(":".join(profile.openssl_name for profile in PROFILES))
        self.handler = SignallingHandler(self)
        self.pages = Pages(context.loop, allowed_origins(self.settings.webrtc_allow_origins).fixed)
        self._sessions: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}
        self._connecting: dict[Session, None] = {}
        """Sessions that are not connected yet, the oldest first."""
        self._outgoing: WeakKeyDictionary[Stream, OutgoingStream] = WeakKeyDictionary()
        self._media: MediaPorts | None = None
        self._hosts: list[str] = []
        self._handshake_timer: asyncio.TimerHandle | None = None

    # TcpServer

    async def open_more(self) -> list[str]:
        ports = MediaPorts(self)
        await ports.open(self.settings)
        self._media = ports
        ports.use_servers(self.settings.ice_servers)
        self._hosts = await self._find_hosts(ports.hosts)
        return ports.texts

    async def stop(self, reason: str) -> None:
        self._close_sessions(reason)  # before their TCP connections
        if self._media is not None:
            self._media.stop_accepting()
        await super().stop(reason)

    def close_more(self) -> None:
        self._close_sessions("the server stopped")
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        if self._media is not None:
            self._media.close()

    def _close_sessions(self, reason: str) -> None:
        for session in list(self._sessions.values()):
            session.close(reason)

    @property
    def ports(self) -> dict[str, int]:
        return {**super().ports, **(self._media.ports if self._media is not None else {})}

    def on_second(self, now: float) -> None:
        for session in list(self._sessions.values()):
            if session not in self._connecting:
                session.tick(now)

    def apply(self, configuration: Configuration) -> None:
        super().apply(configuration)
        self.handler.allow_origins(self.settings.webrtc_allow_origins)
        if self._media is not None:
            self._media.use_servers(self.settings.ice_servers)
        self.pages.allow_origin(allowed_origins(self.settings.webrtc_allow_origins).fixed)

    # Settings

    @property
    def settings(self) -> WebRtcConfiguration:
        """The settings of WebRTC as they are now."""
        return self.configuration[WebRtcConfiguration]

    @property
    def dump_name(self) -> str:
        return "webrtcs" if self.is_encrypted else "webrtc"

    @property
    def trusted_proxies(self) -> tuple[IPNetwork, ...]:
        return self.settings.webrtc_trusted_proxies

    @property
    def handshake_timeout(self) -> float:
        """Seconds from the offer to the connection."""
        return float(self.settings.webrtc_handshake_timeout)

    @property
    def gather_timeout(self) -> float:
        """Seconds from the connection until a publisher's tracks are considered known."""
        return float(self.settings.webrtc_track_gather_timeout)

    @property
    def transcodes_audio(self) -> bool:
        """Whether sound that WebRTC cannot carry is converted to Opus on all paths."""
        return self.settings.webrtc_transcode_audio

    @property
    def transcodes_video(self) -> bool:
        """Whether pictures that viewers cannot show are converted to H264."""
        return self.settings.webrtc_transcode_video

    @property
    def refuses_reordering(self) -> bool:
        """Whether streams with B-frames are refused, instead of dropping these."""
        return self.settings.webrtc_reorder is WebRtcReorder.REFUSE

    def candidates(self) -> list[Candidate]:
        """Return the server's candidates."""
        return self._media.candidates(self._hosts) if self._media is not None else []

    def local_candidate(self, transport: str) -> str:
        """Return the best candidate of a transport, as in logs and the API; empty if there is none."""
        return self._media.local_candidate(self._hosts, transport) if self._media is not None else ""

    async def _find_hosts(self, listening: Sequence[str]) -> list[str]:
        settings = self.settings
        hosts = list(settings.webrtc_additional_hosts)
        if settings.webrtc_ips_from_interfaces:
            names = settings.webrtc_ips_from_interfaces_list
            for host in listening:
                hosts += [host] if host else interface_addresses(names)
        found = await asyncio.gather(*(look_up(host, None, "webrtcAdditionalHosts", self.log) for host in hosts))
        return list(dict.fromkeys(address for addresses in found for _, (address, _) in addresses))

    # Sessions

    def outgoing(self, stream: Stream, track: Track) -> OutgoingTrack:
        """Return the outgoing track of a stream, shared by all viewers."""
        return self._outgoing.setdefault(stream, OutgoingStream()).track(track)

    def transcoded(self, path: Path, stream: Stream, track: Track, target: Target) -> OutgoingTrack:
        """Return a track of a stream in another codec, shared by all viewers."""
        transcoded = transcoded_track(stream, track, target, self.context.loop, path.log)
        return self._outgoing.setdefault(stream, OutgoingStream()).transcoded(transcoded)

    def has_reordering(self, stream: Stream, track: Track) -> bool:
        """Whether a track had B-frames already."""
        outgoing = self._outgoing.get(stream)
        return outgoing is not None and outgoing.has_reordering(track)

    async def open_viewer(self, path_name: str, offer: bytes, address: str, user: str, query: str = "") -> Session:
        """Answer the offer of a viewer; ``query`` is that of its URL. Raises PathError or RemoteProtocolError."""
        hub = self.context.hub
        hub.redirect(path_name, self.name, "https" if self.is_encrypted else "http", "/whep")
        await self._prepare(address)
        description = parse_description(offer)
        path = hub.path(path_name)
        try:
            stream = await path.wait_ready(follows=True, query=query)
            path.check_reader_limit()
            self._make_room(address)  # again, as others have come while the path was started
            session = ViewerSession(self, path, stream, description, address, user)
            session.query = query
            self._add(session)
        finally:
            hub.release(path)
        return session

    async def open_publisher(self, path_name: str, offer: bytes, address: str, user: str, query: str = "") -> Session:
        """Answer the offer of a publisher; ``query`` is that of its URL. Raises PathError or RemoteProtocolError."""
        await self._prepare(address)
        description = parse_description(offer)
        hub = self.context.hub
        path = hub.path(path_name)
        try:
            session = PublisherSession(self, path, description, address, user)
            session.query = query
            self._add(session)
        finally:
            hub.release(path)
        return session

    async def _prepare(self, address: str) -> None:
        """Wait until the server's candidates are known, and make room for a session of this address. Raises
        RemoteProtocolError if it has too many."""
        if self._media is not None:
            await self._media.gather(float(self.settings.webrtc_stun_gather_timeout))
        self._make_room(address)

    def _make_room(self, address: str) -> None:
        connecting = self._connecting
        if len(connecting) < MAXIMUM_UNCONNECTED_OF_ADDRESS:
            return
        counts = Counter(session.address for session in connecting)
        if counts[address] >= MAXIMUM_UNCONNECTED_OF_ADDRESS:
            raise RemoteProtocolError("too many sessions of this address are being established", 503)
        if len(connecting) >= MAXIMUM_UNCONNECTED:
            ((most, _),) = counts.most_common(1)
            next(session for session in connecting if session.address == most).close(
                "too many sessions are being established"
            )

    def _add(self, session: Session) -> None:
        if self._media is None:
            raise CannotPublish("the server is stopping")
        self._sessions[session.id] = session
        self._by_secret[session.secret] = session
        self._connecting[session] = None
        self._media.add(session.peer)
        self.permit(session, session.hosts)
        session.log.info("created by %s", session.remote_address)
        if self._handshake_timer is None:
            self._handshake_timer = self.context.loop.call_later(HANDSHAKE_TICK, self._on_handshake_timer)

    def remove(self, session: Session) -> None:
        """Remove a session that has ended."""
        self._sessions.pop(session.id, None)
        self._by_secret.pop(session.secret, None)
        self._connecting.pop(session, None)
        if self._media is not None:
            self._media.remove(session.peer)

    def rename(self, session: Session, old_ufrag: str) -> None:
        """Register the new ICE credentials of a session."""
        if self._media is not None:
            self._media.rename(session.peer, old_ufrag)

    def permit(self, session: Session, hosts: Sequence[str]) -> None:
        """Let relays accept what a session's client sends from these IP addresses."""
        if self._media is not None:
            self._media.permit(session.peer, hosts)

    def session_by_secret(self, secret: str) -> Session | None:
        """Return the session with the secret of its URL."""
        return self._by_secret.get(secret)

    def _on_handshake_timer(self) -> None:
        self._handshake_timer = None
        now = self.now()
        for session in list(self._connecting):
            if session.peer.state in (PeerState.CONNECTED, PeerState.CLOSED):
                self._connecting.pop(session, None)
            else:
                session.tick(now)
        if self._connecting:
            self._handshake_timer = self.context.loop.call_later(HANDSHAKE_TICK, self._on_handshake_timer)

    def items(self) -> LazyItems[WebRtcSessionItem]:
        return LazyItems({session.id: session.item for session in self._sessions.values()})

    def kick(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.close("kicked")
        return True
