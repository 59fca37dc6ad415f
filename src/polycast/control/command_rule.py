"""The rule for changing commands through the API, because setting one means running programs on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from polycast.config.authentication import ANYBODY, Action, AuthMethod, Permission
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import LEGACY
from polycast.config.edits import RemovePath
from polycast.config.schema import Configuration
from polycast.control.command_check import commands_of
from polycast.control.errors import RequestError
from polycast.control.settings import AnyEdit


class CommandRule:
    """Commands, and ``apiAllowCommands`` itself, can only be changed with credentials, or if ``apiAllowCommands`` is
    set.

    Credentials that were set through the API without credentials do not count.
    """

    def __init__(self) -> None:
        self._untrusted: tuple[object, ...] | None = None

    def check(self, old: Configuration, new: Configuration, dialect: Dialect) -> None:
        """Raise RequestError for a change that is not allowed. It names settings as ``dialect`` does."""
        if self._is_trusted(old):
            return
        if new.api_allow_commands and not old.api_allow_commands:
            raise RequestError(403, "apiAllowCommands can be set through the API only with credentials (apiUser)")
        before = {("", *command) for command in commands_of(old)}
        before |= {(name, *command) for name, path in old.paths.items() for command in commands_of(path)}
        after = {("", *command) for command in commands_of(new)}
        after |= {(name, *command) for name, path in new.paths.items() for command in commands_of(path)}
        for _, key, _ in sorted(after - before):
            raise RequestError(
                403,
                f"{dialect.key(key)} runs a program, so it can be set through the API only with "
                "credentials (apiUser), or if apiAllowCommands is set",
            )

    def check_edit(self, edit: AnyEdit, old: Configuration, new: Configuration) -> None:
        """The same for an edit, whose names are used."""
        # To remove a path changes no command.
        self.check(old, new, LEGACY if isinstance(edit, RemovePath) else edit.dialect)

    def record(self, old: Configuration, new: Configuration) -> None:
        """Record a change through the API that is in effect."""
        credentials = _credentials(new)
        if credentials and not self._is_trusted(old):
            self._untrusted = credentials

    def _is_trusted(self, configuration: Configuration) -> bool:
        credentials = _credentials(configuration)
        return configuration.api_allow_commands or (bool(credentials) and credentials != self._untrusted)


def _credentials(configuration: Configuration) -> tuple[object, ...]:
    """Return the credentials that the API demands; empty if it can be used without."""
    if configuration.api_user or configuration.api_pass:
        return configuration.api_user, configuration.api_pass
    if configuration.auth_method is AuthMethod.HTTP:
        return _unless_excluded(configuration.auth_http_exclude, configuration.auth_http_address)
    if configuration.auth_method is AuthMethod.JWT:
        return _unless_excluded(configuration.auth_jwt_exclude, configuration.auth_jwt_jwks)
    users = tuple(user for user in configuration.auth_internal_users if user.may(Action.API, ""))
    return () if any(user.user == ANYBODY for user in users) else users


def _unless_excluded(exclude: Sequence[Permission], decider: str) -> tuple[object, ...]:
    return () if any(permission.allows(Action.API, "") for permission in exclude) else (decider,)
