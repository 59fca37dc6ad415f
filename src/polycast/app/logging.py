"""Opens the log as a configuration says."""

from __future__ import annotations

import asyncio
from typing import Final

from polycast.app.servers import StartError
from polycast.config.schema import Configuration
from polycast.log import LogOutput

LOG_KEYS: Final = frozenset({"logLevel", "logDestinations", "logStructured", "logFile", "sysLogPrefix"})
"""The settings of the log."""


async def configure_log(output: LogOutput | None, configuration: Configuration) -> None:
    """Write further lines to the destinations of a configuration, if the program lets the server do that.

    Raises StartError if one cannot be opened.
    """
    if output is None:
        return
    destinations = [destination.value for destination in configuration.log_destinations]
    try:
        opened = await asyncio.to_thread(
            output.open,
            destinations,
            configuration.log_file,
            structured=configuration.log_structured,
            tag=configuration.sys_log_prefix,
        )
    except OSError as error:
        raise StartError(f"the log cannot be opened: {error}") from error
    replaced = output.use(configuration.log_level.value, opened)
    await asyncio.to_thread(replaced.close)
