"""The settings that the HTTP services share: the API, the metrics, the profiles, playback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from polycast.config.schema import Configuration
from polycast.security.addresses import IPNetwork


class ServiceSettings(Struct, frozen=True):
    """The settings of one service."""

    is_enabled: bool
    address: str
    user: str
    """With ``password``; both empty: no authentication. Playback has none: its requests concern paths, which have
    theirs."""
    password: str
    is_encrypted: bool
    key: str
    """File with the private key."""
    certificate: str
    """File with the certificate."""
    allow_origins: tuple[str, ...]
    """Whose pages may read the responses."""
    trusted_proxies: tuple[IPNetwork, ...]
    """Proxies whose headers about the client are believed."""


PLAYBACK: Final = "playback"
_CREDENTIALS: Final = ("_user", "_pass")
_SUFFIXES: Final = (
    *("", "_address", "_user", "_pass", "_encryption", "_server_key", "_server_cert", "_allow_origins"),
    "_trusted_proxies",
)
"""What the names of the settings end with, in the order of the fields."""


def _settings_of(prefix: str, configuration: Configuration) -> ServiceSettings:
    own = (suffix for suffix in _SUFFIXES if prefix != PLAYBACK or suffix not in _CREDENTIALS)
    values: dict[str, Any] = {suffix: getattr(configuration, f"{prefix}{suffix}") for suffix in own}
    return ServiceSettings(*(values.get(suffix, "") for suffix in _SUFFIXES))


SERVICES: Final[Mapping[str, Callable[[Configuration], ServiceSettings]]] = {
    prefix: partial(_settings_of, prefix) for prefix in ("api", "metrics", "pprof", PLAYBACK)
}
"""Functions that extract the settings of each service from a configuration, by the prefix of its keys."""
