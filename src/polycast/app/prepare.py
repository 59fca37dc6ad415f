"""Imports the modules that a configuration needs, and loads what its servers keep in memory.

Imports take tenths of a second, for which streams must not be blocked: they are done in a thread, before a
configuration is applied.
"""

from __future__ import annotations

import contextlib
from importlib import import_module
from typing import Final

from polycast.config.authentication import AuthMethod
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.net.dial import client_context
from polycast.net.http_client import load_http_client
from polycast.protocols.base import Pull
from polycast.protocols.registry import pull_of, push_of, server_kinds

_SERVICE_MODULES: Final = {
    "api": (
        *("polycast.control.api", "polycast.control.events", "polycast.control.traffic"),
        "polycast.control.console.parts",
    ),
    "metrics": ("polycast.control.metrics.application", "polycast.control.lag", "polycast.control.traffic"),
    "pprof": ("polycast.control.pprof",),
    "playback": ("polycast.playback.application",),
}


def import_for(configuration: Configuration) -> None:
    """Import the modules for the servers, services, sources and destinations of this configuration."""
    for kind in server_kinds():
        if kind.is_enabled(configuration):
            with contextlib.suppress(ModuleNotFoundError):  # reported when the server is created
                kind.load()
            kind.find_missing(configuration)  # imports what it finds
    for key, modules in _SERVICE_MODULES.items():
        if SERVICES[key](configuration).is_enabled:
            for module in modules:
                import_module(module)
    if asks_other_servers(configuration):
        load_http_client()
    if configuration.auth_method is AuthMethod.JWT:
        import_module("polycast.security.tokens")
    for path in configuration.paths.values():
        for source in (*path.sources, path.source_redirect, path.fallback):
            pull = pull_of(source)
            if pull is not None:
                _load_pull(pull)
        for destination in path.forward:
            push = push_of(destination.dest)
            if push is not None:
                push.prepare()
                client_context()


def asks_other_servers(configuration: Configuration) -> bool:
    """Return whether authentication sends requests to another server."""
    return bool(configuration.external_authentication_url) or configuration.auth_method is not AuthMethod.INTERNAL


def fingerprints_of(configuration: Configuration) -> set[str]:
    """Return the fingerprints of the certificates of the servers that authentication asks; empty: of none."""
    return {configuration.auth_http_fingerprint, configuration.auth_jwt_jwks_fingerprint}


def _load_pull(pull: Pull) -> None:
    pull.load()
    if pull.prepare is not None:
        pull.prepare()
    if pull.kind.schemes:  # another server, perhaps with TLS
        client_context()  # loads and caches the certificates of the system's authorities


def load_pages(configuration: Configuration) -> None:
    """Load and compress the web pages, so that the first request does not have to wait or delay others."""
    for kind in server_kinds():
        if kind.preload is not None and kind.is_enabled(configuration):
            kind.preload()
    if configuration.playback:
        from polycast.web import preload as preload_assets

        preload_assets()
    if configuration.api:
        from polycast.control.pages import preload

        preload()
