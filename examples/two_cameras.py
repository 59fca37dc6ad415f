"""Two cameras side by side, aligned by the cameras' clocks, so that both pictures show the same moment.

    python two_cameras.py rtsp://left/stream rtsp://right/stream

Without addresses, it reads two synthetic cameras.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball before the synthetic camera: blue, green, red."""

TOLERANCE = 0.02  # seconds: a bit more than half of the time between two pictures


def draw(index: int) -> Image:
    """Return a picture of a synthetic camera: a ball that moves over a gradient."""
    y, x = np.ogrid[:480, :640]
    picture = np.empty((480, 640, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = x // 6 + 20, y // 5 + 20, (x + y) // 11 + 20
    picture[(x - 60 - index * 6 % 520) ** 2 + (y - 240) ** 2 < 1600] = BALL
    return picture


@contextlib.contextmanager
def synthetic_stream(server: polycast.Server, name: str, *, delay: float = 0.0) -> Iterator[None]:
    """Publish a synthetic camera until the end of the block, for machines without a real one."""
    stop = threading.Event()

    def run() -> None:
        stop.wait(delay)
        with server.publish(name, size=(640, 480), pace=True) as video:
            index = 0
            while not stop.is_set():
                video.write(draw(index))
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
    parser.add_argument("urls", nargs="*", help="two streams; default: two synthetic cameras")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    end = time.monotonic() + options.seconds
    configuration = {"rtspAddress": "127.0.0.1:0"} if options.any_port else None
    with polycast.Server(configuration) as server, contextlib.ExitStack() as stack:
        if options.urls:
            readers = [polycast.read(url, buffer=60, timeout=10) for url in options.urls]
        else:
            readers = [server.read(name, buffer=60, timeout=10) for name in ("left", "right")]
            stack.enter_context(synthetic_stream(server, "left"))
            stack.enter_context(synthetic_stream(server, "right", delay=0.2))
        width, height = readers[0].size
        cameras = stack.enter_context(polycast.together(readers, tolerance=TOLERANCE, timeout=10))
        result = stack.enter_context(server.publish("both", size=(2 * width, height)))
        print(f"result: {server.url('both')}", flush=True)
        for left, right in cameras:
            # Cameras report their clock a few seconds after the start.
            if left is not None and right is not None and left.time is not None and right.time is not None:
                scaled = right.native.reformat(width=width, height=height, format="bgr24").to_ndarray()
                result.write(np.hstack((left.image, scaled)), time=left.time)
                if result.frames == 1:
                    print(f"difference: {abs(left.time - right.time) * 1000:.1f} ms", flush=True)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
