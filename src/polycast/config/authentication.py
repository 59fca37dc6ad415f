"""Who may do what: the values of ``authMethod``, ``authInternalUsers`` and of the lists of permissions."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.kinds import LOGIN, choice_kind
from polycast.config.names import compile_path_pattern, is_pattern
from polycast.config.re2 import Pattern
from polycast.config.spelling import yaml_key
from polycast.config.struct_lists import StructListKind
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork

ANYBODY: Final = "any"
"""User name in the configuration that stands for every client, with or without credentials."""


class Action(StrEnum):
    """What a client wants to do: on a path, or with one of the HTTP services."""

    PUBLISH = "publish"
    READ = "read"
    PLAYBACK = "playback"
    API = "api"
    METRICS = "metrics"
    PPROF = "pprof"


class AuthMethod(StrEnum):
    """How it is decided who may do what."""

    INTERNAL = "internal"
    HTTP = "http"
    JWT = "jwt"


AUTH_METHOD: Final = choice_kind(AuthMethod, "invalid authMethod: '%s'")

ACTIONS_ON_PATHS: Final = frozenset({Action.PUBLISH, Action.READ, Action.PLAYBACK})

AUTH_ACTION: Final = choice_kind(Action, "invalid auth action: '%s'")


class Permission(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """Something that a user may do."""

    action: Annotated[Action, AUTH_ACTION, Meta(description="publish, read, playback, api, metrics or pprof.")]
    path: Annotated[
        str,
        Meta(
            description=(
                "The path, for publish, read and playback. Empty: every path. Starting with '~': a regular "
                "expression, which may match any part of the name."
            )
        ),
    ] = ""

    def allows(self, action: Action, path: str) -> bool:
        """Return whether it permits the action; ``path`` is a path's name, ignored for the HTTP services."""
        if action is not self.action:
            return False
        if not self.path or action not in ACTIONS_ON_PATHS:
            return True
        if not is_pattern(self.path):
            return self.path == path
        pattern = _pattern(self.path)
        return pattern is not None and pattern.search(path) is not None


def permits(permissions: Iterable[Permission], action: Action, path: str) -> bool:
    """Return whether one of the permissions allows the action; see `Permission.allows`."""
    return any(permission.allows(action, path) for permission in permissions)


@lru_cache(maxsize=1024)
def _pattern(path: str) -> Pattern | None:
    """Return the compiled expression; None if that of a token is invalid: it then matches nothing."""
    try:
        return compile_path_pattern(path)
    except ConfigurationError:
        return None


def _check_permission(permission: Permission) -> None:
    """Raise ConfigurationError for an expression that is not valid: it would match nothing, without a word."""
    compile_path_pattern(permission.path)


PERMISSIONS: Final = StructListKind(Permission, _check_permission, "{action: read, path: cam}")


class InternalUser(Struct, frozen=True, kw_only=True, rename=yaml_key):
    """An entry of ``authInternalUsers``."""

    user: Annotated[
        str,
        LOGIN,
        Meta(
            description="Name; 'any': every client, with or without credentials. May be hashed: 'sha256:' or 'argon2:'."
        ),
    ]
    pass_: Annotated[
        str, LOGIN, Meta(description="Password; empty: any password. May be hashed: 'sha256:' or 'argon2:'.")
    ] = ""
    ips: Annotated[tuple[IPNetwork, ...], Meta(description="IP addresses and ranges of the clients. Empty: all.")] = ()
    permissions: Annotated[tuple[Permission, ...], PERMISSIONS, Meta(description="What the user may do.")] = ()

    def may(self, action: Action, path: str) -> bool:
        """Return whether one of the permissions allows it."""
        return permits(self.permissions, action, path)


def _check_user(user: InternalUser) -> None:
    if not user.user:
        raise ConfigurationError("empty usernames are not supported")
    if user.user == ANYBODY and user.pass_:
        raise ConfigurationError("using a password with 'any' user is not supported")


USERS: Final = StructListKind(
    InternalUser, _check_user, "{user: name, pass: password, permissions: [{action: read, path: cam}]}"
)

DEFAULT_USERS: Final = (
    InternalUser(
        user=ANYBODY,
        permissions=(
            Permission(action=Action.PUBLISH),
            Permission(action=Action.READ),
            Permission(action=Action.PLAYBACK),
        ),
    ),
    InternalUser(
        user=ANYBODY,
        permissions=(
            Permission(action=Action.API),
            Permission(action=Action.METRICS),
            Permission(action=Action.PPROF),
        ),
    ),
)
"""Everybody may do everything, as in rtsp-simple-server, where other settings limit it."""
