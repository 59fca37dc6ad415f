"""The media of a source: transports of its tracks, packets into the stream, reports back, time-outs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.net.loop import sleep_and_read
from polycast.protocols.pull import PullContext, PullError
from polycast.protocols.rtsp.publishing import TrackInput, last_sign_of_life
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.protocols.rtsp.source_description import SourceDescription
from polycast.protocols.rtsp.source_ports import TrackPorts, open_group_pair, open_pair
from polycast.protocols.rtsp.stray_bytes import StrayBytes
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.rtcp import ReceiverReport, serialize_compound
from polycast.wire.rtsp.headers.transport import Transport
from polycast.wire.rtsp.parser import InterleavedRun, frame_bounds
from polycast.wire.rtsp.transport_answer import free_channels
from polycast.wire.rtsp.transport_choice import Protocol

# Seconds without a packet after PLAY, after which UDP is taken to be blocked.
FIRST_PACKET_SECONDS: Final = 3.0

# Seconds between receiver reports, as in rtsp-simple-server; servers take them for a sign of life, too.
REPORT_INTERVAL: Final = 10.0

# Seconds between two looks at time-outs and reports.
TICK_SECONDS: Final = 0.5

# Seconds between two looks at packets from UDP that wait for a missing one.
REORDER_TICK_SECONDS: Final = 0.05

# Datagrams that are kept until PLAY is answered: they may overtake the answer, with the first key frame among them.
MAXIMUM_EARLY_DATAGRAMS: Final = 512

# Ports below are those of system services: no server sends media there.
FIRST_UNPRIVILEGED_PORT: Final = 1024


class SourceMedia:
    """Receives the tracks of one session."""

    def __init__(
        self,
        context: PullContext,
        connection: ClientConnection,
        description: SourceDescription,
        protocol: Protocol,
    ) -> None:
        self._context = context
        self._connection = connection
        self._description = description
        self._protocol = protocol
        self._ports: dict[int, TrackPorts] = {}
        self._told_ports: list[TrackPorts] = []
        """Where a server sends to other ports than it was asked to."""
        self._channels: dict[int, int] = {}
        """Track index by interleaved channel of RTP."""
        self._rtcp_channels: dict[int, int] = {}
        self._inputs: dict[int, TrackInput] = {}
        """By interleaved channel of RTP over TCP; by track index over UDP."""
        self._rtcp_inputs: dict[int, TrackInput] = {}
        self._stream: Stream | None = None
        self._moment: Mapping[int, int] = {}
        self._early: list[tuple[Callable[[bytes, int, int], None], bytes]] | None = []
        """What came over UDP before PLAY was answered, with what takes it; None from then on."""
        self._publishes_at_once = True
        self._bad_packets = 0
        self._stray_bytes = StrayBytes(context.log)
        now = context.loop.time()
        self._started = now
        self._last_packet: float | None = None
        self._last_reorder_tick = now
        self._next_report = now + REPORT_INTERVAL
        self._is_closed = False

    @property
    def has_received(self) -> bool:
        """Whether any packet has arrived since PLAY was answered."""
        return self._last_packet is not None

    # Transports

    def offer(self, index: int) -> Transport:
        """Return what SETUP of a track asks for. Raises OSError when there are no ports."""
        if self._protocol is Protocol.TCP:
            return Transport("TCP", delivery="unicast", interleaved=(2 * index, 2 * index + 1))
        if self._protocol is Protocol.MULTICAST:
            return Transport(delivery="multicast")
        sockets = open_pair(int(self._context.configuration.udp_read_buffer_size))
        self._ports[index] = self._make_ports(index, sockets)
        return Transport(delivery="unicast", client_port=self._ports[index].numbers)

    def agree(self, index: int, transport: Transport) -> None:
        """Take what the server answered. Raises RemoteProtocolError when it cannot be used, or OSError."""
        if self._protocol is Protocol.TCP:
            used = {*self._channels, *self._rtcp_channels}
            channels = free_channels(transport.interleaved, (2 * index, 2 * index + 1), used)
            self._channels[channels[0]] = index
            self._rtcp_channels[channels[1]] = index
        elif self._protocol is Protocol.MULTICAST:
            self._agree_multicast(index, transport)
        else:
            self._agree_unicast(index, transport)

    def _agree_unicast(self, index: int, transport: Transport) -> None:
        any_port = self._context.path_configuration.source_any_port_enable
        ports = transport.server_port
        if ports is None or ports[0] <= 1:  # some cameras say 0 or 1 for what they do not know
            if not any_port:
                raise RemoteProtocolError("server ports have not been provided")
            ports = None
        host = self._connection.remote_host
        if transport.source is not None and _is_address(transport.source):
            host = transport.source
        receiving = [self._ports[index], *self._open_told(index, transport.client_port)]
        for pair in receiving:
            pair.expect(host, None if any_port else ports)

    def _open_told(self, index: int, told: tuple[int, int] | None) -> list[TrackPorts]:
        """Receive also on the ports that the server says it will send to, where they are not those asked for."""
        if told is None or told == self._ports[index].numbers or told[0] < FIRST_UNPRIVILEGED_PORT:
            return []
        try:
            sockets = open_pair(int(self._context.configuration.udp_read_buffer_size), told)
        except OSError as error:
            self._context.log.warning("the server sends to ports %d-%d, which cannot be opened: %s", *told, error)
            return []
        self._told_ports.append(self._make_ports(index, sockets))
        return self._told_ports[-1:]

    def _agree_multicast(self, index: int, transport: Transport) -> None:
        track = self._description.tracks[index]
        group = transport.destination or track.connection
        ports = transport.port or transport.client_port or ((track.port, track.port + 1) if track.port else None)
        if group is None or ports is None:
            raise RemoteProtocolError("the server tells no multicast address")
        sockets = open_group_pair(
            group, ports, self._connection.local_host, int(self._context.configuration.udp_read_buffer_size)
        )
        self._ports[index] = self._make_ports(index, sockets)
        host = transport.source or self._connection.remote_host
        # A server on this machine sends from the address of whatever interface the group is routed to.
        self._ports[index].expect(None if _is_loopback(host) else host, None)

    def expect(self) -> None:
        """Get ready for media, once all tracks are set up: they may come before the answer to PLAY."""
        self._connection.expect_frames((*self._channels, *self._rtcp_channels))
        self.punch()

    def punch(self) -> None:
        """Open the NATs between the server and our UDP ports."""
        if self._protocol is Protocol.UDP:
            report = serialize_compound([ReceiverReport(0, ())])
            for ports in self._ports.values():
                ports.punch(report)

    # Media

    def start(self, *, publish_at_once: bool, moment: Mapping[int, int]) -> None:
        """Begin, once PLAY was answered: publish the tracks now, or with the first packet.

        ``moment``: the RTP timestamps of the tracks, by index, at one moment; empty when not known.
        """
        self._moment = moment
        self._publishes_at_once = publish_at_once
        self._started = self._context.loop.time()
        if publish_at_once:
            self._publish()
        # Over another transport, frames on the connection belong to nothing.
        is_interleaved = self._protocol is Protocol.TCP
        self._connection.set_media_handler(self._on_interleaved if is_interleaved else lambda run: None)
        early, self._early = self._early or [], None
        for handler, data in early:
            handler(data, 0, len(data))
        self._on_drained()

    async def wait(self) -> None:
        """Do what is to be done from time to time; ends with PullError when the server has gone silent."""
        while True:
            await sleep_and_read(TICK_SECONDS)
            self._tick(self._context.loop.time())

    def close(self) -> None:
        """Take nothing more, and close the ports."""
        self._is_closed = True
        if self._stream is not None:
            self._stream.flush()  # what waits is counted when it goes out
        self._connection.train_tracks = {}
        for track_input in self._inputs.values():
            track_input.count()
        self._stray_bytes.update(self._connection.skipped)
        self._stray_bytes.close()
        for ports in (*self._ports.values(), *self._told_ports):
            ports.close()

    def _publish(self) -> Stream:
        stream = self._context.publish([item.track for item in self._description.tracks], True)
        self._stream = stream
        stream.begin_together(self._moment)
        reorders = self._protocol is not Protocol.TCP
        inputs = [TrackInput(stream, track, self._context.counters, reorders=reorders) for track in stream.tracks]
        if reorders:
            self._inputs = dict(enumerate(inputs))
        else:
            self._inputs = {channel: inputs[index] for channel, index in self._channels.items()}
            self._rtcp_inputs = {channel: inputs[index] for channel, index in self._rtcp_channels.items()}
            self._connection.train_tracks = {channel: stream.tracks[index] for channel, index in self._channels.items()}
        return stream

    def _on_interleaved(self, run: InterleavedRun) -> None:
        """Take the interleaved frames of one read, where they are no train. The hot path."""
        stream = self._stream
        if stream is None:
            return
        data = run.data
        self._last_packet = now = self._context.loop.time()
        for channel, start, sizes in run.groups:
            track_input = self._inputs.get(channel)
            if track_input is not None:
                track_input.push_group(data, start, sizes, channel, now, self._on_bad_packet, ignores_short=True)
            elif channel in self._rtcp_inputs:
                for begin, end in frame_bounds(start, sizes):
                    self._on_rtcp(self._rtcp_inputs[channel], data, begin, end)
        stream.end_of_read(is_gathered=self._connection.is_gathered)

    def _make_ports(self, index: int, sockets: tuple[object, object]) -> TrackPorts:
        def on_rtp(data: bytes, start: int, end: int) -> None:
            if end - start < HEADER_SIZE or self._is_closed:
                return
            self._last_packet = now = self._context.loop.time()
            if self._stream is None:
                self._publish()
            try:
                self._inputs[index].push(data, start, end, -1, now)
            except RemoteProtocolError as error:
                self._on_bad_packet(error)

        def on_rtcp(data: bytes, start: int, end: int) -> None:
            self._last_packet = self._context.loop.time()
            if self._stream is not None:
                self._on_rtcp(self._inputs[index], data, start, end)

        return TrackPorts(self._context.loop, sockets, self._guarded(on_rtp), self._guarded(on_rtcp), self._on_drained)  # type: ignore[arg-type]

    def _guarded(self, handler: Callable[[bytes, int, int], None]) -> Callable[[bytes, int, int], None]:
        """Keep what comes too early, and the exceptions of a handler, bugs of ours, from the other sockets."""

        def guarded(data: bytes, start: int, end: int) -> None:
            if self._early is not None:
                if len(self._early) < MAXIMUM_EARLY_DATAGRAMS:
                    self._early.append((guarded, data[start:end]))
                return
            try:
                handler(data, start, end)
            except Exception:
                self._context.log.exception("internal error")

        return guarded

    def _on_drained(self) -> None:
        stream = self._stream
        if stream is None or self._is_closed:
            return
        now = self._context.loop.time()
        if now - self._last_reorder_tick >= REORDER_TICK_SECONDS:
            self._last_reorder_tick = now
            for track_input in self._inputs.values():
                track_input.tick(now)
        stream.end_of_read()

    def _on_rtcp(self, track_input: TrackInput, data: bytes, start: int, end: int) -> None:
        try:
            track_input.push_rtcp(data[start:end], self._context.loop.time())
        except RemoteProtocolError as error:
            self._on_bad_packet(error)

    def _on_bad_packet(self, error: RemoteProtocolError) -> None:
        if not self._bad_packets:
            self._context.log.warning("invalid packet received, ignored: %s", error)
        self._bad_packets += 1

    # Time

    def _tick(self, now: float) -> None:
        self._check_silence(now)
        for track_input in self._inputs.values():
            track_input.tick(now)
            track_input.count()
        if self._stream is not None:
            self._stream.end_of_read()
            self._connection.weight = 1 + len(self._stream.readers)
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            self._send_reports(now)
        if self._bad_packets > 1:
            self._context.log.warning("%d more invalid packets ignored", self._bad_packets - 1)
            self._bad_packets = 1
        self._stray_bytes.update(self._connection.skipped)

    def _check_silence(self, now: float) -> None:
        if self._last_packet is None and not self._publishes_at_once:
            if now - self._started >= FIRST_PACKET_SECONDS:
                raise PullError(f"no packets within {FIRST_PACKET_SECONDS:g} s")
            return
        timeout = self._context.read_timeout
        last = last_sign_of_life(self._last_packet or self._started, self._connection.train_tracks)
        if now - last >= timeout:
            raise PullError(f"no packets received for {timeout:g} s")

    def _send_reports(self, now: float) -> None:
        if self._protocol is Protocol.TCP:
            for channel, track_input in self._rtcp_inputs.items():
                self._connection.send_interleaved(channel, track_input.receiver_report(now))
            return
        for index, track_input in self._inputs.items():
            if self._protocol is Protocol.UDP:
                self._ports[index].send_report(track_input.receiver_report(now))


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::1", "::ffff:127."))


def _is_address(text: str) -> bool:
    """Whether a text is an IP address, and not a name or a placeholder such as 0.0.0.0."""
    return text[:1].isdigit() and text != "0.0.0.0"
