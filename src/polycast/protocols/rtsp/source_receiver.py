"""The media of a source: packets into the stream, receiver reports, timeouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from polycast.net.loop import sleep_and_read
from polycast.protocols.early_media import EarlyMedia
from polycast.protocols.pull import PullContext, PullError
from polycast.protocols.rtp_receiver import MediaReceiver
from polycast.protocols.rtsp.publishing import ChannelHandlers, channel_handlers
from polycast.protocols.rtsp.reports import REPORT_INTERVAL
from polycast.protocols.rtsp.source_connection import ClientConnection
from polycast.protocols.rtsp.source_description import SourceDescription
from polycast.protocols.rtsp.source_ports import TrackPorts
from polycast.protocols.rtsp.source_transports import SourceTransports
from polycast.protocols.rtsp.stray_bytes import StrayBytes
from polycast.rtp.header import HEADER_SIZE
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.transport_choice import Protocol

# Seconds without a packet after PLAY, after which UDP is considered blocked.
FIRST_PACKET_SECONDS: Final = 3.0

# Seconds between two checks of timeouts and reports.
TICK_SECONDS: Final = 0.5

# Seconds between two checks of packets from UDP that wait for a missing one.
REORDER_TICK_SECONDS: Final = 0.05


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
        self.transports = SourceTransports(
            context,
            connection,
            description.tracks,
            protocol,
            self._make_ports,
            is_encrypted=description.url.scheme == "rtsps",
        )
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
        self.transports.close()
        # The error that ended the attempt refers to this object for a while: it shall not hold the stream.
        self._handlers = {}
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def _publish(self) -> MediaReceiver:
        context = self._context
        stream = context.publish([item.track for item in self._description.tracks], True)
        stream.set_sync_point(self._sync_point)
        is_tcp = self.transports.protocol is Protocol.TCP
        receiver = self._receiver = MediaReceiver(
            stream, context.counters, context.log, context.loop.time(), reorders=not is_tcp, ignores_short=True
        )
        if is_tcp:
            self._handlers = channel_handlers(receiver, self.transports.channels)
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

        guarded = self._guarded(on_rtp), self._guarded(on_rtcp)
        ports = TrackPorts(self._context.loop, sockets, *guarded, self._on_drained)  # type: ignore[arg-type]
        ports.dump(self._context.dump_prefix("rtsp_source_packet_conn"))
        return ports

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
        try:
            if now - self._last_reorder_tick >= REORDER_TICK_SECONDS:
                self._last_reorder_tick = now
                receiver.give_up_missing(now)
            receiver.end_of_read()
        except Exception:
            self._context.log.exception("internal error")

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
        if receiver is not None and self.transports.protocol is not Protocol.MULTICAST:
            for index, track in enumerate(receiver.tracks):
                self.transports.send_report(index, track.receiver_report(now))
