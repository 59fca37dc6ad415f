"""The rules between the keys for authentication: what decides alone cannot be combined with anything else."""

from __future__ import annotations

from collections.abc import Iterator

from polycast.config.authentication import AuthMethod
from polycast.config.dialects.registry import dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.config.section import UsedCredentials
from polycast.config.services import SERVICES
from polycast.config.urls import split_url
from polycast.errors import ConfigurationError
from polycast.security.credentials import is_hashed


def _deciding_key(configuration: Configuration) -> str:
    """Return the key that decides about every request alone; empty if there is none."""
    if configuration.auth_method is not AuthMethod.INTERNAL:
        return "authMethod"
    defaults = view_of(dialect_of(configuration.dialect)).defaults
    return "authInternalUsers" if configuration.auth_internal_users != defaults.auth_internal_users else ""


def access_errors(configuration: Configuration) -> Iterator[ConfigurationError]:
    """Yield an error for each violated rule between global keys."""
    if configuration.auth_method is AuthMethod.HTTP:
        yield from _address_errors("authHTTPAddress", configuration.auth_http_address)
    if configuration.auth_method is AuthMethod.JWT:
        yield from _address_errors("authJWTJWKS", configuration.auth_jwt_jwks)
        if not configuration.auth_jwt_claim_key:
            yield ConfigurationError("'authJWTClaimKey' is empty", ("authJWTClaimKey",))
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
                f"'{name}User' can't be used with '{deciding}', which decides alone (its permission is '{name}')",
                (f"{name}User",),
                (deciding,),
            )


def _address_errors(key: str, url: str) -> Iterator[ConfigurationError]:
    if not url:
        yield ConfigurationError(f"'{key}' is empty", (key,), ("authMethod",))
    elif not url.startswith(("http://", "https://")) or split_url(url) is None:
        yield ConfigurationError(
            f"'{key}' must be a HTTP URL (http://host/path or https://...), not '{redact(url)}'", (key,)
        )


def deciding_key_for_paths(configuration: Configuration) -> str:
    """Return the key with which paths cannot have users or addresses of their own; empty if there is none."""
    return "externalAuthenticationURL" if configuration.external_authentication_url else _deciding_key(configuration)


def path_access_errors(path: PathConfiguration, deciding: str) -> Iterator[tuple[str, str]]:
    """Yield (text of the error, key of the path) for each key that cannot be combined with the global one."""
    for key, value in (
        ("publishUser", path.publish_user),
        ("publishIPs", path.publish_ips),
        ("readUser", path.read_user),
        ("readIPs", path.read_ips),
    ):
        if value:
            yield f"'{key}' can't be used with '{deciding}', which decides alone (remove one of them)", key


def credentials_of(configuration: Configuration) -> UsedCredentials:
    """Return by what the credentials of clients are checked."""
    users = configuration.auth_internal_users
    return UsedCredentials(
        are_internal=configuration.auth_method is AuthMethod.INTERNAL,
        are_hashed=any(is_hashed(user.user) or is_hashed(user.pass_) for user in users),
    )
