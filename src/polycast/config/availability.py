"""Keys whose feature this version does not have yet. Whoever adds a feature removes its keys from the set.

Then the documents need to be made again: ``python -m polycast.config.document docs/``.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final

from polycast.config.fields import configuration_fields, path_fields
from polycast.config.schema import Configuration

NOT_YET_AVAILABLE: Final[frozenset[str]] = frozenset()
"""Keys of the server and of paths; ``source:<kind>`` and ``source:list`` are values of ``source``."""

_TEXT: Final = "'%s' is set, but this version does not support it yet"


def unavailable_keys(configuration: Configuration, given: Set[str]) -> list[str]:
    """One line for each key that the user set (``LoadedConfiguration.given``) to something that has no effect yet."""
    off = tuple(
        prefix
        for prefix, disabled in (("rtmp", configuration.rtmp_disable), ("hls", configuration.hls_disable))
        if disabled
    )
    lines = [
        _TEXT % key
        for key, field in configuration_fields().items()
        if key in NOT_YET_AVAILABLE
        and key in given
        and getattr(configuration, field.name) != field.default
        and not key.startswith(off)
    ]
    for name, path in configuration.paths.items():
        for key, field in path_fields().items():
            value = getattr(path, field.name)
            if (
                f"paths.{name}.{key}" in given
                and value != field.default
                and not _supported(key, value, path.source_kind)
            ):
                lines.append(f"path '{name}': {_TEXT % key}")
    return lines


def _supported(key: str, value: Any, kind: Any) -> bool:
    if key == "source":
        if not isinstance(value, str) and "source:list" in NOT_YET_AVAILABLE:
            return False
        return f"source:{kind.value}" not in NOT_YET_AVAILABLE
    return key not in NOT_YET_AVAILABLE
