"""MPEG-4 audio in LATM (RFC 6416 section 6; ISO/IEC 14496-3 section 1.7.3): MP4A-LATM."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs import aac
from polycast.codecs.latm import MAXIMUM_ELEMENT_SIZE, ElementReader, StreamMuxConfig, parse_stream_mux_config
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, split_evenly
from polycast.rtp.payload.format_parameters import decode_hexadecimal, parse_parameters
from polycast.rtp.payload.mpeg4_audio import codec_of
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpMedia


class LatmDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. ``configuration`` is None if it is in-band (``cpresent=1``)."""

    def __init__(self, codec: MPEG4Audio, clock_rate: int, configuration: StreamMuxConfig | None) -> None:
        super().__init__()
        self._reader = ElementReader(configuration)
        self._duration = rescale(aac.samples_per_frame(codec), codec.sample_rate, clock_rate)
        self._timestamp = -1
        self._damaged = False

    def on_loss(self) -> None:
        # Without a payload header, a lost packet may be the start of the current element; only if the previous packet
        # ended an element is it likely that whole elements were lost.
        if self._fragments:
            self._damaged = True

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        if packet.timestamp != self._timestamp:
            if self._fragments or self._damaged:
                self._fragments.clear()
                self.lost_frames += 1
            self._damaged = False
            self._timestamp = packet.timestamp
        if not self._damaged:
            self._fragments.append(packet.payload_bytes())
            if self._fragments.size > MAXIMUM_ELEMENT_SIZE:
                raise RemoteProtocolError("LATM element is too large")
        if not packet.marker:
            return NO_FRAMES
        if self._damaged:
            self._damaged = False
            self._fragments.clear()
            self.lost_frames += 1
            return NO_FRAMES
        return self._parse_element(self._fragments.take(), pts)

    def _parse_element(self, data: bytes, pts: int) -> Sequence[Frame]:
        frames: list[Frame] = []
        for index, unit in enumerate(self._reader.read(data)):
            if unit:
                time = pts + index * self._duration
                frames.append(Frame((unit,), time, time, key=True, duration=self._duration))
        return frames


class LatmPacketizer(BasePacketizer):
    """One access unit per AudioMuxElement, configuration out of band (``cpresent=0``)."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        unit = frame.units[0]
        element = b"\xff" * (len(unit) // 255) + bytes((len(unit) % 255,)) + unit
        room = self._maximum_payload
        return [element[position : position + room] for position in range(0, len(element), room)]


class LatmPayload(RtpPayload[MPEG4Audio]):
    """See `RtpPayload`. The second format of MPEG-4 audio: read, and kept where a publisher announced it."""

    codec_type = MPEG4Audio
    encodings = ("MP4A-LATM",)
    packetizer_type = LatmPacketizer

    def from_sdp(self, media: SdpMedia) -> MPEG4Audio:
        try:
            configuration = parse_stream_mux_config(decode_hexadecimal(media.parameters.get("config", "")))
        except RemoteProtocolError:
            return codec_of(b"", media)
        return codec_of(configuration.audio_specific_config, media)

    def depacketizer(self, codec: MPEG4Audio, track: Track) -> LatmDepacketizer:
        parameters = parse_parameters(track.rtp.parameters) if track.rtp is not None else {}
        configuration = None
        # RFC 6416 section 7.3: cpresent is 1 by default.
        if parameters.get("cpresent", "1") == "0":
            try:
                configuration = parse_stream_mux_config(decode_hexadecimal(parameters.get("config", "")))
            except RemoteProtocolError:
                configuration = StreamMuxConfig(1, codec.configuration, 0)
        return LatmDepacketizer(codec, track.clock_rate, configuration)

    def split(self, codec: MPEG4Audio, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        return [(part, 0) for part in split_evenly(packet.payload_bytes(), room)]


PAYLOAD = LatmPayload()
