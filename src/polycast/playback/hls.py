"""HLS of recordings: a playlist of any period, whose media segments are made of the recorded files on request."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from polycast.errors import PolycastError
from polycast.playback import requests
from polycast.playback.downloads import Downloads
from polycast.playback.index import Segment
from polycast.playback.output import NothingRecorded, initialization, media_segment
from polycast.playback.periods import MAXIMUM
from polycast.playback.playlist import RecordedPlaylist
from polycast.playback.recordings import Recordings
from polycast.playback.requests import NOTHING_RECORDED, RequestError, parameter

MAXIMUM_FILES: Final = 100_000
"""Recorded files in one playlist: two months of one minute each."""
MAXIMUM_SEGMENT: Final = 3600 * 1_000_000_000
"""Nanoseconds of a media segment."""
_IMMUTABLE: Final = {"Cache-Control": "private, max-age=3600"}
_TOKENS: Final = ("token", "jwt")
"""Fields of the query that may be credentials: players do not add them to the addresses of segments."""


class RecordedHls:
    """Answers the requests of players."""

    def __init__(self, recordings: Recordings, downloads: Downloads, record_path: Callable[[str], str]) -> None:
        """``record_path`` returns that of a path; it raises RequestError."""
        self._recordings = recordings
        self._downloads = downloads
        self._record_path = record_path

    async def playlist(self, request: Request) -> Response:
        """Answer with the playlist of a period; without an end, of all from its start on, which may grow."""
        name = requests.path_name(request)
        start = requests.date_time(request, "start").time
        until = requests.optional_date_time(request, "end")
        end = until.time if until is not None else None
        if end is None and parameter(request, "duration"):
            end = start + requests.duration(request)
        record_path = self._record_path(name)
        try:
            segments = await self._recordings.segments(record_path, name, start, MAXIMUM if end is None else end)
            if len(segments) > MAXIMUM_FILES:
                raise RequestError(400, "the period is too long")
            segments = [each for each in segments if each.end > start]
            segments = await self._recordings.with_cuts(record_path, name, segments)
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error) from None
        query = {"path": name} | {key: parameter(request, key) for key in _TOKENS if parameter(request, key)}
        playlist = RecordedPlaylist(segments, start, end, time.time_ns())
        if playlist.is_empty:
            raise RequestError(404, NOTHING_RECORDED)
        body = await self._recordings.run(lambda: playlist.write(query))
        return Response(body, media_type="application/vnd.apple.mpegurl", headers={"Cache-Control": "no-cache"})

    async def initialization(self, request: Request) -> Response:
        """Answer with the init segment of a file."""
        file = (await self._segment(request)).file
        try:
            body = await self._recordings.run(lambda: initialization(self._recordings.files, file))
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error, 404) from None
        return Response(body, media_type="video/mp4", headers=_IMMUTABLE)

    async def segment(self, request: Request) -> Response:
        """Answer with a media segment."""
        begin, end, base = (requests.number(request, key) for key in ("from", "to", "time"))
        if not 0 <= begin < end <= begin + MAXIMUM_SEGMENT:
            raise RequestError(400, "invalid to")
        file = (await self._segment(request)).file
        source = media_segment(self._recordings.files, file, begin, end, base)
        try:
            return await self._downloads.respond(request, source, headers=_IMMUTABLE)
        except NothingRecorded:
            raise RequestError(404, NOTHING_RECORDED) from None
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error, 404) from None

    async def _segment(self, request: Request) -> Segment:
        """Return the file that a request names by its start."""
        name, start = requests.path_name(request), requests.number(request, "file")
        for segment in await self._recordings.segments(self._record_path(name), name, start, start):
            if segment.start == start:
                return segment
        raise RequestError(404, NOTHING_RECORDED)
