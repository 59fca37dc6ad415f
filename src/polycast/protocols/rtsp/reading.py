"""The playing part of an RTSP session: from a stream to the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycast.codecs.registry import reorders
from polycast.errors import RemoteProtocolError
from polycast.hub.path import Path
from polycast.hub.stream import Stream
from polycast.media.track import describe_tracks
from polycast.net.outbox import Outbox
from polycast.protocols.rtsp.context import MediaOwner, SessionContext
from polycast.protocols.rtsp.media_ports import ClientPorts
from polycast.protocols.rtsp.publishing import receiver_report
from polycast.protocols.rtsp.readers import (
    DatagramReader,
    InterleavedReader,
    MulticastReader,
    SessionReader,
    StartBuffer,
)
from polycast.protocols.rtsp.reports import ReportSender
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.server_session import SESSION_TIMEOUT
from polycast.wire.rtsp.states import State
from polycast.wire.rtsp.transport_choice import Protocol

if TYPE_CHECKING:
    from polycast.protocols.rtsp.secure import SecureInput, SecureStream


class Reading:
    """What a session reads, from the first SETUP on."""

    def __init__(
        self, session: MediaOwner, context: SessionContext, reports: ReportSender, path: Path, stream: Stream
    ) -> None:
        self.path = path
        self.stream = stream
        self.reader: SessionReader | None = None
        """Set while the stream is played."""
        self.ports = ClientPorts(context.ports) if context.ports is not None else None
        self._session = session
        self._context = context
        self._reports = reports
        self._start_buffer: StartBuffer | None = None
        self._inputs: dict[int, SecureInput] = {}
        """What decrypts the interleaved reports of a client with SRTP, by track."""

    def start_buffering(self) -> StartBuffer:
        """Start to keep the output of the stream, until `start` uses it."""
        self.stop_buffering()
        stream, wire = self.stream, self._session.wire
        if wire.protocol is not Protocol.TCP:
            stream.fit_datagrams()
        key_track = stream.key_track
        has_reordered = key_track in wire.setups and reorders(stream.tracks[key_track].track.codec)
        reordered = key_track if has_reordered else None
        buffer = self._start_buffer = StartBuffer(self._session, self._context.loop, wire.setups, reordered)
        self.path.attach_reader(buffer, stream, is_provisional=True)
        return buffer

    def stop_buffering(self) -> StartBuffer | None:
        """Stop; return the kept output."""
        buffer, self._start_buffer = self._start_buffer, None
        if buffer is not None:
            self.stream.flush()  # so that a pending batch is not lost between two readers
            self.path.remove_reader(buffer, is_provisional=True)
        return buffer

    def start(self, outbox: Outbox) -> None:
        """Attach to the stream; ``outbox`` belongs to the connection. Raises NoOnePublishing if the stream has ended
        since SETUP.
        """
        buffer = self.stop_buffering()
        if self.reader is not None:
            return
        path, stream, session = self.path, self.stream, self._session
        reader = self._make_reader(outbox)
        path.attach_reader(reader, stream)
        self.reader = reader
        tracks = [stream.tracks[index].track for index in sorted(session.wire.setups)]
        session.log.info(
            "is reading from path '%s', with %s, %s", path.name, session.transport_name, describe_tracks(tracks)
        )
        if buffer is not None:
            self._reports.send_first(stream, reader)
            for batch in buffer.batches:
                reader.deliver(batch)

    def stop(self) -> None:
        """Detach from the stream; the set-up stays."""
        self.stop_buffering()
        reader, self.reader = self.reader, None
        if reader is None:
            return
        self.path.remove_reader(reader)
        if self.ports is not None:
            self.ports.unregister()

    def _make_reader(self, outbox: Outbox) -> SessionReader:
        stream, session = self.stream, self._session
        protocol = session.wire.protocol
        if protocol is Protocol.TCP:
            channels, report_channels = [-1] * len(stream.tracks), [-1] * len(stream.tracks)
            for index, setup in session.wire.setups.items():
                if setup.channels is not None:
                    channels[index], report_channels[index] = setup.channels
            secure = self._secure
            make = InterleavedReader if secure is None else secure.make_interleaved_reader
            return make(session, outbox, tuple(channels), tuple(report_channels), stream.key_track)
        stream.fit_datagrams()
        groups = self._context.groups
        if protocol is Protocol.MULTICAST and groups is not None:
            return MulticastReader(session, groups.join(stream, session, session.wire.remote_host))
        ports = self.ports
        if ports is None:
            raise RemoteProtocolError(f"transport protocol {protocol} is disabled", 461)
        secure = self._secure
        for track in ports.addresses:
            on_rtcp = self._on_rtcp if secure is None else self._open_input(secure, track).receive_rtcp
            ports.register(track, self._on_rtp, on_rtcp)
        make_datagrams = DatagramReader if secure is None else secure.make_datagram_reader
        return make_datagrams(session, ports.server.rtp, ports.server.rtcp, ports.addresses)

    @property
    def _secure(self) -> SecureStream | None:
        """The keys of the stream, if the session uses SRTP."""
        secure = self._context.secure
        return secure.of(self.stream) if secure is not None and self._session.wire.is_secure else None

    def _open_input(self, secure: SecureStream, track: int) -> SecureInput:
        client_key = self._session.wire.setups[track].client_key
        return secure.open_input(track, client_key, self._on_rtp, self._on_rtcp)

    def on_interleaved(self, run: InterleavedRun, now: float) -> None:
        """Process the interleaved frames of one read: receiver reports of the client."""
        if self._session.wire.state is not State.PLAYING:
            return
        secure = self._secure
        if secure is not None:
            self._on_secure_reports(secure, run, now)
            return
        for start, end in run.bounds():
            self._on_report(run.data, start, end, now)

    def _on_secure_reports(self, secure: SecureStream, run: InterleavedRun, now: float) -> None:
        for track, setup in self._session.wire.setups.items():
            if setup.channels is not None and run.channel == setup.channels[1]:
                opened = self._inputs.get(track) or self._inputs.setdefault(track, self._open_input(secure, track))
                opened.receive_reports(run, now)

    def _on_rtcp(self, data: bytes, start: int, end: int) -> None:
        self._on_report(data, start, end, self._context.clock())

    def _on_report(self, data: bytes, start: int, end: int, now: float) -> None:
        """Process a receiver report: it keeps the session alive, and updates the statistics."""
        self._session.wire.last_request = now
        self._session.counters.reports_received += 1
        receiver_report(data[start:end], self.stream, self._session.counters, now)

    def _on_rtp(self, data: bytes, start: int, end: int) -> None:
        """Packets that readers send to open a NAT."""

    def tick(self, now: float) -> None:
        """Called about once a second while the stream is played."""
        if isinstance(self.reader, InterleavedReader):
            return  # the connection monitors its queue
        if now - self._session.wire.last_request >= SESSION_TIMEOUT:
            self._session.close("no RTSP requests received in a while")
