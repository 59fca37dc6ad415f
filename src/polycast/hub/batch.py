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

    @classmethod
    def of(cls, track_index: int, channel: int, packets: list[RtpPacket], *, has_key: bool) -> PacketRun:
        """Return a run of these packets."""
        run = cls(track_index, channel)
        run.packets = packets
        run.size = sum(map(len, packets))
        run.has_key = has_key
        return run

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


class _Batch:
    __slots__ = ("_forms",)

    def __init__(self) -> None:
        self._forms: dict[Hashable, Any] | None = None

    def form(self, key: Hashable, build: Callable[..., Form]) -> Form:
        """Return the wire form called ``key``, built by ``build(self)`` for the first reader that asks."""
        forms = self._forms
        if forms is None:
            forms = self._forms = {}
        elif key in forms:
            return forms[key]  # type: ignore[no-any-return]
        made = forms[key] = build(self)
        return made


class PacketBatch(_Batch):
    """RTP packets of all tracks, in the order of their arrival: a `MixedBatch`, or a `FramedRun` alone."""

    __slots__ = ()

    @property
    def runs(self) -> Sequence[PacketRun | FramedRun]:
        """The packets, by track: consecutive ones of a track together."""
        raise NotImplementedError

    has_key: bool
    """Whether a packet of a video track is in it at which decoding can start (any packet, where there is no video)."""

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
        cut = MixedBatch()
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
            cut.runs.append(PacketRun.of(run.track_index, run.channel, packets, has_key=run.has_key))
        return cut


class MixedBatch(PacketBatch):
    """A batch that is collected run by run."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self._forms = None
        self.runs: list[PacketRun | FramedRun] = []

    @property
    def has_key(self) -> bool:  # type: ignore[override]
        return any(run.has_key for run in self.runs)


class FramedRun(PacketBatch):
    """Consecutive packets of one track as they came: ``data[start:end]`` holds them, each behind a 4-byte frame header
    with the number of ``channel``. A reader that uses the same channel is given these bytes; the packets are made for
    the first one that asks. It is a batch by itself: often there is nothing else in one."""

    __slots__ = ("channel", "count", "data", "end", "has_key", "key_starts", "start", "timestamp", "track_index")

    def __init__(
        self, track_index: int, channel: int, data: bytes, start: int, end: int, count: int, timestamp: int
    ) -> None:
        self._forms = None
        self.track_index = track_index
        self.channel = channel
        self.data = data
        self.start = start
        """Where the frame header of the first packet begins in ``data``."""
        self.end = end
        """Where the last packet ends."""
        self.count = count
        """Number of packets."""
        self.timestamp = timestamp
        """RTP timestamp of the last packet."""
        self.key_starts: Sequence[int] = ()
        """Where the packets begin at which decoding can."""
        self.has_key = False

    @property
    def runs(self) -> Sequence[FramedRun]:
        return (self,)

    @property
    def size(self) -> int:
        return self.end - self.start - FRAME_HEADER_SIZE * self.count

    @property
    def packet_count(self) -> int:
        return self.count

    @property
    def packets(self) -> list[RtpPacket]:
        """The packets, parsed when they are first asked for."""
        return self.form("packets", FramedRun._parse)

    def framed(self) -> Iterator[Span]:
        """Yield the packets with their frame headers."""
        yield self.data, self.start, self.end

    def _parse(self) -> list[RtpPacket]:
        packets: list[RtpPacket] = []
        data = self.data
        start = self.start
        while start < self.end:
            start += FRAME_HEADER_SIZE
            end = start + (data[start - 2] << 8 | data[start - 1])
            packet = parse_packet(data, start, end)
            packet.key = start in self.key_starts
            packets.append(packet)
            start = end
        return packets


class FrameBatch(_Batch):
    """Frames of all tracks, in the order in which they became complete."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[tuple[int, Frame | Track]]) -> None:
        super().__init__()
        self.entries = entries
        """(track index, frame), or (track index, track) where the description of the track changes: from there on the
        frames belong to the new one."""
