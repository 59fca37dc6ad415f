"""Warnings about configurations that are valid, but probably not intended."""

from __future__ import annotations

from polycast.config.dialects.registry import dialect_of
from polycast.config.foreign import OTHER_NAMES_OF_ALL
from polycast.config.names import ALL_PATHS
from polycast.config.schema import Configuration
from polycast.config.spelling import environment_name


def questionable(configuration: Configuration, *, has_file: bool) -> list[str]:
    """Return one warning per line."""
    warnings = []
    dialect = dialect_of(configuration.dialect)
    all_paths = dialect.names_of_all[0]
    paths = configuration.paths
    if has_file and not paths:
        warnings.append(
            "no path is configured, so nobody can publish or read; to allow every name, add the lines "
            f"'paths:' and '  {all_paths}:'"
        )
    if not has_file and paths and ALL_PATHS not in paths:
        names = ", ".join(f"'{name}'" for name in paths)
        variable = environment_name("paths_all", dialect.prefixes[-1])
        warnings.append(f"only the paths of environment variables exist ({names}); for all others, set {variable}=")
    for name in paths:
        if name in OTHER_NAMES_OF_ALL:
            warnings.append(
                f"'{name}' is an ordinary path name here; the entry for all other names is called 'all' "
                "(see docs/migrate.md)"
            )
    return warnings
