"""Which configuration file is used, and what the command line adds to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from polycast.config import LoadedConfiguration, load
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import DIALECTS
from polycast.config.names import ALL_PATHS
from polycast.demo import DEMO_PATH

DEFAULT_FILES = tuple(dialect.file for dialect in DIALECTS.values())
"""Files that are looked for in the working directory if none is given."""

SYSTEM_FILES = (
    ("/usr/local/etc/mediamtx.yml", "/usr/etc/mediamtx.yml", "/etc/mediamtx/mediamtx.yml")
    if sys.platform != "win32"
    else ()
)
"""Files that are looked for after these, where MediaMTX's packages have them."""


def load_configuration(
    config: str | None, *, demo: bool = False, again: bool = False, dialect: Dialect | None = None
) -> LoadedConfiguration:
    """Return the configuration from a file, or from the one that is found. Raises ConfigurationError."""
    if config is not None and not (config == DEFAULT_FILES[0] and not Path(config).exists()):
        found: str | None = config
    else:
        found = next((name for name in (*DEFAULT_FILES, *SYSTEM_FILES) if Path(name).is_file()), None)
    loaded = load(found, os.environ, again=again, dialect=dialect)
    warnings = list(loaded.warnings)
    configuration = loaded.configuration
    if found is None:
        looked_for = f"{' and '.join(DEFAULT_FILES)} in {Path.cwd()}"
        warnings.insert(0, f"configuration file not found, using the default configuration (looked for {looked_for})")
        if not configuration.paths:
            configuration = msgspec.structs.replace(configuration, paths={ALL_PATHS: configuration.path_defaults})
    if demo and DEMO_PATH not in configuration.paths:
        paths = {DEMO_PATH: configuration.path_defaults, **configuration.paths}
        configuration = msgspec.structs.replace(configuration, paths=paths)
    from polycast.app.optional import without_missing

    return without_missing(msgspec.structs.replace(loaded, configuration=configuration, warnings=warnings))
