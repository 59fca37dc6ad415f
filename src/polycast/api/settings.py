"""The configuration of an embedded server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from polycast.app.optional import without_missing
from polycast.config import LoadedConfiguration, load
from polycast.config.dialects.polycast import POLYCAST
from polycast.config.dump import read_mapping
from polycast.config.names import ALL_PATHS_ALIAS
from polycast.errors import ConfigurationError
from polycast.protocols.registry import protocols, server_kinds

EVERY_PATH: Mapping[str, Any] = {"paths": {ALL_PATHS_ALIAS: {}}}
"""Every path may be published and read."""


def embedded_defaults() -> Mapping[str, Any]:
    """Return the differences from the configuration file's defaults: only RTSP, and every path may be used."""
    return {**{key: value for protocol in protocols() for key, value in protocol.embedded.items()}, **EVERY_PATH}


def load_settings(configuration: Mapping[str, Any] | str | os.PathLike[str] | None) -> LoadedConfiguration:
    """Return the configuration from a mapping, a file, or none. Raises ConfigurationError."""
    if isinstance(configuration, str | os.PathLike):
        return _one_process(without_missing(load(os.fspath(configuration), {})))
    given = dict(configuration or {})
    values = {**embedded_defaults(), **given}
    for listener in (listener for kind in server_kinds() for listener in kind.listeners if listener.follows):
        host, separator, port = str(values.get(listener.follows, "")).rpartition(":")
        if separator and port == "0":
            # With an automatic port, the other ports must not collide either.
            values.setdefault(listener.key, f"{host}:0")
    parsed, warnings = read_mapping(values, POLYCAST)
    return _one_process(LoadedConfiguration(parsed, None, warnings, frozenset(given)))


def _one_process(loaded: LoadedConfiguration) -> LoadedConfiguration:
    if loaded.configuration.workers != 1:
        text = "a server in a Python program is one process; start the command polycast for more"
        raise ConfigurationError(text, ("workers",))
    return loaded
