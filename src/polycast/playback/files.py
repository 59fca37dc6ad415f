"""What all recorded files have in common, whatever their format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from polycast.errors import PolycastError
from polycast.wire.mp4.recorded_movie import Place, RecordedTrack
from polycast.wire.mp4.runs import Run

BLOCK: Final = 64 * 1024
"""Bytes that are read at once. Larger ones are faster, but every download that a client does not read keeps a few."""

MAXIMUM_TIME: Final = 1 << 62
"""Nanoseconds since 1970, or from the start of a file: after all times that are possible. The sum of two of them fits
in the 64 bits of the index."""


class UnreadableFile(PolycastError):
    """A file is damaged, incomplete, or no recording."""


class Piece(NamedTuple):
    """Samples of a file that follow each other, of one second or a few."""

    token: int
    """Tells the file which piece it is."""
    runs: list[Run]
    """The samples by track; times count from the start of the file."""


class RecordedFile(Protocol):
    """An open file. For one thread at a time; all methods may wait for the disk."""

    @property
    def is_complete(self) -> bool:
        """Whether the file says that nothing will be added."""
        ...

    @property
    def tracks(self) -> tuple[RecordedTrack, ...]: ...

    @property
    def place(self) -> Place | None:
        """Where the file belongs in its recording, if it says so."""
        ...

    @property
    def origin(self) -> int | None:
        """Where the file starts on a timeline that the files of a recording share, in nanoseconds; None if unknown."""
        ...

    @property
    def duration(self) -> int:
        """Nanoseconds that have been written. Raises UnreadableFile if there is nothing to play."""
        ...

    @property
    def known(self) -> object:
        """What was found out about the file, so that it need not be found out again."""
        ...

    def pieces(self, start: int, end: int) -> Iterator[Piece]:
        """Yield the pieces with the samples from ``start`` to before ``end``, in nanoseconds from the file's start.

        The first ones begin early enough to have a frame of each video track at which decoding can begin, if the file
        has one before ``start``.
        """
        ...

    def key_times(self) -> list[int]:
        """Return the decoding times at which a player can begin, in nanoseconds: those of key frames, with pictures."""
        ...

    def read(self, token: int, position: int, size: int) -> bytes:
        """Return bytes of the samples of a piece. Raises UnreadableFile if they are no longer there."""
        ...

    def close(self) -> None: ...
