"""Two cameras side by side, aligned by the clocks of the cameras: pictures of the same moment stand beside each other.

python two_cameras.py rtsp://left/stream rtsp://right/stream
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import time

import cv2
import numpy as np
from local_camera import synthetic_stream

import polycast

TOLERANCE = 0.02  # seconds: a bit more than half of the time between two pictures


class Aligner:
    """Keeps the last pictures of one camera, and finds the one of a moment."""

    def __init__(self, frames: polycast.Reader[polycast.VideoFrame]) -> None:
        self._frames = frames
        self._last: collections.deque[polycast.VideoFrame] = collections.deque(maxlen=60)

    def at(self, moment: float) -> polycast.VideoFrame | None:
        """Return the picture of a moment (Unix seconds); None when the camera has skipped it."""
        while not self._last or (self._last[-1].time or 0.0) < moment - TOLERANCE:
            frame = self._frames.read()
            if frame is None:
                return None
            if frame.time is not None:  # cameras tell their clock some seconds after the start
                self._last.append(frame)
        best = min(self._last, key=lambda frame: abs((frame.time or 0.0) - moment))
        return best if abs((best.time or 0.0) - moment) <= TOLERANCE else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*", help="two streams; left out, two synthetic cameras")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    end = time.monotonic() + options.seconds
    configuration = {"rtspAddress": "127.0.0.1:0"} if options.any_port else None
    with polycast.Server(configuration) as server, contextlib.ExitStack() as stack:
        if options.urls:
            left, right = (polycast.read(url, buffer=60, timeout=10) for url in options.urls)
        else:
            left, right = (server.read(name, buffer=60, timeout=10) for name in ("left", "right"))
            stack.enter_context(synthetic_stream(server, "left"))
            stack.enter_context(synthetic_stream(server, "right", delay=0.2))
        other = Aligner(right)
        result: polycast.Writer | None = None
        for frame in left:
            match = other.at(frame.time) if frame.time is not None else None
            if match is not None and frame.time is not None and match.time is not None:
                size = (frame.width, frame.height)
                both = np.hstack((frame.image, np.asarray(cv2.resize(match.image, size), np.uint8)))
                if result is None:
                    result = stack.enter_context(server.publish("both", size=(2 * frame.width, frame.height)))
                    print(f"result: {server.url('both')}", flush=True)
                    print(f"difference: {abs(frame.time - match.time) * 1000:.1f} ms", flush=True)
                result.write(both, time=frame.time)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
