"""Reads what `flashes` publishes with FFmpeg, and prints by how much the clicks are later than the flashes, as JSON.

Called with the URL and the number of flashes to see.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np


def watch(url: str, count: int) -> dict[str, Any]:
    """Return the codecs, and the offsets in seconds."""
    from tests.transcode.sound import find_clicks, pitch

    flashes: list[float] = []
    sounds: list[tuple[float, Any]] = []
    with av.open(url, timeout=30) as source:
        codecs = sorted(stream.codec_context.name for stream in source.streams)
        for packet in source.demux():
            for frame in packet.decode():
                if frame.time is None:
                    continue
                if isinstance(frame, av.AudioFrame):
                    assert (frame.sample_rate, frame.layout.name) == (48_000, "stereo")
                    sounds.append((frame.time, frame.to_ndarray()))
                elif int(np.frombuffer(frame.planes[0], np.uint8)[0]) > 128:
                    flashes.append(frame.time)
            if flashes and len(flashes) >= count and sounds and sounds[-1][0] > flashes[-1] + 0.1:
                break
    begin = sounds[0][0]
    samples = np.zeros((2, round((sounds[-1][0] - begin) * 48_000) + sounds[-1][1].shape[1]), np.float32)
    for time, array in sounds:
        start = round((time - begin) * 48_000)
        samples[:, start : start + array.shape[1]] = array
    clicks = [begin + time for time in find_clicks(samples)]
    # On a busy machine, some clicks may be missing, since sound that is late is dropped.
    offsets = [
        min((click - flash for flash in flashes), key=abs)
        for click in clicks
        if flashes[0] - 0.5 < click < flashes[-1] + 0.5
    ]
    quiet = [round((click - begin) * 48_000) + 4_800 for click in clicks]
    tones = [samples[:, start : start + 24_000] for start in quiet if start < samples.shape[1]]
    tone = max(tones, key=np.count_nonzero, default=None)  # where least is missing
    return {"codecs": codecs, "offsets": offsets, "pitch": None if tone is None else pitch(tone)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(json.dumps(watch(sys.argv[1], int(sys.argv[2]))))
