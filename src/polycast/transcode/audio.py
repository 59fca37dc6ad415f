"""Transcodes sound to Opus or AAC.

Decoded sound is placed by the times of its frames, not by counting samples: FFmpeg's ``aresample`` filter fills gaps
with silence, and stretches the sound by at most one per cent where the publisher's audio clock and its times drift
apart. So the sound stays in sync with the pictures, whatever is lost or damaged on the way.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from polycast.codecs import aac
from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.media.codec import AudioCodec, Codec, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.codecs import AUDIO_ENCODINGS, AudioEncoding
from polycast.transcode.decoder import decoder_name, open_decoder
from polycast.transcode.encoder import open_audio_encoder
from polycast.transcode.pyav import import_av

SAMPLE_RATE: Final = 48_000
"""In Hz, of all sound that comes out: the clock rate of Opus, and a usual one for AAC."""
CHANNELS: Final = 2
"""Sound with more channels is mixed down; every player takes two."""

BITRATE: Final = 128_000
"""Bits per second: transparent for stereo music in Opus (RFC 7587 section 3.1.1), and what encoders for streaming use
for AAC."""


@dataclass(frozen=True, slots=True)
class AudioTarget:
    """What sound becomes."""

    codec: AudioCodec
    """That of the frames that come out; it never changes."""
    encoding: AudioEncoding
    frame_size: int
    """Samples of a frame."""
    options: tuple[tuple[str, str], ...] = ()
    """Of FFmpeg's encoder."""

    def can_be_made_of(self, codec: Codec) -> bool:
        """Whether sound of a codec can be transcoded."""
        return codec.kind == "audio" and decoder_name(codec) is not None

    def open(self, track: Track) -> AudioTranscoder:
        """Return what transcodes a track. Raises MissingDependency without PyAV."""
        return AudioTranscoder(track, self)

    def open_encoder(self, av: Any) -> Any:
        """Return the encoder of PyAV. Raises FFmpegError."""
        return open_audio_encoder(
            av,
            self.encoding,
            sample_rate=SAMPLE_RATE,
            channels=CHANNELS,
            bitrate=BITRATE,
            options=dict(self.options),
        )


OPUS: Final = AudioTarget(
    Opus(CHANNELS),
    AUDIO_ENCODINGS["opus"],
    960,  # 20 ms, the usual packet (RFC 7587 section 4.2)
    (("application", "audio"), ("frame_duration", "20")),
)
AAC: Final = AudioTarget(
    MPEG4Audio(aac.build_audio_specific_config(aac.AAC_LC, SAMPLE_RATE, CHANNELS), SAMPLE_RATE, CHANNELS),
    AUDIO_ENCODINGS["aac"],
    aac.SAMPLES_PER_FRAME,
)

MAXIMUM_GAP: Final = 0.5
"""Seconds without sound that are filled with silence; after longer gaps, the sound begins anew."""

_RESAMPLING: Final = f"{SAMPLE_RATE}:async={SAMPLE_RATE // 100}:min_comp=0.005:min_hard_comp=0.015:flags=res"
"""Times are rounded to milliseconds by some protocols, so less than 5 ms is no deviation; more is corrected slowly,
15 ms at once. The resampler is always there (``res``): inserted for the first correction only, it would lose some sound
then. Viewers notice sound that is early by 45 ms or late by 125 ms (ITU-R BT.1359)."""


class AudioTranscoder:
    """Transcodes one track. Used by one thread at a time. Raises MissingDependency without PyAV."""

    def __init__(self, track: Track, target: AudioTarget) -> None:
        self._av = import_av()
        self._target = target
        self.errors = 0
        """Frames that could not be decoded."""
        self.problem = ""
        """Why the last one of them could not."""
        self._decoder: Any = None
        self._chain: _Chain | None = None
        self._end: Fraction | None = None
        """Time of the end of the sound that was decoded so far, in seconds."""
        self._next_pts = -(2**62)
        """Time of the end of the last frame that came out; earlier ones would only disturb the readers."""
        self._has_jumped = False
        """Whether the next frame that comes out is the first one after a discontinuity."""
        self.update(track)

    def update(self, track: Track) -> None:
        """Use the new description of the track for the following frames."""
        self._track = track
        self._bitstream = bitstream_of(track.codec)
        try:
            self._decoder = open_decoder(self._av, track)
        except UnsupportedCodec as error:
            self._decoder = None
            self.problem = str(error)

    def restart(self) -> None:
        """Frames are missing before the next one, which its time will tell."""

    def request_key_frame(self) -> None:
        """Every frame of sound is one."""

    def transcode(self, frame: Frame) -> list[Frame]:
        """Return the frames that are ready after this frame. They are on the same time line, in ticks of 48 kHz.

        What cannot be decoded is counted and otherwise like a gap.
        """
        if self._decoder is None:
            self.errors += 1
            return []
        if frame.discontinuity:
            self._decoder.flush_buffers()
            self._chain = None
            self._has_jumped = True
        data = self._bitstream.join(frame.units)
        if not data:
            return []  # it would mean the end to the decoder
        packet = self._av.Packet(data)
        packet.pts = packet.dts = frame.pts
        packet.time_base = Fraction(1, self._track.clock_rate)
        try:
            frames = [made for sound in self._decoder.decode(packet) for made in self._encode(sound)]
        except (self._av.error.FFmpegError, ValueError) as error:
            self.errors += 1
            self.problem = str(error)
            return []
        frames = [made for made in frames if made.pts >= self._next_pts]
        if frames:
            self._next_pts = frames[-1].pts + self._target.frame_size
        if frames and self._has_jumped:
            self._has_jumped = False
            frames[0].discontinuity = True
        return frames

    def _encode(self, sound: Any) -> list[Frame]:
        end = self._end
        if sound.pts is not None:
            start = sound.pts * Fraction(1, self._track.clock_rate)
        elif end is not None:  # a second frame of one packet
            start = end
        else:
            return []
        if end is not None and abs(start - end) > MAXIMUM_GAP:
            self._chain = None
        self._end = start + Fraction(sound.samples, sound.sample_rate)
        chain = self._chain
        if chain is None or not chain.accepts(sound):
            encoder = chain.encoder if chain is not None else self._target.open_encoder(self._av)
            chain = self._chain = _Chain(self._av, sound, self._target, encoder)
        return chain.encode(sound, start)


class _Chain:
    """Filters for decoded sound of one format, and the encoder."""

    def __init__(self, av: Any, sound: Any, target: AudioTarget, encoder: Any) -> None:
        """``sound`` is the first decoded frame."""
        self.encoder = encoder
        self._frame_size = target.frame_size
        sample_format = target.encoding.sample_format
        self._not_ready = (av.error.BlockingIOError, av.error.EOFError)
        self._format = _format_of(sound)
        self._time_base = Fraction(1, sound.sample_rate)
        graph = self._graph = av.filter.Graph()
        source = graph.add_abuffer(
            format=sound.format.name,
            sample_rate=sound.sample_rate,
            layout=sound.layout.name,
            time_base=self._time_base,
        )
        filters = [
            source,
            graph.add("aresample", _RESAMPLING),
            graph.add("aformat", f"sample_fmts={sample_format}:channel_layouts=stereo:sample_rates={SAMPLE_RATE}"),
            graph.add("asetnsamples", f"n={target.frame_size}:p=0"),
            graph.add("abuffersink"),
        ]
        for first, second in itertools.pairwise(filters):
            first.link_to(second)
        graph.configure()
        self._source, self._sink = filters[0], filters[-1]

    def accepts(self, sound: Any) -> bool:
        """Whether a decoded frame has the same format as the first one."""
        return _format_of(sound) == self._format

    def encode(self, sound: Any, start: Fraction) -> list[Frame]:
        """Return the frames that are ready after a decoded frame that starts at ``start`` seconds."""
        sound.time_base = self._time_base
        sound.pts = round(start / self._time_base)
        self._source.push(sound)
        frames: list[Frame] = []
        while True:
            try:
                samples = self._sink.pull()
            except self._not_ready:
                return frames
            # The encoder subtracts its look-ahead from the time, so what is decoded from a packet belongs to its time.
            for packet in self.encoder.encode(samples):
                pts = int(packet.pts)
                frames.append(Frame((bytes(packet),), pts, pts, key=True, duration=self._frame_size))


def _format_of(sound: Any) -> tuple[str, str, int]:
    return sound.format.name, sound.layout.name, sound.sample_rate
