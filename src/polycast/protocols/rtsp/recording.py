"""The recording part of an RTSP session: from the client to a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from polycast.errors import RemoteProtocolError
from polycast.hub.path import Path, Publisher
from polycast.hub.stream import Stream
from polycast.media.packet_buffer import PacketBuffer
from polycast.media.track import Track, describe_tracks
from polycast.net.udp import Address
from polycast.protocols.rtp_receiver import MediaReceiver, TrackReceiver
from polycast.protocols.rtsp.context import MediaOwner, SessionContext
from polycast.protocols.rtsp.demuxing import DemuxedStream, is_demuxed
from polycast.protocols.rtsp.media_ports import ClientPorts, PacketHandler
from polycast.protocols.rtsp.publishing import ChannelHandlers, channel_handlers
from polycast.protocols.rtsp.reports import REPORT_INTERVAL
from polycast.rtp.header import EMPTY_PACKET
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.transport_choice import Protocol

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureStream


class Recording:
    """What a session publishes, from ANNOUNCE on."""

    def __init__(self, session: MediaOwner, context: SessionContext, path: Path, tracks: Sequence[Track]) -> None:
        self.path = path
        self.receiver: MediaReceiver | None = None
        """Set between RECORD and PAUSE."""
        self._handlers: ChannelHandlers = {}
        """Of interleaved channels, between RECORD and PAUSE."""
        self.ports = ClientPorts(context.ports) if context.ports is not None else None
        self.keys = context.secure.make(len(tracks)) if context.secure is not None else None
        """Ours, for the reports to a client with SRTP."""
        self._tracks = tracks
        self._demuxed: DemuxedStream | None = None
        """What publishes the contents of a transport stream, between RECORD and PAUSE."""
        self._session = session
        self._context = context
        self._last_report = context.clock()

    def start(self, publisher: Publisher) -> None:
        """Make the path ready. Raises CannotPublish if another publisher took over the path."""
        session = self._session
        if is_demuxed(self.path, self._tracks):
            self._demuxed = DemuxedStream(session, self._context, self.path, publisher, self._tracks)
            stream = self._demuxed.stream
        else:
            stream = self.path.start_publishing(publisher, self._tracks, publishes_packets=True)
        setups = session.wire.setups
        is_tcp = session.wire.protocol is Protocol.TCP
        receiver = self.receiver = MediaReceiver(
            stream, session.counters, session.log, self._context.clock(), reorders=not is_tcp
        )
        if is_tcp:
            channels = {index: setup.channels for index, setup in setups.items() if setup.channels is not None}
            self._handlers = channel_handlers(receiver, channels)
            if session.wire.is_secure and self.keys is not None:
                self._handlers = self._secure_handlers(receiver, self.keys)
        else:
            for index, setup in setups.items():
                if setup.client_port is not None:
                    self._register(index, receiver.tracks[index])
        if self._demuxed is None:
            session.log.info(
                "is publishing to path '%s', with %s, %s",
                self.path.name,
                session.transport_name,
                describe_tracks(self._tracks),
            )

    def stop(self) -> None:
        """Stop receiving."""
        if self.ports is not None:
            self.ports.unregister()
        if self.receiver is not None:
            self.receiver.close()
            self.receiver = None
        if self._demuxed is not None:
            self._demuxed.stop()
            self._demuxed = None
        self._handlers = {}

    def on_interleaved(self, run: InterleavedRun, now: float) -> Stream | None:
        """Process interleaved frames; return the stream that received them, None for those of unused channels. The hot
        path."""
        handler = self._handlers.get(run.channel)
        if handler is None:
            return None
        handler(run, now)
        return self.receiver.stream if self.receiver is not None else None

    def _register(self, index: int, track: TrackReceiver) -> None:
        ports, clock = self.ports, self._context.clock
        if ports is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        when_drained = ports.server.call_when_drained
        keys = self.keys if self._session.wire.is_secure else None

        def on_rtp(data: bytes, start: int, end: int) -> None:
            try:
                track.receive_datagram(data, start, end, clock())
            except Exception:
                self._on_internal_error()
            when_drained(self._on_drained)

        def on_rtcp(data: bytes, start: int, end: int) -> None:
            try:
                track.receive_rtcp(data[start:end], clock())
            except Exception:
                self._on_internal_error()

        rtp, rtcp = ports.addresses[index]
        # An empty RTP packet and a receiver report open the NATs in between (as rtsp-simple-server does).
        if keys is None:
            ports.register(index, on_rtp, on_rtcp)
            ports.server.rtp.send(EMPTY_PACKET, rtp)
        else:
            opened = keys.open_input(index, self._session.wire.setups[index].client_key, on_rtp, on_rtcp)
            ports.register(index, opened.receive_rtp, opened.receive_rtcp)
            ports.server.rtp.send(keys.tracks[index].protect_opening(), rtp)
        self._send_report(index, track.receiver_report(clock()), rtcp)

    def _on_drained(self) -> None:
        """The datagrams of one wake-up were processed."""
        try:
            if self.receiver is not None:
                self.receiver.end_of_read()
        except Exception:
            self._on_internal_error()

    def _send_report(self, index: int, report: bytes, address: Address) -> None:
        """Send a receiver report over UDP."""
        if self.ports is not None:
            if self._session.wire.is_secure and self.keys is not None:
                report = self.keys.tracks[index].protect_report(report)
            self.ports.server.rtcp.send(report, address)

    def _secure_handlers(self, receiver: MediaReceiver, keys: SecureStream) -> ChannelHandlers:
        """Return the handlers of the channels of a client with SRTP."""
        clock = self._context.clock
        handlers: dict[int, Callable[[PacketBuffer, float], None]] = {}
        for index, setup in self._session.wire.setups.items():
            if setup.channels is None:
                continue
            opened = keys.open_input(index, setup.client_key, *_packet_handlers(receiver.tracks[index], clock))
            handlers[setup.channels[0]] = opened.receive_buffer
            handlers[setup.channels[1]] = opened.receive_reports
        return handlers

    def _on_internal_error(self) -> None:
        """Handle the current exception, an internal error: it only ends this session."""
        self._context.on_internal_error()
        self._session.close("internal error")

    def tick(self, now: float) -> None:
        """Called about once a second while the client records: timeouts, reports."""
        session, receiver = self._session, self.receiver
        if receiver is None:
            return
        is_udp = session.wire.protocol is Protocol.UDP
        # Over TCP a publisher without media may stay as long as it sends requests, as with rtsp-simple-server.
        last = receiver.idle_since
        if not is_udp:
            last = max(last, session.wire.last_request)
        if now - last >= self._context.endpoint.timeout:
            session.close(f"no {'UDP' if is_udp else 'RTP'} packets received in a while")
            return
        receiver.tick(now)
        if self._demuxed is not None:
            self._demuxed.tick(now)
        if is_udp and self.ports is not None and now - self._last_report >= REPORT_INTERVAL:
            self._last_report = now
            for index, (_, address) in self.ports.addresses.items():
                track = receiver.tracks[index]
                if track.has_sender_report:
                    self._send_report(index, track.receiver_report(now), address)
                    session.counters.reports_sent += 1


def _packet_handlers(track: TrackReceiver, clock: Callable[[], float]) -> tuple[PacketHandler, PacketHandler]:
    """Return what receives the RTP and the RTCP packets of a track."""

    def on_rtp(data: bytes, start: int, end: int) -> None:
        track.receive_datagram(data, start, end, clock())

    def on_rtcp(data: bytes, start: int, end: int) -> None:
        track.receive_rtcp(data[start:end], clock())

    return on_rtp, on_rtcp
