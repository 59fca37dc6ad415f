"""Batches: the media of one read of a publisher, shared by all readers of the stream.

A batch is built once and each wire form of it is built once; every reader gets the same bytes object. The packets of a
batch are grouped into runs of consecutive packets of one track. A single run is itself a batch, which is the usual
case.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import Framing, PacketBuffer
from polycast.media.track import Track
from polycast.rtp.header import HEADER_SIZE, parse_packet

Form = TypeVar("Form")


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
    """RTP packets of all tracks, in order of arrival: a `MixedBatch` or a single run."""

    __slots__ = ()

    @property
    def runs(self) -> Sequence[Run]:
        """The packets as runs: consecutive packets of one track."""
        raise NotImplementedError

    has_key: bool
    """Whether decoding can start at one of the video packets (at any packet, if there is no video)."""

    @property
    def size(self) -> int:
        """Bytes of all packets."""
        return sum(run.size for run in self.runs)

    @property
    def packet_count(self) -> int:
        """Number of all packets."""
        return sum(run.count for run in self.runs)

    def from_key(self, key_track: int) -> PacketBatch:
        """Return this batch from the first key packet of track ``key_track`` on, without the earlier packets."""
        rest: PacketBatch = self.form(("from_key", key_track), lambda _: self._from_key(key_track))
        return rest

    def _from_key(self, key_track: int) -> PacketBatch:
        rest = MixedBatch()
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
            rest.runs.append(PacketRun(run.track_index, packets, run.framing, has_key=run.has_key))
        return rest


class Run(PacketBatch):
    """Consecutive packets of one track. Created by the publisher, which passes its ownership to `Stream.publish`."""

    __slots__ = ("count", "framing", "has_key", "size", "track_index")

    track_index: int
    count: int
    """Number of packets."""
    framing: Framing | None
    """The framing of the packets in their buffer, which readers with the same one can use directly; else None."""
    has_key: bool
    size: int
    """Bytes of the packets."""

    @property
    def runs(self) -> Sequence[Run]:
        return (self,)

    @property
    def packet_count(self) -> int:
        return self.count

    @property
    def packets(self) -> list[RtpPacket]:
        """The packets, parsed."""
        raise NotImplementedError

    @property
    def payload_size(self) -> int:
        """Bytes of the payloads, as counted by sender reports (RFC 3550 section 6.4.1)."""
        return sum(packet.end - packet.payload for packet in self.packets)

    def framed(self) -> Sequence[bytes | memoryview]:
        """Return the packets with their headers, in as few pieces as possible; only if there is a ``framing``."""
        raise NotImplementedError

    def copy(self) -> Run:
        """Return a run of the same packets for another stream."""
        raise NotImplementedError


class PacketRun(Run):
    """A run of packets that are parsed already."""

    __slots__ = ("_packets",)

    def __init__(
        self, track_index: int, packets: list[RtpPacket], framing: Framing | None = None, *, has_key: bool = False
    ) -> None:
        self._forms = None
        self.track_index = track_index
        self._packets = packets
        self.count = len(packets)
        self.size = sum([packet.end - packet.start for packet in packets])
        self.framing = framing
        self.has_key = has_key

    @property
    def packets(self) -> list[RtpPacket]:
        return self._packets

    def framed(self) -> Sequence[bytes | memoryview]:
        header_size = self.framing.header_size if self.framing is not None else 0
        pieces: list[memoryview] = []
        data = b""
        start = end = 0
        for packet in self._packets:
            if packet.start - header_size != end or packet.data is not data:
                if end:
                    pieces.append(memoryview(data)[start:end])
                data = packet.data
                start = packet.start - header_size
            end = packet.end
        pieces.append(memoryview(data)[start:end])
        return pieces

    def copy(self) -> PacketRun:
        return PacketRun(self.track_index, self._packets, self.framing)

    def extend(self, other: PacketRun) -> None:
        """Append the packets of the next run of the track; not after readers got this one."""
        self._packets += other.packets
        self.count += other.count
        self.size += other.size
        self.has_key |= other.has_key


class FramedRun(Run):
    """A run of packets as received in the publisher's byte stream; parsed on first use."""

    __slots__ = ("buffer", "is_whole", "key_starts")

    def __init__(self, track_index: int, buffer: PacketBuffer) -> None:
        self._forms = None
        self.track_index = track_index
        self.count = count = buffer.count
        self.framing = framing = buffer.framing
        framed_size = buffer.end - buffer.start
        self.size = framed_size - framing.header_size * count
        self.buffer = buffer
        self.is_whole = framed_size == len(buffer.data)
        """Whether the buffer contains only these packets and their headers."""
        self.key_starts: Sequence[int] = ()
        """Offsets in the buffer of the packets at which decoding can start."""
        self.has_key = False

    @property
    def packets(self) -> list[RtpPacket]:
        return self.form("packets", FramedRun._parse)

    @property
    def payload_size(self) -> int:
        # Without parsing: a track accepts a buffer only if all packets are plain, see `PacketScanner.scan`.
        return self.size - HEADER_SIZE * self.count

    def framed(self) -> Sequence[bytes | memoryview]:
        buffer = self.buffer
        return (buffer.data if self.is_whole else memoryview(buffer.data)[buffer.start : buffer.end],)

    def copy(self) -> FramedRun:
        return FramedRun(self.track_index, self.buffer)

    def _parse(self) -> list[RtpPacket]:
        packets: list[RtpPacket] = []
        data = self.buffer.data
        for start, end in self.buffer.bounds():
            packet = parse_packet(data, start, end)
            packet.key = start in self.key_starts
            packets.append(packet)
        return packets


class MixedBatch(PacketBatch):
    """A batch of several runs."""

    __slots__ = ("runs",)

    def __init__(self, runs: list[Run] | None = None) -> None:
        self._forms = None
        self.runs: list[Run] = [] if runs is None else runs

    @property
    def has_key(self) -> bool:  # type: ignore[override]
        return any(run.has_key for run in self.runs)


class FrameBatch(_Batch):
    """Frames of all tracks, in the order of their completion."""

    __slots__ = ("entries",)

    def __init__(self, entries: list[tuple[int, Frame | Track]]) -> None:
        super().__init__()
        self.entries = entries
        """(track index, frame), or (track index, track) if the description of the track changes: the
        following frames belong to the new one."""
