"""MPEG-1 and MPEG-2 audio in RTP (RFC 2250 section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import mpeg_audio
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEGAudio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, gathered, split_evenly
from polycast.rtp.payload.rtp_payload import Part, RtpPayload

_HEADER_SIZE = 4


class MPEGAudioDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one MPEG audio frame."""

    def __init__(self, clock_rate: int = 90_000) -> None:
        super().__init__()
        self._clock_rate = clock_rate
        self._fragments_pts = 0
        self._expected_size = 0

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data, position, end = packet.data, packet.payload + _HEADER_SIZE, packet.end
        if position >= end:
            raise RemoteProtocolError("MPEG audio packet is too short")
        offset = data[position - 2] << 8 | data[position - 1]
        if offset:
            return self._add_fragment(data[position:end], offset)
        self.drop_fragments()
        frames: list[Frame] = []
        while position < end:
            header = mpeg_audio.parse_frame_header(data[position : position + 4])
            if position + header.frame_size > end:
                if frames:
                    raise RemoteProtocolError("MPEG audio frame is cut off")
                self._fragments.append(data[position:end])
                self._fragments_pts = pts
                self._expected_size = header.frame_size
                break
            frame = self._frame(data[position : position + header.frame_size], pts, header.samples, header.sample_rate)
            frames.append(frame)
            pts += frame.duration or 0
            position += header.frame_size
        return frames

    def _add_fragment(self, part: bytes, offset: int) -> Sequence[Frame]:
        if not self._fragments:
            return NO_FRAMES  # The start was lost and counted, or arrived before this depacketizer existed.
        if offset != self._fragments.size:
            self._fragments.clear()
            self.lost_frames += 1
            return NO_FRAMES
        self._fragments.append(part)
        if self._fragments.size < self._expected_size:
            return NO_FRAMES
        if self._fragments.size > self._expected_size:
            raise RemoteProtocolError("MPEG audio fragments are larger than their frame")
        unit = self._fragments.take()
        header = mpeg_audio.parse_frame_header(unit[:4])
        return (self._frame(unit, self._fragments_pts, header.samples, header.sample_rate),)

    def _frame(self, unit: bytes, pts: int, samples: int, sample_rate: int) -> Frame:
        return Frame((unit,), pts, pts, key=True, duration=rescale(samples, sample_rate, self._clock_rate))


class MPEGAudioPacketizer(BasePacketizer):
    """One frame per packet, or several packets for a large one."""

    marks_last = False

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        unit = frame.units[0]
        room = self._maximum_payload - _HEADER_SIZE
        return [
            position.to_bytes(_HEADER_SIZE, "big") + unit[position : position + room]
            for position in range(0, len(unit), room)
        ]


class MPEGAudioPayload(RtpPayload[MPEGAudio]):
    """See `RtpPayload`."""

    codec_type = MPEGAudio
    encodings = ("MPA",)
    static_type = 14
    packetizer_type = MPEGAudioPacketizer

    def split(self, codec: MPEGAudio, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        data, position, room = packet.data, packet.payload + _HEADER_SIZE, room - _HEADER_SIZE
        if position >= packet.end:
            return ()
        frames: list[bytes] = []
        offset = data[position - 2] << 8 | data[position - 1]
        duration = 0
        if offset:
            frames.append(data[position : packet.end])  # a fragment
        else:
            while position < packet.end:
                header = mpeg_audio.parse_frame_header(data[position : position + 4])
                duration = rescale(header.samples, header.sample_rate, track.clock_rate)
                end = min(position + header.frame_size, packet.end)
                frames.append(data[position:end])
                position = end
        return [
            ((offset + number * room).to_bytes(_HEADER_SIZE, "big") + part, index * duration)
            for index, run in gathered(frames, room)
            for number, part in enumerate(split_evenly(b"".join(run), room))
        ]

    def depacketizer(self, codec: MPEGAudio, track: Track) -> MPEGAudioDepacketizer:
        return MPEGAudioDepacketizer(track.clock_rate)


PAYLOAD = MPEGAudioPayload()
