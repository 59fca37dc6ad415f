"""The settings of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS, choice_kind
from polycast.config.marks import LIVE, NEW, Heading, restarts
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.errors import ConfigurationError


class TallyMode(StrEnum):
    LINES = "lines"
    BYTES = "bytes"


TALLY_MODE: Final = choice_kind(TallyMode, "invalid tallyMode value: '%s'")


class TallyConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """What can be set."""

    tally_disable: Annotated[bool, Heading("Tally"), restarts("Tally"), NEW, Meta(description="Disable Tally.")] = False
    tally_address: Annotated[
        str, ADDRESS, restarts("Tally"), NEW, Meta(description="Address that Tally listens on.")
    ] = ":7001"
    tally_datagram_address: Annotated[
        str, ADDRESS, restarts("Tally"), NEW, Meta(description="UDP address of Tally.")
    ] = ":7002"
    tally_mode: Annotated[TallyMode, TALLY_MODE, LIVE, NEW, Meta(description="What is counted.")] = TallyMode.LINES
    tally_step: Annotated[int, LIVE, NEW, Meta(description="What each one counts for.")] = 1

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        if self.tally_mode is TallyMode.BYTES and self.tally_step != 1:
            yield ConfigurationError("bytes count for one each", ("tallyStep",), ("tallyMode",))
