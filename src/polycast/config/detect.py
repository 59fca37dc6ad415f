"""Which dialect a configuration is written in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import DIALECTS, LEGACY, MEDIAMTX, POLYCAST
from polycast.config.dialects.views import view_of
from polycast.config.env import is_setting_variable
from polycast.config.names import ALL_OTHERS
from polycast.config.similar import closest
from polycast.errors import ConfigurationError


def dialect_named(name: str) -> Dialect:
    """Return the dialect that a user names. Raises ConfigurationError."""
    found = DIALECTS.get(name)
    if found is None:
        similar = closest(name, DIALECTS)
        hint = f"; did you mean {similar}?" if similar else ""
        raise ConfigurationError(f"invalid dialect: '{name}' (one of: {', '.join(DIALECTS)}{hint})")
    return found


def chosen_dialect(name: str, values: Any, environment: Mapping[str, str]) -> Dialect:
    """Return the dialect of a file, by its key ``dialect``, its name, its settings, or the variables.

    ``name`` is empty without a file. Raises ConfigurationError if the key names none.
    """
    if isinstance(values, Mapping) and "dialect" in values:
        try:
            return dialect_named(str(values["dialect"]))
        except ConfigurationError as error:
            key = next(key for key in values if key == "dialect")
            error.line = getattr(key, "line", 0)
            raise
    base = Path(name).name
    for dialect in DIALECTS.values():
        if base == dialect.file:
            return dialect
    if name and isinstance(values, Mapping) and _is_of_mediamtx(values):
        return MEDIAMTX
    for dialect in (POLYCAST, MEDIAMTX, LEGACY):
        if any(is_setting_variable(variable, dialect) for variable in environment):
            return dialect
    return LEGACY if name else POLYCAST


def _is_of_mediamtx(values: Mapping[str, Any]) -> bool:
    """Whether a file has names of MediaMTX that rtsp-simple-server and earlier versions of Polycast do not have."""
    view, old = view_of(MEDIAMTX), view_of(LEGACY)
    known = {*view.fields, *MEDIAMTX.unsupported, "pathDefaults"}
    of_path = {*view.path_fields, *MEDIAMTX.path_unsupported}
    if any(key in known and key not in old.fields for key in values):
        return True
    paths = values.get("paths")
    if not isinstance(paths, Mapping):
        return False
    return ALL_OTHERS in paths or any(
        key in of_path and key not in old.path_fields
        for path in paths.values()
        if isinstance(path, Mapping)
        for key in path
    )
