"""Media that is received before it can be processed: before an answer, or before the tracks are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

EARLY_MEDIA_LIMIT: Final = 4 * 1024 * 1024
"""Bytes that are kept, including the first key frame: two seconds of 16 Mbit/s."""

ENTRY_OVERHEAD: Final = 256
"""Memory overhead of an entry in bytes."""

Entry = TypeVar("Entry")


class EarlyMedia(Generic[Entry]):
    """Entries in the order in which they were received. What exceeds the limit is dropped."""

    __slots__ = ("_entries", "size")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self.size = 0
        """Bytes that are kept, with their overhead."""

    def add(self, entry: Entry, size: int) -> bool:
        """Keep an entry of ``size`` bytes, if there is room for it; return whether there is."""
        size += ENTRY_OVERHEAD
        if self.size + size > EARLY_MEDIA_LIMIT:
            return False
        self._entries.append(entry)
        self.size += size
        return True

    def take(self) -> list[Entry]:
        """Return the entries and forget them."""
        entries, self._entries = self._entries, []
        self.size = 0
        return entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)
