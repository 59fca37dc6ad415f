"""Browser camera: a page's camera comes into Python as NumPy arrays and goes back to a page, with the delay drawn in.

    pip install opencv-python
    python camera_from_browser.py

Open the first address in a browser and share the camera, then the second one. The delay is that from the camera to the
loop in this program; it is right if the clocks of both machines are, so best on one machine.
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
from numpy.typing import NDArray

import polycast

SIZE = (640, 480)
"""Of the result, in pixels."""

BAR_HEIGHT = 40
"""Pixels of the bar with the delay, at the upper edge."""


def draw_delay(picture: NDArray[np.uint8], delay: float | None) -> None:
    """Draw the delay, in seconds, into a picture. None: the browser has not reported its clock yet."""
    picture[:BAR_HEIGHT] = 0
    text = "waiting for the clock" if delay is None else f"{delay * 1000:.0f} ms"
    cv2.putText(picture, text, (10, BAR_HEIGHT - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    # Browsers allow access to a camera without HTTPS on this machine only.
    configuration: dict[str, object] = {"webrtc": True, "webrtcAddress": "127.0.0.1:8889", "rtsp": False}
    if options.any_port:
        configuration |= {"webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0"}
    # A slow computer takes some seconds to begin with the picture; the sound comes first.
    configuration["webrtcTrackGatherTimeout"] = "30s"
    end = time.monotonic() + options.seconds
    with polycast.Server(configuration) as server:
        page = f"http://localhost:{server.ports['webrtcAddress']}"
        print(f"camera: {page}/camera/publish", flush=True)
        print(f"result: {page}/result/", flush=True)
        with server.read("camera") as frames, server.publish("result", size=SIZE, codec="vp8") as video:
            printed_at = 0.0
            for frame in frames:
                picture = np.asarray(cv2.resize(frame.image, SIZE), np.uint8)  # browsers adapt the size to the network
                delay = None if frame.time is None else time.time() - frame.time
                draw_delay(picture, delay)
                video.write(picture)
                if delay is not None and time.monotonic() >= printed_at + 1:
                    printed_at = time.monotonic()
                    print(f"delay: {delay * 1000:.0f} ms", flush=True)
                if time.monotonic() > end:
                    break


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
