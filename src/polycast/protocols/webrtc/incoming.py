"""Feeds a stream with the media of a publisher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from polycast.hub.packet_collector import PacketCollector
from polycast.hub.stats import Counters
from polycast.hub.stream import Stream
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.protocols.early_media import EarlyMedia
from polycast.protocols.webrtc.inbound import InboundMedia, InboundTrack
from polycast.protocols.webrtc.peer import Peer

_TICK_TOLERANCE = 0.5
"""Seconds by which a periodic key frame may be requested early: ticks come about once a second."""


class _Timer(NamedTuple):
    due: float
    """uvloop's handle for a time that has passed does not tell it."""
    handle: asyncio.TimerHandle


class Incoming:
    """Feeds a stream from one peer.

    ``start`` is called with the tracks whose packets were received: all of them, or those that have started after
    ``gather_seconds``; and again when a further one starts, such as a camera that was switched off. It returns the
    stream, or None if it was refused: then the stream before, if there is one, goes on without the further tracks.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        peer: Peer,
        media: InboundMedia,
        tracks: Sequence[tuple[InboundTrack, Track]],
        counters: Counters,
        start: Callable[[Sequence[Track]], Stream | None],
        *,
        gather_seconds: float,
    ) -> None:
        self._loop = loop
        self._peer = peer
        self._media = media
        self._tracks = {inbound.index: track for inbound, track in tracks}
        self._counters = counters
        self._start = start
        self._gather_seconds = gather_seconds
        self._gathered_at = 0.0
        """Latest time at which the tracks are known; 0 before the connection is established."""
        self._early: EarlyMedia[tuple[int, Sequence[RtpPacket], float]] = EarlyMedia()
        """Packets received before the tracks are known."""
        self._collector: PacketCollector | None = None
        """Publishes packets to the stream; None before it starts."""
        self._places: dict[int, int] = {}
        """Index in the stream by index of the medium."""
        self._timer: _Timer | None = None
        self._is_closed = False

    @property
    def stream(self) -> Stream | None:
        """The stream that is fed; None before it starts."""
        return None if self._collector is None else self._collector.stream

    def silent_tracks(self, now: float) -> list[Track]:
        """Return the tracks that were negotiated, but of which nothing has arrived, once that may be expected."""
        if not 0 < self._gathered_at <= now:
            return []
        started = self._media.started
        return [track for index, track in self._tracks.items() if index not in started]

    def connect(self, now: float) -> None:
        """Start: the peer is connected."""
        self._gathered_at = now + self._gather_seconds
        self._on_timer()

    def receive_rtp(self, data: bytes, now: float) -> None:
        """Process an RTP packet."""
        index, packets = self._media.receive_rtp(data, now)
        counters = self._counters
        counters.packets_received += 1
        counters.bytes_received += len(data)
        if packets:
            self._process(index, packets, now)

    def receive_rtcp(self, data: bytes, now: float) -> None:
        """Process a compound RTCP packet."""
        for index, report in self._media.receive_rtcp(data, now):
            place = self._places.get(index)
            if self._collector is not None and place is not None:
                self._collector.publish()
                self._collector.stream.on_sender_report(place, report, now)

    def end_of_read(self) -> None:
        """Send the data of one wake-up of the socket to the stream's readers."""
        collector = self._collector
        if self._early and (collector is not None or len(self._media.started) == len(self._tracks)):
            self._begin()
        elif collector is not None:
            collector.end_of_read()
        self._schedule()

    def request_key_frame(self) -> None:
        """Request a key frame from the publisher."""
        self._media.request_key_frame()
        self._schedule()

    def tick(self, now: float) -> None:
        """Called about once a second: request the key frames that readers need, as browsers send none otherwise."""
        readers = self._collector.stream.readers if self._collector is not None else ()
        intervals = [reader.key_frame_interval for reader in readers if reader.key_frame_interval is not None]
        if intervals and now - self._media.last_key_request >= min(intervals) - _TICK_TOLERANCE:
            self.request_key_frame()

    def close(self) -> None:
        """Stop feeding the stream."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.handle.cancel()
        self._early.take()
        self._start = _no_stream  # it belongs to the owner, which refers to this

    def _process(self, index: int, packets: Sequence[RtpPacket], now: float) -> None:
        collector, place = self._collector, self._places.get(index)
        if collector is not None and place is not None:
            collector.add(place, packets, now)
        elif index in self._tracks:
            self._early.add((index, packets, now), sum(map(len, packets)))

    def _begin(self) -> None:
        before = self._collector
        if before is not None:
            before.publish()
            before.stream.flush()
        early = self._early.take()
        started = self._media.started
        tracks = [track for index, track in self._tracks.items() if index in started]
        numbered = [Track(place, track.codec, track.rtp) for place, track in enumerate(tracks)]
        stream = self._start(numbered)
        if self._is_closed:
            return
        if stream is None:
            for index in started.difference(self._places) if before is not None else ():
                self._tracks.pop(index, None)
            return
        self._places = {track.index: place for place, track in enumerate(tracks)}
        collector = self._collector = PacketCollector(stream)
        for index, packets, now in early:
            self._process(index, packets, now)
        collector.end_of_read()
        if before is not None:
            self.request_key_frame()  # the new stream has begun in the middle of a group of pictures

    def _on_timer(self) -> None:
        if self._timer is not None:
            self._timer.handle.cancel()
            self._timer = None
        if self._is_closed:
            return
        now = self._loop.time()
        for control in self._media.handle_timeout(now):
            self._peer.send_control(control)
            self._counters.reports_sent += 1
        released = self._media.released
        if released:
            for index, packet in released:
                self._process(index, (packet,), now)
            released.clear()
            if self._collector is not None:
                self._collector.end_of_read()
        self._counters.packets_lost = self._media.packets_lost
        self._counters.jitter = self._media.jitter
        if self._early and (self._collector is not None or now >= self._gathered_at > 0):
            self._begin()
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer for the engine's next timeout."""
        if self._is_closed or not self._gathered_at:
            return
        due = self._media.next_timeout()
        if self._timer is not None:
            if self._timer.due <= due:
                return
            self._timer.handle.cancel()
        self._timer = _Timer(due, self._loop.call_at(due, self._on_timer))


def _no_stream(tracks: Sequence[Track]) -> Stream | None:
    return None
