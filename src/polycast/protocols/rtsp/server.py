"""The RTSP and RTSPS servers: listeners, connections, sessions and periodic tasks."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, ClassVar

from polycast.config.schema import Configuration
from polycast.errors import missing_packages
from polycast.items import ConnectionItem, LazyItems, SessionItem
from polycast.net.housekeeping import Member
from polycast.protocols.base import ServerContext, ServerKind
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.context import SessionContext, has_ciphers
from polycast.protocols.rtsp.media_ports import MediaPorts, open_media_sockets
from polycast.protocols.rtsp.multicast import MulticastAllocator, MulticastGroups
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.reports import ReportSender
from polycast.protocols.rtsp.session import Session
from polycast.protocols.rtsp.sessions import Sessions
from polycast.protocols.rtsp.tunnels import Tunnels
from polycast.protocols.tcp_server import TcpServer
from polycast.security.addresses import IPNetwork, parse_address
from polycast.wire.rtsp.server_session import Endpoint
from polycast.wire.rtsp.transport_choice import Protocol

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStreams


def _new_secret() -> str:
    return str(secrets.randbelow(9 * 10**15) + 10**15)


class RtspServer(TcpServer):
    """Plain RTSP: media over the connection, over UDP or over multicast."""

    session_type = "rtspSession"
    media_keys: ClassVar[tuple[str, str]] = ("rtpAddress", "rtcpAddress")
    """Configuration keys of its UDP addresses."""

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
            workers=context.workers,
        )
        self._sessions = Sessions(self.session_context)
        self._tunnels = Tunnels(lambda: self.read_timeout, context.workers)
        self._reports = ReportSender(self.session_context.group_of, self.session_context.clock)

    @property
    def settings(self) -> RtspConfiguration:
        """The current settings of RTSP."""
        return self.configuration[RtspConfiguration]

    @property
    def proxy_networks(self) -> tuple[IPNetwork, ...]:
        return self.settings.rtsp_trusted_proxies

    def make_connection(self) -> asyncio.Protocol:
        return Connection(self, self._sessions, self.session_context, self._reports, self._tunnels)

    def apply(self, configuration: Configuration) -> None:
        super().apply(configuration)
        self.session_context.endpoint.timeout = self.read_timeout
        if self.session_context.ports is not None:
            self.session_context.ports.dump(self._packet_dump_prefix())

    @property
    def ports(self) -> dict[str, int]:
        found = super().ports
        if self.session_context.ports is not None:
            keys = self.media_keys
            found[keys[0]], found[keys[1]] = self.session_context.ports.numbers
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
            rtp, rtcp = map(parse_address, self._media_addresses())
            size = int(settings.udp_read_buffer_size)
            context.ports = MediaPorts(context.loop, *await asyncio.to_thread(open_media_sockets, rtp, rtcp, size))
            context.ports.dump(self._packet_dump_prefix())
            numbers = context.ports.numbers
            prefix = "S" if self.is_encrypted else ""
            texts += [f"{rtp[0]}:{numbers[0]} (UDP/{prefix}RTP)", f"{rtcp[0]}:{numbers[1]} (UDP/{prefix}RTCP)"]
        if Protocol.MULTICAST in protocols:
            allocator = MulticastAllocator(
                context.loop,
                str(settings.multicast_ip_range),
                self._multicast_ports(),
                self.log,
                self._packet_dump_prefix,
            )
            context.groups = MulticastGroups(allocator, context.secure)
        return texts

    def close_more(self) -> None:
        if self.session_context.ports is not None:
            self.session_context.ports.close()

    def _packet_dump_prefix(self) -> str:
        return f"{self.dump_name}_server_packet_conn" if self.configuration.dump_packets else ""

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return self.settings.rtsp_transports

    def _media_addresses(self) -> tuple[str, str]:
        """Return the UDP addresses for RTP and RTCP."""
        return self.settings.rtp_address, self.settings.rtcp_address

    def _multicast_ports(self) -> tuple[int, int]:
        return self.settings.multicast_rtp_port, self.settings.multicast_rtcp_port

    # Sessions

    def items(self) -> LazyItems[SessionItem]:
        return LazyItems({session.id: session.item for session in self._sessions})

    def connections(self) -> LazyItems[ConnectionItem]:
        connections = (connection for connection in self._connections if isinstance(connection, Connection))
        return LazyItems({connection.id: connection.item for connection in connections})

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
    """RTSP over TLS: media over the connection itself; over UDP and multicast as SRTP."""

    session_type = "rtspsSession"
    is_encrypted = True
    media_keys = ("srtpAddress", "srtcpAddress")

    def __init__(self, kind: ServerKind, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(kind, context, configuration)
        self.session_context.secure = self._make_keys()
        self.session_context.endpoint.has_srtp = self.session_context.secure is not None

    async def start(self) -> None:
        if self.session_context.secure is None and self._srtp_protocols():
            self.log.warning("clients only get TCP: %s", missing_packages("SRTP", "cryptography"))
        await super().start()

    def _make_keys(self) -> SecureStreams | None:
        if not has_ciphers():
            return None
        from polycast.protocols.rtsp.secure import SecureStreams

        return SecureStreams(self.context.hub.cipher_meter, is_advertised=bool(self._srtp_protocols()))

    def _srtp_protocols(self) -> frozenset[Protocol]:
        """Return the transports that are allowed with SRTP only."""
        settings = self.settings
        uses = {Protocol.UDP: settings.uses_srtp_over_udp, Protocol.MULTICAST: settings.uses_srtp_over_multicast}
        return frozenset(protocol for protocol, is_used in uses.items() if is_used)

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return self._srtp_protocols() | {Protocol.TCP} if has_ciphers() else frozenset({Protocol.TCP})

    def _media_addresses(self) -> tuple[str, str]:
        return self.settings.srtp_address, self.settings.srtcp_address

    def _multicast_ports(self) -> tuple[int, int]:
        return self.settings.multicast_srtp_port, self.settings.multicast_srtcp_port
