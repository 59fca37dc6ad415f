"""Webcam to browser: publishes the webcam, and prints the addresses to open in a browser and in a player.

python webcam_to_browser.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from synthetic_camera import open_camera

import polycast


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--camera", type=int, default=0, help="number of the webcam")
    parser.add_argument("--synthetic", action="store_true", help="use a synthetic camera")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--any-port", action="store_true", help="let the system choose the ports")
    options = parser.parse_args()

    configuration: dict[str, object] = {"hlsDisable": False}
    if options.any_port:
        configuration |= {"rtspAddress": "127.0.0.1:0", "hlsAddress": "127.0.0.1:0"}
    camera = open_camera(None if options.synthetic else options.camera)
    ok, picture = camera.read()
    height, width = picture.shape[:2]
    end = time.monotonic() + options.seconds
    with polycast.Server(configuration) as server, server.publish("webcam", size=(width, height)) as video:
        print(f"browser: http://127.0.0.1:{server.ports['hlsAddress']}/webcam", flush=True)
        print(f"player: {server.url('webcam')}", flush=True)
        while ok and time.monotonic() < end:
            video.write(np.asarray(picture, np.uint8))
            ok, picture = camera.read()
    camera.release()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
