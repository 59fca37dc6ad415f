"""Serialises tracks and frames as messages for readers: once, with the same bytes for every reader.

A message has an absolute timestamp and does not depend on earlier ones, so a reader can start with any key frame after
it has received `Muxer.initial`. Times are those of the media timeline in milliseconds, modulo 2^32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from polycast.errors import LocalProtocolError, ProtocolError
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.timebase import MILLISECONDS, rescale_nearest
from polycast.media.track import Track
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.chunks import serialize_message
from polycast.wire.rtmp.flv import AudioPacketType, FrameType, MultitrackType, VideoPacketType
from polycast.wire.rtmp.identifiers import SoundFormat
from polycast.wire.rtmp.mapping import AudioMapping, CodecMapping, Parts, VideoMapping, one_unit
from polycast.wire.rtmp.messages import MessageType
from polycast.wire.rtmp.metadata import build_metadata
from polycast.wire.rtmp.supported import CODECS, obstacle

OUTPUT_CHUNK_SIZE = 65_536
"""In bytes; announced to every peer before media is sent, as in rtsp-simple-server."""

STREAM_ID = 1
"""The only message stream that is created."""

AUDIO_CHUNK_STREAM = 4
VIDEO_CHUNK_STREAM = 6
DATA_CHUNK_STREAM = 4

_EXTENDED_VIDEO = 0x80
_EXTENDED_AUDIO = SoundFormat.EXTENDED << 4


def sequence_header(codec: Codec, number: int = 0) -> bytes | None:
    """Return the payload of the message that configures decoders for ``codec``; None if it does not need one.

    ``number`` is the track's among those of its kind. Raises `LocalProtocolError` if parameters are missing.
    """
    mapping = CODECS[codec]
    record = mapping.configuration(codec)
    if record is None:
        return None
    if isinstance(mapping, AudioMapping):
        return _audio_header(mapping, codec, number, AudioPacketType.SEQUENCE_START) + record
    if number == 0 and mapping.legacy_identifier is not None:
        return bytes((FrameType.KEY << 4 | mapping.legacy_identifier(codec), 0, 0, 0, 0)) + record
    return _video_header(mapping.four_cc, number, FrameType.KEY, VideoPacketType.SEQUENCE_START) + record


def _video_header(four_cc: bytes, number: int, frame_type: int, packet_type: int) -> bytes:
    if number == 0:
        return bytes((_EXTENDED_VIDEO | frame_type << 4 | packet_type,)) + four_cc
    first = _EXTENDED_VIDEO | frame_type << 4 | VideoPacketType.MULTITRACK
    return bytes((first, MultitrackType.ONE_TRACK << 4 | packet_type)) + four_cc + bytes((number,))


def _audio_header(mapping: AudioMapping[Any], codec: Codec, number: int, packet_type: int) -> bytes:
    """Return the header of a message: legacy for the first track of a codec that has a legacy identifier."""
    if number == 0 and mapping.legacy_identifier is not None and mapping.sound_flags is not None:
        first = mapping.legacy_identifier(codec) << 4 | mapping.sound_flags(codec)
        return bytes((first, packet_type)) if mapping.has_packet_type else bytes((first,))
    if number == 0:
        return bytes((_EXTENDED_AUDIO | packet_type,)) + mapping.four_cc
    first = _EXTENDED_AUDIO | AudioPacketType.MULTITRACK
    return bytes((first, MultitrackType.ONE_TRACK << 4 | packet_type)) + mapping.four_cc + bytes((number,))


def _frame_headers(mapping: CodecMapping[Any], codec: Codec, number: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Return the headers of an inter frame and a key frame, and the same two before a composition time."""
    if isinstance(mapping, AudioMapping):
        header = _audio_header(mapping, codec, number, AudioPacketType.CODED_FRAMES)
        return header, header, header, header
    if number == 0 and mapping.legacy_identifier is not None:
        identifier = mapping.legacy_identifier(codec)
        inter, key = bytes((FrameType.INTER << 4 | identifier, 1)), bytes((FrameType.KEY << 4 | identifier, 1))
        return inter, key, inter, key
    has_composition_time = isinstance(mapping, VideoMapping) and mapping.has_nal_units
    short = VideoPacketType.CODED_FRAMES_X if has_composition_time else VideoPacketType.CODED_FRAMES
    return (
        _video_header(mapping.four_cc, number, FrameType.INTER, short),
        _video_header(mapping.four_cc, number, FrameType.KEY, short),
        _video_header(mapping.four_cc, number, FrameType.INTER, VideoPacketType.CODED_FRAMES),
        _video_header(mapping.four_cc, number, FrameType.KEY, VideoPacketType.CODED_FRAMES),
    )


def _writer_of(mapping: CodecMapping[Any], codec: Codec) -> Callable[[Frame], Parts]:
    if isinstance(mapping, AudioMapping):
        return mapping.writer(codec)
    return mapping.parts if isinstance(mapping, VideoMapping) else one_unit


class TrackWriter:
    """Turns the frames of one track into message payloads. The headers are built once."""

    __slots__ = (
        "_has_composition_time",
        "_headers",
        "_is_legacy",
        "_parts",
        "chunk_stream",
        "clock_rate",
        "complete",
        "message_type",
        "number",
        "sequence_header",
        "track",
    )

    def __init__(self, track: Track, number: int) -> None:
        codec = track.codec
        reason = obstacle(codec)
        if reason is None and number > 0 and not CODECS[codec].four_cc:
            reason = "it has no enhanced identifier, so it cannot be one of several tracks"
        if reason is not None:
            raise LocalProtocolError(f"can't write track {track.index} ({track.codec_name}) with RTMP: {reason}")
        self.track = track
        self.clock_rate = track.clock_rate
        self.number = number
        """Number among the tracks of its kind."""
        is_video = track.kind == "video"
        self.message_type = MessageType.VIDEO if is_video else MessageType.AUDIO
        self.chunk_stream = VIDEO_CHUNK_STREAM if is_video else AUDIO_CHUNK_STREAM
        mapping = CODECS[codec]
        self._parts = _writer_of(mapping, codec)
        self._has_composition_time = isinstance(mapping, VideoMapping) and mapping.has_nal_units
        self._is_legacy = mapping.legacy_identifier is not None and number == 0
        """Whether messages are legacy ones, in which a composition time is present even if it is zero."""
        self._headers = _frame_headers(mapping, codec, number)
        self.sequence_header: bytes | None = None
        """The payload that configures decoders, if the codec needs one and its parameters are known."""
        self.complete = mapping.has_parameters(codec)
        """Whether decoders can be configured: some publishers only send the parameters with the first key frame."""
        if self.complete:
            try:
                self.sequence_header = sequence_header(codec, number)
            except ProtocolError:
                self.complete = False  # an invalid parameter set; the next one may be valid

    def payload(self, frame: Frame, composition_time: int) -> Parts:
        """Return the payload of a frame's message in parts; ``composition_time`` in milliseconds."""
        parts = self._parts(frame)
        if self._has_composition_time and (composition_time or self._is_legacy):
            time = (composition_time & 0xFFFFFF).to_bytes(3, "big")
            return [self._headers[2 + frame.key], time, *parts]
        return [self._headers[frame.key], *parts]


class Muxer:
    """Serialises the messages of a stream's tracks. One muxer serves all readers of a stream."""

    __slots__ = ("_begins_at_zero", "_origin", "_writers", "chunk_size", "stream_id")

    def __init__(
        self,
        tracks: Iterable[Track],
        *,
        chunk_size: int = OUTPUT_CHUNK_SIZE,
        origin: int | None = None,
        begins_at_zero: bool = False,
        stream_id: int = STREAM_ID,
    ) -> None:
        """``tracks``: those that `supported.select_tracks` selects for the most capable reader.

        ``origin``: the time in milliseconds that becomes timestamp 0. By default 0, or the time of the first frame if
        that is negative, or with ``begins_at_zero``.
        """
        self._begins_at_zero = begins_at_zero
        self.chunk_size = chunk_size
        self.stream_id = stream_id
        self._origin = origin
        self._writers: dict[int, TrackWriter] = {}
        numbers: dict[str, int] = {}
        for track in tracks:
            number = numbers.get(track.kind, 0)
            self._writers[track.index] = TrackWriter(track, number)
            numbers[track.kind] = number + 1

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The tracks that are carried, with their current codecs."""
        return tuple(writer.track for writer in self._writers.values())

    def initial(
        self, timestamp: int = 0, tracks: Iterable[Track] | None = None, data_handler: str | None = None
    ) -> bytes:
        """Return the first messages for a reader: metadata and sequence headers, of ``tracks`` or of all.

        Sequence headers of tracks that are not `is_complete` are omitted; `update` returns them later.
        ``timestamp``: that of the sequence headers in milliseconds, ideally of the first frame that follows
        (`timestamp`).
        ``data_handler``: ``@setDataFrame`` when publishing to a server.
        """
        indexes = None if tracks is None else {track.index for track in tracks}
        writers = [writer for index, writer in self._writers.items() if indexes is None or index in indexes]
        metadata = build_metadata((writer.track, writer.number) for writer in writers).payload()
        if data_handler is not None:
            metadata = amf0.encode(data_handler) + metadata
        # FFmpeg takes metadata with any other timestamp than 0 for a subtitle, and adds a track.
        messages = [self._serialize(MessageType.DATA_AMF0, 0, [metadata], DATA_CHUNK_STREAM)]
        messages += [self._sequence_header(writer, timestamp) for writer in writers]
        return b"".join(messages)

    def update(self, track: Track, timestamp: int = 0) -> bytes:
        """Set the changed codec of a track and return its new sequence header, to be sent before its next frame.

        Nothing is returned while the parameters are incomplete; the previous ones remain in use.
        """
        before = self._writer(track.index)
        writer = TrackWriter(track, before.number)
        if before.complete and not writer.complete:
            return b""
        self._writers[track.index] = writer
        return self._sequence_header(writer, timestamp)

    def _sequence_header(self, writer: TrackWriter, timestamp: int) -> bytes:
        payload = writer.sequence_header
        if payload is None:
            return b""
        return self._serialize(writer.message_type, timestamp, [payload], writer.chunk_stream)

    def _serialize(self, message_type: int, timestamp: int, parts: Parts, chunk_stream_id: int) -> bytes:
        return serialize_message(message_type, self.stream_id, timestamp, parts, chunk_stream_id, self.chunk_size)

    def _writer(self, index: int) -> TrackWriter:
        writer = self._writers.get(index)
        if writer is None:
            raise LocalProtocolError(f"track {index} is not carried")
        return writer

    def is_complete(self, index: int) -> bool:
        """Return whether all parameters needed by decoders of a track are known."""
        return self._writer(index).complete

    def timestamp(self, index: int, frame: Frame) -> int:
        """Return the timestamp of a frame's message in unwrapped milliseconds."""
        return self._timestamp(self._writer(index), frame)

    def _timestamp(self, writer: TrackWriter, frame: Frame) -> int:
        milliseconds = rescale_nearest(frame.dts, writer.clock_rate, MILLISECONDS)
        origin = self._origin
        if origin is None:
            origin = self._origin = milliseconds if self._begins_at_zero else min(milliseconds, 0)
        return max(milliseconds - origin, 0)

    def message(self, index: int, frame: Frame) -> bytes:
        """Return a frame of track ``index`` as a whole message, for any number of readers."""
        writer = self._writer(index)
        timestamp = self._timestamp(writer, frame)
        composition_time = 0
        if frame.pts != frame.dts:
            rate = writer.clock_rate
            composition_time = rescale_nearest(frame.pts, rate, MILLISECONDS) - rescale_nearest(
                frame.dts, rate, MILLISECONDS
            )
        payload = writer.payload(frame, composition_time)
        return self._serialize(writer.message_type, timestamp, payload, writer.chunk_stream)
