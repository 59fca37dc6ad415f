"""The RTSP and RTSPS servers: listeners, connections, sessions and periodic tasks."""

from __future__ import annotations

import asyncio
import secrets

from polycast.config.schema import Configuration
from polycast.items import ConnectionItem, SessionItem
from polycast.net.server import Member
from polycast.protocols.base import ServerContext, ServerKind
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.context import SessionContext
from polycast.protocols.rtsp.media_ports import MediaPorts, open_media_sockets
from polycast.protocols.rtsp.multicast import MulticastAllocator, MulticastGroups
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.reports import ReportSender
from polycast.protocols.rtsp.session import Session
from polycast.protocols.rtsp.sessions import Sessions
from polycast.protocols.rtsp.tunnels import Tunnels
from polycast.protocols.tcp_server import TcpServer
from polycast.security.addresses import parse_address
from polycast.wire.rtsp.server_session import Endpoint
from polycast.wire.rtsp.transport_choice import Protocol


def _new_secret() -> str:
    return str(secrets.randbelow(9 * 10**15) + 10**15)


class RtspServer(TcpServer):
    """Plain RTSP: media over the connection, over UDP or over multicast."""

    session_type = "rtspSession"

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        self.session_context = SessionContext(
            context.loop,
            self.log,
            context.hub,
            Endpoint(
                _new_secret,
                self._allowed_protocols(),
                self.is_encrypted,
                self.settings.rtsp_auth_methods,
                self.read_timeout,
            ),
            self.session_type,
            lambda: self.now(),
            self.on_internal_error,
        )
        self._sessions = Sessions(self.session_context)
        self._tunnels = Tunnels(lambda: self.read_timeout)
        self._reports = ReportSender(self.session_context.group_of, self.session_context.clock)

    @property
    def settings(self) -> RtspConfiguration:
        """The current settings of RTSP."""
        return self.configuration[RtspConfiguration]

    def make_connection(self) -> asyncio.Protocol:
        return Connection(self, self._sessions, self.session_context, self._reports, self._tunnels)

    def apply(self, configuration: Configuration) -> None:
        super().apply(configuration)
        self.session_context.endpoint.timeout = self.read_timeout

    @property
    def ports(self) -> dict[str, int]:
        found = super().ports
        if self.session_context.ports is not None:
            found["rtpAddress"], found["rtcpAddress"] = self.session_context.ports.numbers
        return found

    async def stop(self, reason: str) -> None:
        for session in self._sessions:
            session.close(reason)
        await super().stop(reason)

    async def open_more(self) -> list[str]:
        settings, context = self.settings, self.session_context
        protocols = context.endpoint.protocols
        texts: list[str] = []
        if Protocol.UDP in protocols:
            rtp, rtcp = parse_address(settings.rtp_address), parse_address(settings.rtcp_address)
            size = int(settings.udp_read_buffer_size)
            context.ports = MediaPorts(context.loop, *await asyncio.to_thread(open_media_sockets, rtp, rtcp, size))
            numbers = context.ports.numbers
            texts += [f"{rtp[0]}:{numbers[0]} (UDP/RTP)", f"{rtcp[0]}:{numbers[1]} (UDP/RTCP)"]
        if Protocol.MULTICAST in protocols:
            allocator = MulticastAllocator(
                context.loop,
                str(settings.multicast_ip_range),
                (settings.multicast_rtp_port, settings.multicast_rtcp_port),
                self.log,
            )
            context.groups = MulticastGroups(allocator)
        return texts

    def close_more(self) -> None:
        if self.session_context.ports is not None:
            self.session_context.ports.close()

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return self.settings.rtsp_transports

    # Sessions

    def items(self) -> dict[str, SessionItem]:
        return {session.id: session.item() for session in self._sessions}

    def connections(self) -> dict[str, ConnectionItem]:
        return {
            connection.id: connection.item() for connection in self._connections if isinstance(connection, Connection)
        }

    def kick(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.close("kicked")
        return True

    # Periodic tasks

    def members(self) -> list[Member]:
        return [*super().members(), *filter(_is_heard, self._sessions)]

    def on_second(self, now: float) -> None:
        halves = [session.media for session in self._sessions]
        reading = [half for half in halves if isinstance(half, Reading)]
        self._reports.send([(each.stream, each.reader) for each in reading if each.reader is not None], now)


def _is_heard(session: Session) -> bool:
    """Whether the session's client is really silent, with no received data waiting for processing."""
    connection = session.connection
    return connection is None or not connection.is_behind


class RtspsServer(RtspServer):
    """RTSP over TLS: media only over the connection itself."""

    session_type = "rtspsSession"
    is_encrypted = True

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return frozenset({Protocol.TCP})
