"""The configuration of an embedded server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from polycast.config import LoadedConfiguration, from_mapping, load
from polycast.config.names import ALL_PATHS_ALIAS

EMBEDDED: Mapping[str, Any] = {"rtmpDisable": True, "hlsDisable": True, "paths": {ALL_PATHS_ALIAS: {}}}
"""Differences from the configuration file's defaults: only RTSP, and every path may be published and read."""

UDP_PORTS = ("rtpAddress", "rtcpAddress")


def load_settings(configuration: Mapping[str, Any] | str | os.PathLike[str] | None) -> LoadedConfiguration:
    """Return the configuration from a mapping, a file, or none. Raises ConfigurationError."""
    if isinstance(configuration, str | os.PathLike):
        return load(os.fspath(configuration), {})
    given = dict(configuration or {})
    values = {**EMBEDDED, **given}
    host, separator, port = str(values.get("rtspAddress", "")).rpartition(":")
    if separator and port == "0":
        # With an automatic RTSP port, the UDP ports must not collide either.
        for key in UDP_PORTS:
            values.setdefault(key, f"{host}:0")
    return LoadedConfiguration(from_mapping(values), None, [], frozenset(given))
