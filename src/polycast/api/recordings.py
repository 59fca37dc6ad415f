"""Where frames of recordings come from: the files of a path, a single file, or a playback server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, Unpack, overload
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from polycast.api.errors import AccessRefused, ConnectionFailed, NotFound, StreamEnded
from polycast.api.frames import AudioFrame, VideoFrame
from polycast.api.options import ArrayFormat, RecordedOptions
from polycast.api.recorded import RecordedFrames, Source, TimeLike, unix_seconds
from polycast.api.runtime import Runtime
from polycast.api.webcam import DEVICE_DIRECTORY
from polycast.config.names import check_path_name
from polycast.log import Log
from polycast.media.timebase import NANOSECONDS
from polycast.playback.files import UnreadableFile
from polycast.playback.index import RecordingIndex, Segment
from polycast.playback.opening import Files, open_file
from polycast.playback.output import NothingRecorded, initialization, media_segment
from polycast.playback.periods import OffsetDateTime, format_seconds, parse_date_time
from polycast.record.recorder import Recorder

DEFAULT_RECORD_PATH: Final = "./recordings/%path/%Y-%m-%d_%H-%M-%S-%f"
"""The default of ``recordPath``."""
CONNECT_SECONDS: Final = 30.0
"""How long a playback server may take to answer."""
FILE_ENDINGS: Final = (".mp4", ".m4v", ".mov", ".mkv", ".ts")
"""Names with these are files, even if there is none."""
_FOREVER: Final = 1 << 61


class RecordingRequest:
    """A recording that `Server.record` began; stop it, or use it with ``with`` or ``async with``."""

    def __init__(self, runtime: Runtime, recorder: Recorder, name: str) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._name = name

    def stop(self) -> None:
        """End it, unless it has ended; what the settings say is recorded on. The last file is complete soon after."""
        with suppress(StreamEnded):
            self._runtime.call(lambda: self._recorder.stop(self._name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        return f"<Recording of {self._name}>"


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period that is recorded without a gap."""

    start: datetime
    """With the time zone UTC."""
    end: datetime

    @property
    def duration(self) -> float:
        """In seconds."""
        return (self.end - self.start).total_seconds()


class Recordings:
    """The recordings of one path, as they are on the disk: see `polycast.recordings` and `Server.recordings`."""

    def __init__(self, path: str, record_path: str) -> None:
        check_path_name(path)
        self._path = path
        self._record_path = record_path
        self._files = Files()

    def __repr__(self) -> str:
        return f"<Recordings of {self._path} at {self._record_path}>"

    @property
    def periods(self) -> list[RecordedPeriod]:
        """What is recorded, in order; the last one grows while the recording goes on. Raises OSError."""
        with closing(RecordingIndex(self._record_path, Log())) as index:
            return [RecordedPeriod(_date(each.start), _date(each.end)) for each in index.periods(self._path)]

    @overload
    def read(
        self,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        video: Literal[True] = True,
        audio: Literal[False] = False,
        **options: Unpack[RecordedOptions],
    ) -> RecordedFrames[VideoFrame]: ...

    @overload
    def read(
        self,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        video: Literal[False],
        audio: Literal[True],
        **options: Unpack[RecordedOptions],
    ) -> RecordedFrames[AudioFrame]: ...

    @overload
    def read(
        self,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        video: Literal[True] = True,
        audio: Literal[True],
        **options: Unpack[RecordedOptions],
    ) -> RecordedFrames[VideoFrame | AudioFrame]: ...

    def read(
        self,
        start: TimeLike | None = None,
        end: TimeLike | None = None,
        *,
        video: bool = True,
        audio: bool = False,
        format: ArrayFormat = "bgr24",  # noqa: A002
    ) -> RecordedFrames[Any]:
        """Return the frames from ``start`` to before ``end``, across gaps; by default all.

        Times are datetimes (without time zone: local time), seconds since 1970, or texts such as
        ``2026-11-30T14:00:00Z``. ``frame.time`` is when a frame was recorded, ``frame.pts`` counts from the first
        moment that is read. ``video``, ``audio`` and ``format`` as in `Server.read`. Raises ValueError for wrong
        arguments, NotFound if nothing is recorded in this period, OSError if the directory cannot be read, and
        MissingDependency without PyAV.
        """
        first = 0 if start is None else round(unix_seconds(start) * NANOSECONDS)
        last = _FOREVER if end is None else round(unix_seconds(end) * NANOSECONDS)
        with closing(RecordingIndex(self._record_path, Log())) as index:
            found = index.segments(self._path, first, last)
        segments = [each for each in found if first < each.end and each.start < last]
        if not segments:
            raise NotFound(f"nothing of {self._path} is recorded in this period")
        return RecordedFrames(self._sources(segments, first, last), video=video, audio=audio, pixel_format=format)

    def _sources(self, segments: list[Segment], first: int, last: int) -> Iterator[Source]:
        origin = max(segments[0].start, first)
        before: Segment | None = None
        for segment in segments:
            begin, end = max(first - segment.start, 0), min(last - segment.start, _FOREVER)
            yield Source(
                lambda av, segment=segment, begin=begin, end=end: av.open(  # type: ignore[misc]
                    _Bytes(self._blocks(segment, begin, end)), format="mp4"
                ),
                segment.start / NANOSECONDS,
                (segment.start - origin) / NANOSECONDS,
                begin / NANOSECONDS,
                end / NANOSECONDS,
                continues=before is not None and segment.joins and segment.head == before.head,
            )
            before = segment

    def _blocks(self, segment: Segment, begin: int, end: int) -> Iterator[bytes]:
        try:
            yield initialization(self._files, segment.file)
            yield from media_segment(self._files, segment.file, begin, end, 0)
        except UnreadableFile as error:
            raise OSError(str(error)) from error
        except NothingRecorded:
            return


def recordings(path: str, record_path: str = DEFAULT_RECORD_PATH) -> Recordings:
    """Return the recordings of a path that a server wrote, whether it runs or not.

    ``record_path`` is the server's ``recordPath``; relative names are relative to the working directory. For a server
    in this program, use `Server.recordings`. Raises ConfigurationError if ``path`` cannot be the name of one.
    """
    return Recordings(path, record_path)


def read_file(name: str, start: TimeLike | None, end: TimeLike | None, **options: Any) -> RecordedFrames[Any]:
    """Return the frames of a file; see `polycast.read`. Raises NotFound if there is none."""
    file = Path(name)
    if not file.is_file():
        raise NotFound(f"there is no file {name}")
    origin = _origin(file)
    first, last = (_from_start(each, origin) for each in (start, end))
    source = Source(
        lambda av: av.open(str(file)),
        origin,
        0.0,
        max(first or 0.0, 0.0),
        float("inf") if last is None else last,
        is_file=True,
    )
    return RecordedFrames(iter((source,)), **options)


def _origin(file: Path) -> float | None:
    """Return when a recorded file begins, in seconds since 1970; None if it does not say so."""
    try:
        with closing(open_file(str(file))) as opened:
            return None if opened.place is None else opened.place.wall_time / NANOSECONDS
    except (UnreadableFile, OSError):
        return None


def _from_start(moment: TimeLike | None, origin: float | None) -> float | None:
    """Return a time in seconds from the start of a file, which a number is already."""
    if moment is None or isinstance(moment, int | float):
        return moment
    if origin is None:
        raise ValueError("the file does not say when it was recorded: start and end are seconds from its beginning")
    return unix_seconds(moment) - origin


class _Bytes(io.RawIOBase):
    """A file that can only be read forwards, of what a generator yields."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes; none at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = block
        taken = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(taken) :]
        return taken


# Playback servers


def read_playback(url: str, start: TimeLike | None, end: TimeLike | None, **options: Any) -> RecordedFrames[Any]:
    """Return the frames that a playback server has; see `polycast.read`. Raises ValueError for another address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parse_qs(parts.query).get("path"):
        raise ValueError(
            f"{url} has no start and end: they are for files, and for playback servers, such as "
            "http://localhost:9996/?path=cam"
        )
    return RecordedFrames(_PlaybackServer(url).sources(start, end), **options)


class _PlaybackServer:
    """A client of one path of a playback server."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._path = parse_qs(parts.query)["path"][0]
        self._headers: dict[str, str] = {}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials).decode()

    def sources(self, start: TimeLike | None, end: TimeLike | None) -> Iterator[Source]:
        """Yield the periods without gaps."""
        limits = {
            name: str(OffsetDateTime(round(unix_seconds(moment) * NANOSECONDS), UTC))
            for name, moment in (("start", start), ("end", end))
            if moment is not None
        }
        with self._get("/list", limits) as answer:
            periods = json.load(answer)
        origin: int | None = None
        for period in periods:
            begin = parse_date_time(period["start"]).time
            origin = begin if origin is None else origin
            query = {
                "start": str(OffsetDateTime(begin, UTC)),
                "duration": format_seconds(round(period["duration"] * NANOSECONDS)),
            }
            yield Source(
                lambda av, query=query: av.open(self._get("/get", query), format="mp4"),  # type: ignore[misc]
                begin / NANOSECONDS,
                (begin - origin) / NANOSECONDS,
                marks_leading=True,
            )

    def _get(self, resource: str, query: dict[str, str]) -> Any:
        address = f"{self._base}{resource}?{urlencode({'path': self._path, **query})}"
        try:
            return urllib.request.urlopen(
                urllib.request.Request(address, headers=self._headers),
                timeout=CONNECT_SECONDS,
            )
        except urllib.error.HTTPError as error:
            text = error.read(1000).decode(errors="replace")
            if error.code in (401, 403):
                raise AccessRefused(f"wrong user or password, or no access from here: {text}") from None
            if error.code == 404:
                raise NotFound(f"nothing of {self._path} is recorded in this period") from None
            raise ConnectionFailed(f"{self._base} answers with status {error.code}: {text}") from None
        except OSError as error:
            raise ConnectionFailed(f"{self._base} cannot be reached: {error}") from error


def is_file(url: object) -> bool:
    """Return whether what is to be read is a file by its name."""
    if isinstance(url, str) and "://" not in url and not url.startswith(DEVICE_DIRECTORY):
        return Path(url).suffix.lower() in FILE_ENDINGS or Path(url).is_file()
    return isinstance(url, os.PathLike)


def _date(time: int) -> datetime:
    return datetime.fromtimestamp(time / NANOSECONDS, UTC)
