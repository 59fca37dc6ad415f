"""Motion recorder: watches a stream and records a clip while something moves, with some pictures from before.

python motion_recorder.py rtsp://camera/stream --folder clips
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import datetime
import time
from pathlib import Path

import cv2
import numpy as np
from local_camera import synthetic_stream
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="stream to watch; left out, a synthetic camera")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the clips go")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--still", action="store_true", help="nothing moves before the synthetic camera")
    options = parser.parse_args()

    with contextlib.ExitStack() as stack:
        # Every picture counts here, so there is a buffer: of at most two seconds.
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
