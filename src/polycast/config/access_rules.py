"""The rules between the keys for authentication: what decides alone cannot be combined with anything else."""

from __future__ import annotations

from collections.abc import Iterator

from polycast.config.dialects.registry import dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.errors import ConfigurationError


def _deciding_key(configuration: Configuration) -> str:
    """Return the key that decides about every request alone; empty if there is none."""
    defaults = view_of(dialect_of(configuration.dialect)).defaults
    return "authInternalUsers" if configuration.auth_internal_users != defaults.auth_internal_users else ""


def access_errors(configuration: Configuration) -> Iterator[ConfigurationError]:
    """Yield an error for each violated rule between global keys."""
    deciding = _deciding_key(configuration)
    if not deciding:
        return
    if configuration.external_authentication_url:
        yield ConfigurationError(
            f"'{deciding}' can't be used with 'externalAuthenticationURL', which decides alone (remove one of them)",
            (deciding,),
            ("externalAuthenticationURL",),
        )
    for name, settings_of in SERVICES.items():
        if settings_of(configuration).user:
            yield ConfigurationError(
                f"'{name}User' can't be used with '{deciding}', which decides alone (give a user the permission "
                f"'{name}')",
                (f"{name}User",),
                (deciding,),
            )


def path_access_errors(configuration: Configuration, path: PathConfiguration) -> Iterator[tuple[str, str, str]]:
    """Yield (text of the error, key of the path, global key) for each key that cannot be combined with a global one."""
    deciding = (
        "externalAuthenticationURL" if configuration.external_authentication_url else _deciding_key(configuration)
    )
    if not deciding:
        return
    for key, value in (
        ("publishUser", path.publish_user),
        ("publishIPs", path.publish_ips),
        ("readUser", path.read_user),
        ("readIPs", path.read_ips),
    ):
        if value:
            yield f"'{key}' can't be used with '{deciding}', which decides alone (remove one of them)", key, deciding
