"""A stream as RTP packets for WebRTC: built once per batch of frames, the same for all viewers, up to the cipher.

Each viewer has its own keys, so encrypted packets cannot be shared. Everything before is shared: one set of packets,
one SSRC, one sequence. A `CipherPlan` lists where each packet goes in a buffer; a viewer's cipher writes into that
buffer, it is sent, and the next viewer's cipher overwrites it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from polycast.hub.batch import FrameBatch
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import NANOSECONDS, WallTime, rescale_nearest
from polycast.media.track import Track
from polycast.net.udp import MAXIMUM_GSO_SIZE, MAXIMUM_SEGMENTS
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.payload.registry import make_packetizer
from polycast.rtp.retransmission import PacketHistory
from polycast.wire.srtp.ciphers import Sealing, position_of
from polycast.wire.webrtc.framing import SIZE_BYTES

MAXIMUM_PAYLOAD_SIZE: Final = 1188
"""Bytes of payload in a packet, so that it has 1,200 bytes with its header, like those of browsers. Including the tag
of SRTP, UDP and IPv6, that is below the smallest MTU of IPv6 networks, 1,280."""

B_FRAMES: Final = "the stream has B-frames, which browsers cannot show in WebRTC"

_MARKER: Final = 0x80


@dataclass(frozen=True, slots=True)
class OutgoingPackets:
    """The packets of one track in one batch of frames."""

    packets: Sequence[RtpPacket]
    first_index: int
    """Index of the first packet: the roll-over counter, then its sequence number."""
    key: int
    """Number of the first packet at which a viewer can start; -1 if there is none."""
    timestamp: int
    """RTP timestamp of the last packet."""
    payload_size: int
    """Bytes of all payloads."""


class PacketForm(NamedTuple):
    """What the packets of a track have in common for some viewers."""

    payload_type: int
    tag_size: int
    """Bytes that the cipher appends."""
    is_framed: bool
    """Whether each packet follows its size (RFC 4571), as over TCP."""


class CipherPlan:
    """Packets of a batch, laid out in a buffer for viewers with the same form of packets."""

    __slots__ = ("calls", "sealings")

    def __init__(self, packets: Sequence[RtpPacket], form: PacketForm, ssrc: int, index: int) -> None:
        """``index`` is the packet index of the first packet, as counted by these viewers."""
        sizes = [HEADER_SIZE + packet.end - packet.payload + form.tag_size for packet in packets]
        view = memoryview(bytearray(sum(sizes) + SIZE_BYTES * len(sizes) * form.is_framed))
        sealings: list[Sealing] = []
        start = 0
        for packet, size in zip(packets, sizes, strict=True):
            if form.is_framed:
                view[start : start + SIZE_BYTES] = size.to_bytes(SIZE_BYTES, "big")
                start += SIZE_BYTES
            header = _header(packet, form.payload_type)
            payload = start + HEADER_SIZE
            view[start:payload] = header
            end = start + size
            sealings.append(
                (position_of(ssrc, index), header, packet.data[packet.payload : packet.end], view[payload:end])
            )
            index += 1
            start = end
        self.sealings = sealings
        """The packets for a viewer's cipher."""
        self.calls = [(view, len(view))] if form.is_framed else _segmented(view, sizes)
        """What to send then: (bytes, size of each datagram), for one system call each."""


def _header(packet: RtpPacket, payload_type: int) -> bytes:
    """The header without extension or CSRC list, with the viewer's payload type."""
    second = payload_type | _MARKER if packet.marker else payload_type
    return b"\x80" + bytes((second,)) + packet.data[packet.start + 2 : packet.start + HEADER_SIZE]


def _segmented(view: memoryview, sizes: Sequence[int]) -> list[tuple[memoryview, int]]:
    """Split a buffer into runs of datagrams of one size, the last of which may be shorter (UDP_SEGMENT)."""
    calls: list[tuple[memoryview, int]] = []
    start = end = segment = count = 0
    for size in sizes:
        is_full = count >= MAXIMUM_SEGMENTS or end + size - start > MAXIMUM_GSO_SIZE
        if count and (size > segment or is_full):
            calls.append((view[start:end], segment))
            start, count = end, 0
        if not count:
            segment = size
        end += size
        count += 1
        if size < segment:
            calls.append((view[start:end], segment))
            start, count = end, 0
    if count:
        calls.append((view[start:end], segment))
    return calls


class OutgoingTrack:
    """Packets of one track for all viewers."""

    def __init__(self, track: Track, wall_time_of: Callable[[Frame, int], WallTime]) -> None:
        """``wall_time_of`` returns the capture time of a frame with a clock rate, on one clock for all tracks."""
        self._wall_time_of = wall_time_of
        self._wall_origin: int | None = None
        """Wall-clock time of media time 0, in nanoseconds."""
        self.index = track.index
        self.track = track
        self.ssrc = secrets.randbits(32)
        self.retransmission_ssrc = secrets.randbits(32)
        self.initial_timestamp = secrets.randbits(32)
        # In the first half of the range, so that it does not wrap among a viewer's first packets (RFC 3711 section
        # 3.3.1).
        self._next_index = secrets.randbits(15)
        packetizer = make_packetizer(
            track,
            ssrc=self.ssrc,
            initial_sequence=self._next_index,
            initial_timestamp=self.initial_timestamp,
            maximum_payload=MAXIMUM_PAYLOAD_SIZE,
        )
        if packetizer is None:
            raise ValueError(f"{track} has no RTP payload format")
        self._packetizer = packetizer
        self.history = PacketHistory()
        self._highest_pts: int | None = None
        self.has_reordering = False
        """Whether the decoding order differs from the presentation order, which browsers do not support in WebRTC."""
        self._form_key = f"webrtc {id(self)}"

    @property
    def has_started(self) -> bool:
        """Whether there was a frame."""
        return self._wall_origin is not None

    def attach(self, viewer: FrameReader, stream: Stream) -> None:
        """A viewer, which reads the stream, will ask for packets."""

    def detach(self, viewer: FrameReader) -> None:
        """A viewer has left; viewers that were not attached are ignored."""

    def request_key_frame(self) -> bool:
        """Make a key frame soon; return False if that is up to the publisher."""
        return False

    def index_of(self, sequence: int) -> int:
        """Return the index of one of the last packets, by its sequence number."""
        return self._next_index - (self._next_index - sequence & 0xFFFF)

    def timestamp_at(self, wall_time: WallTime) -> int:
        """Return the RTP timestamp of a wall-clock time, for sender reports."""
        elapsed = wall_time - (self._wall_origin or wall_time)
        ticks = rescale_nearest(elapsed, NANOSECONDS, self.track.clock_rate)
        return (ticks + self.initial_timestamp) & 0xFFFFFFFF

    def packets_of(self, batch: FrameBatch) -> OutgoingPackets | None:
        """Return the packets of a batch, built for the first viewer that asks; None if it has none of this track."""
        return batch.form(self._form_key, self._build)

    def plan(self, batch: FrameBatch, form: PacketForm, index_offset: int) -> CipherPlan | None:
        """Return the cipher plan of a batch for viewers who joined ``index_offset`` packets (a multiple
        of 65,536) after the first index."""

        def build(batch: FrameBatch) -> CipherPlan | None:
            outgoing = self.packets_of(batch)
            if outgoing is None:
                return None
            index = outgoing.first_index - index_offset
            return CipherPlan(outgoing.packets, form, self.ssrc, index)

        return batch.form((self._form_key, form, index_offset), build)

    def _build(self, batch: FrameBatch) -> OutgoingPackets | None:
        packets: list[RtpPacket] = []
        key = -1
        for index, entry in batch.entries:
            if index != self.index:
                continue
            if not isinstance(entry, Frame):
                self.track = entry
                self._packetizer.codec = entry.codec
                continue
            if self._is_late(entry):
                continue
            if self._wall_origin is None:
                rate = self.track.clock_rate
                self._wall_origin = self._wall_time_of(entry, rate) - rescale_nearest(entry.pts, rate, NANOSECONDS)
            if entry.key and key < 0:
                key = len(packets)
            packets += self._packetizer.packetize(entry)
        if not packets:
            return None
        first_index = self._next_index
        self._next_index += len(packets)
        self.history.add(packets)
        size = sum(packet.end - packet.payload for packet in packets)
        return OutgoingPackets(packets, first_index, key, packets[-1].timestamp, size)

    def _is_late(self, frame: Frame) -> bool:
        """Whether a picture is shown before one that was already sent. Only such pictures depend on it."""
        highest = self._highest_pts
        if highest is not None and frame.pts < highest and not frame.key:
            self.has_reordering = True
            return True
        self._highest_pts = frame.pts
        return False
