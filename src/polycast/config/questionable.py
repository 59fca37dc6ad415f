"""Warnings about configurations that are valid, but probably not intended."""

from __future__ import annotations

from polycast.config.foreign import OTHER_NAMES_OF_ALL
from polycast.config.names import ALL_PATHS
from polycast.config.schema import Configuration


def questionable(configuration: Configuration, *, has_file: bool) -> list[str]:
    """Return one warning per line."""
    warnings = []
    paths = configuration.paths
    if has_file and not paths:
        warnings.append(
            "no path is configured, so nobody can publish or read; to allow every name, add the lines "
            "'paths:' and '  all:'"
        )
    if not has_file and paths and ALL_PATHS not in paths:
        names = ", ".join(f"'{name}'" for name in paths)
        warnings.append(f"only the paths of environment variables exist ({names}); for all others, set RTSP_PATHS_ALL=")
    for name in paths:
        if name in OTHER_NAMES_OF_ALL:
            warnings.append(
                f"'{name}' is an ordinary path name here; the entry for all other names is called 'all' "
                "(see docs/migrate.md)"
            )
    return warnings
