"""What the settings of a protocol are made of."""

from __future__ import annotations

from msgspec import Struct

from polycast.config.spelling import yaml_key


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """Settings that a protocol adds to the configuration: its keys stand beside all others in the file.

    A protocol declares its own subclass. Each field has a default and, in its annotation, a description and marks.
    """

    def check(self) -> None:
        """Hold the rules between keys; raises ConfigurationError. Values of single keys have been checked."""
