"""AC-3 in RTP (RFC 4184)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import ac3
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, gathered, split_evenly
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpEncoding, SdpMedia

_HEADER_SIZE = 2
_COMPLETE = 0
_INITIAL_LARGE = 1
_INITIAL_SMALL = 2
_FOLLOWING = 3


class AC3Depacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one syncframe."""

    def __init__(self, clock_rate: int) -> None:
        super().__init__()
        self._clock_rate = clock_rate
        self._fragments_pts = 0
        self._remaining_fragments = 0

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data, position, end = packet.data, packet.payload + _HEADER_SIZE, packet.end
        if position >= end:
            raise RemoteProtocolError("AC3 packet is too short")
        # RFC 4184 section 4.1.1: frame type and number of frames or fragments.
        frame_type = data[packet.payload] & 3
        part = data[position:end]
        if frame_type == _FOLLOWING:
            return self._add_fragment(part, pts, packet.marker)
        self.drop_fragments()
        if frame_type == _COMPLETE:
            return self._frames(ac3.split_frames(part), pts)
        self._fragments.append(part)
        self._fragments_pts = pts
        self._remaining_fragments = data[packet.payload + 1] - 1
        return NO_FRAMES

    def _add_fragment(self, part: bytes, pts: int, marker: bool) -> Sequence[Frame]:
        if not self._fragments:
            return NO_FRAMES
        self._fragments.append(part)
        self._remaining_fragments -= 1
        if self._remaining_fragments > 0 and not marker:
            return NO_FRAMES
        if pts != self._fragments_pts:
            raise RemoteProtocolError("AC3 fragments have different timestamps")
        return self._frames(ac3.split_frames(self._fragments.take()), pts)

    def _frames(self, units: Sequence[bytes], pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        for unit in units:
            duration = rescale(ac3.SAMPLES_PER_FRAME, ac3.parse_sync_frame(unit).sample_rate, self._clock_rate)
            frames.append(Frame((unit,), pts, pts, key=True, duration=duration))
            pts += duration
        return frames


def _payloads_of(units: Sequence[bytes], room: int) -> Sequence[bytes]:
    """Return one payload of at most ``room`` bytes with these syncframes, or several with one that is too large."""
    data, room = b"".join(units), room - _HEADER_SIZE
    if len(data) <= room:
        return (bytes((_COMPLETE, len(units))) + data,)
    parts = list(split_evenly(data, room))
    # The decoder can start on the first 5/8 of a frame alone (ATSC A/52 section 7.10).
    initial = _INITIAL_LARGE if room * 8 >= len(data) * 5 else _INITIAL_SMALL
    return [bytes((_FOLLOWING if index else initial, len(parts))) + part for index, part in enumerate(parts)]


class AC3Packetizer(BasePacketizer):
    """One syncframe per packet, or several packets for a large one."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        return _payloads_of(frame.units[:1], self._maximum_payload)


class AC3Payload(RtpPayload[AC3]):
    """See `RtpPayload`."""

    codec_type = AC3
    encodings = ("AC3",)
    packetizer_type = AC3Packetizer
    marks_every_frame = True

    def from_sdp(self, media: SdpMedia) -> AC3:
        # RFC 4184 section 5.1 leaves the number of channels optional; the stream itself tells it.
        return AC3(sample_rate=media.clock_rate, channels=media.channels or 6)

    def to_sdp(self, codec: AC3) -> SdpEncoding:
        return SdpEncoding("AC3", codec.channels)

    def split(self, codec: AC3, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, start = packet.data, packet.payload + _HEADER_SIZE
        if start >= packet.end or data[packet.payload] & 3 != _COMPLETE:
            return ()  # the packets of a frame have their number in each of them
        units = ac3.split_frames(data[start : packet.end])
        duration = rescale(ac3.SAMPLES_PER_FRAME, ac3.parse_sync_frame(units[0]).sample_rate, track.clock_rate)
        return [
            (payload, index * duration)
            for index, run in gathered(units, room - _HEADER_SIZE)
            for payload in _payloads_of(run, room)
        ]

    def depacketizer(self, codec: AC3, track: Track) -> AC3Depacketizer:
        return AC3Depacketizer(track.clock_rate)


PAYLOAD = AC3Payload()
