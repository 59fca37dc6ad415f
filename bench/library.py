"""The Python library: delay from drawing a picture to having it decoded again, and its cost compared with bare PyAV.

``python -m bench.library`` measures everything and prints a table; ``--json FILE`` writes the figures.
Pictures carry the time at which they were drawn, as a row of black and white squares that any codec leaves legible.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import polycast

Picture = NDArray[np.uint8]

DURATION = 10.0  # seconds of each measurement
QUICK_DURATION = 4.0
WARM_UP = 1.0  # seconds that do not count
RATE = 30  # frames a second
SMALL = (640, 480)
LARGE = (1920, 1080)

SQUARE = 16  # pixels: one macroblock, so that each bit is coded for itself
BITS = 32  # of the drawing time in microseconds: 71 minutes
WRAP = 1 << BITS

TARGET_IN_PROCESS = 30.0  # milliseconds, median
TARGET_RTSP = 60.0
TARGET_RATIO = 1.15  # CPU seconds of the library in relation to those of bare PyAV


@dataclass
class Delay:
    """The result of one way of reading, in milliseconds."""

    name: str
    target: float | None
    median: float = 0.0
    p99: float = 0.0
    frames: int = 0
    delays: list[float] = field(default_factory=list, repr=False)

    def finish(self) -> None:
        self.frames = len(self.delays)
        if self.delays:
            ordered = sorted(self.delays)
            self.median = statistics.median(ordered)
            self.p99 = ordered[int(0.99 * (len(ordered) - 1))]
        self.delays = []


@dataclass
class Cost:
    """CPU seconds of one second of publishing and reading."""

    name: str
    cpu: float
    frames: int
    skipped: int
    ratio: float | None = None


def base_picture(size: tuple[int, int]) -> Picture:
    """Return a picture with some detail, smooth enough not to hit the limit of the bit rate."""
    width, height = size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    red = 127 + 100 * np.sin(x / 37)
    green = 127 + 100 * np.sin(y / 23)
    blue = 127 + 100 * np.sin((x + y) / 51)
    return np.stack((blue, green, red), axis=2).astype(np.uint8)


def draw(base: Picture, index: int, moment_ns: int) -> Picture:
    """Return the picture of a moment: something moves, and the time is written into it."""
    picture = base.copy()
    width = picture.shape[1]
    left = index * 8 % (width - 64)
    picture[64:128, left : left + 64] = (40, 220, 220)
    value = moment_ns // 1000 % WRAP
    for bit in range(BITS):
        shade = 235 if value >> bit & 1 else 16
        picture[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = shade
    return picture


def delay_of(picture: Picture) -> float:
    """Return the milliseconds since a picture was drawn."""
    middle = picture[SQUARE // 2, SQUARE // 2 : BITS * SQUARE : SQUARE].mean(axis=1)
    value = sum(1 << bit for bit in range(BITS) if middle[bit] > 127)
    return (time.time_ns() // 1000 - value) % WRAP / 1000


@contextmanager
def camera(server: polycast.Server, size: tuple[int, int], path: str = "cam") -> Iterator[None]:
    """Publish pictures at the rate until the end of the block."""
    stop = threading.Event()
    base = base_picture(size)

    def run() -> None:
        with server.publish(path, size=size, rate=RATE) as video:
            begin = time.monotonic()
            index = 0
            while not stop.wait(max(0.0, begin + index / RATE - time.monotonic())):
                video.write(draw(base, index, time.time_ns()))
                index += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure_delays(seconds: float) -> list[Delay]:
    """Read one stream in four ways, one after the other."""
    results = [
        Delay("in process", TARGET_IN_PROCESS),
        Delay("through RTSP", TARGET_RTSP),
        Delay("cv2.VideoCapture", None),
        Delay("cv2.VideoCapture, nobuffer", None),
    ]
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server, camera(server, SMALL):
        readers: list[Callable[[Delay], None]] = [
            lambda result: _read(server.read("cam", timeout=5), result, seconds),
            lambda result: _read(polycast.read(server.url("cam"), timeout=5), result, seconds),
            lambda result: _capture(server.url("cam"), "rtsp_transport;tcp", result, seconds),
            lambda result: _capture(
                server.url("cam"), "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay", result, seconds
            ),
        ]
        for reader, result in zip(readers, results, strict=True):
            # One after the other: four decoders at once on a small machine would measure the machine.
            reader(result)
            result.finish()
    return results


def _read(reader: polycast.Reader[polycast.VideoFrame], result: Delay, seconds: float) -> None:
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    with reader:
        for frame in reader:
            delay = delay_of(frame.image)
            now = time.monotonic()
            if now > end:
                return
            if now > begin:
                result.delays.append(delay)


def _capture(url: str, options: str, result: Delay, seconds: float) -> None:
    try:
        import cv2
    except ImportError:
        return
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = options
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    while time.monotonic() < end:
        ok, picture = capture.read()
        if not ok:
            break
        delay = delay_of(np.asarray(picture, np.uint8))
        if time.monotonic() > begin:
            result.delays.append(delay)
    capture.release()


def measure_costs(seconds: float) -> list[Cost]:
    """1080p at 30 frames a second, published and read at once, beside PyAV doing the same work in one loop."""
    pictures = [draw(base_picture(LARGE), index, time.time_ns()) for index in range(8)]
    frames = int(seconds * RATE)
    bare = _bare_loop(pictures, frames)
    copying = _bare_loop(pictures, frames, copies=True)
    library = _library(pictures, frames)
    for cost in (copying, library):
        cost.ratio = cost.cpu / bare.cpu
    return [bare, copying, library]


def _bare_loop(pictures: list[Picture], frames: int, *, copies: bool = False) -> Cost:
    """What PyAV needs: array to frame, encode, decode, frame to array, with the settings of the library."""
    import av

    wrap: Any = av.VideoFrame.from_ndarray if copies else av.VideoFrame.from_numpy_buffer
    encoder = _encoder(av)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_type = "SLICE"
    decoder.thread_count = min(os.cpu_count() or 1, 4)
    to_yuv, to_bgr = av.video.reformatter.VideoReformatter(), av.video.reformatter.VideoReformatter()
    count = 0
    begin = time.monotonic()
    cpu = time.process_time()
    for index in range(frames):
        time.sleep(max(0.0, begin + index / RATE - time.monotonic()))
        frame: Any = to_yuv.reformat(wrap(pictures[index % len(pictures)], format="bgr24"), format="yuv420p")
        frame.pts = index * 90_000 // RATE
        frame.time_base = encoder.time_base
        for packet in encoder.encode(frame):
            for decoded in decoder.decode(av.Packet(bytes(packet))):
                to_bgr.reformat(decoded, format="bgr24").to_ndarray()
                count += 1
    used = (time.process_time() - cpu) / (frames / RATE)
    return Cost("bare PyAV loop, copying in" if copies else "bare PyAV loop", used, count, 0)


def _encoder(av: Any) -> Any:
    from polycast.api.video_encoder import LIVE_OPTIONS

    width, height = LARGE
    bitrate = width * height * RATE // 10
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 90_000), Fraction(RATE)
    encoder.bit_rate, encoder.gop_size, encoder.max_b_frames = bitrate, RATE, 0
    encoder.thread_count = min(os.cpu_count() or 1, 4)
    encoder.options = {**LIVE_OPTIONS["libx264"], "maxrate": str(bitrate * 5 // 4), "bufsize": str(bitrate)}
    encoder.open()
    return encoder


def _library(pictures: list[Picture], frames: int) -> Cost:
    count = 0
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server:
        reader = server.read("cam", buffer=60, timeout=5, reconnect=False)

        def read() -> None:
            nonlocal count
            for frame in reader:
                assert frame.image.shape == (LARGE[1], LARGE[0], 3)
                count += 1

        with server.publish("cam", size=LARGE, rate=RATE) as video:
            thread = threading.Thread(target=read)
            thread.start()
            while not server.statistics().streams["cam"].readers:
                time.sleep(0.01)
            begin = time.monotonic()
            cpu = time.process_time()
            for index in range(frames):
                time.sleep(max(0.0, begin + index / RATE - time.monotonic()))
                video.write(pictures[index % len(pictures)])
        thread.join()
        used = (time.process_time() - cpu) / (frames / RATE)
    return Cost("library, publish and read", used, count, reader.skipped + frames - count)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.library", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DURATION:g} s each, not {DURATION:g} s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    options = parser.parse_args()
    seconds = QUICK_DURATION if options.quick else DURATION
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    delays = measure_delays(seconds)
    print(f"\nglass to glass, {SMALL[0]}x{SMALL[1]} at {RATE} frames/s     median      p99   frames   target")
    for delay in delays:
        target = f"{delay.target:5.0f} ms" if delay.target else "       -"
        print(f"{delay.name:40} {delay.median:6.1f} ms {delay.p99:5.1f} ms {delay.frames:6} {target}")
    costs = measure_costs(seconds)
    print(f"\nCPU, {LARGE[0]}x{LARGE[1]} at {RATE} frames/s         cores   ratio   frames   lost")
    for cost in costs:
        ratio = f"{cost.ratio:7.2f}" if cost.ratio else "      -"
        print(f"{cost.name:38} {cost.cpu:6.2f} {ratio} {cost.frames:8} {cost.skipped:6}")
    if options.json:
        figures = {"delays": [asdict(delay) for delay in delays], "costs": [asdict(cost) for cost in costs]}
        options.json.write_text(json.dumps(figures, indent=2))
    missed = [delay.name for delay in delays if delay.target and not 0 < delay.median < delay.target]
    missed += [cost.name for cost in costs[2:] if (cost.ratio or 0) > TARGET_RATIO or cost.skipped]
    print("\nall targets met" if not missed else f"\ntargets missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
