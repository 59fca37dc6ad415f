"""Compares configurations, so that only what is affected is restarted."""

from __future__ import annotations

from functools import cache

import msgspec

from polycast.config.fields import configuration_fields, path_fields
from polycast.config.marks import LIVE
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration


class PathChanges(msgspec.Struct, frozen=True):
    """The names of path entries, in file order (removed ones in the order of the old file)."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def changed_keys(old: Configuration, new: Configuration) -> frozenset[str]:
    """The global keys whose values differ, without ``paths``."""
    return frozenset(key for key, field in configuration_fields().items() if field.of(old) != field.of(new))


def changed_paths(old: Configuration, new: Configuration) -> PathChanges:
    """The path entries that were added, removed, changed and kept."""
    common = [name for name in new.paths if name in old.paths]
    return PathChanges(
        added=tuple(name for name in new.paths if name not in old.paths),
        removed=tuple(name for name in old.paths if name not in new.paths),
        changed=tuple(name for name in common if old.paths[name] != new.paths[name]),
        unchanged=tuple(name for name in common if old.paths[name] == new.paths[name]),
    )


def restarts_path(old: PathConfiguration, new: PathConfiguration) -> bool:
    """Whether a change of a path's settings interrupts its stream."""
    return old != new and any(getattr(old, name) != getattr(new, name) for name in _restarting_fields())


@cache
def _restarting_fields() -> tuple[str, ...]:
    # There may be thousands of paths to compare, on the loop.
    return tuple(field.name for field in path_fields().values() if field.change != LIVE)
