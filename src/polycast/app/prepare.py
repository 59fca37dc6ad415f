"""Imports the modules that a configuration needs, and loads what its servers keep in memory.

Imports take tenths of a second, for which streams must not be blocked: they are done in a thread, before a
configuration is applied.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Final

from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.config.sources import source_kind
from polycast.net.dial import client_context
from polycast.net.http_client import load_http_client
from polycast.protocols.registry import pull_of, server_kinds

_SERVICE_MODULES: Final = {
    "api": ("polycast.control.api", "polycast.control.events", "polycast.control.traffic"),
    "metrics": ("polycast.control.metrics", "polycast.control.lag", "polycast.control.traffic"),
    "pprof": ("polycast.control.pprof",),
}


def import_for(configuration: Configuration) -> None:
    """Import the modules for the servers, services and sources of this configuration."""
    for kind in server_kinds():
        if kind.is_enabled(configuration):
            with contextlib.suppress(ModuleNotFoundError):  # reported when the server is created
                kind.load()
    for key, modules in _SERVICE_MODULES.items():
        if SERVICES[key](configuration).is_enabled:
            for module in modules:
                import_module(module)
    if configuration.external_authentication_url:
        load_http_client()
    if any(path.sources for path in configuration.paths.values()):
        client_context()  # loads and caches the certificates of the system's authorities
    for path in configuration.paths.values():
        for url in (*path.sources, path.source_redirect, path.fallback):
            kind_of_source = source_kind(url)
            pull = pull_of(kind_of_source) if kind_of_source is not None else None
            if pull is not None:
                pull.load()
                if pull.prepare is not None:
                    pull.prepare()


def load_pages(configuration: Configuration) -> None:
    """Load and compress the web pages, so that the first request does not have to wait or delay others."""
    for kind in server_kinds():
        if kind.preload is not None and kind.is_enabled(configuration):
            kind.preload()
