"""The transports by which a session reads a stream: TCP interleaved, UDP, UDP multicast.

Each wire form of a batch is built by the first reader that needs it and then shared by all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from polycast.hub.batch import FramedRun, MixedBatch, PacketBatch, PacketRun
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import PacketReader
from polycast.net.outbox import Outbox
from polycast.net.udp import MAXIMUM_GSO_SIZE, MAXIMUM_SEGMENTS, Address, UdpSocket
from polycast.wire.rtsp.interleaved import DOLLAR, HEADER, interleaved_frame, interleaved_framing

MAXIMUM_PRELUDE_SIZE = 2 * 1024 * 1024
"""Bytes kept for a reader until all tracks have started: one second at 16 Mbit/s."""

Channels = tuple[int, ...]
"""Interleaved channel of each track of the stream, by index; -1 for tracks that the reader did not set up."""


TrackAddresses = Mapping[int, tuple[Address, Address]]
"""A client's addresses for RTP and RTCP, by index of the track."""


class InterleavedForm(NamedTuple):
    """A batch as interleaved frames."""

    data: bytes
    packets: int
    """Their number."""


class DatagramForm(NamedTuple):
    """The packets of one track as datagrams."""

    calls: list[tuple[bytes, int]]
    """(bytes, segment size) for each system call."""
    packets: int
    """Their number."""
    size: int
    """Bytes of the packets."""


class Owner(Protocol):
    """The session that reads."""

    @property
    def counters(self) -> Counters:
        """Its counters."""

    @property
    def query(self) -> str:
        """The query of the client's URL."""

    def close(self, reason: str) -> None:
        """The stream has ended."""

    def reference(self) -> Reference:
        """Return its name in the API."""


def interleave(batch: PacketBatch, channels: Channels) -> InterleavedForm:
    """Return a batch as interleaved frames (RFC 2326 section 10.12).

    If the publisher used the same channels, its bytes are used unchanged, in as few pieces as possible.
    """
    parts: list[bytes | memoryview] = []
    count = 0
    for run in batch.runs:
        channel = channels[run.track_index]
        if channel < 0:
            continue
        count += run.count
        if run.framing is interleaved_framing(channel):
            parts += run.framed()
        else:
            for packet in run.packets:
                parts.append(HEADER.pack(DOLLAR, channel, packet.end - packet.start))
                parts.append(memoryview(packet.data)[packet.start : packet.end])
    return InterleavedForm(b"".join(parts), count)


def interleaved_key(channels: Channels) -> str:
    """Return the key under which batches keep `interleave` for all readers with these channels.

    Strings cache their hash, tuples do not.
    """
    return f"interleaved {channels}"


def resume(batch: PacketBatch, outbox: Outbox, key_track: int) -> PacketBatch | None:
    """Return what a reader whose queue was full gets of a batch: None until the queue has drained, then the part from a
    key frame on. The rest counts as dropped."""
    if not (batch.has_key and outbox.has_drained()):
        outbox.dropped += batch.packet_count
        return None
    outbox.ready = True
    rest = batch.from_key(key_track)
    outbox.dropped += batch.packet_count - rest.packet_count
    return rest


def to_datagrams(batch: PacketBatch, track_index: int) -> DatagramForm:
    """Return the packets of one track as runs of equal size, each for one system call."""
    packets = [packet for run in batch.runs if run.track_index == track_index for packet in run.packets]
    return group_packets([memoryview(packet.data)[packet.start : packet.end] for packet in packets])


def group_packets(packets: Sequence[bytes | memoryview]) -> DatagramForm:
    """Return packets as runs of equal size, each for one system call."""
    calls: list[tuple[bytes, int]] = []
    parts: list[bytes | memoryview] = []
    segment_size = total = size_of_call = 0
    for packet in packets:
        size = len(packet)
        total += size
        # Only the last segment of a call may be shorter than the others.
        if parts and (size > segment_size or len(parts) >= MAXIMUM_SEGMENTS or size_of_call + size > MAXIMUM_GSO_SIZE):
            calls.append((b"".join(parts), segment_size))
            parts = []
        if not parts:
            segment_size = size
            size_of_call = 0
        parts.append(packet)
        size_of_call += size
        if size < segment_size:
            calls.append((b"".join(parts), segment_size))
            parts = []
    if parts:
        calls.append((b"".join(parts), segment_size))
    return DatagramForm(calls, len(packets), total)


def datagram_key(track_index: int) -> str:
    """Return the key under which batches keep `to_datagrams` for all readers over UDP, unicast and multicast.

    Strings cache their hash, tuples do not.
    """
    return f"datagrams {track_index}"


class StartBuffer(PacketReader):
    """Keeps the output of a stream until all tracks have started, so that their positions are known to PLAY.

    Used at the start of an on-demand stream, so that the first reader loses nothing. But FFmpeg gives the first picture
    of an RTSP stream no time, and if pictures are reordered it cannot derive one, so that recordings fail if the first
    picture is a key frame. In that case the first key frame is dropped.
    """

    def __init__(
        self, session: Owner, loop: asyncio.AbstractEventLoop, track_indexes: Iterable[int], reordered: int | None
    ) -> None:
        """``reordered``: index of the track whose pictures are reordered, if any."""
        self._session = session
        self._missing = set(track_indexes)
        self._reordered = reordered
        self._left_out: int | None = None
        """Timestamp of the dropped key frame."""
        self._size = 0
        self._done: asyncio.Future[None] = loop.create_future()
        self.batches: list[PacketBatch] = []
        self.starts: dict[int, tuple[int, int]] = {}
        """Sequence number and RTP timestamp of the first packet, by track."""

    async def wait(self, seconds: float) -> None:
        """Wait until all tracks have started, up to a timeout."""
        await asyncio.wait((self._done,), timeout=seconds)

    def deliver(self, batch: PacketBatch) -> None:
        if self._reordered is not None:
            batch = self._without_first_picture(batch, self._reordered)
        self.batches.append(batch)
        self._size += batch.size
        for run in batch.runs:
            if run.track_index not in self.starts:
                first = run.packets[0]
                self.starts[run.track_index] = first.sequence, first.timestamp
                self._missing.discard(run.track_index)
        if not self._missing or self._size > MAXIMUM_PRELUDE_SIZE:
            self._finish()

    def close_reader(self, reason: str) -> None:
        self._finish()

    def reference(self) -> Reference:
        return self._session.reference()

    def _without_first_picture(self, batch: PacketBatch, track_index: int) -> PacketBatch:
        rest = MixedBatch()
        for run in batch.runs:
            packets = run.packets
            if run.track_index == track_index and self._reordered is not None:
                if self._left_out is None:
                    self._left_out = packets[0].timestamp if packets[0].key else -1
                packets = [packet for packet in packets if packet.timestamp != self._left_out]
                if packets:
                    self._reordered = None
            if packets:
                rest.runs.append(PacketRun(run.track_index, packets, run.framing, has_key=run.has_key))
        return rest

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


class SessionReader(PacketReader):
    """A reader of the stream on behalf of a session."""

    def __init__(self, session: Owner) -> None:
        self._session = session
        self.counters: Counters = session.counters
        self.query = session.query
        self.reported: set[int] = set()
        """Tracks with a sender report sent to it."""

    def close_reader(self, reason: str) -> None:
        self._session.close(reason)

    def reference(self) -> Reference:
        return self._session.reference()

    def send_report(self, track_index: int, report: bytes) -> None:
        """Send an RTCP packet about a track, if the reader set that track up."""
        raise NotImplementedError


class InterleavedReader(SessionReader):
    """Reads over the RTSP connection itself."""

    def __init__(
        self, session: Owner, outbox: Outbox, channels: Channels, report_channels: Channels, key_track: int
    ) -> None:
        super().__init__(session)
        self._outbox = outbox
        self._framings = tuple(map(interleaved_framing, channels))
        self._report_channels = report_channels
        self._key_track = key_track
        self._form_key = interleaved_key(channels)
        self._interleave = partial(interleave, channels=channels)

    def deliver(self, batch: PacketBatch) -> None:
        outbox = self._outbox
        if not outbox.ready:
            resumed = self._resume(batch)
            if resumed is None:
                return
            batch = resumed
        if type(batch) is FramedRun and batch.framing is self._framings[batch.track_index] and batch.is_whole:
            data, count = batch.buffer.data, batch.count  # the publisher's bytes, unchanged
        else:
            data, count = batch.form(self._form_key, self._interleave)
        if data:
            outbox.write(data)
            counters = self.counters
            counters.bytes_sent += len(data)
            counters.packets_sent += count

    def send_report(self, track_index: int, report: bytes) -> None:
        channel = self._report_channels[track_index]
        if channel >= 0 and self._outbox.ready:
            self._outbox.write(interleaved_frame(channel, report))
            self.counters.reports_sent += 1

    def _resume(self, batch: PacketBatch) -> PacketBatch | None:
        """Drop the batch, or the part of it before a key frame once the queue has drained."""
        outbox = self._outbox
        before = outbox.dropped
        rest = resume(batch, outbox, self._key_track)
        self.counters.packets_dropped += outbox.dropped - before
        return rest


class DatagramReader(SessionReader):
    """Reads over UDP: each track has the client's address for RTP and for RTCP."""

    def __init__(
        self,
        session: Owner,
        rtp_socket: UdpSocket,
        rtcp_socket: UdpSocket,
        addresses: TrackAddresses,
    ) -> None:
        super().__init__(session)
        self._rtp_socket = rtp_socket
        self._rtcp_socket = rtcp_socket
        self._addresses = dict(addresses)
        self._send = rtp_socket.send_segments
        self._targets = [
            (datagram_key(index), partial(to_datagrams, track_index=index), rtp_address)
            for index, (rtp_address, _) in self._addresses.items()
        ]

    def deliver(self, batch: PacketBatch) -> None:
        counters = self.counters
        send = self._send
        for key, make_datagrams, address in self._targets:
            calls, count, size = batch.form(key, make_datagrams)
            for data, segment_size in calls:
                send(data, segment_size, address)
            counters.packets_sent += count
            counters.bytes_sent += size

    def send_report(self, track_index: int, report: bytes) -> None:
        addresses = self._addresses.get(track_index)
        if addresses is not None:
            self._rtcp_socket.send(report, addresses[1])
            self.counters.reports_sent += 1


class MulticastGroup:
    """Sends one stream to multicast addresses, once for all readers that joined them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        rtp_socket: UdpSocket,
        rtcp_socket: UdpSocket,
        addresses: Mapping[int, str],
        ports: tuple[int, int],
    ) -> None:
        self._loop = loop
        self._rtp_socket = rtp_socket
        self._rtcp_socket = rtcp_socket
        self._form_key = ("multicast", id(self))
        self.addresses = dict(addresses)
        """Multicast IP address of each track, by index."""
        self.ports = ports
        self.sessions: set[object] = set()
        """Sessions that use the group; it closes when the last one leaves."""

    def deliver(self, batch: PacketBatch) -> tuple[int, int]:
        """Send a batch unless it was already sent; return its (packets, bytes)."""
        return batch.form(self._form_key, self._send)

    def send_report(self, track_index: int, report: bytes) -> None:
        address = self.addresses.get(track_index)
        if address is not None:
            self._rtcp_socket.send(report, self._rtcp_socket.address(address, self.ports[1]))

    def datagrams(self, batch: PacketBatch, track_index: int) -> DatagramForm:
        """Return the packets of a track as datagrams."""
        return batch.form(datagram_key(track_index), partial(to_datagrams, track_index=track_index))

    def close(self) -> None:
        """Close the sockets."""
        self._rtp_socket.close()
        self._rtcp_socket.close()

    def _send(self, batch: PacketBatch) -> tuple[int, int]:
        packets = sent_bytes = 0
        for index, host in self.addresses.items():
            calls, count, size = self.datagrams(batch, index)
            address = self._rtp_socket.address(host, self.ports[0])
            for data, segment_size in calls:
                self._rtp_socket.send_segments(data, segment_size, address)
            packets += count
            sent_bytes += size
        return packets, sent_bytes


class MulticastReader(SessionReader):
    """Reads what a `MulticastGroup` sends."""

    def __init__(self, session: Owner, group: MulticastGroup) -> None:
        super().__init__(session)
        self.group = group

    def deliver(self, batch: PacketBatch) -> None:
        packets, sent_bytes = self.group.deliver(batch)
        self.counters.packets_sent += packets
        self.counters.bytes_sent += sent_bytes

    def send_report(self, track_index: int, report: bytes) -> None:
        """Reports are sent once to the group; see `MulticastGroup.send_report`."""
