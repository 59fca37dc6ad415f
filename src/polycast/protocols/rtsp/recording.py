"""The recording half of an RTSP session: from the client to a stream."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.errors import RemoteProtocolError
from polycast.hub.live_track import LiveTrack
from polycast.hub.path import Path, Publisher
from polycast.hub.stream import Stream
from polycast.media.track import Track, describe_tracks
from polycast.protocols.rtsp.context import MediaOwner, SessionContext
from polycast.protocols.rtsp.media_ports import ClientPorts
from polycast.protocols.rtsp.publishing import TrackInput, last_sign_of_life
from polycast.protocols.rtsp.reports import REPORT_INTERVAL
from polycast.rtp.header import HEADER_SIZE
from polycast.wire.rtsp.parser import InterleavedRun, frame_bounds
from polycast.wire.rtsp.transport_choice import Protocol


class Recording:
    """What a session publishes, from ANNOUNCE on."""

    def __init__(self, session: MediaOwner, context: SessionContext, path: Path, tracks: Sequence[Track]) -> None:
        self.path = path
        self.stream: Stream | None = None
        """There between RECORD and PAUSE."""
        self.inputs: dict[int, TrackInput] = {}
        """By interleaved channel of RTP over TCP; by track index over UDP."""
        self.train_tracks: dict[int, LiveTrack] = {}
        """By channel, where a connection may give trains of packets straight to the tracks."""
        self.last_packet = context.clock()
        """When media came last that was no train."""
        self.ports = ClientPorts(context.ports) if context.ports is not None else None
        self._tracks = tracks
        self._rtcp_inputs: dict[int, TrackInput] = {}
        self._session = session
        self._context = context
        self._last_report = self.last_packet
        self._bad_packets = 0

    def start(self, publisher: Publisher) -> None:
        """Make the path ready. Raises CannotPublish when the path was lost to another publisher."""
        session = self._session
        stream = self.stream = self.path.start_publishing(publisher, self._tracks, publishes_packets=True)
        self.last_packet = self._context.clock()
        for index, setup in session.wire.setups.items():
            track_input = TrackInput(
                stream, stream.tracks[index], session.counters, reorders=setup.protocol is Protocol.UDP
            )
            if setup.channels is not None:
                self.inputs[setup.channels[0]] = track_input
                self._rtcp_inputs[setup.channels[1]] = track_input
                self.train_tracks[setup.channels[0]] = stream.tracks[index]
            elif setup.client_port is not None:
                self.inputs[index] = track_input
                self._register(index, track_input, stream)
        session.log.info(
            "is publishing to path '%s', with %s, %s",
            self.path.name,
            session.transport_name,
            describe_tracks(self._tracks),
        )

    def stop(self) -> None:
        """Take nothing more."""
        if self.inputs and self.stream is not None:
            self.stream.flush()  # what waits is counted when it goes out
        self.count()
        if self.ports is not None:
            self.ports.unregister()
        self.stream = None
        self.inputs.clear()
        self._rtcp_inputs.clear()
        self.train_tracks.clear()

    def count(self) -> None:
        """Bring the session's counters up to date."""
        for track_input in self.inputs.values():
            track_input.count()

    def on_interleaved(self, run: InterleavedRun, now: float, *, is_gathered: bool) -> None:
        """Take the interleaved frames of one read. ``is_gathered``: see `Stream.end_of_read`. The hot path, beside
        `LiveTrack.take_train`."""
        stream = self.stream
        if stream is None:
            return
        self.last_packet = now
        data = run.data
        for channel, start, sizes in run.groups:
            track_input = self.inputs.get(channel)
            if track_input is not None:
                track_input.push_group(data, start, sizes, channel, now, self._on_bad_packet)
            elif channel in self._rtcp_inputs:
                for begin, end in frame_bounds(start, sizes):
                    self._on_rtcp(self._rtcp_inputs[channel], data, begin, end, now)
        stream.end_of_read(is_gathered=is_gathered)

    def _register(self, track: int, track_input: TrackInput, stream: Stream) -> None:
        ports, clock = self.ports, self._context.clock
        if ports is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        when_drained, flush = ports.server.call_when_drained, stream.end_of_read

        def on_rtp(data: bytes, start: int, end: int) -> None:
            if end - start < HEADER_SIZE:
                return  # opens a NAT
            self.last_packet = now = clock()
            try:
                track_input.push(data, start, end, -1, now)
            except RemoteProtocolError as error:
                self._on_bad_packet(error)
            except Exception:
                self._on_internal_error()
            when_drained(flush)

        def on_rtcp(data: bytes, start: int, end: int) -> None:
            self.last_packet = now = clock()
            try:
                self._on_rtcp(track_input, data, start, end, now)
            except Exception:
                self._on_internal_error()

        ports.register(track, on_rtp, on_rtcp)
        # An empty RTP packet and a receiver report open the NATs on the way (as rtsp-simple-server does).
        rtp, rtcp = ports.addresses[track]
        ports.server.rtp.send(b"\x80\x00" + bytes(10), rtp)
        ports.server.rtcp.send(track_input.receiver_report(clock()), rtcp)

    def _on_rtcp(self, track_input: TrackInput, data: bytes, start: int, end: int, now: float) -> None:
        try:
            track_input.push_rtcp(data[start:end], now)
        except RemoteProtocolError as error:
            self._on_bad_packet(error)

    def _on_bad_packet(self, error: RemoteProtocolError) -> None:
        if not self._bad_packets:
            self._session.log.warning("invalid packet received, ignored: %s", error)
        self._bad_packets += 1

    def _on_internal_error(self) -> None:
        """Take the exception that is being handled, a bug of ours: it ends this session only."""
        self._context.on_internal_error()
        self._session.close("internal error")

    def tick(self, now: float) -> None:
        """Called about once a second while the client records: time-outs, reports."""
        session = self._session
        is_udp = session.wire.protocol is Protocol.UDP
        # Over TCP a publisher without media may stay as long as it sends requests, as with rtsp-simple-server.
        last = self.last_packet
        if not is_udp:
            last = last_sign_of_life(max(last, session.wire.last_request), self.train_tracks)
        if now - last >= self._context.endpoint.timeout:
            session.close(f"no {'UDP' if is_udp else 'RTP'} packets received in a while")
            return
        for track_input in self.inputs.values():
            track_input.tick(now)
        if self.stream is not None:
            self.stream.end_of_read()
        if is_udp and self.ports is not None and now - self._last_report >= REPORT_INTERVAL:
            self._last_report = now
            for index, track_input in self.inputs.items():
                if track_input.has_sender_report:
                    self.ports.server.rtcp.send(track_input.receiver_report(now), self.ports.addresses[index][1])

    def tell_bad_packets(self) -> None:
        """Tell in the log how many packets were invalid. Called about once a second."""
        if self._bad_packets > 1:
            self._session.log.warning("%d more invalid packets ignored", self._bad_packets - 1)
            self._bad_packets = 1
