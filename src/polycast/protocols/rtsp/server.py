"""The RTSP and RTSPS servers: listeners, connections, sessions and their housekeeping."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from polycast.config.schema import Configuration
from polycast.config.values import AuthMethod
from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.items import SessionItem
from polycast.media.timebase import WallTime
from polycast.net.server import Member
from polycast.protocols.base import ServerContext, new_session_id
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.media_ports import MediaPorts, MulticastAllocator
from polycast.protocols.rtsp.readers import MulticastGroup, MulticastReader, SessionReader
from polycast.protocols.rtsp.session import REPORT_INTERVAL, Session
from polycast.protocols.tcp_server import TcpServer
from polycast.rtp.rtcp import SourceDescription, serialize_compound
from polycast.security.addresses import parse_address
from polycast.wire.rtsp.authentication import AuthenticationMethod
from polycast.wire.rtsp.transport_choice import Protocol

_CANONICAL_NAME = "polycast"


class RtspServer(TcpServer):
    """Plain RTSP: media over the connection, over UDP or over multicast."""

    name = "RTSP"
    collection = "rtspsessions"
    metric = "rtsp_sessions"
    session_type = "rtspSession"
    address_key = "rtspAddress"

    def __init__(self, context: ServerContext, configuration: Configuration) -> None:
        super().__init__(context, configuration)
        self._sessions: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}
        self._groups: dict[Stream, MulticastGroup] = {}
        self._multicast: MulticastAllocator | None = None
        self._report_times: dict[Stream, tuple[float, int]] = {}
        """When the next reports are due, and the version of the last ones."""
        self.ports_for_media: MediaPorts | None = None
        self.protocols = self._allowed_protocols()

    @property
    def authentication_methods(self) -> tuple[AuthenticationMethod, ...]:
        """The schemes offered, in order."""
        return tuple("basic" if method is AuthMethod.BASIC else "digest" for method in self.configuration.auth_methods)

    def address(self) -> str:
        return self.configuration.rtsp_address

    def make_connection(self) -> asyncio.Protocol:
        return Connection(self)

    @property
    def ports(self) -> dict[str, int]:
        found = super().ports
        if self.ports_for_media is not None:
            found["rtpAddress"], found["rtcpAddress"] = self.ports_for_media.numbers
        return found

    async def stop(self, reason: str) -> None:
        for session in list(self._sessions.values()):
            session.close(reason)
        await super().stop(reason)

    def open_more(self) -> list[str]:
        configuration = self.configuration
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

    def close_more(self) -> None:
        if self.ports_for_media is not None:
            self.ports_for_media.close()

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return frozenset(Protocol(protocol.value) for protocol in self.configuration.protocols)

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
        return session

    def find_session(self, secret: str) -> Session | None:
        """Return the session with this name in the Session header."""
        return self._by_secret.get(secret)

    def forget_session(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        self._by_secret.pop(session.secret, None)

    def items(self) -> dict[str, SessionItem]:
        return {session.id: session.item() for session in self._sessions.values()}

    def kick(self, session_id: str) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.close("kicked")
        return True

    # Multicast

    def join_group(self, stream: Stream, session: Session, local_host: str) -> MulticastGroup:
        """Return the multicast group of a stream, made for its first reader.

        Raises RemoteProtocolError (461) when there is none to be had, so that the client tries another transport.
        """
        group = self._groups.get(stream)
        if group is None:
            if self._multicast is None:
                raise RemoteProtocolError("transport protocol multicast is disabled", 461)
            try:
                group = self._multicast.open([track.index for track in stream.tracks], local_host)
            except OSError as error:
                raise RemoteProtocolError(f"multicast is not possible now: {error}", 461) from error
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

    def members(self) -> list[Member]:
        sessions = self._sessions.values()
        return [
            *super().members(),
            *(each for each in sessions if each.connection is None or not each.connection.is_behind),
        ]

    def on_second(self, now: float) -> None:
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
            due, version = times.get(stream, (now, 0))
            self._report_times[stream] = due, version
            if now >= due or version != stream.report_version:
                self._report_times[stream] = now + REPORT_INTERVAL, stream.report_version
                self._report_on(stream, readers, self._groups.get(stream), now)
            elif newcomers := [reader for reader in readers if len(reader.reported) < len(stream.tracks)]:
                # Players put sound and picture together by the reports: who has just come does not wait for the round,
                # nor do those who wait for a track that has just begun.
                self._report_on(stream, newcomers, self._groups.get(stream), now, only_first=True)

    def send_first_reports(self, stream: Stream, reader: SessionReader) -> None:
        """Send a reader that begins the sender reports that there are: they put sound and picture in sync."""
        self._report_on(stream, [reader], self._groups.get(stream), self.now(), only_first=True)

    def _report_on(
        self,
        stream: Stream,
        readers: Sequence[SessionReader],
        group: MulticastGroup | None,
        now: float,
        *,
        only_first: bool = False,
    ) -> None:
        """``only_first``: not to those that had a report of that track before."""
        wall_time = WallTime(time.time_ns())
        for track in stream.tracks:
            targets = [reader for reader in readers if not (only_first and track.index in reader.reported)]
            if track.ssrc is None or not targets:
                continue
            stream.tie_to_clock(track)
            report = track.reports.report(track.ssrc, now, wall_time, track.packets_received, track.bytes_received)
            if report is None:
                continue
            names = SourceDescription(((track.ssrc, _CANONICAL_NAME),))
            data = serialize_compound([report, names])
            for reader in targets:
                reader.send_report(track.index, data)
                reader.reported.add(track.index)
            if group is not None and any(isinstance(reader, MulticastReader) for reader in targets):
                group.send_report(track.index, data)


class RtspsServer(RtspServer):
    """RTSP over TLS: media only over the connection itself."""

    name = "RTSPS"
    collection = "rtspssessions"
    metric = "rtsps_sessions"
    session_type = "rtspsSession"
    is_encrypted = True
    address_key = "rtspsAddress"

    def address(self) -> str:
        return self.configuration.rtsps_address

    def _allowed_protocols(self) -> frozenset[Protocol]:
        return frozenset({Protocol.TCP})
