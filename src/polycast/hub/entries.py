"""The entries of ``paths`` in the configuration, and which of them applies to a path."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from polycast.config.names import check_path_name, compile_path_pattern
from polycast.config.path_schema import PathConfiguration
from polycast.config.re2 import Pattern
from polycast.errors import ConfigurationError
from polycast.hub.errors import InvalidPathName, PathNotConfigured
from polycast.hub.path import PathEntry
from polycast.rtp.header import PacketSizes
from polycast.rtp.repacketize import DEFAULT_SIZES


class PathEntries:
    """All entries of a configuration."""

    def __init__(
        self,
        entries: Mapping[str, PathConfiguration] = MappingProxyType({}),
        packet_sizes: PacketSizes = DEFAULT_SIZES,
        old: PathEntries | None = None,
    ) -> None:
        """Those whose settings are the same objects as in ``old`` are themselves the same objects.

        With tens of thousands of entries, this takes tenths of a second.
        """
        self.exact: dict[str, PathEntry] = {}
        """Those of a single path, by its name."""
        self._patterns: dict[str, tuple[Pattern, PathEntry]] = {}
        for name, configuration in entries.items():
            entry = old._known(name) if old is not None else None
            if entry is None or entry.configuration is not configuration or entry.packet_sizes != packet_sizes:
                entry = PathEntry(name, configuration, packet_sizes)
            pattern = compile_path_pattern(name)
            if pattern is None:
                self.exact[name] = entry
            else:
                self._patterns[name] = pattern, entry

    def _known(self, name: str) -> PathEntry | None:
        if name in self.exact:
            return self.exact[name]
        return self._patterns[name][1] if name in self._patterns else None

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
        for pattern, pattern_entry in self._patterns.values():
            match = pattern.search(name)
            if match is not None:
                return pattern_entry, tuple(group or "" for group in match.groups())
        raise PathNotConfigured(name)
