"""Files as slates: MP4, played again and again without being re-encoded."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

from polycast.hub.slate import Slate, SlateFrame, SlateReader
from polycast.hub.successor import is_compatible
from polycast.slates.clip import Clip, ClipError, Place

BLOCK_SECONDS: Final = 1.0
"""Read at once."""
MAXIMUM_BLOCK: Final = 8 * 1024 * 1024
"""Bytes read at once."""


class _Version(NamedTuple):
    """What changes when somebody writes a file."""

    inode: int
    size: int
    modified: int


def _version_of(file: BinaryIO) -> _Version:
    status = os.fstat(file.fileno())
    return _Version(status.st_ino, status.st_size, status.st_mtime_ns)


class FileSlate(Slate):
    """A file. It may be replaced by another one with the same tracks."""

    def __init__(self, path: str) -> None:
        """Reads the index of the file. Raises ClipError or OSError."""
        self._path = path
        with open(path, "rb") as file:
            self._version = _version_of(file)
            self._clip = Clip(file)
        self.tracks = self._clip.tracks

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one whose index was read. Looks for it on the disk."""
        try:
            with open(self._path, "rb") as file:
                return _version_of(file) == self._version
        except OSError:
            return False

    def open(self) -> SlateReader:
        return _Reader(self)

    @contextlib.contextmanager
    def opened(self) -> Iterator[tuple[BinaryIO, Clip]]:
        """Open the file, and yield it with its index, which is read again after a change. Raises OSError."""
        with open(self._path, "rb") as file:
            version = _version_of(file)
            if version != self._version:
                self._change(file, version)
            yield file, self._clip

    def _change(self, file: BinaryIO, version: _Version) -> None:
        try:
            clip = Clip(file)
        except ClipError as error:
            raise OSError(str(error)) from error
        if not is_compatible(self.tracks, clip.tracks):
            raise OSError("file has other tracks than before: reload the configuration of the path")
        self._clip, self._version = clip, version


class _Reader(SlateReader):
    def __init__(self, slate: FileSlate) -> None:
        self._slate = slate
        self._clip: Clip | None = None
        self._places: Iterator[Place] = iter(())
        self._next: Place | None = None
        """The frame that is read next."""

    async def read(self) -> Sequence[SlateFrame]:
        return await asyncio.to_thread(self._read_block)

    def _read_block(self) -> list[SlateFrame]:
        with self._slate.opened() as (file, clip):
            if clip is not self._clip:
                self._clip = clip
                self._places = clip.places(self._next.due if self._next is not None else 0.0)
                self._next = next(self._places)
            frames: list[SlateFrame] = []
            size = 0
            place = self._next
            end = place.due + BLOCK_SECONDS if place is not None else 0.0
            while place is not None and place.due < end and size <= MAXIMUM_BLOCK:
                frame = clip.read(file, place)
                if frame is not None:
                    frames.append(frame)
                size += clip.size_of(place)
                place = self._next = next(self._places)
        return frames
