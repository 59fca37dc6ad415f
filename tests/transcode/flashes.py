"""Publishes pictures that flash and sound that clicks at the beginning of each second, in real time, until killed.

Called with the URL, FFmpeg's name of the container, that of the encoder of the sound, and the kind of pictures.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = 96
PICTURES_PER_SECOND = 25

PICTURES = {
    "baseline": ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}),
    "b-frames": ("libx264", {"preset": "ultrafast", "bf": "2", "x264-params": "b-adapt=0:rc-lookahead=4"}),
    "h265": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=error:bframes=2:rc-lookahead=4"}),
}
"""Encoder and options of each kind of pictures."""


def publish(url: str, container: str, sound_encoder: str, pictures: str) -> None:
    """Never returns."""
    from tests.transcode.sound import clicks

    rate, frame_size = (48_000, 960) if sound_encoder == "libopus" else (44_100, 1024)
    second = clicks([0.0], 1.0, rate)
    with av.open(url, "w", format=container, options={"rtsp_transport": "tcp"}) as output:
        encoder, options = PICTURES[pictures]
        video: Any = output.add_stream(encoder, rate=PICTURES_PER_SECOND)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.gop_size = 10
        video.options = options
        audio: Any = output.add_stream(sound_encoder, rate=rate)
        audio.layout = "stereo"
        begin = time.monotonic()
        number = sent = 0
        while True:
            level = 235 if number % PICTURES_PER_SECOND == 0 else 16
            plane = np.full((SIZE * 3 // 2, SIZE), 128, np.uint8)
            plane[:SIZE] = level
            picture = av.VideoFrame.from_ndarray(plane, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, PICTURES_PER_SECOND)
            output.mux(video.encode(picture))
            number += 1
            while sent < rate * number // PICTURES_PER_SECOND:
                block = np.ascontiguousarray(np.take(second, range(sent, sent + frame_size), axis=1, mode="wrap"))
                sound = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
                sound.sample_rate, sound.pts, sound.time_base = rate, sent, Fraction(1, rate)
                output.mux(audio.encode(sound))
                sent += frame_size
            time.sleep(max(0.0, begin + number / PICTURES_PER_SECOND - time.monotonic()))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    publish(*sys.argv[1:])
