"""What MP4 needs to know of a codec: one row, which both directions use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from polycast.media.codec import Codec
from polycast.media.frame import Frame

AnyCodec = TypeVar("AnyCodec", bound=Codec)

Samples = Callable[[bytes], tuple[tuple[bytes, ...], bool]]
"""Splits a sample into the units of a frame, and returns whether it is a key frame. Raises RemoteProtocolError."""


class Described(NamedTuple, Generic[AnyCodec]):
    """What a sample entry says."""

    codec: AnyCodec
    samples: Samples


class EntryFields(NamedTuple):
    """The fields of a sample entry that are not in its configuration box; 0 for those that it does not have."""

    width: int = 0
    height: int = 0
    """In pixels."""
    sample_rate: int = 0
    channels: int = 0


def one_unit(codec: Codec, frame: Frame) -> bytes:
    """Return a frame that is a sample as it is."""
    return frame.units[0]


def read_audio(data: bytes) -> tuple[tuple[bytes, ...], bool]:
    """Read a sample of audio: one unit, at which decoding can begin."""
    return ((data,) if data else ()), True


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecMapping(Generic[AnyCodec]):
    """How fragmented MP4 carries a codec, in both directions."""

    codec_type: type[AnyCodec]
    entries: tuple[bytes, ...]
    """Types of sample entries that are read; the first one is written."""
    box: bytes
    """Type of the box in the sample entry that configures decoders."""
    build: Callable[[AnyCodec], bytes]
    """Return that box. Raises LocalProtocolError while parameters are not known, RemoteProtocolError if they are
    invalid."""
    parse: Callable[[bytes, EntryFields], Described[AnyCodec] | None]
    """Read the content of the box; None for variants that are not supported. Raises RemoteProtocolError."""
    entry_without_box: bytes = b""
    """Type of a sample entry that has no such box: ``parse`` gets no content then."""
    sample: Callable[[AnyCodec, Frame], bytes] = one_unit
    """Return a frame as a sample."""
