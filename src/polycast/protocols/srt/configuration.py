"""The settings of SRT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS
from polycast.config.marks import NEW, Heading, restarts
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.errors import ConfigurationError


class SrtConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """The settings of the SRT server."""

    srt: Annotated[
        bool,
        Heading("SRT"),
        restarts("SRT"),
        NEW,
        Meta(description="Enable SRT: clients publish and read MPEG-TS. See docs/srt.md."),
    ] = False
    srt_address: Annotated[
        str, ADDRESS, restarts("SRT"), NEW, Meta(description="UDP address that SRT listens on, for all clients.")
    ] = ":8890"

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        if self.srt and not self.srt_address:
            yield ConfigurationError("'srtAddress' must be set when SRT is enabled", ("srtAddress",), ("srt",))
