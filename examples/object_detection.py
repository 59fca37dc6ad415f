"""Object detection: reads a stream, draws a frame around what it finds, and publishes the result.

    python object_detection.py rtsp://camera/stream

What it finds is the largest thing of one colour; put your neural network into `detect`. A detector that is slow loses
pictures, never time: the loop always gets the newest one.
"""

from __future__ import annotations

import argparse
import contextlib
import time

import cv2
import numpy as np
from local_camera import synthetic_stream
from numpy.typing import NDArray
from synthetic_camera import BALL

import polycast

Image = NDArray[np.uint8]


def detect(picture: Image) -> tuple[int, int, int, int] | None:
    """Return x, y, width and height of the largest orange thing."""
    low = np.array([max(0, value - 60) for value in BALL], np.uint8)
    high = np.array([min(255, value + 60) for value in BALL], np.uint8)
    contours, _ = cv2.findContours(cv2.inRange(picture, low, high), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return None
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, width, height


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="stream to look at; left out, a synthetic camera")
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
        result: polycast.Writer | None = None
        for frame in frames:
            picture = frame.image
            found = detect(picture)
            if found is not None:
                x, y, width, height = found
                cv2.rectangle(picture, (x, y), (x + width, y + height), (255, 255, 255), 4)
            if result is None:
                result = stack.enter_context(server.publish("detected", size=(frame.width, frame.height)))
                print(f"result: {server.url('detected')}", flush=True)
            result.write(picture, time=frame.time)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
