"""Small pictures of live streams, made of their key frames when somebody looks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from polycast.control.errors import RequestError
from polycast.errors import PolycastError
from polycast.hub.batch import FrameBatch
from polycast.hub.errors import PathError
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode.pictures import can_be_shown, key_picture

ARE_POSSIBLE: Final = find_spec("av") is not None and find_spec("numpy") is not None
"""Whether the packages are installed that decode pictures (the extra ``media``)."""

WIDTH: Final = 480
"""Pixels."""

FRESH_SECONDS: Final = 5.0
"""How long a picture is sent again."""

KEY_FRAME_SECONDS: Final = 12.0
"""How long a key frame is waited for; cameras send one every ten seconds at least, as a rule."""

MAXIMUM_PICTURES: Final = 200
"""Pictures that are kept, of about 20 kB each."""

MAXIMUM_WAITING: Final = 32
"""Streams whose key frames are waited for at the same time."""

_DECODERS: Final = 2
"""Pictures that are decoded at the same time."""


@dataclass(frozen=True, slots=True)
class _Picture:
    data: bytes
    time: float


class _KeyFrame(FrameReader):
    """Waits for the next key frame of a stream."""

    is_passive = True

    def __init__(self, stream: Stream) -> None:
        self._index = stream.key_track
        self._tracks = list(stream.descriptions)
        self.found: asyncio.Future[tuple[Track, Frame]] = asyncio.get_running_loop().create_future()

    def deliver_frames(self, batch: FrameBatch) -> None:
        for index, entry in batch.entries:
            if not isinstance(entry, Frame):
                self._tracks[index] = entry
            elif index == self._index and entry.key and not self.found.done():
                self.found.set_result((self._tracks[index], entry))

    def close_reader(self, reason: str) -> None:
        if not self.found.done():
            self.found.cancel()

    def reference(self) -> Reference:
        return Reference("thumbnail")


class Thumbnails:
    """Makes pictures, and keeps the last ones. Needs PyAV (the extra ``media``)."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, _Picture] = OrderedDict()
        self._making: dict[str, asyncio.Task[bytes]] = {}
        self._decoders = asyncio.Semaphore(_DECODERS)

    async def get(self, path: Path) -> bytes:
        """Return a JPEG picture of the stream of a path, a few seconds old at most. Raises RequestError."""
        stream = path.stream
        if stream is None:
            raise RequestError(404, f"path '{path.name}' has no stream")
        known = self._pictures.get(path.name)
        if known is not None and asyncio.get_running_loop().time() - known.time < FRESH_SECONDS:
            return known.data
        making = self._making.get(path.name)
        if making is None:
            if len(self._making) >= MAXIMUM_WAITING:
                raise RequestError(503, "too many pictures are being made")
            making = asyncio.get_running_loop().create_task(self._make(path, stream))
            self._making[path.name] = making
            making.add_done_callback(lambda task: self._on_made(path.name, task))
        # Others may be waiting for the same picture.
        return await asyncio.shield(making)

    def close(self) -> None:
        """End, and forget the pictures."""
        for making in list(self._making.values()):
            making.cancel()
        self._pictures.clear()

    def _on_made(self, name: str, task: asyncio.Task[bytes]) -> None:
        self._making.pop(name, None)
        if not task.cancelled():
            task.exception()  # whoever asked for it may have left

    async def _make(self, path: Path, stream: Stream) -> bytes:
        if not can_be_shown(stream.descriptions[stream.key_track]):
            raise RequestError(404, "the stream has no pictures that can be decoded")
        reader = _KeyFrame(stream)
        try:
            path.attach_reader(reader, stream, is_provisional=True)
            async with asyncio.timeout(KEY_FRAME_SECONDS):
                track, frame = await reader.found
        except (TimeoutError, PathError):
            raise RequestError(404, "no key frame has arrived in time") from None
        except asyncio.CancelledError:
            if reader.found.cancelled() and not _is_cancelling():
                raise RequestError(404, "the stream has ended") from None
            raise
        finally:
            path.remove_reader(reader, is_provisional=True)
        async with self._decoders:
            try:
                data = await asyncio.to_thread(key_picture, track, frame, WIDTH)
            except PolycastError as error:
                raise RequestError(404, str(error)) from None
        self._pictures[path.name] = _Picture(data, asyncio.get_running_loop().time())
        self._pictures.move_to_end(path.name)
        while len(self._pictures) > MAXIMUM_PICTURES:
            self._pictures.popitem(last=False)
        return data


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
