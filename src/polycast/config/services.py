"""The settings that the HTTP services share: the API, the metrics, the profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from polycast.config.schema import Configuration


class ServiceSettings(Struct, frozen=True):
    """The settings of one service."""

    is_enabled: bool
    address: str
    user: str
    """With ``password``; both empty: no authentication."""
    password: str
    is_encrypted: bool
    key: str
    """File with the private key."""
    certificate: str
    """File with the certificate."""


SERVICES: Final[Mapping[str, Callable[[Configuration], ServiceSettings]]] = {
    "api": lambda it: ServiceSettings(
        it.api, it.api_address, it.api_user, it.api_pass, it.api_encryption, it.api_server_key, it.api_server_cert
    ),
    "metrics": lambda it: ServiceSettings(
        it.metrics,
        it.metrics_address,
        it.metrics_user,
        it.metrics_pass,
        it.metrics_encryption,
        it.metrics_server_key,
        it.metrics_server_cert,
    ),
    "pprof": lambda it: ServiceSettings(
        it.pprof,
        it.pprof_address,
        it.pprof_user,
        it.pprof_pass,
        it.pprof_encryption,
        it.pprof_server_key,
        it.pprof_server_cert,
    ),
}
"""Functions that extract the settings of each service from a configuration, by the prefix of its keys."""
