"""An entry of ``paths`` in the configuration, as paths use it."""

from __future__ import annotations

from dataclasses import dataclass

from polycast.config.path_schema import PathConfiguration
from polycast.rtp.header import PacketSizes
from polycast.rtp.repacketize import DEFAULT_SIZES


@dataclass(frozen=True, slots=True)
class PathEntry:
    """An entry of ``paths`` in the configuration."""

    name: str
    """As configured: a path name, or ``~`` and a regular expression."""
    configuration: PathConfiguration
    packet_sizes: PacketSizes = DEFAULT_SIZES
    """Limits for the packets of streams that begin from now on."""
