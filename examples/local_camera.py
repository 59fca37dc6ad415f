"""Publishes a synthetic camera in a thread, for the examples that read a stream."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from synthetic_camera import SyntheticCamera

import polycast


@contextlib.contextmanager
def synthetic_stream(server: polycast.Server, name: str, *, still: bool = False, delay: float = 0.0) -> Iterator[None]:
    """Publish a synthetic camera until the end of the block. ``delay``: seconds that its clock is late."""
    stop = threading.Event()

    def run() -> None:
        camera = SyntheticCamera(still=still)
        stop.wait(delay)
        with server.publish(name, size=(camera.width, camera.height)) as video:
            while not stop.is_set():
                video.write(camera.read()[1])

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
