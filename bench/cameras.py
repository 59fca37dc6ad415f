"""Eight cameras in one program, as detectors read them: Polycast's ``together`` beside OpenCV with a thread per camera.

``python -m bench.cameras`` prints a table; ``--json FILE`` writes the figures. Each pipeline runs in a process of its
own, one after the other, and reads the same streams over RTSP (TCP). Every turn of its loop takes the newest picture of
each camera and works for as long as a small network would. Pictures are counted once each.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

import polycast
from bench.library import base_picture, draw

CAMERAS = 8
SIZE = (640, 360)
RATE = 25
GROUP = 2 * RATE  # pictures between key frames, and of the loop that each camera sends
DURATION = 8.0  # seconds of the measurement
WARM_UP = 1.0
WORK = 0.02  # seconds that the detector takes for a batch


@dataclass
class Result:
    """What one pipeline did."""

    name: str
    rate: float
    """Pictures per second, of all cameras."""
    cpu: float
    """Cores in use."""
    memory: float
    """Peak of the resident set in MB."""
    apart: float
    """Milliseconds between the oldest and the newest picture of a batch by the camera's clock, median; 0 if unknown."""


def _encoded() -> list[tuple[bytes, ...]]:
    """Return the units of one group of pictures."""
    picture = base_picture(SIZE)
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server:
        frames = server.read("cam", decode=False, timeout=10)
        with server.publish("cam", size=SIZE, rate=RATE, key_interval=GROUP / RATE) as video:
            units = []
            for index in range(GROUP):
                video.write(draw(picture, index, 0), time=1000 + index / RATE)
                frame = frames.read()
                assert frame is not None
                units.append(frame.units)
    return units


def _serve(pipe: Connection) -> None:
    """Publish the cameras until the pipe says that it is over."""
    units = _encoded()
    over = threading.Event()
    with polycast.Server({"rtspAddress": "127.0.0.1:0"}) as server:
        writers = [server.publish(f"cam{index}", tracks=[polycast.H264()]) for index in range(CAMERAS)]
        pipe.send(server.url())

        def send() -> None:
            begin = time.monotonic()
            count = 0
            while not over.wait(max(0.0, begin + count / RATE - time.monotonic())):
                for writer in writers:
                    frame = polycast.CodedFrame(
                        writer.tracks[0], units[count % GROUP], count / RATE, count / RATE,
                        count % GROUP == 0, time.time(),
                    )  # fmt: skip
                    writer.write(frame)
                count += 1

        thread = threading.Thread(target=send)
        thread.start()
        pipe.recv()
        over.set()
        thread.join()


@contextmanager
def cameras() -> Iterator[str]:
    """Run the server with the cameras; give its address."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,))
    process.start()
    try:
        yield here.recv()
    finally:
        here.send(None)
        process.join()


def _polycast(url: str, take: Callable[[list[Any], list[float]], bool]) -> None:
    readers = [polycast.read(f"{url}cam{index}", timeout=10) for index in range(CAMERAS)]
    with polycast.together(readers, timeout=10) as together:
        for frames in together:
            known = [frame for frame in frames if frame is not None]
            times = [frame.time for frame in known if frame.time is not None]
            if take([frame.image for frame in known], times):
                return


def _opencv(url: str, take: Callable[[list[Any], list[float]], bool]) -> None:
    import cv2

    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"
    newest: list[Any] = [None] * CAMERAS
    over = threading.Event()
    changed = threading.Condition()

    def read(index: int) -> None:
        capture = cv2.VideoCapture(f"{url}cam{index}", cv2.CAP_FFMPEG)
        while not over.is_set():
            ok, picture = capture.read()
            if not ok:
                break
            with changed:
                newest[index] = picture
                changed.notify()
        capture.release()

    threads = [threading.Thread(target=read, args=(index,)) for index in range(CAMERAS)]
    for thread in threads:
        thread.start()
    is_over = False
    while not is_over:
        with changed:
            changed.wait_for(lambda: all(picture is not None for picture in newest), 0.5)
            pictures = [picture for picture in newest if picture is not None]
            newest[:] = [None] * CAMERAS
        is_over = take(pictures, [])
    over.set()
    for thread in threads:
        thread.join()


PIPELINES = {"polycast.together": _polycast, "OpenCV, a thread per camera": _opencv}


def _run(name: str, url: str, seconds: float, pipe: Connection) -> None:
    begin = float("inf")
    count = 0
    cpu = 0.0
    started = 0.0
    apart: list[float] = []

    def take(pictures: list[Any], times: list[float]) -> bool:
        nonlocal begin, count, cpu, started
        if pictures:
            np.stack(pictures).mean(axis=(1, 2, 3), dtype=np.float32)
            time.sleep(WORK)
        now = time.monotonic()
        if len(pictures) == CAMERAS:
            begin = min(begin, now + WARM_UP)  # all of them are connected
        if now < begin:
            return False
        if not started:
            started, cpu = now, time.process_time()
            return False
        count += len(pictures)
        if len(times) > 1:
            apart.append(max(times) - min(times))
        if now < started + seconds:
            return False
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024 * 1024)
        elapsed = now - started
        used = (time.process_time() - cpu) / elapsed
        pipe.send(Result(name, count / elapsed, used, peak, float(np.median(apart)) * 1000 if apart else 0.0))
        return True

    PIPELINES[name](url, take)


def measure(seconds: float) -> list[Result]:
    """Run the pipelines, one after the other."""
    context = multiprocessing.get_context("spawn")
    results = []
    with cameras() as url:
        for name in PIPELINES:
            here, there = context.Pipe()
            process = context.Process(target=_run, args=(name, url, seconds, there))
            process.start()
            if here.poll(seconds + 60):
                results.append(here.recv())
            process.join()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cameras", description=__doc__)
    parser.add_argument("--seconds", type=float, default=DURATION, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    options = parser.parse_args()
    results = measure(options.seconds)
    print(f"{CAMERAS} cameras, {SIZE[0]}x{SIZE[1]} at {RATE} frames/s   frames/s    cores   memory   apart")
    for result in results:
        apart = f"{result.apart:4.1f} ms" if result.apart else "unknown"
        print(f"{result.name:38} {result.rate:8.1f} {result.cpu:8.2f} {result.memory:5.0f} MB {apart:>7}")
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=2))
    return 0 if len(results) == len(PIPELINES) else 1


if __name__ == "__main__":
    raise SystemExit(main())
