"""Generates the demo stream: the picture of `demo.picture` as H264, and a tone with a pip each second as AAC.

The encoders are those of PyAV, which comes with the ``media`` extra and is imported when a `DemoSource` is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from fractions import Fraction
from typing import Any

from polycast.codecs.nal import split_annexb
from polycast.errors import PolycastError, missing_packages
from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS, WallTime, rescale
from polycast.media.track import Track

OnFrames = Callable[[list[tuple[int, Frame]]], None]
"""Called with the frames of one tick: pairs of track index and frame, in order of time. Runs in the demo's thread."""

VIDEO_BIT_RATE = 1_200_000
AUDIO_BIT_RATE = 96_000
SAMPLE_RATE = 48_000
SAMPLES_PER_FRAME = 1024

TONE_FREQUENCY = 330
TONE_LEVEL = 0.05
PIP_FREQUENCY = 1000
PIP_LEVEL = 0.25
PIP_SECONDS = 0.08

# How far the thread may fall behind (the machine was suspended, or is overloaded) before frames are skipped.
MAXIMUM_LAG_SECONDS = 0.5

# H264 NAL unit types 7 and 8 (Rec. ITU-T H.264 table 7-1).
SPS, PPS = 7, 8


class Clock:
    """The clock of a `DemoSource`. Tests replace it."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wall_time(self) -> WallTime:
        """Return the time of day."""
        return WallTime(time.time_ns())

    def wait(self, seconds: float, stopped: threading.Event) -> bool:
        """Wait until ``seconds`` have passed or ``stopped`` is set; return whether it is."""
        return stopped.wait(seconds)


class DemoSource:
    """The demo stream: track 0 is H264 video, track 1 is AAC audio.

    ``width`` and ``height`` are in pixels, even, at least 320 x 180; ``rate`` is in frames per second.
    Raises `PolycastError` if PyAV or numpy is not installed.
    """

    def __init__(self, width: int = 1280, height: int = 720, rate: int = 30, *, clock: Clock | None = None) -> None:
        if width < 320 or height < 180 or width % 2 or height % 2:
            raise PolycastError(f"the demo picture must have even sides of at least 320 x 180, not {width} x {height}")
        self.rate = rate
        self._clock = clock or Clock()
        self._video = _VideoEncoder(width, height, rate)
        self._audio = _AudioEncoder()
        self.tracks = [Track(0, self._video.codec), Track(1, self._audio.codec)]
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, on_frames: OnFrames) -> None:
        """Start a thread that calls ``on_frames`` in real time, once per picture, until `stop`."""
        if self._thread is not None:
            raise PolycastError("the demo source was already started")
        self._thread = threading.Thread(target=self._run, args=(on_frames,), name="polycast-demo", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it. ``on_frames`` is not called after that."""
        self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, on_frames: OnFrames) -> None:
        clock = self._clock
        origin = clock.now()
        index = 0
        while not clock.wait(max(0.0, origin + index / self.rate - clock.now()), self._stopped):
            lag = clock.now() - origin - index / self.rate
            if lag > MAXIMUM_LAG_SECONDS:
                origin += lag
            on_frames(self.encode(index, clock.wall_time()))
            index += 1

    def encode(self, index: int, wall_time: WallTime) -> list[tuple[int, Frame]]:
        """Return the frames for picture ``index`` (from 0, each once and in order), captured at ``wall_time``.

        That is one picture, and the audio up to the end of it.
        """
        frames = [(0, frame) for frame in self._video.encode(index, wall_time)]
        samples = rescale(index + 1, self.rate, SAMPLE_RATE)
        start = WallTime(wall_time - rescale(index, self.rate, NANOSECONDS))
        frames += [(1, frame) for frame in self._audio.encode_until(samples, start)]
        return frames


class _VideoEncoder:
    def __init__(self, width: int, height: int, rate: int) -> None:
        self._av = _import_av()
        from polycast.demo.picture import Picture

        self._picture = Picture(width, height)
        self._rate = rate
        context = self._av.CodecContext.create("libx264", "w")
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, 90_000)
        context.framerate = Fraction(rate, 1)
        context.bit_rate = VIDEO_BIT_RATE
        context.gop_size = rate
        context.max_b_frames = 0
        context.thread_count = 1
        context.flags |= self._av.codec.context.Flags.global_header
        context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "main",
            "x264-params": f"keyint={rate}:min-keyint={rate}:scenecut=0:vbv-maxrate={VIDEO_BIT_RATE * 5 // 4000}"
            f":vbv-bufsize={VIDEO_BIT_RATE // 1000}:colorprim=bt709:transfer=bt709:colormatrix=bt709",
        }
        context.open()
        self._context = context
        units = {unit[0] & 0x1F: unit for unit in split_annexb(context.extradata or b"")}
        self._parameter_sets = (units[SPS], units[PPS])
        self.codec = H264(*self._parameter_sets)

    def encode(self, index: int, wall_time: WallTime) -> Iterator[Frame]:
        local_time = datetime.fromtimestamp(wall_time / NANOSECONDS).astimezone()
        array = self._picture.draw(index / self._rate, local_time)
        picture = self._av.VideoFrame.from_ndarray(array, format="yuv420p")
        picture.pts = rescale(index, self._rate, self.codec.clock_rate)
        for packet in self._context.encode(picture):
            units = tuple(split_annexb(bytes(packet)))
            key = packet.is_keyframe
            # Readers that missed the session description start here, so the parameter sets are also sent in-band.
            yield Frame(
                self._parameter_sets + units if key else units, packet.pts, packet.pts, key=key, wall_time=wall_time
            )


class _AudioEncoder:
    def __init__(self) -> None:
        self._av = _import_av()
        context = self._av.CodecContext.create("aac", "w")
        context.sample_rate = SAMPLE_RATE
        context.layout = "stereo"
        context.format = "fltp"
        context.bit_rate = AUDIO_BIT_RATE
        context.time_base = Fraction(1, SAMPLE_RATE)
        context.flags |= self._av.codec.context.Flags.global_header
        context.open()
        self._context = context
        self._second = _second_of_sound()
        self._position = 0
        self._phase: int | None = None
        self.codec = MPEG4Audio(configuration=bytes(context.extradata or b""), sample_rate=SAMPLE_RATE, channels=2)

    def encode_until(self, samples: int, start: WallTime) -> Iterator[Frame]:
        """Encode whole frames as long as they end within ``samples``; ``start`` is the wall time of sample 0."""
        if self._phase is None:
            # The pip sounds on the whole second of the clock in the picture.
            self._phase = rescale(start % NANOSECONDS, NANOSECONDS, SAMPLE_RATE)
        while self._position + SAMPLES_PER_FRAME <= samples:
            offset = (self._phase + self._position) % SAMPLE_RATE
            sound = self._av.AudioFrame.from_ndarray(
                self._second.take(range(offset, offset + SAMPLES_PER_FRAME), axis=1, mode="wrap"),
                format="fltp",
                layout="stereo",
            )
            sound.sample_rate = SAMPLE_RATE
            sound.time_base = Fraction(1, SAMPLE_RATE)
            sound.pts = self._position
            self._position += SAMPLES_PER_FRAME
            for packet in self._context.encode(sound):
                # The encoder's first packet holds nothing but its own run-in, at a negative time.
                if packet.pts >= 0:
                    wall_time = WallTime(start + rescale(packet.pts, SAMPLE_RATE, NANOSECONDS))
                    yield Frame(
                        (bytes(packet),),
                        packet.pts,
                        packet.pts,
                        key=True,
                        wall_time=wall_time,
                        duration=SAMPLES_PER_FRAME,
                    )


def _second_of_sound() -> Any:
    """Return one second of the tone, as 2 x `SAMPLE_RATE` floats; the frequencies are whole, so it loops seamlessly."""
    import numpy as np

    seconds = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sound = TONE_LEVEL * np.sin(2 * np.pi * TONE_FREQUENCY * seconds)
    envelope = np.clip(np.minimum(seconds, PIP_SECONDS - seconds) / 0.005, 0, 1)
    sound += PIP_LEVEL * envelope * np.sin(2 * np.pi * PIP_FREQUENCY * seconds)
    return np.stack([sound, sound]).astype(np.float32)


def _import_av() -> Any:
    try:
        import av
        import numpy as np  # noqa: F401  (the picture and the tone need it)
    except ImportError as error:
        raise PolycastError(f"{missing_packages('the demo stream', 'av', 'numpy')} ({error})") from error
    return av
