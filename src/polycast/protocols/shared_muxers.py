"""Muxers that serve all readers of the same tracks of a stream."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from polycast.hub.stream import Stream
from polycast.media.track import Track


class SharedMuxer(Protocol):
    """A muxer of a server."""

    def refresh(self, tracks: tuple[Track, ...]) -> None:
        """Take the descriptions that a stream has now."""


_Muxer = TypeVar("_Muxer", bound=SharedMuxer)


class SharedMuxers(Generic[_Muxer]):
    """The muxers of a server, which end with their streams."""

    def __init__(self) -> None:
        self._muxers: WeakKeyDictionary[Stream, dict[Hashable, _Muxer]] = WeakKeyDictionary()

    def get(
        self, stream: Stream, tracks: tuple[Track, ...], make: Callable[[], _Muxer], kind: Hashable = None
    ) -> _Muxer:
        """Return the muxer of these tracks, made by ``make`` for the first reader.

        ``kind``: what it depends on besides the tracks.
        """
        muxers = self._muxers.setdefault(stream, {})
        key = frozenset(track.index for track in tracks), kind
        muxer = muxers.get(key)
        if muxer is None:
            muxer = muxers[key] = make()
        else:
            muxer.refresh(tracks)
        return muxer
