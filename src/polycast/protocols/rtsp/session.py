"""An RTSP session: what a client has set up, and its part as reader or publisher of a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from polycast.codecs.registry import reorders
from polycast.errors import RemoteProtocolError
from polycast.hub.live_track import LiveTrack
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.items import SessionItem, SessionState, begun
from polycast.media.track import Track, describe_tracks
from polycast.net.address import join_host_port
from polycast.net.udp import Address
from polycast.protocols.rtsp.publishing import TrackInput, last_sign_of_life, receiver_report
from polycast.protocols.rtsp.readers import DatagramReader, InterleavedReader, MulticastReader, Prelude, SessionReader
from polycast.protocols.rtsp.stray_bytes import StrayBytes
from polycast.rtp.header import HEADER_SIZE
from polycast.wire.rtsp.headers.transport import Pair
from polycast.wire.rtsp.parser import InterleavedRun, frame_bounds
from polycast.wire.rtsp.states import State
from polycast.wire.rtsp.transport_choice import Protocol
from polycast.wire.rtsp.url import RtspUrl

if TYPE_CHECKING:
    from polycast.protocols.rtsp.connection import Connection
    from polycast.protocols.rtsp.media_ports import MediaPorts, PacketHandler
    from polycast.protocols.rtsp.server import RtspServer

TRANSPORT_NAMES = {Protocol.UDP: "UDP", Protocol.MULTICAST: "UDP-multicast", Protocol.TCP: "TCP"}

_SHOWN_STATES: dict[State, SessionState] = {State.PLAYING: "read", State.RECORDING: "publish"}

# Seconds between RTCP reports (RFC 3550 section 6.2 allows 5 and more; the reference's 10).
REPORT_INTERVAL = 10.0

# Seconds after which a UDP or multicast reader without any sign of life is gone; told in the Session header.
READER_TIMEOUT = 60


@dataclass(slots=True)
class TrackSetup:
    """What SETUP agreed on for one track."""

    protocol: Protocol
    channels: Pair | None = None
    addresses: tuple[Address, Address] | None = None
    """The client's UDP addresses for RTP and RTCP."""


class Session(Publisher):
    """One session. It lives on the event loop; the connection's request handlers drive it."""

    def __init__(self, server: RtspServer, connection: Connection, secret: str, session_id: str, now: float) -> None:
        self._server = server
        self.connection: Connection | None = None
        """The connection that carries it; None for a UDP session whose connection has gone."""
        self._move_to(connection)
        self.secret = secret
        """The name in the Session header: who knows it controls the session."""
        self.id = session_id
        """The name in logs and in the API."""
        self.created = datetime.now(UTC)
        self.remote_host, self.remote_port = connection.peer
        self.user = ""
        self.log = server.log.child(f"session {session_id}")
        self._counters = Counters()
        self.state = State.INIT
        self.path: Path | None = None
        self.path_name = ""
        self.query = ""
        self.setups: dict[int, TrackSetup] = {}
        self.stream: Stream | None = None
        self.announced: Sequence[Track] = ()
        self.announce_url: RtspUrl | None = None
        self.controls: list[str | None] = []
        self.reader: SessionReader | None = None
        self._prelude: Prelude | None = None
        self.inputs: dict[int, TrackInput] = {}
        """By interleaved channel of RTP, for a publisher over TCP; by track index over UDP."""
        self.rtcp_inputs: dict[int, TrackInput] = {}
        self.train_tracks: dict[int, LiveTrack] = {}
        """By channel, where a connection may give trains of packets straight to the tracks."""
        self.last_request = now
        self.last_packet = now
        """When media came last that was no train."""
        self._last_report = now
        self.has_ended = False
        self._registered: list[tuple[Address, Address]] = []
        self._bad_packets = 0
        self._stray_bytes = StrayBytes(self.log)

    @property
    def counters(self) -> Counters:
        """What went through the session, up to now: a publisher's tracks are asked each time."""
        for track_input in self.inputs.values():
            track_input.count()
        return self._counters

    @property
    def protocol(self) -> Protocol | None:
        """The transport of the tracks set up so far."""
        return next((setup.protocol for setup in self.setups.values()), None)

    @property
    def is_bound(self) -> bool:
        """Whether media flows over the RTSP connection itself."""
        return self.protocol is Protocol.TCP and self.state in (State.PLAYING, State.RECORDING)

    def reference(self) -> Reference:
        return Reference(self._server.session_type, self.id)

    def item(self) -> SessionItem:
        """Return the item for the API."""
        protocol = self.protocol
        return SessionItem(
            address=join_host_port(self.remote_host, self.remote_port),
            state=_SHOWN_STATES.get(self.state, "idle"),
            path=self.path_name,
            user=self.user,
            transport=TRANSPORT_NAMES[protocol] if protocol is not None else "",
            **begun(self.created),
            **self.counters.fields_of(SessionItem),
        )

    def attach(self, connection: Connection) -> None:
        """Go on over this connection: requests without a session's name mean this session, and it ends with it."""
        old = self.connection
        if old is not None and old is not connection and old.session is self:
            old.session = None
        self._move_to(connection)
        connection.session = self

    def _move_to(self, connection: Connection | None) -> Connection | None:
        """Be carried by another connection, or none; return the one that carried it so far."""
        old, self.connection = self.connection, connection
        if old is not None:
            old.sessions.discard(self)
        if connection is not None:
            connection.sessions.add(self)
        return old

    # Reading.

    def begin_prelude(self, path: Path, stream: Stream) -> Prelude:
        """Begin to keep what the stream sends, until `start_reading` takes it."""
        self.end_prelude()
        if self.protocol is not Protocol.TCP:
            stream.fit_datagrams()
        key_track = stream.key_track
        has_reordered = key_track in self.setups and reorders(stream.tracks[key_track].track.codec)
        reordered = key_track if has_reordered else None
        prelude = self._prelude = Prelude(self, self._server.context.loop, self.setups, reordered)
        path.attach_reader(prelude, stream, is_provisional=True)
        return prelude

    def end_prelude(self) -> Prelude | None:
        """Stop keeping; return what was kept."""
        prelude, self._prelude = self._prelude, None
        if prelude is not None and self.path is not None:
            if self.stream is not None:
                self.stream.flush()  # what waits for the end of its frame is not lost between two readers
            self.path.remove_reader(prelude, is_provisional=True)
        return prelude

    def start_reading(self) -> None:
        """Attach to the stream. Raises NoOnePublishing when it has ended since SETUP."""
        prelude = self.end_prelude()
        path, stream = self.path, self.stream
        if path is None or stream is None or self.reader is not None:
            return
        reader = self._make_reader(stream)
        path.attach_reader(reader, stream)
        self.reader = reader
        self._expect_frames()
        tracks = [stream.tracks[index].track for index in sorted(self.setups)]
        self.log.info(
            "is reading from path '%s', with %s, %s", path.name, self._transport_name(), describe_tracks(tracks)
        )
        if prelude is not None:
            self._server.send_first_reports(stream, reader)
            for batch in prelude.batches:
                reader.deliver(batch)

    def stop_reading(self) -> None:
        """Detach from the stream (PAUSE); the set-up stays."""
        self.end_prelude()
        reader, self.reader = self.reader, None
        if reader is None or self.path is None:
            return
        self.path.remove_reader(reader)
        if isinstance(reader, DatagramReader):
            self._unregister_ports()

    def _make_reader(self, stream: Stream) -> SessionReader:
        protocol = self.protocol
        if protocol is Protocol.TCP and self.connection is not None:
            channels, report_channels = [-1] * len(stream.tracks), [-1] * len(stream.tracks)
            for index, setup in self.setups.items():
                if setup.channels is not None:
                    channels[index], report_channels[index] = setup.channels
            outbox = self.connection.outbox
            return InterleavedReader(self, outbox, tuple(channels), tuple(report_channels), stream.key_track)
        stream.fit_datagrams()
        if protocol is Protocol.MULTICAST:
            return MulticastReader(self, self._server.join_group(stream, self, self.remote_host))
        ports = self._server.ports_for_media
        if ports is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        addresses = {index: setup.addresses for index, setup in self.setups.items() if setup.addresses is not None}
        for pair in addresses.values():
            self._register_ports(ports, pair, self._on_reader_rtp, self.on_reader_rtcp)
        return DatagramReader(self, ports.rtp, ports.rtcp, addresses)

    def on_reader_rtcp(self, data: bytes, start: int, end: int) -> None:
        """Take a receiver report of a reader: a sign of life, and figures for the statistics."""
        now = self._server.now()
        self.last_request = now
        stream = self.stream
        if stream is not None:
            receiver_report(data[start:end], stream, self._counters, now)

    def _on_reader_rtp(self, data: bytes, start: int, end: int) -> None:
        """Packets that readers send in order to open a NAT."""

    # Publishing.

    def start_publishing(self) -> None:
        """Make the path ready. Raises CannotPublish when the path was lost to another publisher."""
        path = self.path
        if path is None:
            return
        stream = path.start_publishing(self, self.announced, publishes_packets=True)
        self.stream = stream
        now = self._server.now()
        self.last_packet = now
        self.inputs = {}
        self.rtcp_inputs = {}
        self.train_tracks = {}
        for index, setup in self.setups.items():
            track_input = TrackInput(
                stream, stream.tracks[index], self._counters, reorders=setup.protocol is Protocol.UDP
            )
            if setup.channels is not None:
                self.inputs[setup.channels[0]] = track_input
                self.rtcp_inputs[setup.channels[1]] = track_input
                self.train_tracks[setup.channels[0]] = stream.tracks[index]
            elif setup.addresses is not None:
                self.inputs[index] = track_input
                self._register_input(setup.addresses, track_input, stream)
        self._expect_frames()
        self.log.info(
            "is publishing to path '%s', with %s, %s",
            path.name,
            self._transport_name(),
            describe_tracks(self.announced),
        )

    def stop_publishing(self, reason: str) -> None:
        """Make the path not ready but keep it (PAUSE)."""
        self._end_inputs()
        if self.path is not None:
            self.path.stop_publishing(self, reason)

    def _end_inputs(self) -> None:
        if self.inputs and self.stream is not None:
            self.stream.flush()  # what waits is counted when it goes out
        for track_input in self.inputs.values():
            track_input.count()
        self._unregister_ports()
        self.inputs = {}
        self.rtcp_inputs = {}
        self.train_tracks = {}

    def _expect_frames(self) -> None:
        """Make the connection pass over what a device puts between the frames of its channels."""
        channels = {channel for setup in self.setups.values() for channel in setup.channels or ()}
        if channels and self.connection is not None:
            self.connection.expect_frames(channels)

    def on_interleaved(self, run: InterleavedRun, now: float, *, is_gathered: bool) -> None:
        """Take the interleaved frames of one read: a publisher's media, or what a reader reports. ``is_gathered``: see
        `Stream.end_of_read`. The hot path, beside `LiveTrack.take_train`."""
        stream = self.stream
        if self.state is not State.RECORDING or stream is None:
            if self.state is State.PLAYING:
                for _, start, end in run.frames():
                    self.on_reader_rtcp(run.data, start, end)
            return
        self.last_packet = now
        data = run.data
        for channel, start, sizes in run.groups:
            track_input = self.inputs.get(channel)
            if track_input is not None:
                track_input.push_group(data, start, sizes, channel, now, self._on_bad_packet)
            elif channel in self.rtcp_inputs:
                for begin, end in frame_bounds(start, sizes):
                    self._on_publisher_rtcp(self.rtcp_inputs[channel], data, begin, end)
        stream.end_of_read(is_gathered=is_gathered)

    def _register_input(self, addresses: tuple[Address, Address], track_input: TrackInput, stream: Stream) -> None:
        ports = self._server.ports_for_media
        if ports is None:
            raise RemoteProtocolError("transport protocol udp is disabled", 461)
        server, flush = self._server, stream.end_of_read
        when_drained: Callable[[Callable[[], None]], None] = ports.call_when_drained

        def on_rtp(data: bytes, start: int, end: int) -> None:
            if end - start < HEADER_SIZE:
                return  # opens a NAT
            self.last_packet = now = server.now()
            try:
                track_input.push(data, start, end, -1, now)
            except RemoteProtocolError as error:
                self._on_bad_packet(error)
            except Exception:
                self._on_internal_error()
            when_drained(flush)

        def on_rtcp(data: bytes, start: int, end: int) -> None:
            self.last_packet = server.now()
            try:
                self._on_publisher_rtcp(track_input, data, start, end)
            except Exception:
                self._on_internal_error()

        self._register_ports(ports, addresses, on_rtp, on_rtcp)
        # An empty RTP packet and a receiver report open the NATs on the way (as rtsp-simple-server does).
        ports.rtp.send(b"\x80\x00" + bytes(10), addresses[0])
        ports.rtcp.send(track_input.receiver_report(server.now()), addresses[1])

    def _on_publisher_rtcp(self, track_input: TrackInput, data: bytes, start: int, end: int) -> None:
        try:
            track_input.push_rtcp(data[start:end], self._server.now())
        except RemoteProtocolError as error:
            self._on_bad_packet(error)

    def _on_bad_packet(self, error: RemoteProtocolError) -> None:
        if not self._bad_packets:
            self.log.warning("invalid packet received, ignored: %s", error)
        self._bad_packets += 1

    def _on_internal_error(self) -> None:
        """Take the exception that is being handled, a bug of ours: it ends this session only."""
        self._server.on_internal_error()
        self.close("internal error")

    # Life.

    def tick(self, now: float) -> None:
        """Called about once a second: time-outs, reports, slow readers."""
        if self.state is State.RECORDING:
            self._tick_publisher(now)
        elif self.state is State.PLAYING:
            self._tick_reader(now)
        elif now - self.last_request >= READER_TIMEOUT:
            self.close("no RTSP requests received in a while")
        if self._bad_packets > 1:
            self.log.warning("%d more invalid packets ignored", self._bad_packets - 1)
            self._bad_packets = 1
        if self.connection is not None:
            self._stray_bytes.update(self.connection.skipped)

    def _tick_publisher(self, now: float) -> None:
        # Over TCP a publisher without media may stay as long as it sends requests, as with rtsp-simple-server.
        last = self.last_packet
        if self.protocol is not Protocol.UDP:
            last = last_sign_of_life(max(last, self.last_request), self.train_tracks)
        if now - last >= self._server.read_timeout:
            kind = "UDP" if self.protocol is Protocol.UDP else "RTP"
            self.close(f"no {kind} packets received in a while")
            return
        for track_input in self.inputs.values():
            track_input.tick(now)
        if self.stream is not None:
            self.stream.end_of_read()
        if self.protocol is Protocol.UDP and now - self._last_report >= REPORT_INTERVAL:
            self._last_report = now
            ports = self._server.ports_for_media
            for index, track_input in self.inputs.items():
                addresses = self.setups[index].addresses
                if ports is not None and addresses is not None and track_input.has_sender_report:
                    ports.rtcp.send(track_input.receiver_report(now), addresses[1])

    def _tick_reader(self, now: float) -> None:
        reader = self.reader
        if isinstance(reader, InterleavedReader):
            return  # the connection watches its queue
        if now - self.last_request >= READER_TIMEOUT:
            self.close("no RTSP requests received in a while")

    def close_publisher(self, reason: str) -> None:
        self.close(reason)

    def detach(self, connection: Connection) -> None:
        """The connection has gone: sessions over UDP outlive it until their time-out, others end with it."""
        if self.connection is not connection:
            return
        self._move_to(None)
        if self.protocol in (Protocol.UDP, Protocol.MULTICAST) and self.state in (State.PLAYING, State.RECORDING):
            return
        self.close(connection.close_reason or "not in use")

    def begin(self, state: State) -> None:
        """Go on from a request that has claimed a path or a track: from now on the session is in use."""
        if self.state is State.INIT:
            self.log.info("created by %s", join_host_port(self.remote_host, self.remote_port))
        self.state = state

    def close(self, reason: str, *, keep_connection: bool = False) -> None:
        """End the session, and with it its connection where media was flowing, unless ``keep_connection`` is set.

        That holds for UDP, too: a player has no other way to notice that the stream is over.
        """
        if self.has_ended:
            return
        self.has_ended = True
        was_in_use = self.state is not State.INIT
        close_connection = self.state in (State.PLAYING, State.RECORDING) and not keep_connection
        self.stop_reading()
        self._end_inputs()
        self._server.leave_groups(self)
        path, self.path = self.path, None
        if path is not None:
            path.remove_publisher(self, reason)
            self._server.context.hub.release(path)
        self.state = State.INIT
        self._server.forget_session(self)
        connection = self._move_to(None)
        if connection is not None:
            self._stray_bytes.update(connection.skipped)
            connection.expect_frames(())
        self._stray_bytes.close()
        # One that was never used is a request that was refused, about which the log says more.
        (self.log.info if was_in_use else self.log.debug)("destroyed (%s)", reason)
        if connection is not None:
            connection.on_session_closed(self, reason, close_connection=close_connection)

    def _register_ports(
        self, ports: MediaPorts, addresses: tuple[Address, Address], on_rtp: PacketHandler, on_rtcp: PacketHandler
    ) -> None:
        if ports.is_taken(*addresses):  # since SETUP
            first, second = addresses[0][1], addresses[1][1]
            raise RemoteProtocolError(f"UDP ports {first} and {second} are already in use by another reader")
        ports.register(addresses[0], on_rtp, addresses[1], on_rtcp)
        self._registered.append(addresses)

    def _unregister_ports(self) -> None:
        ports, registered = self._server.ports_for_media, self._registered
        self._registered = []
        if ports is not None:
            for addresses in registered:
                ports.unregister(*addresses)

    def _transport_name(self) -> str:
        protocol = self.protocol
        if protocol is None:
            return "no transport"
        return f"{TRANSPORT_NAMES[protocol]}/TLS" if self._server.is_encrypted else TRANSPORT_NAMES[protocol]
