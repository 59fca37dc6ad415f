"""Small pictures of recorded moments, for timelines."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from polycast.errors import MissingDependency, PolycastError, UnsupportedCodec
from polycast.playback import requests
from polycast.playback.opening import Files
from polycast.playback.output import NothingRecorded, key_picture
from polycast.playback.recordings import Recordings
from polycast.playback.requests import NOTHING_RECORDED, RequestError
from polycast.transcode.pictures import first_picture

WIDTHS: Final = (16, 1920)
"""Pixels, from and to."""
DEFAULT_WIDTH: Final = 320
MAXIMUM_KEPT: Final = 32 * 1024 * 1024
"""Bytes of pictures that are kept: a thousand or more."""
MAXIMUM_WAITING: Final = 64
"""Requests whose pictures are being made; each takes some milliseconds, and clients scrub over a timeline."""
_HEADERS: Final = {"Cache-Control": "private, max-age=86400"}  # the past does not change

_Key = tuple[str, int, int]
"""Name of the file, time of the picture in it, and width."""


class Thumbnails:
    """Makes pictures, and keeps those that were asked for last. Threads share it."""

    def __init__(self, recordings: Recordings, record_path: Callable[[str], str]) -> None:
        """``record_path`` returns the ``recordPath`` of a path; it raises RequestError."""
        self._recordings = recordings
        self._record_path = record_path
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._size = 0
        self._waiting = 0

    async def get(self, request: Request) -> Response:
        """Answer with the picture of the key frame at a moment, or before it."""
        name = requests.path_name(request)
        time = requests.date_time(request, "time").time
        width = requests.number(request, "width") if requests.parameter(request, "width") else DEFAULT_WIDTH
        if not WIDTHS[0] <= width <= WIDTHS[1]:
            raise RequestError(400, f"invalid width: from {WIDTHS[0]} to {WIDTHS[1]} pixels are possible")
        record_path = self._record_path(name)
        if self._waiting >= MAXIMUM_WAITING:
            raise RequestError(503, "too many pictures are asked for")
        self._waiting += 1
        try:
            segments = await self._recordings.segments(record_path, name, time, time)
            if not segments or segments[-1].end <= time:
                raise RequestError(404, NOTHING_RECORDED)
            file, offset = segments[-1].file, max(time - segments[-1].start, 0)
            picture = await self._recordings.run(lambda: self._make(self._recordings.files, file, offset, width))
        except NothingRecorded:
            raise RequestError(404, "there are no pictures") from None
        except (MissingDependency, UnsupportedCodec) as error:
            raise RequestError(501, str(error)) from None
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error) from None
        finally:
            self._waiting -= 1
        return Response(picture, media_type="image/jpeg", headers=_HEADERS)

    def _make(self, files: Files, file: str, offset: int, width: int) -> bytes:
        """Return the picture. It waits for the disk."""
        found = key_picture(files, file, offset, lambda time: (file, time, width) in self._kept)
        time = found if isinstance(found, int) else found.time
        with self._lock:
            kept = self._kept.get((file, time, width))
            if kept is not None:
                self._kept.move_to_end((file, time, width))
                return kept
        if isinstance(found, int):  # it was forgotten meanwhile
            found = key_picture(files, file, offset, lambda time: False)
            assert not isinstance(found, int)
        picture = first_picture(found.media, width)
        with self._lock:
            before = self._kept.pop((file, time, width), b"")
            self._kept[file, time, width] = picture
            self._size += len(picture) - len(before)
            while self._size > MAXIMUM_KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])
        return picture
