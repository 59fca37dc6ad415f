"""The recordings of all paths that are configured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from polycast.config.names import compile_path_pattern
from polycast.config.path_schema import PathConfiguration
from polycast.config.re2 import Pattern
from polycast.record.store import Segment, SegmentStore


class Entries:
    """The entries of paths, found by name as the hub finds them."""

    def __init__(self, entries: Mapping[str, PathConfiguration]) -> None:
        self._entries = entries
        self._patterns: list[tuple[Pattern, PathConfiguration]] = []
        for name, entry in entries.items():
            pattern = compile_path_pattern(name)
            if pattern is not None:
                self._patterns.append((pattern, entry))
        self._found: dict[str, PathConfiguration | None] = {}

    def find(self, name: str) -> PathConfiguration | None:
        """Return the entry of a path, or None if it is not configured."""
        if name in self._entries:
            return self._entries[name]
        if name not in self._found:
            matching = (entry for pattern, entry in self._patterns if pattern.search(name) is not None)
            self._found[name] = next(matching, None)
        return self._found[name]

    def _by_place(self) -> dict[tuple[str, str], set[str | None]]:
        """Return the names of the paths by the place of their files; None stands for those that match an expression."""
        places: dict[tuple[str, str], set[str | None]] = defaultdict(set)
        for name, entry in self._entries.items():
            places[place_of(entry)].add(None if compile_path_pattern(name) is not None else name)
        return places

    def names(self) -> set[str]:
        """Return the names of those paths that have segments at the places in their settings. It blocks."""
        found: set[str] = set()
        for (record_path, record_format), names in self._by_place().items():
            store = SegmentStore(record_path, record_format)
            found |= {name for name in names if name is not None and next(store.scan(name), None) is not None}
            for name in store.paths() if None in names else ():
                entry = self.find(name)
                if entry is not None and place_of(entry) == (record_path, record_format):
                    found.add(name)
        return found

    def segments(self) -> Iterator[tuple[SegmentStore, Segment, PathConfiguration]]:
        """Yield all segments of these paths, in no particular order, where their settings say that they are.

        It blocks. Raises OSError if a directory cannot be read.
        """
        for (record_path, record_format), names in self._by_place().items():
            store = SegmentStore(record_path, record_format)
            if None in names:
                found = store.scan_all()
            else:
                found = (segment for name in names if name is not None for segment in store.scan(name))
            for segment in found:
                entry = self.find(segment.path)
                if entry is not None and place_of(entry) == (record_path, record_format):
                    yield store, segment, entry


def place_of(entry: PathConfiguration) -> tuple[str, str]:
    """Return what tells the files of an entry from those of others."""
    return entry.record_path, entry.record_format.value


def store_of(entry: PathConfiguration) -> SegmentStore:
    """Return the segments that have the form of an entry's ``recordPath``."""
    return SegmentStore(*place_of(entry))
