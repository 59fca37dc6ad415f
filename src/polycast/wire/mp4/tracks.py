"""Parser of init segments: the tracks of a moov box and their codecs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from polycast.codecs import aac, ac3, av1, flac, h264, h265, nal, opus, vp9
from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264, H265, VP9, Codec, MPEGAudio, Opus
from polycast.wire.mp4.boxes import Box, find, iterate
from polycast.wire.mp4.sample_entries import OBJECT_TYPE_AAC, OBJECT_TYPE_MPEG1_AUDIO, OBJECT_TYPE_MPEG2_AUDIO

MAXIMUM_TRACKS = 16
"""Tracks read from a moov box; a rendition of HLS has one or two."""
MAXIMUM_TIMESCALE = 1_000_000_000
"""Ticks per second: nanoseconds are the finest that makes sense."""
_VISUAL_ENTRY_SIZE = 78
_AUDIO_ENTRY_SIZE = 28
_AAC_OBJECT_TYPES = frozenset((OBJECT_TYPE_AAC, 0x66, 0x67, 0x68))

Samples = Callable[[bytes], tuple[tuple[bytes, ...], bool]]
"""Splits a sample into the units of a frame, and returns whether it is a key frame. Raises RemoteProtocolError."""


@dataclass(slots=True)
class TrackDefaults:
    """Default values for the samples of a track (trex, section 8.8.3)."""

    duration: int = 0
    size: int = 0


@dataclass(slots=True)
class InputTrack:
    """A track of an init segment."""

    track_id: int
    timescale: int
    codec: Codec
    samples: Samples
    time_offset: int
    """Ticks of the timescale to add to sample times, from the edit list."""
    language: str | None
    defaults: TrackDefaults


def _read_audio(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    return ((data,) if data else ()), True


def _read_vp9(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    return ((data,) if data else ()), vp9.is_key(data)


def _read_av1(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    delimiter = av1.ObuType.TEMPORAL_DELIMITER
    units = tuple(unit for unit in av1.split_obus(data) if unit and av1.obu_type(unit) != delimiter)
    return units, av1.is_key(units)


def _h264_reader(codec: H264, length_size: int) -> Samples:
    parameter_sets = (codec.sps, codec.pps)

    def read(data: bytes) -> tuple[tuple[bytes, ...], bool]:
        delimiter = h264.NalType.ACCESS_UNIT_DELIMITER
        units = [unit for unit in nal.split_length_prefixed(data, length_size) if unit[0] & 0x1F != delimiter]
        key = h264.is_key(units)
        return (h264.with_parameter_sets(codec, units) if key and all(parameter_sets) else tuple(units)), key

    return read


def _h265_reader(codec: H265, length_size: int) -> Samples:
    def read(data: bytes) -> tuple[tuple[bytes, ...], bool]:
        delimiter = h265.NalType.ACCESS_UNIT_DELIMITER
        units = [unit for unit in nal.split_length_prefixed(data, length_size) if h265.nal_type(unit) != delimiter]
        key = h265.is_key(units)
        return (h265.with_parameter_sets(codec, units) if key else tuple(units)), key

    return read


def _content(data: bytes, box: Box) -> bytes:
    return data[box.content : box.end]


def _read_descriptor(data: bytes, offset: int) -> tuple[int, int, int]:
    """Return tag, start and end of the descriptor at ``offset`` (ISO/IEC 14496-1 section 8.3.3)."""
    if offset >= len(data):
        raise RemoteProtocolError("an MPEG-4 descriptor is truncated")
    tag = data[offset]
    size = 0
    for position in range(offset + 1, offset + 5):
        if position >= len(data):
            break
        size = size << 7 | data[position] & 0x7F
        if not data[position] & 0x80:
            return tag, position + 1, min(position + 1 + size, len(data))
    raise RemoteProtocolError("the size of an MPEG-4 descriptor is not valid")


def _read_elementary_stream(data: bytes, sample_rate: int, channels: int) -> Codec | None:
    """Return the codec of an esds box's content; None if it is not supported."""
    offset = 4
    tag, offset, end = _read_descriptor(data, offset)
    if tag == 0x03 and end - offset >= 3:
        flags = data[offset + 2]
        offset += 3 + (2 if flags & 0x80 else 0)
        if flags & 0x40 and offset < end:
            offset += 1 + data[offset]
        offset += 2 if flags & 0x20 else 0
        tag, offset, end = _read_descriptor(data, offset)
    if tag != 0x04 or end - offset < 13:
        raise RemoteProtocolError("an esds box has no decoder configuration")
    object_type = data[offset]
    if object_type in (OBJECT_TYPE_MPEG1_AUDIO, OBJECT_TYPE_MPEG2_AUDIO):
        return MPEGAudio(sample_rate, channels)
    if object_type not in _AAC_OBJECT_TYPES:
        return None
    tag, start, end = _read_descriptor(data, offset + 13)
    if tag != 0x05:
        raise RemoteProtocolError("an AAC track has no configuration")
    return aac.parse_audio_specific_config(data[start:end])


def _read_audio_entry(data: bytes, entry: Box) -> Codec | None:
    if entry.end - entry.content < _AUDIO_ENTRY_SIZE:
        raise RemoteProtocolError("an audio sample entry is too short")
    start = entry.content
    version = int.from_bytes(data[start + 8 : start + 10], "big")
    channels = int.from_bytes(data[start + 16 : start + 18], "big")
    sample_rate = int.from_bytes(data[start + 24 : start + 26], "big")
    # QuickTime's version 1 has 16 additional bytes; version 2 is not used in fragmented files
    children = start + _AUDIO_ENTRY_SIZE + (16 if version == 1 else 0)
    for child in iterate(data, min(children, entry.end), entry.end):
        content = _content(data, child)
        if entry.kind == b"mp4a" and child.kind == b"esds":
            return _read_elementary_stream(content, sample_rate, channels)
        if entry.kind == b"Opus" and child.kind == b"dOps":
            return Opus(opus.parse_configuration_record(content).channels)
        if entry.kind == b"fLaC" and child.kind == b"dfLa":
            return flac.parse_configuration_record(content)
        if entry.kind == b"ac-3" and child.kind == b"dac3":
            return ac3.parse_configuration_record(content)
    if entry.kind == b".mp3":
        return MPEGAudio(sample_rate, channels)
    return None


def _read_visual_entry(data: bytes, entry: Box) -> tuple[Codec, Samples] | None:
    if entry.end - entry.content < _VISUAL_ENTRY_SIZE:
        raise RemoteProtocolError("a visual sample entry is too short")
    for child in iterate(data, entry.content + _VISUAL_ENTRY_SIZE, entry.end):
        content = _content(data, child)
        if child.kind == b"avcC" and entry.kind in (b"avc1", b"avc3"):
            h264_codec, length_size = h264.parse_configuration_record(content)
            return h264_codec, _h264_reader(h264_codec, length_size)
        if child.kind == b"hvcC" and entry.kind in (b"hvc1", b"hev1"):
            h265_codec, length_size = h265.parse_configuration_record(content)
            return h265_codec, _h265_reader(h265_codec, length_size)
        if child.kind == b"av1C" and entry.kind == b"av01":
            return av1.parse_configuration_record(content), _read_av1
        if child.kind == b"vpcC" and entry.kind == b"vp09":
            width = int.from_bytes(data[entry.content + 24 : entry.content + 26], "big")
            height = int.from_bytes(data[entry.content + 26 : entry.content + 28], "big")
            found = vp9.parse_configuration_record(content)
            codec = VP9(found.profile, found.bit_depth, found.chroma_subsampling, width, height)
            return codec, _read_vp9
    return None


def _read_sample_entry(data: bytes, table: Box, handler: bytes) -> tuple[Codec, Samples] | None:
    """Return the codec of the first sample entry of an stsd box; None if it is not supported."""
    for entry in iterate(data, min(table.content + 8, table.end), table.end):
        if handler == b"vide":
            return _read_visual_entry(data, entry)
        if handler == b"soun":
            codec = _read_audio_entry(data, entry)
            return (codec, _read_audio) if codec is not None else None
        return None
    return None


def _required(data: bytes, parent: Box, size: int, *path: bytes) -> bytes:
    found = find(data, parent, *path)
    if found is None or found.end - found.content < size:
        raise RemoteProtocolError(f"a track has no usable {path[-1].decode('latin-1')} box")
    return _content(data, found)


def _read_time_offset(data: bytes, track: Box, timescale: int, movie_timescale: int) -> int:
    """Return the offset of the edit list (section 8.6.6) for sample times: a delay, minus what is trimmed at the
    start."""
    edits = find(data, track, b"edts", b"elst")
    if edits is None:
        return 0
    content = _content(data, edits)
    wide = len(content) > 0 and content[0] == 1
    size = 20 if wide else 12
    field = 8 if wide else 4
    delay = 0
    for offset in range(8, len(content) - size + 1, size):
        duration = int.from_bytes(content[offset : offset + field], "big")
        media_time = int.from_bytes(content[offset + field : offset + 2 * field], "big", signed=True)
        if media_time >= 0:
            return delay - media_time
        delay += duration * timescale // movie_timescale
    return delay


def _read_track(data: bytes, box: Box, movie_timescale: int) -> InputTrack | None:
    header = _required(data, box, 24, b"tkhd")
    track_id = int.from_bytes(header[20:24] if header[0] == 1 else header[12:16], "big")
    media = _required(data, box, 24, b"mdia", b"mdhd")
    wide = media[0] == 1
    timescale = int.from_bytes(media[20:24] if wide else media[12:16], "big")
    if not 0 < timescale <= MAXIMUM_TIMESCALE:
        raise RemoteProtocolError(f"a timescale of {timescale} is not valid")
    language = int.from_bytes(media[32:34] if wide else media[20:22], "big")
    letters = bytes(0x60 + (language >> shift & 0x1F) for shift in (10, 5, 0))
    handler = _required(data, box, 12, b"mdia", b"hdlr")[8:12]
    table = find(data, box, b"mdia", b"minf", b"stbl", b"stsd")
    if table is None:
        raise RemoteProtocolError("a track has no sample descriptions")
    found = _read_sample_entry(data, table, handler)
    if found is None:
        return None
    return InputTrack(
        track_id,
        timescale,
        found[0],
        found[1],
        _read_time_offset(data, box, timescale, movie_timescale),
        letters.decode("ascii") if letters.isalpha() and letters != b"und" else None,
        TrackDefaults(),
    )


def read_movie(data: bytes, movie: Box) -> tuple[list[InputTrack], int]:
    """Return the supported tracks of a moov box, and the number of unsupported ones.

    Raises RemoteProtocolError if it is invalid or has too many tracks.
    """
    header = _required(data, movie, 20, b"mvhd")
    movie_timescale = int.from_bytes(header[20:24] if header[0] == 1 else header[12:16], "big") or 1
    tracks: list[InputTrack] = []
    skipped = 0
    defaults: dict[int, TrackDefaults] = {}
    for box in iterate(data, movie.content, movie.end):
        if box.kind == b"trak":
            if len(tracks) + skipped == MAXIMUM_TRACKS:
                raise RemoteProtocolError("an init segment has too many tracks")
            track = _read_track(data, box, movie_timescale)
            if track is None:
                skipped += 1
            else:
                tracks.append(track)
        elif box.kind == b"mvex":
            for child in iterate(data, box.content, box.end):
                content = _content(data, child)
                if child.kind == b"trex" and len(content) >= 24 and len(defaults) < MAXIMUM_TRACKS:
                    fields = [int.from_bytes(content[start : start + 4], "big") for start in range(4, 24, 4)]
                    defaults[fields[0]] = TrackDefaults(duration=fields[2], size=fields[3])
    for track in tracks:
        track.defaults = defaults.get(track.track_id, track.defaults)
    return tracks, skipped
