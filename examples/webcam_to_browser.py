"""Webcam to browser: publishes the webcam, and prints the addresses to open in a browser and in a player.

    pip install opencv-python
    python webcam_to_browser.py

With --synthetic it needs neither a webcam nor OpenCV.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball before the synthetic camera: blue, green, red."""


def draw(index: int) -> Image:
    """Return a picture of a synthetic camera: a ball that moves over a gradient."""
    y, x = np.ogrid[:480, :640]
    picture = np.empty((480, 640, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = x // 6 + 20, y // 5 + 20, (x + y) // 11 + 20
    picture[(x - 60 - index * 6 % 520) ** 2 + (y - 240) ** 2 < 1600] = BALL
    return picture


def pictures(number: int | None) -> Iterator[Image]:
    """Yield the pictures of the webcam with this number; those of a synthetic one for None, and where there is none."""
    if number is not None:
        import cv2

        webcam = cv2.VideoCapture(number)
        if webcam.isOpened():
            while True:
                ok, picture = webcam.read()
                if not ok:
                    return
                yield np.asarray(picture, np.uint8)
        print("there is no such webcam; showing a synthetic one", flush=True)
    start = time.monotonic()
    for index in itertools.count():
        time.sleep(max(0.0, start + index / 30 - time.monotonic()))
        yield draw(index)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camera", type=int, default=0, help="number of the webcam")
    parser.add_argument("--synthetic", action="store_true", help="use a synthetic camera")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    configuration: dict[str, object] = {"hls": True}
    if options.any_port:
        configuration |= {"rtspAddress": "127.0.0.1:0", "hlsAddress": "127.0.0.1:0"}
    camera = pictures(None if options.synthetic else options.camera)
    picture = next(camera)
    height, width = picture.shape[:2]
    end = time.monotonic() + options.seconds
    with polycast.Server(configuration) as server, server.publish("webcam", size=(width, height)) as video:
        print(f"browser: http://127.0.0.1:{server.ports['hlsAddress']}/webcam", flush=True)
        print(f"player: {server.url('webcam')}", flush=True)
        for picture in camera:
            video.write(picture)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
