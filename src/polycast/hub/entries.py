"""The entries of ``paths`` in the configuration, and which of them applies to a path."""

from __future__ import annotations

from collections.abc import Mapping

from polycast.config.names import check_path_name, compile_path_pattern
from polycast.config.path_schema import PathConfiguration
from polycast.config.re2 import Pattern
from polycast.errors import ConfigurationError
from polycast.hub.errors import InvalidPathName, PathNotConfigured
from polycast.hub.path import PathEntry
from polycast.rtp.header import PacketSizes
from polycast.rtp.repacketize import DEFAULT_SIZES


class PathEntries:
    """All entries."""

    def __init__(self) -> None:
        self.exact: dict[str, PathEntry] = {}
        """Those of a single path, by its name."""
        self._patterns: list[tuple[Pattern, PathEntry]] = []

    def configure(self, entries: Mapping[str, PathConfiguration], packet_sizes: PacketSizes = DEFAULT_SIZES) -> None:
        """Replace all entries."""
        self.exact = {}
        self._patterns = []
        for name, configuration in entries.items():
            entry = PathEntry(name, configuration, packet_sizes)
            pattern = compile_path_pattern(name)
            if pattern is None:
                self.exact[name] = entry
            else:
                self._patterns.append((pattern, entry))

    def find(self, name: str) -> tuple[PathEntry, tuple[str, ...]]:
        """Return the entry for a path name and the groups that its expression matched.

        An exact entry wins; then the first matching expression in the order of the file. Raises InvalidPathName or
        PathNotConfigured.
        """
        try:
            check_path_name(name)
        except ConfigurationError as error:
            raise InvalidPathName(f"invalid path name: {error} ({name})") from None
        return self.entry_of(name)

    def entry_of(self, name: str) -> tuple[PathEntry, tuple[str, ...]]:
        """Return the same for a valid name. Raises PathNotConfigured."""
        entry = self.exact.get(name)
        if entry is not None:
            return entry, ()
        for pattern, pattern_entry in self._patterns:
            match = pattern.search(name)
            if match is not None:
                return pattern_entry, tuple(group or "" for group in match.groups())
        raise PathNotConfigured(name)
