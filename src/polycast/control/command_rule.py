"""The rule for changing commands through the API, because setting one means running programs on this machine."""

from __future__ import annotations

from polycast.config.schema import Configuration
from polycast.control.command_check import commands_of
from polycast.control.errors import RequestError


class CommandRule:
    """Commands, and ``apiAllowCommands`` itself, can only be changed with credentials, or if ``apiAllowCommands`` is
    set.

    Credentials that were set through the API without credentials do not count.
    """

    def __init__(self) -> None:
        self._untrusted: tuple[str, str] | None = None

    def check(self, old: Configuration, new: Configuration) -> None:
        """Raise RequestError for a change that is not allowed."""
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
                f"{key} runs a program, so it can be set through the API only with credentials (apiUser), "
                "or if apiAllowCommands is set",
            )

    def record(self, old: Configuration, new: Configuration) -> None:
        """Record a change through the API that is in effect."""
        if not self._is_trusted(old) and (new.api_user or new.api_pass):
            self._untrusted = (new.api_user, new.api_pass)

    def _is_trusted(self, configuration: Configuration) -> bool:
        credentials = (configuration.api_user, configuration.api_pass)
        return configuration.api_allow_commands or (any(credentials) and credentials != self._untrusted)
