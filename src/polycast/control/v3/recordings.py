"""Recordings in API v3: the files of each path by their start."""

from __future__ import annotations

import heapq
import os
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, zip_longest
from typing import Annotated, Any, TypedDict

import msgspec
from msgspec import Meta

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.control.errors import RequestError
from polycast.errors import ConfigurationError
from polycast.items import DateTime
from polycast.media.timebase import NANOSECONDS, WallTime
from polycast.record.entries import Entries, store_of

_SLICE = 10_000  # files that are sorted or encoded at once, which takes some milliseconds
_TRAILING_ZEROS = re.compile(rb"(\.[0-9]*?[1-9])0+(?=[Z+-])")  # which MediaMTX does not write
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RecordingSegmentFields(TypedDict):
    """A recorded file."""

    start: DateTime


class RecordingFields(TypedDict):
    """The recordings of a path."""

    name: str
    segments: Annotated[list[RecordingSegmentFields], Meta(description="The oldest first.")]


class DeletedFields(TypedDict):
    """What was deleted."""

    deleted: Annotated[int, Meta(description="Files.")]


def list_recordings(configuration: Configuration) -> list[dict[str, Any]]:
    """Return the recordings of all paths that have some, by name. It blocks. Raises RequestError."""
    starts: dict[str, list[WallTime]] = defaultdict(list)
    try:
        for _, segment, _ in Entries(configuration.paths).segments():
            starts[segment.path].append(segment.start)
    except OSError as error:
        raise _unreadable(error) from error
    return [_describe(name, starts[name]) for name in sorted(starts)]


def get_recordings(name: str, entry: PathConfiguration) -> dict[str, Any]:
    """Return the recordings of a path. It blocks. Raises RequestError."""
    try:
        return _describe(name, (segment.start for segment in store_of(entry).scan(name)))
    except OSError as error:
        raise _unreadable(error) from error


def _describe(name: str, starts: Iterable[WallTime]) -> dict[str, Any]:
    # There may be a million. They are encoded here, in a thread, and in slices, between which other threads can work.
    unsorted = list(starts)
    slices = (sorted(unsorted[first : first + _SLICE]) for first in range(0, len(unsorted), _SLICE))
    encoded: list[bytes] = []
    for some in _batches(heapq.merge(*slices)):
        text = msgspec.json.encode([{"start": _moment(start)} for start in some])[1:-1]
        encoded.append(_TRAILING_ZEROS.sub(rb"\1", text))
    return {"name": name, "segments": msgspec.Raw(b"[%s]" % b",".join(encoded))}


def _batches(starts: Iterable[WallTime]) -> Iterator[Sequence[WallTime]]:
    iterator = iter(starts)
    while some := tuple(islice(iterator, _SLICE)):
        yield some


def _moment(start: WallTime) -> datetime:
    return (_EPOCH + timedelta(microseconds=start // 1000)).astimezone()


def _parse(name: str, text: str) -> WallTime:
    """Return the time of a parameter (RFC 3339). Raises RequestError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError("the offset from UTC is missing")
    except ValueError as error:
        raise RequestError(400, f"invalid '{name}' parameter: {error}") from None
    return WallTime((moment - _EPOCH) // timedelta(microseconds=1) * (NANOSECONDS // 1_000_000))


def delete_period(name: str, start: str, end: str, entry: PathConfiguration, open_files: Container[str]) -> int:
    """Delete the files of a path that lie within a period, and are complete; return how many. It blocks.

    A file ends where the next one begins, at the latest when it was last changed. Raises RequestError.
    """
    first, last = _parse("start", start), _parse("end", end)
    if first >= last:
        raise RequestError(400, "invalid 'end' parameter: it must be after the start")
    store = store_of(entry)
    deleted = 0
    try:
        segments = store.segments(name)
        for segment, following in zip_longest(segments, segments[1:]):
            if not first <= segment.start < last or segment.file in open_files:
                continue
            ends = os.stat(segment.file).st_mtime_ns
            if following is not None:
                ends = min(ends, following.start)
            if ends <= last:
                store.remove(segment)
                deleted += 1
    except OSError as error:
        raise RequestError(400, f"remove {error.filename}: {error.strerror}") from error
    except (ConfigurationError, ValueError) as error:
        raise RequestError(400, str(error)) from error
    return deleted


def delete_segment(name: str, start: str, entry: PathConfiguration) -> None:
    """Delete the file of a path that begins at a time (RFC 3339). It blocks. Raises RequestError."""
    wanted = _parse("start", start)
    store = store_of(entry)
    try:
        segment = store.find(name, wanted)
        if segment is None:
            raise RequestError(400, f"remove {store.file_of(name, wanted)}: no such file or directory")
        store.remove(segment)
    except OSError as error:
        raise RequestError(400, f"remove {error.filename}: {error.strerror}") from error
    except (ConfigurationError, ValueError) as error:
        raise RequestError(400, str(error)) from error


def _unreadable(error: OSError) -> RequestError:
    return RequestError(500, f"open {error.filename}: {error.strerror}")
