"""What a server writes into its log first, and where its streams can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from polycast._version import __version__
from polycast.app.logging import configure_log
from polycast.config import LoadedConfiguration
from polycast.config.dialects.registry import LEGACY, dialect_of
from polycast.config.schema import Configuration
from polycast.control.command_check import command_problems
from polycast.control.contract import StreamAddress
from polycast.log import Log, LogOutput
from polycast.protocols.base import ServerKind


class Listening(Protocol):
    """A running server."""

    @property
    def kind(self) -> ServerKind: ...
    @property
    def ports(self) -> dict[str, int]: ...


async def introduce(loaded: LoadedConfiguration, log: Log, output: LogOutput | None) -> None:
    """Open the log, and write what a user should know. Raises StartError."""
    configuration = loaded.configuration
    await configure_log(output, configuration)
    log.info("polycast v%s", __version__)
    if loaded.source_path is not None:
        log.info("configuration loaded from %s%s", loaded.source_path, _dialect_in_words(loaded))
    problems = await asyncio.to_thread(lambda: list(command_problems(configuration)))
    for warning in (*loaded.warnings, *problems):
        log.warning("%s", warning)


def _dialect_in_words(loaded: LoadedConfiguration) -> str:
    """Return the dialect of the file for the log, if neither its name nor the default tells it."""
    dialect, path = dialect_of(loaded.configuration.dialect), loaded.source_path
    is_told = dialect is LEGACY or (path is not None and path.name == dialect.file)
    return "" if is_told else f" (dialect: {dialect.name})"


def addresses_of(servers: Mapping[str, Listening], configuration: Configuration) -> dict[str, StreamAddress]:
    """Return where streams can be read, by the names of the running servers."""
    return {
        name: StreamAddress(
            scheme=address.scheme(configuration),
            port=server.ports[server.kind.listeners[0].key],
            is_page=address.is_page,
        )
        for name, server in servers.items()
        if (address := server.kind.address) is not None
    }


def new_command_problems(old: Configuration, new: Configuration) -> list[str]:
    """Return the problems with commands that the old configuration did not have. Looks for programs on disks."""
    known = set(command_problems(old))
    return [problem for problem in command_problems(new) if problem not in known]
