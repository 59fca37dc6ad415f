"""The RTSP and RTSPS servers: listeners, connections, sessions and their housekeeping."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
import time
from typing import TYPE_CHECKING

from polycast.config.schema import Configuration
from polycast.config.values import AuthMethod, Encryption
from polycast.hub.failures import FailureTracker
from polycast.hub.stats import SessionSnapshot
from polycast.hub.stream import Stream
from polycast.media.timebase import WallTime
from polycast.net.address import parse_address
from polycast.net.listen import open_tcp_listener
from polycast.net.tls import certificate_stamp, load_server_context
from polycast.protocols.base import HOUSEKEEPING_SECONDS, Server, ServerContext, ServerKind, new_session_id
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.media_ports import MediaPorts, MulticastAllocator
from polycast.protocols.rtsp.readers import MulticastGroup, SessionReader
from polycast.protocols.rtsp.session import REPORT_INTERVAL, Session
from polycast.rtp.rtcp import SourceDescription, serialize_compound
from polycast.wire.rtsp.authentication import AuthenticationMethod
from polycast.wire.rtsp.transport_choice import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

# Bytes of an RTP packet on the wire that readBufferCount counts in.
PACKET_SIZE = 1472

# Seconds before the first sender report of a stream: its clocks have settled by then.
FIRST_REPORT_SECONDS = 1.0

_CANONICAL_NAME = "polycast"


class RtspServer(Server):
    """One listener with its connections and sessions: plain, or with TLS."""

    name = "RTSP"
    collection = "rtspsessions"
    metric = "rtsp_sessions"
    session_type = "rtspSession"
    is_encrypted = False

    def __init__(self, context: ServerContext, configuration: Configuration) -> None:
        self.context = context
        self.log = context.log.child(self.name)
        self._configuration = configuration
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._sessions: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}
        self._groups: dict[Stream, MulticastGroup] = {}
        self._multicast: MulticastAllocator | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._report_times: dict[Stream, float] = {}
        self.ports_for_media: MediaPorts | None = None
        self.protocols = self._allowed_protocols()
        self.failures = FailureTracker()
        self.internal_errors = 0
        """Exceptions that should not have happened; each closed one session only."""
        self.now = time.monotonic

    # Settings

    @property
    def authentication_methods(self) -> tuple[AuthenticationMethod, ...]:
        """The schemes offered, in order."""
        return tuple("basic" if method is AuthMethod.BASIC else "digest" for method in self._configuration.auth_methods)

    @property
    def read_timeout(self) -> float:
        return float(self._configuration.read_timeout)

    @property
    def write_timeout(self) -> float:
        return float(self._configuration.write_timeout)

    @property
    def failure_pause(self) -> float:
        """Seconds that a client waits for the answer after it failed to prove who it is."""
        return float(self._configuration.authentication_failure_pause)

    @property
    def queue_minimum(self) -> int:
        """Bytes that are queued for a slow reader in any case."""
        return self._configuration.read_buffer_count * PACKET_SIZE

    def apply(self, configuration: Configuration) -> None:
        self._configuration = configuration

    # Life

    async def start(self) -> None:
        texts = self._open_media_ports()
        host, port = parse_address(self._address())
        listener = open_tcp_listener(host, port)
        try:
            self._listener = await self._create_server(listener)
        except BaseException:
            listener.close()
            raise
        self._timer = self.context.loop.call_later(HOUSEKEEPING_SECONDS, self._on_timer)
        self.log.info("listener opened on %s", ", ".join([f"{host}:{self._port_of_listener()} (TCP)", *texts]))

    async def stop(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions.values()):
            session.close(reason)
        for connection in list(self._connections):
            connection.close(reason)
        await self._wait_for_connections()
        if self._listener is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._listener.wait_closed(), 1)
        if self.ports_for_media is not None:
            self.ports_for_media.close()
        self.log.info("listener closed")

    @property
    def ports(self) -> dict[str, int]:
        found = {"rtspsAddress" if self.is_encrypted else "rtspAddress": self._port_of_listener()}
        if self.ports_for_media is not None:
            found["rtpAddress"], found["rtcpAddress"] = self.ports_for_media.numbers
        return found

    def _address(self) -> str:
        return self._configuration.rtsp_address

    async def _create_server(self, listener: object) -> asyncio.Server:
        return await self.context.loop.create_server(lambda: Connection(self), sock=listener)  # type: ignore[call-overload,no-any-return]

    def _open_media_ports(self) -> list[str]:
        configuration = self._configuration
        texts: list[str] = []
        if Protocol.UDP in self.protocols:
            rtp, rtcp = parse_address(configuration.rtp_address), parse_address(configuration.rtcp_address)
            self.ports_for_media = MediaPorts(self.context.loop, rtp, rtcp, int(configuration.udp_read_buffer_size))
            numbers = self.ports_for_media.numbers
            texts += [f"{rtp[0]}:{numbers[0]} (UDP/RTP)", f"{rtcp[0]}:{numbers[1]} (UDP/RTCP)"]
        if Protocol.MULTICAST in self.protocols:
            self._multicast = MulticastAllocator(
                self.context.loop,
                str(configuration.multicast_ip_range),
                (configuration.multicast_rtp_port, configuration.multicast_rtcp_port),
                self.log,
            )
        return texts

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return frozenset(Protocol(protocol.value) for protocol in self._configuration.protocols)

    def _port_of_listener(self) -> int:
        if self._listener is None or not self._listener.sockets:
            return 0
        return int(self._listener.sockets[0].getsockname()[1])

    async def _wait_for_connections(self) -> None:
        """Give the last bytes a moment to leave, then cut what is still there."""
        for _ in range(20):
            if not self._connections:
                return
            await asyncio.sleep(0.05)
        for connection in list(self._connections):
            connection.abort("the server stopped")
        await asyncio.sleep(0)

    # Connections

    def add_connection(self, connection: Connection) -> None:
        self._connections.add(connection)

    def remove_connection(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def sessions_of(self, connection: Connection) -> list[Session]:
        """Return the sessions that this connection carries."""
        return [session for session in self._sessions.values() if session.connection is connection]

    def has_session(self, connection: Connection) -> bool:
        """Whether a session is carried by this connection."""
        return connection.session is not None

    # Sessions

    def create_session(self, connection: Connection) -> Session:
        """Return a new session for a connection."""
        session_id = new_session_id(self._sessions.__contains__)
        secret = str(secrets.randbelow(9 * 10**15) + 10**15)
        session = Session(self, connection, secret, session_id, self.now())
        self._sessions[session_id] = session
        self._by_secret[secret] = session
        session.log.info("created by %s:%d", *connection.peer)
        return session

    def find_session(self, secret: str) -> Session | None:
        """Return the session with this name in the Session header."""
        return self._by_secret.get(secret)

    def forget_session(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self._by_secret.pop(session.secret, None)

    def sessions(self) -> list[SessionSnapshot]:
        return [session.snapshot() for session in self._sessions.values()]

    def kick(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.close("kicked")
        return True

    # Multicast

    def join_group(self, stream: Stream, session: Session, local_host: str) -> MulticastGroup:
        """Return the multicast group of a stream, made for its first reader. Raises OSError."""
        group = self._groups.get(stream)
        if group is None:
            if self._multicast is None:
                raise OSError("multicast is disabled")
            group = self._multicast.open([track.index for track in stream.tracks], local_host)
            self._groups[stream] = group
        group.sessions.add(session)
        return group

    def leave_groups(self, session: Session) -> None:
        """Take a session out of its multicast group; the last one closes it."""
        if self._multicast is None:
            return
        for stream, group in list(self._groups.items()):
            group.sessions.discard(session)
            if not group.sessions:
                del self._groups[stream]
                self._multicast.close(group)

    # Housekeeping

    def _on_timer(self) -> None:
        self._timer = self.context.loop.call_later(HOUSEKEEPING_SECONDS, self._on_timer)
        now = self.now()
        ticks = [each.tick for each in self._connections] + [each.tick for each in self._sessions.values()]
        for tick in ticks:
            try:
                tick(now)
            except Exception:
                self.log.exception("internal error")
                self.internal_errors += 1
        self._send_reports(now)

    def _send_reports(self, now: float) -> None:
        """Send RTCP sender reports to the readers: one for each track, the same bytes for all."""
        streams: dict[Stream, list[SessionReader]] = {}
        for session in self._sessions.values():
            if session.reader is not None and session.stream is not None:
                streams.setdefault(session.stream, []).append(session.reader)
        times = self._report_times
        self._report_times = {}
        for stream, readers in streams.items():
            due = times.get(stream, now + FIRST_REPORT_SECONDS)
            self._report_times[stream] = due
            if now >= due:
                self._report_times[stream] = now + REPORT_INTERVAL
                self._report_on(stream, readers, now)

    def _report_on(self, stream: Stream, readers: Iterable[SessionReader], now: float) -> None:
        wall_time = WallTime(time.time_ns())
        group = self._groups.get(stream)
        for track in stream.tracks:
            if track.ssrc is None:
                continue
            report = track.reports.report(track.ssrc, now, wall_time, track.packets_received, track.bytes_received)
            if report is None:
                continue
            names = SourceDescription(((track.ssrc, _CANONICAL_NAME),))
            data = serialize_compound([report, names])
            for reader in readers:
                reader.send_report(track.index, data)
            if group is not None:
                group.send_report(track.index, data)


class RtspsServer(RtspServer):
    """RTSP over TLS: media only over the connection itself."""

    name = "RTSPS"
    collection = "rtspssessions"
    metric = "rtsps_sessions"
    session_type = "rtspsSession"
    is_encrypted = True

    def __init__(self, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(context, configuration)
        self._stamp: tuple[int, ...] = ()
        self._tls: ssl.SSLContext | None = None
        self._next_certificate_check = 0.0

    def _address(self) -> str:
        return self._configuration.rtsps_address

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return frozenset({Protocol.TCP})

    async def _create_server(self, listener: object) -> asyncio.Server:
        configuration = self._configuration
        self._tls = load_server_context(configuration.server_cert, configuration.server_key)
        self._stamp = certificate_stamp(configuration.server_cert, configuration.server_key)
        return await self.context.loop.create_server(  # type: ignore[call-overload,no-any-return]
            lambda: Connection(self),
            sock=listener,
            ssl=self._tls,
            ssl_handshake_timeout=self.read_timeout,
            ssl_shutdown_timeout=2.0,
        )

    def _on_timer(self) -> None:
        super()._on_timer()
        self._reload_certificate()

    def _reload_certificate(self) -> None:
        """Use a renewed certificate for new connections; a broken one is reported, and the old one stays."""
        configuration = self._configuration
        now = self.now()
        if self._tls is None or now < self._next_certificate_check:
            return
        self._next_certificate_check = now + 10
        stamp = certificate_stamp(configuration.server_cert, configuration.server_key)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            load_server_context(configuration.server_cert, configuration.server_key)
            self._tls.load_cert_chain(configuration.server_cert, configuration.server_key)
        except (OSError, ssl.SSLError) as error:
            self.log.warning("the changed certificate is not used: %s", error)
        else:
            self.log.info("the certificate was reloaded")


_COMMON_KEYS = frozenset({"rtspDisable", "encryption", "authMethods"})

RTSP_KIND = ServerKind(
    name="RTSP",
    is_enabled=lambda configuration: (
        not configuration.rtsp_disable and configuration.encryption is not Encryption.STRICT
    ),
    create=RtspServer,
    restart_keys=_COMMON_KEYS
    | {
        "rtspAddress",
        "protocols",
        "rtpAddress",
        "rtcpAddress",
        "multicastIPRange",
        "multicastRTPPort",
        "multicastRTCPPort",
        "udpReadBufferSize",
    },
)

RTSPS_KIND = ServerKind(
    name="RTSPS",
    is_enabled=lambda configuration: not configuration.rtsp_disable and configuration.encryption is not Encryption.NO,
    create=RtspsServer,
    restart_keys=_COMMON_KEYS | {"rtspsAddress", "serverCert", "serverKey"},
)
