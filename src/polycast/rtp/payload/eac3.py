"""E-AC-3 in RTP (RFC 4598)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from polycast.codecs import eac3
from polycast.errors import RemoteProtocolError
from polycast.media.codec import EAC3
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, gathered, split_evenly
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpEncoding, SdpMedia

_HEADER_SIZE: Final = 2
_COMPLETE, _FRAGMENT = 0, 1
_MAXIMUM_FRAGMENTS: Final = 255
"""Of one access unit (RFC 4598 section 4.1.1): their number has 8 bits."""
_SYNC_WORD: Final = b"\x0b\x77"


class EAC3Depacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one access unit: the frames of all substreams for a time."""

    def __init__(self, clock_rate: int) -> None:
        super().__init__()
        self._clock_rate = clock_rate
        self._fragments_pts = 0
        self._remaining_fragments = 0

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data, position, end = packet.data, packet.payload + _HEADER_SIZE, packet.end
        if position >= end:
            raise RemoteProtocolError("EAC3 packet is too short")
        # RFC 4598 section 4.1.1: whether there is a fragment, and the number of frames or fragments.
        part = data[position:end]
        if data[packet.payload] & 1 == _FRAGMENT:
            return self._add_fragment(part, data[packet.payload + 1], pts, packet.marker)
        self.drop_fragments()
        return self._frames(part, pts)

    def _add_fragment(self, part: bytes, count: int, pts: int, marker: bool) -> Sequence[Frame]:
        if not self._fragments or pts != self._fragments_pts:
            self.drop_fragments()
            if part[:2] != _SYNC_WORD:  # the first one was lost
                return NO_FRAMES
            self._fragments_pts, self._remaining_fragments = pts, count
        self._fragments.append(part)
        self._remaining_fragments -= 1
        if self._remaining_fragments > 0 and not marker:
            return NO_FRAMES
        return self._frames(self._fragments.take(), pts)

    def _frames(self, data: bytes, pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        for unit, description in eac3.split_access_units(data):
            duration = rescale(description.samples, description.codec.sample_rate, self._clock_rate)
            frames.append(Frame((unit,), pts, pts, key=True, duration=duration))
            pts += duration
        return frames


def _payloads_of(units: Sequence[bytes], room: int) -> Sequence[bytes]:
    """Return one payload of at most ``room`` bytes with these access units, or several with one that is too large.

    There is none if that would need more fragments than can be counted: in packets of a few hundred bytes.
    """
    data, room = b"".join(units), room - _HEADER_SIZE
    if len(data) <= room:
        count = sum(unit.frames for _, unit in eac3.split_access_units(data))
        return (bytes((_COMPLETE, count)) + data,)
    parts = list(split_evenly(data, room))
    if len(parts) > _MAXIMUM_FRAGMENTS:
        return ()
    return [bytes((_FRAGMENT, len(parts))) + part for part in parts]


class EAC3Packetizer(BasePacketizer):
    """One access unit per packet, or several packets for a large one."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return _payloads_of(frame.units[:1], self._maximum_payload)


class EAC3Payload(RtpPayload[EAC3]):
    """See `RtpPayload`."""

    codec_type = EAC3
    encodings = ("EAC3",)
    packetizer_type = EAC3Packetizer
    marks_every_frame = True

    def from_sdp(self, media: SdpMedia) -> EAC3:
        # The number of channels is optional (RFC 4598 section 5.1); it follows from the stream.
        return EAC3(sample_rate=media.clock_rate, channels=media.channels or 6)

    def to_sdp(self, codec: EAC3) -> SdpEncoding:
        return SdpEncoding("eac3", codec.channels)

    def split(self, codec: EAC3, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, start = packet.data, packet.payload + _HEADER_SIZE
        if start >= packet.end or data[packet.payload] & 1 != _COMPLETE:
            return ()  # the packets of a frame have their number in each of them
        units = eac3.split_access_units(data[start : packet.end])
        description = units[0][1]
        duration = rescale(description.samples, description.codec.sample_rate, track.clock_rate)
        return [
            (payload, index * duration)
            for index, run in gathered([unit for unit, _ in units], room - _HEADER_SIZE)
            for payload in _payloads_of(run, room)
        ]

    def depacketizer(self, codec: EAC3, track: Track) -> EAC3Depacketizer:
        return EAC3Depacketizer(track.clock_rate)


PAYLOAD = EAC3Payload()
