"""Motion recorder: watches a stream and records a clip while something moves, starting shortly before the motion.

    pip install opencv-python
    python motion_recorder.py rtsp://camera/stream --folder clips

Without an address, it reads a synthetic camera.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball before the synthetic camera: blue, green, red."""

MOVED = 25  # difference of a pixel's brightness that counts as motion
SHARE = 0.002  # of all pixels, that make it motion
BEFORE = 15  # pictures from before the motion
AFTER = 1.0  # seconds without motion that end a clip


class MotionDetector:
    """Compares each picture with the one before."""

    def __init__(self) -> None:
        self._before: Image | None = None

    def moves(self, picture: Image) -> bool:
        """Whether something moved since the last call."""
        grey = np.asarray(cv2.GaussianBlur(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), (9, 9), 0), np.uint8)
        before, self._before = self._before, grey
        return before is not None and float((cv2.absdiff(before, grey) > MOVED).mean()) > SHARE


def record(frames: polycast.Reader[polycast.VideoFrame], folder: Path, seconds: float) -> int:
    """Write clips; return how many."""
    detector = MotionDetector()
    before: collections.deque[Image] = collections.deque(maxlen=BEFORE)
    clip: cv2.VideoWriter | None = None
    clips = 0
    last_motion = 0.0
    end = time.monotonic() + seconds
    for frame in frames:
        now = time.monotonic()
        if detector.moves(frame.image):
            last_motion = now
        if clip is None and last_motion == now:
            clips += 1
            moment = frame.datetime or datetime.datetime.now(datetime.UTC)
            name = folder / f"{moment:%Y%m%d-%H%M%S}-{clips}.avi"
            clip = cv2.VideoWriter(str(name), cv2.VideoWriter.fourcc(*"MJPG"), 30, (frame.width, frame.height))
            for picture in before:
                clip.write(picture)
            print(f"recording {name}", flush=True)
        if clip is not None:
            clip.write(frame.image)
            if now - last_motion > AFTER:
                clip.release()
                clip = None
        before.append(frame.image)
        if now > end:
            break
    if clip is not None:
        clip.release()
    return clips


def draw(index: int) -> Image:
    """Return a picture of a synthetic camera: a ball that moves over a gradient."""
    y, x = np.ogrid[:480, :640]
    picture = np.empty((480, 640, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = x // 6 + 20, y // 5 + 20, (x + y) // 11 + 20
    picture[(x - 60 - index * 6 % 520) ** 2 + (y - 240) ** 2 < 1600] = BALL
    return picture


@contextlib.contextmanager
def synthetic_stream(server: polycast.Server, name: str, *, still: bool = False) -> Iterator[None]:
    """Publish a synthetic camera until the end of the block, for machines without a real one."""
    stop = threading.Event()

    def run() -> None:
        with server.publish(name, size=(640, 480), pace=True) as video:
            index = 0
            while not stop.is_set():
                video.write(draw(0 if still else index))
                index += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="stream to watch; default: a synthetic camera")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the clips go")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--still", action="store_true", help="the ball of the synthetic camera does not move")
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        # Every picture is needed, so there is a buffer, of two seconds at most.
        if options.url:
            frames = polycast.read(options.url, buffer=60, timeout=10)
        else:
            server = stack.enter_context(polycast.Server({"rtspAddress": "127.0.0.1:0"}))
            frames = server.read("camera", buffer=60, timeout=10)
            stack.enter_context(synthetic_stream(server, "camera", still=options.still))
        clips = record(frames, options.folder, options.seconds)
    print(f"{clips} clips", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
