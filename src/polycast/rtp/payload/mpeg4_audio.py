"""MPEG-4 audio in RTP with AU headers: mpeg4-generic (RFC 3640), modes AAC-hbr and AAC-lbr."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from polycast.codecs import aac
from polycast.errors import RemoteProtocolError
from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.timebase import rescale
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload.au_headers import AccessUnit, HeaderFormat, HeaderParser, header_formats, mode_of
from polycast.rtp.payload.base import NO_FRAMES, BaseDepacketizer, BasePacketizer, gathered, split_evenly
from polycast.rtp.payload.format_parameters import decode_hexadecimal, parse_parameters
from polycast.rtp.payload.rtp_payload import Part, RtpPayload, SdpEncoding, SdpMedia

MAXIMUM_DISPLACED_UNITS = 1024
"""Maximum number of access units that wait for earlier ones if a sender interleaves: some 20 s."""


class MPEG4AudioDepacketizer(BaseDepacketizer):
    """See `Depacketizer`. One frame is one access unit."""

    def __init__(self, codec: MPEG4Audio, clock_rate: int, formats: Sequence[HeaderFormat] = (HeaderFormat(),)) -> None:
        """``formats``: see `header_formats`."""
        super().__init__()
        self._headers = HeaderParser(formats)
        first = formats[0]
        self._is_usual = len(formats) == 1 and first.size == 13 and first.index == 3 and first.has_only_sizes
        self._duration = first.constant_duration or rescale(aac.samples_per_frame(codec), codec.sample_rate, clock_rate)
        self._displaced: list[tuple[int, int, bytes]] | None = [] if first.is_interleaved else None
        """Heap of (time, order of arrival, access unit) that may have to wait for earlier ones."""
        self._arrivals = 0
        self._fragments_pts = 0
        self._expected_size = 0
        self._skipping = False
        self._in_adts: bool | None = None

    def on_loss(self) -> None:
        self._skipping |= self.drop_fragments()

    def depacketize(self, packet: RtpPacket, pts: int) -> Sequence[Frame]:
        data = packet.data
        units, position = self._parse_headers(data, packet.payload, packet.end)
        if not self._headers.format.has_size:
            return self._add_unsized(packet, position, pts)
        room = packet.end - position
        if len(units) == 1 and (units[0].size > room or self._fragments or self._skipping):
            return self._add_fragment(packet, position, units[0].size, pts)
        self._skipping = False
        self.drop_fragments()
        if sum(unit.size for unit in units) > room:
            raise RemoteProtocolError("AAC access unit is cut off")
        frames: list[Frame] = []
        for unit in units:
            time = pts + (unit.place * self._duration if unit.offset is None else unit.offset)
            self._place_unit(frames, data[position : position + unit.size], time)
            position += unit.size
        if self._displaced:
            self._release(frames, pts)
        return frames

    def _place_unit(self, frames: list[Frame], unit: bytes, pts: int) -> None:
        displaced = self._displaced
        if displaced is None:
            self._add_frame(frames, unit, pts)
            return
        self._arrivals += 1
        heappush(displaced, (pts, self._arrivals, unit))
        if len(displaced) > MAXIMUM_DISPLACED_UNITS:
            time, _, first = heappop(displaced)
            self._add_frame(frames, first, time)

    def _release(self, frames: list[Frame], pts: int) -> None:
        """Return the units that no later packet can precede: no packet has a unit from before its own timestamp."""
        displaced = self._displaced
        while displaced and displaced[0][0] <= pts:
            time, _, unit = heappop(displaced)
            self._add_frame(frames, unit, time)

    def _add_fragment(self, packet: RtpPacket, position: int, size: int, pts: int) -> Sequence[Frame]:
        whole = size <= packet.end - position
        if self._skipping:
            if pts == self._fragments_pts:
                return NO_FRAMES  # The rest of a frame that lost a fragment.
            self._skipping = False
        if self._fragments and (size != self._expected_size or pts != self._fragments_pts):
            self._fragments.clear()
            self.lost_frames += 1
        if not self._fragments:
            if packet.marker and not whole:
                # RFC 3640 section 3.1: the marker ends a fragmented unit, so its start is missing.
                self.lost_frames += 1
                return NO_FRAMES
            self._expected_size = size
            self._fragments_pts = pts
        self._fragments.append(packet.data[position : packet.end])
        if self._fragments.size < size and not packet.marker:
            return NO_FRAMES
        unit = self._fragments.take()
        if len(unit) != size and not whole:
            self.lost_frames += 1
            return NO_FRAMES
        frames: list[Frame] = []
        self._add_frame(frames, unit[:size], pts)
        return frames

    def _add_unsized(self, packet: RtpPacket, position: int, pts: int) -> Sequence[Frame]:
        """Process (a fragment of) one access unit of unknown size: fragments share their timestamp."""
        frames: list[Frame] = []
        if self._fragments and pts != self._fragments_pts:
            self._add_frame(frames, self._fragments.take(), self._fragments_pts)
        if self._skipping:
            if pts == self._fragments_pts:
                return frames
            self._skipping = False
        self._fragments_pts = pts
        self._fragments.append(packet.data[position : packet.end])
        if packet.marker:
            self._add_frame(frames, self._fragments.take(), pts)
        return frames

    def _add_frame(self, frames: list[Frame], unit: bytes, pts: int) -> None:
        if not unit:
            return
        if self._in_adts is None:
            self._in_adts = unit[0] == 0xFF and len(unit) > 7 and unit[1] & 0xF6 == 0xF0
        if self._in_adts and unit[0] == 0xFF:
            # Some devices send ADTS frames instead of raw ones.
            for offset, (_, payload) in enumerate(aac.parse_adts(unit)):
                time = pts + offset * self._duration
                frames.append(Frame((payload,), time, time, key=True, duration=self._duration))
        else:
            frames.append(Frame((unit,), pts, pts, key=True, duration=self._duration))

    def _parse_headers(self, data: bytes, position: int, end: int) -> tuple[Sequence[AccessUnit], int]:
        if self._is_usual and end - position > 4 and data[position + 1] == 16 and not data[position]:
            # One access unit in AAC-hbr, as nearly all senders have it.
            return (AccessUnit((data[position + 2] << 8 | data[position + 3]) >> 3, 0, None),), position + 4
        return self._headers.parse(data, position, end)


class MPEG4AudioPacketizer(BasePacketizer):
    """Mode AAC-hbr, one access unit per packet, or several packets for a large one (RFC 3640 section 3.3.6)."""

    def payloads(self, frame: Frame) -> Sequence[bytes]:
        unit = frame.units[0]
        if len(unit) >= 1 << 13:
            raise RemoteProtocolError(f"AAC access unit is too large: {len(unit)} bytes")
        header = _headers_of([len(unit)])
        return [header + part for part in split_evenly(unit, self._maximum_payload - len(header))]


def _headers_of(sizes: Sequence[int]) -> bytes:
    """Return the AU header section of units of these sizes, in mode AAC-hbr."""
    return (16 * len(sizes)).to_bytes(2, "big") + b"".join((size << 3).to_bytes(2, "big") for size in sizes)


def codec_of(configuration: bytes, media: SdpMedia) -> MPEG4Audio:
    """Return the codec of an AudioSpecificConfig; without a valid one, AAC-LC as the rtpmap describes it."""
    try:
        return aac.parse_audio_specific_config(configuration)
    except RemoteProtocolError:
        channels = media.channels if media.channels is not None and media.channels <= 7 else 1
        return MPEG4Audio(
            configuration=aac.build_audio_specific_config(2, media.clock_rate, channels),
            sample_rate=media.clock_rate,
            channels=channels,
        )


class MPEG4AudioPayload(RtpPayload[MPEG4Audio]):
    """See `RtpPayload`."""

    codec_type = MPEG4Audio
    encodings = ("mpeg4-generic",)
    requires_parameters = True
    marks_every_frame = True
    packetizer_type = MPEG4AudioPacketizer

    def from_sdp(self, media: SdpMedia) -> MPEG4Audio | None:
        # mpeg4-generic carries every elementary stream of MPEG-4; only audio is understood (RFC 3640 section 4.1).
        mode = mode_of(media.parameters, "aac-hbr")
        if media.media_type != "audio":
            return None
        configuration = decode_hexadecimal(media.parameters.get("config", ""))
        if mode == "generic" and configuration:  # it says what the mode does not
            try:
                is_aac = aac.read_audio_specific_config(configuration).object_type in aac.OBJECT_TYPES
                return aac.parse_audio_specific_config(configuration) if is_aac else None
            except RemoteProtocolError:
                return None
        return codec_of(configuration, media) if mode in ("aac-hbr", "aac-lbr") else None

    def to_sdp(self, codec: MPEG4Audio) -> SdpEncoding:
        return SdpEncoding("mpeg4-generic", codec.channels)

    def live_parameters(self, codec: MPEG4Audio) -> dict[str, str]:
        return {"config": codec.configuration.hex()} if codec.configuration else {}

    def parameters(self, codec: MPEG4Audio) -> dict[str, str]:
        header = {"sizelength": "13", "indexlength": "3", "indexdeltalength": "3"}
        return {"profile-level-id": "1", "mode": "AAC-hbr"} | header | self.live_parameters(codec)

    def is_compatible(self, old: MPEG4Audio, new: MPEG4Audio) -> bool:
        # Encoders write the same configuration in several ways, some with extensions that say that there are none.
        try:
            return old == new or (
                aac.read_audio_specific_config(old.configuration) == aac.read_audio_specific_config(new.configuration)
            )
        except RemoteProtocolError:
            return False

    def form_key(self, form: RtpFormat) -> Hashable:
        return header_formats(parse_parameters(form.parameters))

    def split(self, codec: MPEG4Audio, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        formats = header_formats(parse_parameters(track.rtp.parameters)) if track.rtp is not None else (HeaderFormat(),)
        if replace(formats[0], constant_duration=0) != HeaderFormat():
            return ()
        data, end = packet.data, packet.end
        headers, position = formats[0].parse(data, packet.payload, end)
        if len(headers) == 1:
            section = _headers_of([headers[0].size])  # of the whole unit, also in fragments
            return [(section + part, 0) for part in split_evenly(data[position:end], room - len(section))]
        if any(header.place != index for index, header in enumerate(headers)):
            return ()
        units: list[bytes] = []
        for header in headers:
            units.append(data[position : position + header.size])
            position += header.size
        if position != end:
            return ()
        duration = formats[0].constant_duration or rescale(
            aac.samples_per_frame(codec), codec.sample_rate, track.clock_rate
        )
        parts: list[Part] = []
        # With as many headers as there can be; those of fewer units leave some bytes.
        for index, run in gathered(units, room - len(_headers_of([0] * len(units)))):
            section = _headers_of([len(unit) for unit in run])
            chunks = split_evenly(b"".join(run), room - len(section))
            parts += [(section + chunk, index * duration) for chunk in chunks]
        return parts

    def depacketizer(self, codec: MPEG4Audio, track: Track) -> MPEG4AudioDepacketizer:
        parameters = parse_parameters(track.rtp.parameters) if track.rtp is not None else {}
        return MPEG4AudioDepacketizer(codec, track.clock_rate, header_formats(parameters))


PAYLOAD = MPEG4AudioPayload()
