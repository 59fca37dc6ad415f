"""Which codecs a container carries, and why it does not carry the others: one row for each codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from polycast.media.codec import Codec

Row = TypeVar("Row")


class CodecTable(Generic[Row]):
    """One container's rows. Every codec belongs into one of the two arguments; ``tests/test_codec_table.py`` checks."""

    __slots__ = ("carried", "not_carried")

    def __init__(self, carried: Mapping[type[Codec], Row], not_carried: Mapping[str, tuple[type[Codec], ...]]) -> None:
        """``not_carried``: the codecs that are left out, by reason in words."""
        self.carried = carried
        self.not_carried = {codec: reason for reason, codecs in not_carried.items() for codec in codecs}

    def get(self, codec: Codec) -> Row | None:
        """Return the row of a codec; None if it is not carried."""
        return self.carried.get(type(codec))

    def __getitem__(self, codec: Codec) -> Row:
        """Return the row of a codec that is carried."""
        return self.carried[type(codec)]

    def __contains__(self, codec: Codec) -> bool:
        return type(codec) in self.carried

    def reason(self, codec: Codec) -> str | None:
        """Return why a codec is not carried; None if it is."""
        return None if type(codec) in self.carried else self.not_carried.get(type(codec), "it is not known here")
