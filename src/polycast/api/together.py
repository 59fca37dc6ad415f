"""Several cameras at once: pictures that were taken at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from polycast.api.closing import Closing
from polycast.api.errors import ReadTimeout
from polycast.api.frames import VideoFrame
from polycast.api.reader import Reader

KEPT_PICTURES: Final = 8
"""Decoded pictures of a camera that wait for those of the others: a quarter of a second, and 25 MB of 1080p."""

Clock = Literal["capture", "arrival"]
"""Whose clock decides which pictures belong together."""


@dataclass(slots=True)
class _Camera:
    """What has been read from one camera and not handed out."""

    reader: Reader[VideoFrame]
    pictures: deque[tuple[float, VideoFrame]] = field(default_factory=lambda: deque(maxlen=KEPT_PICTURES))
    """Seconds since 1970 and the picture, in order."""
    has_ended: bool = False
    error: Exception | None = None


class Together(Closing):
    """Pictures of several cameras, taken at the same time: iterate over it with ``for`` or ``async for``.

    Each item is a list with a `VideoFrame` for each reader, in their order, or None for a camera that has no picture of
    that moment. Made by `together`.
    """

    def __init__(
        self,
        readers: Sequence[Reader[VideoFrame]],
        *,
        tolerance: float,
        patience: float,
        timeout: float | None,
        clock: Clock,
    ) -> None:
        self._cameras = [_Camera(reader) for reader in readers]
        self._tolerance = tolerance
        self._patience = patience
        self._timeout = timeout
        self._clock = clock
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read_camera, args=(camera,), name="polycast-together", daemon=True)
            for camera in self._cameras
        ]
        for thread in self._threads:
            thread.start()

    @property
    def errors(self) -> dict[int, Exception]:
        """The errors of the readers that have failed, by their position. The others continue."""
        return {index: camera.error for index, camera in enumerate(self._cameras) if camera.error is not None}

    def read(self, timeout: float | None = None) -> list[VideoFrame | None] | None:
        """Return the next pictures, or None once all readers have ended.

        ``timeout``: in seconds; default: that of `together`. Raises ReadTimeout if no camera sent a picture in time,
        and the error of the first reader that failed once all have ended.
        """
        limit = self._timeout if timeout is None else timeout
        deadline = None if limit is None else time.monotonic() + limit
        since: float | None = None
        with self._changed:
            while True:
                live = [camera for camera in self._cameras if not camera.has_ended or camera.pictures]
                if not live:
                    break
                now = time.monotonic()
                if any(camera.pictures for camera in live):
                    since = now if since is None else since
                    if all(camera.pictures for camera in live) or now - since >= self._patience:
                        return self._take()
                elif deadline is not None and now >= deadline:
                    raise ReadTimeout(f"no camera sent a picture within {limit:g} seconds")
                ends = [end for end in (deadline, None if since is None else since + self._patience) if end is not None]
                self._changed.wait(min([1.0, *(max(0.0, end - now) for end in ends)]))
        error = next(iter(self.errors.values()), None)
        if error is not None:
            raise error
        return None

    async def read_async(self, timeout: float | None = None) -> list[VideoFrame | None] | None:
        """Do what `read` does, in an event loop."""
        return await asyncio.to_thread(self.read, timeout)

    def close(self) -> None:
        """Close all readers; the iteration ends. May be called several times."""
        for camera in self._cameras:
            camera.reader.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._changed:
            for camera in self._cameras:
                camera.pictures.clear()

    def __iter__(self) -> Iterator[list[VideoFrame | None]]:
        while (pictures := self.read()) is not None:
            yield pictures

    async def __aiter__(self) -> AsyncIterator[list[VideoFrame | None]]:
        while (pictures := await self.read_async()) is not None:
            yield pictures

    def __repr__(self) -> str:
        return f"<Together {', '.join(repr(camera.reader) for camera in self._cameras)}>"

    def _read_camera(self, camera: _Camera) -> None:
        try:
            with contextlib.closing(camera.reader) as reader:
                for frame in reader:
                    arrival = time.time()
                    moment = arrival if frame.time is None or self._clock == "arrival" else frame.time
                    with self._changed:
                        camera.pictures.append((moment, frame))
                        self._changed.notify_all()
        except Exception as error:
            camera.error = error
        finally:
            with self._changed:
                camera.has_ended = True
                self._changed.notify_all()

    def _take(self) -> list[VideoFrame | None]:
        """Return the pictures nearest to the newest moment of which every camera has something."""
        moment = min(camera.pictures[-1][0] for camera in self._cameras if camera.pictures)
        return [self._take_nearest(camera.pictures, moment) for camera in self._cameras]

    def _take_nearest(self, pictures: deque[tuple[float, VideoFrame]], moment: float) -> VideoFrame | None:
        """Return the picture of a moment, and drop those before it."""
        found: VideoFrame | None = None
        distance = self._tolerance
        while pictures and pictures[0][0] <= moment + self._tolerance:
            if abs(pictures[0][0] - moment) > distance and found is not None:
                break
            time_of, frame = pictures.popleft()
            if abs(time_of - moment) <= distance:
                found, distance = frame, abs(time_of - moment)
        return found


def together(
    readers: Sequence[Reader[VideoFrame]],
    *,
    tolerance: float = 0.05,
    patience: float = 0.5,
    timeout: float | None = None,
    clock: Clock = "capture",
) -> Together:
    """Read several cameras at once: iterate over lists with one picture of each, taken at the same time.

    ``readers``: made by `read` or `Server.read`; they belong to the result from now on, which decodes each in a thread
    of its own. Pictures belong together if they were taken within ``tolerance`` seconds by the clocks of the cameras
    (``VideoFrame.time``; the time of arrival, if a camera does not report it), or with ``clock="arrival"``, if they
    arrived so. ``patience``: seconds to wait for a camera that sends nothing; then there is None in its place.
    ``timeout``: seconds to wait for any picture. Raises ValueError without readers.
    """
    if not readers:
        raise ValueError("together needs at least one reader")
    return Together(readers, tolerance=tolerance, patience=patience, timeout=timeout, clock=clock)
