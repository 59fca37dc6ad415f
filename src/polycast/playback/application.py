"""Answers requests for recordings: what there is of a path (``/list``), a period as a file (``/get``, ``/export``) or
as HLS, and pictures (``/thumbnail``)."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final
from urllib.parse import urlencode

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polycast.config.path_schema import PathConfiguration
from polycast.errors import PolycastError
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback import requests
from polycast.playback.downloads import Downloads, client_of
from polycast.playback.hls import RecordedHls
from polycast.playback.index import Period
from polycast.playback.openapi import get_document
from polycast.playback.output import IndexedFile, NothingRecorded, PeriodTooLong, Wanted, fragmented, indexed
from polycast.playback.pages import ASSETS, get_asset, get_page
from polycast.playback.periods import OffsetDateTime, format_seconds
from polycast.playback.recordings import Recordings
from polycast.playback.requests import NOT_STORED, NOTHING_RECORDED, RequestError, error_response, parameter
from polycast.playback.thumbnails import Thumbnails

MAXIMUM_KEPT: Final = 4
"""Files with an index that are kept: players ask for one in many ranges."""
MAXIMUM_KEPT_HEAD: Final = 8 * 1024 * 1024
"""Bytes of the index of such a file."""
MAXIMUM_ENTRIES: Final = 100_000
"""Periods in a list; a year with a gap every five minutes has as many."""
ENTRIES_AT_ONCE: Final = 1_000
"""Periods of a list that are written at once; the next ones follow when the client has taken these."""
MAXIMUM_PATHS: Final = 10_000
"""Paths in their list."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Playback:
    """The application of the playback server."""

    def __init__(
        self,
        recordings: Recordings,
        find: Callable[[str], PathConfiguration],
        log: Log,
        recorded_paths: Callable[[], Collection[str]],
        is_open: Callable[[str], bool],
    ) -> None:
        """``find`` returns the configuration of a path; it raises PolycastError.

        ``recorded_paths`` returns the names of those that have recordings; it blocks. ``is_open`` returns whether
        everybody may play the recordings of a path.
        """
        self._recorded_paths = recorded_paths
        self._is_open = is_open
        self._recordings = recordings
        self._find = find
        self._log = log
        self._downloads = Downloads(recordings, log)
        self._kept: OrderedDict[tuple[object, ...], IndexedFile] = OrderedDict()
        self._listing: asyncio.Future[Collection[str]] | None = None
        """The names of paths that have recordings, for all who ask meanwhile: all directories are looked at."""

    def application(self) -> Starlette:
        """Return the ASGI application."""
        hls = RecordedHls(self._recordings, self._downloads, self._record_path)
        routes = {
            "/list": self.list,
            "/paths": self.paths,
            "/get": self.get,
            "/export": self.export,
            "/thumbnail": Thumbnails(self._recordings, self._record_path).get,
            "/index.m3u8": hls.playlist,
            "/init.mp4": hls.initialization,
            "/segment.m4s": hls.segment,
            "/openapi.json": get_document,
            "/": get_page,
            ASSETS: get_asset,
        }
        application = Starlette(
            routes=[Route(path, handler, methods=["GET"]) for path, handler in routes.items()],
            exception_handlers={HTTPException: requests.on_http_error, RequestError: self._on_request_error},
        )
        application.router.redirect_slashes = False
        return application

    async def list(self, request: Request) -> Response:
        """Answer what is recorded of a path."""
        name = requests.path_name(request)
        start, end = requests.optional_date_time(request, "start"), requests.optional_date_time(request, "end")
        record_path = self._record_path(name)
        places = self._downloads.lookups
        with places.taken(client_of(request)):
            try:
                periods = await self._recordings.periods(
                    record_path, name, start.time if start else None, end.time if end else None
                )
            except OSError as error:
                raise requests.unreadable(error) from None
        if not periods:
            raise RequestError(404, NOTHING_RECORDED)
        base = f"{request.url.scheme}://{request.headers.get('host', '')}/get?"
        source = _encode_list(name, periods[:MAXIMUM_ENTRIES], start, end, base)
        return await self._downloads.respond(request, source, media_type="application/json", places=places)

    async def paths(self, _: Request) -> Response:
        """Answer which paths have recordings that everybody may play."""
        if self._listing is None or self._listing.done():
            self._listing = asyncio.ensure_future(self._recordings.run(self._recorded_paths))
        found = await asyncio.shield(self._listing)
        names = [name for name in sorted(found) if self._is_open(name)]
        return Response(msgspec.json.encode(names[:MAXIMUM_PATHS]), media_type="application/json", headers=NOT_STORED)

    def _record_path(self, name: str) -> str:
        try:
            return self._find(name).record_path
        except PolycastError as error:
            raise RequestError(400, str(error)) from None

    async def get(self, request: Request) -> Response:
        """Answer with a file of a period."""
        name = requests.path_name(request)
        start, duration = requests.date_time(request, "start").time, requests.duration(request)
        form = parameter(request, "format") or "fmp4"
        if form not in ("fmp4", "mp4"):
            raise RequestError(400, f"invalid format: {form}")
        gaps = parameter(request, "gaps")
        if gaps not in ("", "end", "skip"):
            raise RequestError(400, f"invalid gaps: {gaps}")
        wanted = Wanted(start, duration, skips_gaps=gaps == "skip")
        record_path = self._record_path(name)
        files = self._recordings.files
        try:
            if form == "mp4":
                return await self._get_indexed(request, record_path, name, wanted)
            pages = await self._recordings.pages(record_path, name, start, start + duration)
            source = fragmented(files, pages, wanted)
            return await self._downloads.respond(request, source, headers={"Accept-Ranges": "none"})
        except NothingRecorded:
            raise RequestError(404, NOTHING_RECORDED) from None
        except PeriodTooLong:
            raise RequestError(400, "the period is too long for this format; use the format fmp4") from None
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error) from None

    async def export(self, request: Request) -> Response:
        """Answer with an MP4 file that has exactly the pictures of a period, over gaps, to be saved."""
        name, first = requests.path_name(request), requests.date_time(request, "start")
        end = requests.optional_date_time(request, "end")
        duration = end.time - first.time if end is not None else requests.duration(request)
        if duration <= 0:
            raise RequestError(400, "invalid end: it must be after the start")
        wanted = Wanted(first.time, duration, skips_gaps=True)
        record_path = self._record_path(name)
        try:
            response = await self._get_indexed(request, record_path, name, wanted)
        except NothingRecorded:
            raise RequestError(404, NOTHING_RECORDED) from None
        except PeriodTooLong:
            raise RequestError(400, "the period is too long for a file with an index; use /get") from None
        except (OSError, PolycastError) as error:
            raise requests.unreadable(error) from None
        moment = str(first).partition(".")[0].partition("+")[0].replace(":", "-")
        file = f"{re.sub('[^0-9A-Za-z_.-]', '_', name)}-{moment}.mp4"
        response.headers["Content-Disposition"] = f'attachment; filename="{file}"'
        return response

    async def _get_indexed(self, request: Request, record_path: str, name: str, wanted: Wanted) -> Response:
        with self._downloads.lookups.taken(client_of(request)):
            file = await self._indexed(record_path, name, wanted)
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{file.tag}"'}
        status, start, end = 200, 0, file.size
        part = request.headers.get("range")
        if part is not None and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
            span = parse_range(part, file.size)
            if span is not None:
                start, end = span
                if start >= end:
                    return Response(b"", 416, {**headers, "Content-Range": f"bytes */{file.size}"})
                status = 206
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        places = self._downloads.large if file.head_size > MAXIMUM_KEPT_HEAD else None
        return await self._downloads.respond(request, file.read(start, end), status, headers, places=places)

    async def _indexed(self, record_path: str, name: str, wanted: Wanted) -> IndexedFile:
        """Return a file with an index, the same one for all who ask if it is not too large."""
        segments = await self._recordings.segments(record_path, name, wanted.start, wanted.start + wanted.duration)
        key = (name, wanted, tuple(segments))
        kept = self._kept.pop(key, None)
        file = kept or await self._make(partial(indexed, self._recordings.files, segments, wanted))
        if file.head_size <= MAXIMUM_KEPT_HEAD:
            self._kept[key] = file
            if len(self._kept) > MAXIMUM_KEPT:
                self._kept.popitem(last=False)
        return file

    async def _make(self, make: Callable[[Callable[[], bool]], IndexedFile]) -> IndexedFile:
        """Return a file that a thread makes; it stops if the client leaves, as few threads make all of them."""
        abandoned = threading.Event()
        try:
            return await self._recordings.run(partial(make, abandoned.is_set))
        except asyncio.CancelledError:
            abandoned.set()
            raise

    async def _on_request_error(self, request: Request, error: Exception) -> Response:
        self._log.info("%s: %s", request.url.path, error)
        return error_response(error.status if isinstance(error, RequestError) else 500, str(error))


class _Entry(msgspec.Struct):
    start: str
    duration: float
    url: str


def _encode_list(
    name: str, periods: list[Period], start: OffsetDateTime | None, end: OffsetDateTime | None, base: str
) -> Iterator[bytes]:
    """Yield the answer to a list, in JSON. Parts outside of ``start`` and ``end`` are cut off."""
    before = b"["
    for index in range(0, len(periods), ENTRIES_AT_ONCE):
        entries = []
        for period in periods[index : index + ENTRIES_AT_ONCE]:
            first = start if start is not None and start.time > period.start else OffsetDateTime(period.start)
            duration = (min(period.end, end.time) if end is not None else period.end) - first.time
            query = {"duration": format_seconds(duration), "path": name, "start": str(first)}
            entries.append(_Entry(str(first), duration / NANOSECONDS, base + urlencode(query)))
        yield before + msgspec.json.encode(entries)[1:-1]
        before = b","
    yield b"]"


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the single requested range (RFC 9110 section 14.2), empty if it cannot be satisfied; None
    to ignore the header."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(size - int(match[2]), 0), size
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return start, min(int(match[2]) + 1, size) if match[2] else size
