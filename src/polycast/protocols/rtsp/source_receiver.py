"""The media of a source: transports of its tracks, packets into the stream, receiver reports, timeouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.net.loop import sleep_and_read
from polycast.protocols.early_media import EarlyMedia
from polycast.protocols.pull import PullContext, PullError
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.rtsp.publishing import ChannelHandlers, channel_handlers
from polycast.protocols.rtsp.reports import REPORT_INTERVAL
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.protocols.rtsp.source_description import SourceDescription
from polycast.protocols.rtsp.source_ports import TrackPorts, open_group_pair, open_pair
from polycast.protocols.rtsp.stray_bytes import StrayBytes
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.rtcp import ReceiverReport, serialize_compound
from polycast.wire.rtsp.headers.transport import Transport
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.transport_answer import free_channels
from polycast.wire.rtsp.transport_choice import Protocol

# Seconds without a packet after PLAY, after which UDP is considered blocked.
FIRST_PACKET_SECONDS: Final = 3.0

# Seconds between two checks of timeouts and reports.
TICK_SECONDS: Final = 0.5

# Seconds between two checks of packets from UDP that wait for a missing one.
REORDER_TICK_SECONDS: Final = 0.05

# Ports below are those of system services: no server sends media there.
FIRST_UNPRIVILEGED_PORT: Final = 1024


class SourceReceiver:
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
        self._announced_ports: list[TrackPorts] = []
        """Additional sockets, for a server that sends to other ports than requested."""
        self._channels: dict[int, int] = {}
        """Track index by interleaved channel of RTP."""
        self._rtcp_channels: dict[int, int] = {}
        self._receiver: MediaReceiver | None = None
        """Set once the tracks are published."""
        self._handlers: ChannelHandlers = {}
        """Of interleaved channels; set once the tracks are published."""
        self._sync_point: Mapping[int, int] = {}
        self._early: EarlyMedia[tuple[Callable[[bytes, int, int], None], bytes]] | None = EarlyMedia()
        """Datagrams that have overtaken the answer to PLAY, with their handlers; None from then on."""
        self._publishes_at_once = True
        self._stray_bytes = StrayBytes(context.log)
        now = context.loop.time()
        self._started = now
        self._first_report: float | None = None
        """When RTCP was received before the tracks were published."""
        self._last_reorder_tick = now
        self._next_report = now + REPORT_INTERVAL
        self._is_closed = False

    @property
    def has_received(self) -> bool:
        """Whether any packet has arrived since PLAY was answered."""
        receiver = self._receiver
        return self._first_report is not None or (receiver is not None and receiver.last_activity is not None)

    # Transports

    @property
    def _buffer_size(self) -> int:
        """Bytes of a UDP socket's buffer in the system."""
        return int(self._context.configuration[RtspConfiguration].udp_read_buffer_size)

    def offer(self, index: int) -> Transport:
        """Return the transport for SETUP of a track. Raises OSError if there are no free ports."""
        if self._protocol is Protocol.TCP:
            return Transport("TCP", delivery="unicast", interleaved=(2 * index, 2 * index + 1))
        if self._protocol is Protocol.MULTICAST:
            return Transport(delivery="multicast")
        sockets = open_pair(self._buffer_size)
        self._ports[index] = self._make_ports(index, sockets)
        return Transport(delivery="unicast", client_port=self._ports[index].numbers)

    def agree(self, index: int, transport: Transport) -> None:
        """Apply the server's answer. Raises RemoteProtocolError if it cannot be used, or OSError."""
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
        any_port = self._context.path_configuration.rtsp_any_port
        ports = transport.server_port
        if ports is None or ports[0] <= 1:  # some cameras send 0 or 1 for unknown ports
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
        """Also receive on the ports in the server's answer, if they are not the requested ones."""
        if told is None or told == self._ports[index].numbers or told[0] < FIRST_UNPRIVILEGED_PORT:
            return []
        try:
            sockets = open_pair(self._buffer_size, told)
        except OSError as error:
            self._context.log.warning("the server sends to ports %d-%d, which cannot be opened: %s", *told, error)
            return []
        self._announced_ports.append(self._make_ports(index, sockets))
        return self._announced_ports[-1:]

    def _agree_multicast(self, index: int, transport: Transport) -> None:
        track = self._description.tracks[index]
        group = transport.destination or track.connection
        ports = transport.port or transport.client_port or ((track.port, track.port + 1) if track.port else None)
        if group is None or ports is None:
            raise RemoteProtocolError("the server tells no multicast address")
        sockets = open_group_pair(
            group,
            ports,
            self._connection.local_host,
            self._buffer_size,
        )
        self._ports[index] = self._make_ports(index, sockets)
        host = transport.source or self._connection.remote_host
        # A local server sends from the address of the interface that the group is routed to.
        self._ports[index].expect(None if _is_loopback(host) else host, None)

    def expect(self) -> None:
        """Prepare for media, once all tracks are set up: they may arrive before the answer to PLAY."""
        self._connection.expect_frames((*self._channels, *self._rtcp_channels))
        self.punch()

    def punch(self) -> None:
        """Open the NATs between the server and our UDP ports."""
        if self._protocol is Protocol.UDP:
            report = serialize_compound([ReceiverReport(0, ())])
            for ports in self._ports.values():
                ports.punch(report)

    # Media

    def start(self, *, publish_at_once: bool, sync_point: Mapping[int, int]) -> None:
        """Start, once PLAY was answered: publish the tracks now, or with the first packet.

        ``sync_point``: the RTP timestamps of the tracks, by index, at one sync point; empty if unknown.
        """
        self._sync_point = sync_point
        self._publishes_at_once = publish_at_once
        self._started = self._context.loop.time()
        if publish_at_once:
            self._publish()
        self._connection.set_media_handler(self._on_interleaved, self._on_end_of_read, self._started)
        early, self._early = self._early, None
        for handler, data in early or ():
            handler(data, 0, len(data))
        self._on_drained()

    async def wait(self) -> None:
        """Run the periodic tasks; ends with PullError if the server goes silent."""
        while True:
            await sleep_and_read(TICK_SECONDS)
            self._tick(self._context.loop.time())

    def close(self) -> None:
        """Stop receiving, and close the ports."""
        self._is_closed = True
        self._stray_bytes.update(self._connection.skipped)
        self._stray_bytes.close()
        for ports in (*self._ports.values(), *self._announced_ports):
            ports.close()

    def _publish(self) -> MediaReceiver:
        context = self._context
        stream = context.publish([item.track for item in self._description.tracks], True)
        stream.set_sync_point(self._sync_point)
        is_tcp = self._protocol is Protocol.TCP
        receiver = self._receiver = MediaReceiver(
            stream, context.counters, context.log, context.loop.time(), reorders=not is_tcp, ignores_short=True
        )
        if is_tcp:
            rtcp = {index: channel for channel, index in self._rtcp_channels.items()}
            channels = {index: (channel, rtcp[index]) for channel, index in self._channels.items()}
            self._handlers = channel_handlers(receiver, channels)
        return receiver

    def _on_interleaved(self, run: InterleavedRun, now: float) -> None:
        """Process interleaved frames; they are ignored with other transports. The hot path."""
        handler = self._handlers.get(run.channel)
        if handler is not None:
            handler(run, now)

    def _on_end_of_read(self, coalesced: bool) -> None:
        if self._handlers and self._receiver is not None:
            self._receiver.end_of_read(coalesced=coalesced)

    def _make_ports(self, index: int, sockets: tuple[object, object]) -> TrackPorts:
        def on_rtp(data: bytes, start: int, end: int) -> None:
            if end - start >= HEADER_SIZE and not self._is_closed:
                receiver = self._receiver or self._publish()
                receiver.tracks[index].receive_datagram(data, start, end, self._context.loop.time())

        def on_rtcp(data: bytes, start: int, end: int) -> None:
            now = self._context.loop.time()
            if self._receiver is not None:
                self._receiver.tracks[index].receive_rtcp(data[start:end], now)
            else:
                self._first_report = now

        return TrackPorts(self._context.loop, sockets, self._guarded(on_rtp), self._guarded(on_rtcp), self._on_drained)  # type: ignore[arg-type]

    def _guarded(self, handler: Callable[[bytes, int, int], None]) -> Callable[[bytes, int, int], None]:
        """Wrap a handler: keeps early datagrams, and isolates internal errors from the other sockets."""

        def guarded(data: bytes, start: int, end: int) -> None:
            if self._early is not None:
                self._early.add((guarded, data[start:end]), end - start)
                return
            try:
                handler(data, start, end)
            except Exception:
                self._context.log.exception("internal error")

        return guarded

    def _on_drained(self) -> None:
        receiver = self._receiver
        if receiver is None or self._is_closed:
            return
        now = self._context.loop.time()
        if now - self._last_reorder_tick >= REORDER_TICK_SECONDS:
            self._last_reorder_tick = now
            receiver.give_up_missing(now)
        receiver.end_of_read()

    # Time

    def _tick(self, now: float) -> None:
        self._check_silence(now)
        receiver = self._receiver
        if receiver is not None:
            receiver.tick(now)
            self._connection.weight = 1 + len(receiver.stream.readers)
        if now >= self._next_report:
            self._next_report = now + REPORT_INTERVAL
            self._send_reports(now)
        self._stray_bytes.update(self._connection.skipped)

    def _check_silence(self, now: float) -> None:
        if not self.has_received and not self._publishes_at_once:
            if now - self._started >= FIRST_PACKET_SECONDS:
                raise PullError(f"no packets within {FIRST_PACKET_SECONDS:g} s")
            return
        timeout = self._context.read_timeout
        receiver = self._receiver
        last = receiver.idle_since if receiver is not None else self._first_report or self._started
        if now - last >= timeout:
            raise PullError(f"no packets received for {timeout:g} s")

    def _send_reports(self, now: float) -> None:
        receiver = self._receiver
        if receiver is None or self._protocol is Protocol.MULTICAST:
            return
        if self._protocol is Protocol.TCP:
            for channel, index in self._rtcp_channels.items():
                self._connection.send_interleaved(channel, receiver.tracks[index].receiver_report(now))
            return
        for index, track in enumerate(receiver.tracks):
            self._ports[index].send_report(track.receiver_report(now))


def _is_loopback(host: str) -> bool:
    return host.startswith(("127.", "::1", "::ffff:127."))


def _is_address(text: str) -> bool:
    """Whether a text is an IP address, and not a name or a placeholder such as 0.0.0.0."""
    return text[:1].isdigit() and text != "0.0.0.0"
