"""Object detection: reads a stream, draws a frame around what it finds, and publishes the result.

    pip install opencv-python
    python object_detection.py rtsp://camera/stream

It finds the largest object of one colour; put your neural network into `detect`. A slow detector skips pictures and
does not fall behind: the loop always gets the newest one. Without an address, it reads a synthetic camera.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball before the synthetic camera: blue, green, red."""


def detect(picture: Image) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height of the largest object of the ball's colour."""
    low = np.array([max(0, value - 60) for value in BALL], np.uint8)
    high = np.array([min(255, value + 60) for value in BALL], np.uint8)
    contours, _ = cv2.findContours(cv2.inRange(picture, low, high), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, width, height


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
    parser.add_argument("url", nargs="?", help="stream to read; default: a synthetic camera")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    parser.add_argument("--still", action="store_true", help="the ball of the synthetic camera does not move")
    options = parser.parse_args()

    end = time.monotonic() + options.seconds
    configuration = {"rtspAddress": "127.0.0.1:0"} if options.any_port else None
    with polycast.Server(configuration) as server, contextlib.ExitStack() as stack:
        if options.url:
            frames = polycast.read(options.url, timeout=10)
        else:
            frames = server.read("camera", timeout=10)
            stack.enter_context(synthetic_stream(server, "camera", still=options.still))
        result = stack.enter_context(server.publish("detected", size=frames.size))
        print(f"result: {server.url('detected')}", flush=True)
        for frame in frames:
            picture = frame.image
            found = detect(picture)
            if found is not None:
                x, y, width, height = found
                cv2.rectangle(picture, (x, y), (x + width, y + height), (255, 255, 255), 4)
            result.write(picture, time=frame.time)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
