"""One track of a publisher: reads the codec configuration and frames from the parts of its messages."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.codecs.registry import updated_codec
from polycast.errors import RemoteProtocolError
from polycast.media.codec import Codec
from polycast.media.frame import Frame
from polycast.media.timebase import MILLISECONDS, NANOSECONDS, TimestampExtender, rescale_nearest
from polycast.wire.rtmp.flv import FrameType, Part, PartType
from polycast.wire.rtmp.mapping import AudioMapping, VideoMapping
from polycast.wire.rtmp.supported import CODECS

AUDIO_TOLERANCE = 1
"""In milliseconds. RTMP rounds times to milliseconds; audio frames this close to the end of the previous one are
assumed to follow it without a gap, so that the rounding does not cause jitter."""

VIDEO_CLOCK_RATE = 90_000
TICKS_PER_MILLISECOND = VIDEO_CLOCK_RATE // MILLISECONDS

_MILLISECOND = NANOSECONDS // MILLISECONDS


class InputTrack:
    """State of one track. ``codec`` is None until its parameters are known."""

    __slots__ = (
        "_codec_type",
        "_extender",
        "_first_time",
        "_has_frames",
        "_length_size",
        "_mapping",
        "_next_audio",
        "codec",
        "elapsed",
        "identifier",
        "kind",
        "number",
    )

    def __init__(self, part: Part, codec_type: type[Codec]) -> None:
        self.kind = part.kind
        self.number = part.track_id
        self.identifier = part.identifier
        self.codec: Codec | None = None
        self.elapsed = 0
        """Milliseconds of media so far."""
        self._extender: TimestampExtender | None = None
        """One per track: the tracks of some publishers count from different zeros."""
        self._first_time = 0
        self._has_frames = False
        self._codec_type = codec_type
        self._length_size = 4
        self._next_audio: int | None = None
        self._mapping = CODECS.carried[codec_type]

    @property
    def ready(self) -> bool:
        """Whether the codec is known with all parameters needed to describe the track."""
        return self.codec is not None and self._mapping.is_ready(self.codec)

    @property
    def usual_headers(self) -> Sequence[bytes]:
        """The first bytes of the messages with one frame of this track, if it is legacy video of NAL units."""
        mapping, identifier = self._mapping, self.identifier
        if not isinstance(mapping, VideoMapping) or not mapping.has_nal_units or not isinstance(identifier, int):
            return ()
        return [bytes((frame_type << 4 | identifier, 1)) for frame_type in FrameType if frame_type != FrameType.COMMAND]

    @property
    def settled(self) -> bool:
        """Whether all parameters are known: some codecs have some of them only in the first frame."""
        if self._has_frames or not isinstance(self._mapping, VideoMapping):
            return self.ready
        return self.ready and not self._mapping.is_completed_by_frames

    def extend(self, timestamp: int, near: int | None) -> int:
        """Return the 32-bit timestamp of a frame as unwrapped milliseconds.

        ``near``: the last time of any track. Backward steps and jumps are handled where the tracks' timelines are
        joined.
        """
        extender = self._extender
        if extender is None:
            extender = self._extender = TimestampExtender(near=near)
            self._first_time = time = extender.extend(timestamp)
        else:
            time = extender.extend(timestamp)
        self.elapsed = time - self._first_time
        return time

    def receive(self, part: Part, milliseconds: int) -> list[Frame]:
        """Process one part, whose message has the time ``milliseconds`` (unwrapped); return its frames.

        ``codec`` reflects a changed configuration. Raises `RemoteProtocolError`.
        """
        if part.codec is not self._codec_type:
            raise RemoteProtocolError(
                f"the codec of {self.kind} track {self.number} changed mid-stream to {part.codec_name}"
            )
        if part.type is PartType.FRAME:
            if len(part.payload) <= part.start:
                return []
            if self.kind == "video":
                time = self._ticks(part, milliseconds, VIDEO_CLOCK_RATE)
                return self.read_video(part.payload, part.start, time, part.composition_time)
            return self._read_audio(part, milliseconds)
        if part.type is PartType.CONFIGURATION:
            self._configure(part.body)
        elif part.type is PartType.CHANNELS:
            self._set_channels(part.body)
        return []

    def _configure(self, body: bytes) -> None:
        mapping = self._mapping
        if mapping.configure is None or not (body or mapping.accepts_empty_configuration):
            return
        codec, self._length_size = mapping.configure(body, self.codec)
        self._set_codec(codec)

    def _set_channels(self, body: bytes) -> None:
        mapping = self._mapping
        if isinstance(mapping, AudioMapping) and mapping.with_channels and self.codec is not None and len(body) >= 2:
            self.codec = mapping.with_channels(self.codec, body[1])

    def _set_codec(self, codec: Codec) -> None:
        if self.codec is not None and self.codec.clock_rate != codec.clock_rate:
            raise RemoteProtocolError(
                f"the sample rate of audio track {self.number} changed mid-stream"
                f" from {self.codec.clock_rate} to {codec.clock_rate} Hz"
            )
        self.codec = codec

    def _ticks(self, part: Part, milliseconds: int, rate: int) -> int:
        if part.nanoseconds:
            return rescale_nearest(milliseconds * _MILLISECOND + part.nanoseconds, NANOSECONDS, rate)
        return rescale_nearest(milliseconds, MILLISECONDS, rate)

    def read_video(self, payload: bytes, start: int, dts: int, composition_time: int) -> list[Frame]:
        """Return the frame in ``payload`` from ``start`` on, if there is one.

        ``dts`` in ticks of the clock, ``composition_time`` in milliseconds. Raises `RemoteProtocolError`.
        """
        mapping, codec = self._mapping, self.codec
        if not isinstance(mapping, VideoMapping):
            return []
        if codec is None:
            codec = self.codec = mapping.implied
            if codec is None:
                return []
        units, key = mapping.read(payload, start, self._length_size)
        if not units:
            return []
        pts = dts + composition_time * TICKS_PER_MILLISECOND
        self._has_frames = True
        frame = Frame(units, pts, min(dts, pts), key=key)
        if key:
            self.codec = updated_codec(codec, frame)
        # The usual case: the body can be forwarded unchanged, as nothing was removed.
        has_usual_lengths = mapping.has_nal_units and self._length_size == 4
        if has_usual_lengths and len(payload) - start == frame.size + 4 * len(units):
            frame.keep_avcc(memoryview(payload)[start:])
        return [frame]

    def _read_audio(self, part: Part, milliseconds: int) -> list[Frame]:
        mapping = self._mapping
        if not isinstance(mapping, AudioMapping):
            return []
        codec, pieces = mapping.read(part.body, part.sound, self.codec)
        if codec is not None and codec is not self.codec:
            self._set_codec(codec)
        if codec is None or not pieces:
            return []
        rate: int = codec.clock_rate
        time = self._ticks(part, milliseconds, rate)
        expected = self._next_audio
        if expected is not None and abs(time - expected) * MILLISECONDS <= AUDIO_TOLERANCE * rate:
            time = expected
        self._has_frames = True
        frames: list[Frame] = []
        for data, duration in pieces:
            frames.append(Frame((data,), time, time, key=True, duration=duration))
            time += duration
        self._next_audio = time
        return frames
