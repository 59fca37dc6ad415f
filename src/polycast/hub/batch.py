"""Batches: what one read of a publisher brought, shared by all readers of the stream.

A batch is built once and each wire form of it is built once; every reader gets the same bytes object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
from polycast.rtp.header import parse_packet

Form = TypeVar("Form")

Span = tuple[bytes, int, int]
"""``data[start:end]``, as (data, start, end)."""

FRAME_HEADER_SIZE = 4
"""Bytes of the frame header that may stand in front of a packet in the buffer that it came in."""


class PacketRun:
    """Consecutive packets of one track in a batch."""

    __slots__ = ("channel", "has_key", "packets", "size", "track_index")

    def __init__(self, track_index: int, channel: int) -> None:
        self.track_index = track_index
        self.channel = channel
        """When 0 or more: each packet stands in its ``data`` right behind a 4-byte frame header with this channel
        number, so a reader that uses the same channel can be given the publisher's bytes as they came."""
        self.packets: list[RtpPacket] = []
        self.size = 0
        """Bytes of the packets."""
        self.has_key = False
        """Whether a packet is in it at which a reader can begin."""

    @property
    def count(self) -> int:
        """Number of packets."""
        return len(self.packets)

    @property
    def timestamp(self) -> int:
        """RTP timestamp of the last packet."""
        return self.packets[-1].timestamp

    def framed(self) -> Iterator[Span]:
        """Yield the packets with the frame headers in front of them, in as few pieces as possible.

        Only where ``channel`` is 0 or more.
        """
        data = b""
        start = end = 0
        for packet in self.packets:
            if packet.start - FRAME_HEADER_SIZE != end or packet.data is not data:
                if end:
                    yield data, start, end
                data = packet.data
                start = packet.start - FRAME_HEADER_SIZE
            end = packet.end
        yield data, start, end


class FramedRun:
    """Consecutive packets of one track as they came: each in ``data`` behind a 4-byte frame header with the number of
    ``channel``, with nothing between them. A reader that uses the same channel is given these bytes; the packets are
    made for the first one that asks."""

    __slots__ = (
        "_packets",
        "channel",
        "count",
        "data",
        "end",
        "has_key",
        "key_starts",
        "size",
        "sizes",
        "start",
        "timestamp",
        "track_index",
    )

    def __init__(
        self, track_index: int, channel: int, data: bytes, start: int, sizes: list[int], timestamp: int
    ) -> None:
        self.track_index = track_index
        self.channel = channel
        self.data = data
        self.start = start
        """Where the first packet begins in ``data``, behind its frame header."""
        self.sizes = sizes
        """Bytes of each packet."""
        self.timestamp = timestamp
        """RTP timestamp of the last packet."""
        self.count = len(sizes)
        """Number of packets."""
        self.size = sum(sizes)
        """Bytes of the packets."""
        self.end = start + self.size + FRAME_HEADER_SIZE * (self.count - 1)
        """Where the last packet ends."""
        self.key_starts: Sequence[int] = ()
        """Where the packets begin at which decoding can."""
        self.has_key = False
        """Whether a packet is in it at which a reader can begin."""
        self._packets: list[RtpPacket] | None = None

    @property
    def packets(self) -> list[RtpPacket]:
        """The packets, parsed when they are first asked for."""
        if self._packets is None:
            self._packets = list(self._parse())
        return self._packets

    def framed(self) -> Iterator[Span]:
        """Yield the packets with their frame headers."""
        yield self.data, self.start - FRAME_HEADER_SIZE, self.end

    def _parse(self) -> Iterator[RtpPacket]:
        start = self.start
        for size in self.sizes:
            packet = parse_packet(self.data, start, start + size)
            packet.key = start in self.key_starts
            yield packet
            start += size + FRAME_HEADER_SIZE


class _Batch:
    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[Hashable, Any] = {}

    def form(self, key: Hashable, build: Callable[..., Form]) -> Form:
        """Return the wire form called ``key``, built by ``build(self)`` for the first reader that asks."""
        forms = self._forms
        if key in forms:
            return forms[key]  # type: ignore[no-any-return]
        made = forms[key] = build(self)
        return made


class PacketBatch(_Batch):
    """RTP packets of all tracks, in the order of their arrival."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self._forms = {}  # the call of the base class would cost a twentieth of the way of a small batch
        self.runs: list[PacketRun | FramedRun] = []

    @property
    def has_key(self) -> bool:
        """Whether a packet of a video track is in it at which decoding can start (any packet, where there is no
        video)."""
        return any(run.has_key for run in self.runs)

    @property
    def size(self) -> int:
        """Bytes of all packets."""
        return sum(run.size for run in self.runs)

    @property
    def packet_count(self) -> int:
        """Number of all packets."""
        return sum(run.count for run in self.runs)

    def from_key(self, key_track: int) -> PacketBatch:
        """Return this batch from the first key packet of track ``key_track`` on; what came before is left out."""
        cut: PacketBatch = self.form(("from_key", key_track), lambda _: self._cut(key_track))
        return cut

    def _cut(self, key_track: int) -> PacketBatch:
        cut = PacketBatch()
        found = False
        for run in self.runs:
            packets = run.packets
            if not found:
                if run.track_index != key_track:
                    continue
                start = next((i for i, packet in enumerate(packets) if packet.key), None)
                if start is None:
                    continue
                found = True
                packets = packets[start:]
            new_run = PacketRun(run.track_index, run.channel)
            new_run.packets = packets
            new_run.size = sum(map(len, packets))
            new_run.has_key = run.has_key
            cut.runs.append(new_run)
        return cut


class FrameBatch(_Batch):
    """Frames of all tracks, in the order in which they became complete."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[tuple[int, Frame | Track]]) -> None:
        super().__init__()
        self.entries = entries
        """(track index, frame), or (track index, track) where the description of the track changes: from there on the
        frames belong to the new one."""
