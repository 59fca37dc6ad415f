"""A stream as RTP packets for WebRTC: made once per batch of frames, the same for all viewers, up to the cipher.

Viewers have keys of their own, so what is encrypted cannot be shared. Everything before it is: one set of packets, one
SSRC, one sequence. A `CipherPlan` lists where in one buffer each packet goes; a viewer's cipher writes into that
buffer, it is sent, and the next viewer's cipher writes over it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from polycast.hub.batch import FrameBatch
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import NANOSECONDS, WallTime, rescale_nearest
from polycast.media.track import Track
from polycast.net.udp import MAXIMUM_GSO_SIZE, MAXIMUM_SEGMENTS
from polycast.rtp.header import HEADER_SIZE
from polycast.rtp.payload.registry import make_packetizer
from polycast.rtp.retransmission import PacketHistory
from polycast.wire.webrtc.srtp_ciphers import Sealing, position_of

MAXIMUM_PAYLOAD_SIZE: Final = 1188
"""Bytes of payload in a packet, so that with its header it has 1,200: what browsers send themselves. With the tag of
SRTP, UDP and IPv6 that stays below the smallest MTU of an IPv6 network, 1,280."""

_MARKER: Final = 0x80


@dataclass(frozen=True, slots=True)
class OutgoingPackets:
    """What one batch of frames is for one track."""

    packets: Sequence[RtpPacket]
    first_index: int
    """Index of the first packet: how often the sequence numbers have wrapped, then its sequence number."""
    key: int
    """Number of the first packet at which a viewer can begin; -1 when there is none."""
    timestamp: int
    """RTP timestamp of the last packet."""
    payload_size: int
    """Bytes of all payloads."""


class CipherPlan:
    """Packets of a batch, laid out in a buffer for viewers that have the same payload type and tag size."""

    __slots__ = ("calls", "sealings")

    def __init__(self, packets: Sequence[RtpPacket], payload_type: int, ssrc: int, index: int, tag_size: int) -> None:
        """``index`` is the packet index of the first packet, as these viewers count it."""
        sizes = [HEADER_SIZE + packet.end - packet.payload + tag_size for packet in packets]
        view = memoryview(bytearray(sum(sizes)))
        sealings: list[Sealing] = []
        start = 0
        for packet, size in zip(packets, sizes, strict=True):
            header = _header(packet, payload_type)
            payload = start + HEADER_SIZE
            view[start:payload] = header
            end = start + size
            sealings.append(
                (position_of(ssrc, index), header, packet.data[packet.payload : packet.end], view[payload:end])
            )
            index += 1
            start = end
        self.sealings = sealings
        """What a viewer's cipher has to do."""
        self.calls = _segmented(view, sizes)
        """What is to be sent then: (bytes, size of each datagram), for one system call each."""


def _header(packet: RtpPacket, payload_type: int) -> bytes:
    """The header without extension or CSRC list, with the viewer's payload type."""
    second = payload_type | _MARKER if packet.marker else payload_type
    return b"\x80" + bytes((second,)) + packet.data[packet.start + 2 : packet.start + HEADER_SIZE]


def _segmented(view: memoryview, sizes: Sequence[int]) -> list[tuple[memoryview, int]]:
    """Cut a buffer into pieces of datagrams of one size, of which the last may be shorter (UDP_SEGMENT)."""
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
        """``wall_time_of`` tells when a frame with a clock rate was captured, on one clock for all tracks."""
        self._wall_time_of = wall_time_of
        self._wall_origin: int | None = None
        """Wall-clock time of the frames' time 0, in nanoseconds."""
        self.index = track.index
        self.track = track
        self.ssrc = secrets.randbits(32)
        self.retransmission_ssrc = secrets.randbits(32)
        self.initial_timestamp = secrets.randbits(32)
        # The first half of the range, so that no viewer sees it wrap among its first packets (RFC 3711 section 3.3.1).
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
        """Whether pictures come in another order than they are shown, which browsers cannot handle in WebRTC."""
        self._form_key = f"webrtc {id(self)}"

    @property
    def has_started(self) -> bool:
        """Whether there was a frame."""
        return self._wall_origin is not None

    def index_of(self, sequence: int) -> int:
        """Return the index of one of the last packets, by its sequence number."""
        return self._next_index - (self._next_index - sequence & 0xFFFF)

    def timestamp_at(self, wall_time: WallTime) -> int:
        """Return the RTP timestamp of a moment, for sender reports."""
        elapsed = wall_time - (self._wall_origin or wall_time)
        ticks = rescale_nearest(elapsed, NANOSECONDS, self.track.clock_rate)
        return (ticks + self.initial_timestamp) & 0xFFFFFFFF

    def packets_of(self, batch: FrameBatch) -> OutgoingPackets | None:
        """Return the packets of a batch, made for the first viewer that asks; None when this track has none in it."""
        return batch.form(self._form_key, self._build)

    def plan(self, batch: FrameBatch, payload_type: int, index_offset: int, tag_size: int) -> CipherPlan | None:
        """Return how the packets of a batch are encrypted for viewers who joined ``index_offset`` packets (a multiple
        of 65,536) after the first index."""

        def build(batch: FrameBatch) -> CipherPlan | None:
            outgoing = self.packets_of(batch)
            if outgoing is None:
                return None
            index = outgoing.first_index - index_offset
            return CipherPlan(outgoing.packets, payload_type, self.ssrc, index, tag_size)

        return batch.form(f"{self._form_key} {payload_type} {index_offset} {tag_size}", build)

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
        """Whether a picture is shown before one that was sent already. No other picture but such ones needs it."""
        highest = self._highest_pts
        if highest is not None and frame.pts < highest and not frame.key:
            self.has_reordering = True
            return True
        self._highest_pts = frame.pts
        return False
