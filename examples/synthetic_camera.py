"""A camera for machines that have none: a moving ball over a gradient, at 30 frames a second."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

BALL = (0, 200, 255)
"""Colour of the ball: blue, green, red."""


class SyntheticCamera:
    """Looks like ``cv2.VideoCapture``: `read` waits for the next picture."""

    def __init__(self, width: int = 640, height: int = 480, rate: float = 30, *, still: bool = False) -> None:
        self.width, self.height, self.rate, self.still = width, height, rate, still
        x, y = np.meshgrid(np.linspace(20, 120, width), np.linspace(20, 120, height))
        self._background = np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8)
        self._index = 0
        self._start = time.monotonic()

    def read(self) -> tuple[bool, Image]:
        """Return True and the next picture, BGR."""
        wait = self._start + self._index / self.rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        picture = self.draw(0 if self.still else self._index)
        self._index += 1
        return True, picture

    def draw(self, index: int) -> Image:
        """Return picture number ``index``."""
        picture = self._background.copy()
        center = (60 + index * 6 % (self.width - 120), self.height // 2)
        cv2.circle(picture, center, 40, BALL, -1, cv2.LINE_AA)
        return picture

    def release(self) -> None:
        """Nothing to give back."""


def open_camera(number: int | None) -> SyntheticCamera | cv2.VideoCapture:
    """Return the webcam with this number, or the synthetic camera for None and where there is none."""
    if number is not None:
        webcam = cv2.VideoCapture(number)
        if webcam.isOpened():
            return webcam
        print("no webcam: a synthetic camera takes its place")
    return SyntheticCamera()
