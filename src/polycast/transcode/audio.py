"""Transcodes sound to Opus.

Decoded sound is placed by the times of its frames, not by counting samples: FFmpeg's ``aresample`` filter fills gaps
with silence, and stretches the sound by at most one per cent where the publisher's audio clock and its times drift
apart. So the sound stays in sync with the pictures, whatever is lost or damaged on the way.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, Final

from polycast.codecs.opus import CLOCK_RATE
from polycast.codecs.registry import bitstream_of
from polycast.errors import UnsupportedCodec
from polycast.media.codec import Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.codecs import AUDIO_ENCODINGS
from polycast.transcode.decoder import open_decoder
from polycast.transcode.pyav import import_av

CHANNELS: Final = 2
CODEC: Final = Opus(CHANNELS)
"""The codec of the frames that come out; sound with more channels is mixed down."""

BITRATE: Final = 128_000
"""Bits per second: transparent for stereo music (RFC 7587 section 3.1.1)."""

FRAME_SIZE: Final = 960
"""Samples of a frame, 20 ms: the usual packet (RFC 7587 section 4.2)."""

MAXIMUM_GAP: Final = 0.5
"""Seconds without sound that are filled with silence; after longer gaps, the sound begins anew."""

_RESAMPLING: Final = f"{CLOCK_RATE}:async={CLOCK_RATE // 100}:min_comp=0.005:min_hard_comp=0.015:flags=res"
"""Times are rounded to milliseconds by some protocols, so less than 5 ms is no deviation; more is corrected slowly,
15 ms at once. The resampler is always there (``res``): inserted for the first correction only, it would lose some sound
then. Viewers notice sound that is early by 45 ms or late by 125 ms (ITU-R BT.1359)."""
_FORMAT: Final = f"sample_fmts=flt:channel_layouts=stereo:sample_rates={CLOCK_RATE}"


class AudioTranscoder:
    """Transcodes one track. Used by one thread at a time. Raises MissingDependency without PyAV."""

    def __init__(self, track: Track) -> None:
        self._av = import_av()
        self.errors = 0
        """Frames that could not be decoded."""
        self.problem = ""
        """Why the last one of them could not."""
        self._decoder: Any = None
        self._chain: _Chain | None = None
        self._end: Fraction | None = None
        """Time of the end of the sound that was decoded so far, in seconds."""
        self._next_pts = -(2**62)
        """Time of the end of the last Opus frame; earlier ones would only disturb the viewers."""
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

    def transcode(self, frame: Frame) -> list[Frame]:
        """Return the Opus frames that are ready after this frame. They are on the same time line, in ticks of 48 kHz.

        What cannot be decoded is counted and otherwise like a gap.
        """
        if self._decoder is None:
            self.errors += 1
            return []
        if frame.discontinuity:
            self._decoder.flush_buffers()
            self._chain = None
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
            self._next_pts = frames[-1].pts + FRAME_SIZE
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
            encoder = chain.encoder if chain is not None else self._open_encoder()
            chain = self._chain = _Chain(self._av, sound, encoder)
        return chain.encode(sound, start)

    def _open_encoder(self) -> Any:
        encoding = AUDIO_ENCODINGS["opus"]
        encoder = self._av.CodecContext.create(encoding.encoder, "w")
        encoder.sample_rate = CLOCK_RATE
        encoder.layout = "stereo"
        encoder.format = encoding.sample_format
        encoder.time_base = Fraction(1, CLOCK_RATE)
        encoder.bit_rate = BITRATE
        encoder.options = {"application": "audio", "frame_duration": "20"}
        encoder.open()
        return encoder


class _Chain:
    """Filters for decoded sound of one format, and the encoder."""

    def __init__(self, av: Any, sound: Any, encoder: Any) -> None:
        """``sound`` is the first decoded frame."""
        self.encoder = encoder
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
            graph.add("aformat", _FORMAT),
            graph.add("asetnsamples", f"n={FRAME_SIZE}:p=0"),
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
        """Return the Opus frames that are ready after a decoded frame that starts at ``start`` seconds."""
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
                frames.append(Frame((bytes(packet),), pts, pts, key=True, duration=FRAME_SIZE))


def _format_of(sound: Any) -> tuple[str, str, int]:
    return sound.format.name, sound.layout.name, sound.sample_rate
