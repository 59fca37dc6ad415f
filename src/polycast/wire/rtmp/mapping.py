"""What RTMP needs to know of a codec: one row, which both directions, the metadata and the documentation use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from polycast.media.codec import Codec
from polycast.media.frame import Frame

AnyCodec = TypeVar("AnyCodec", bound=Codec)

Parts = Sequence[bytes | memoryview]
"""The data of a frame in pieces, to be sent one after the other."""


class Configured(NamedTuple, Generic[AnyCodec]):
    """What a sequence header says."""

    codec: AnyCodec
    length_size: int = 4
    """Bytes of the length of a NAL unit."""


def _no_obstacle(codec: Codec) -> str | None:
    return None


def _no_configuration(codec: Codec) -> bytes | None:
    return None


def _always(codec: Codec) -> bool:
    return True


def one_unit(frame: Frame) -> Parts:
    """Return a frame that is sent as it is."""
    return (frame.units[0],)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecMapping(Generic[AnyCodec]):
    """How RTMP carries a codec, in both directions."""

    codec_type: type[AnyCodec]
    four_cc: bytes = b""
    """The enhanced codec identifier; empty if there is none."""
    legacy_identifiers: tuple[int, ...] = ()
    """Legacy codec identifiers that are read."""
    legacy_identifier: Callable[[AnyCodec], int] | None = None
    """The legacy identifier that is written; None: enhanced messages are written, even if legacy ones are read."""
    has_packet_type: bool = False
    """Whether legacy messages tell configurations from frames (AVC and AAC)."""
    note: str = ""
    """Restrictions, for the documentation."""

    obstacle: Callable[[AnyCodec], str | None] = _no_obstacle
    """Why RTMP cannot carry a variant of the codec."""
    configuration: Callable[[AnyCodec], bytes | None] = _no_configuration
    """The content of the sequence header; None if decoders do not need one. Raises `LocalProtocolError`."""
    has_parameters: Callable[[AnyCodec], bool] = _always
    """Whether all parameters that the sequence header needs are there."""

    configure: Callable[[bytes, AnyCodec | None], Configured[AnyCodec]] | None = None
    """Parse a sequence header; the second argument is what is known of the codec. Raises `RemoteProtocolError`."""
    accepts_empty_configuration: bool = False
    """Whether an empty sequence header has a meaning; others are sent by encoders that do not know their parameters."""
    is_ready: Callable[[AnyCodec], bool] = _always
    """Whether all parameters needed to describe the track are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMapping(CodecMapping[AnyCodec]):
    """How RTMP carries a video codec."""

    has_nal_units: bool = False
    """Whether frames are NAL units behind their lengths, and messages have a composition time."""
    parts: Callable[[Frame], Parts] = one_unit
    """The data of a frame as it is written."""
    implied: AnyCodec | None = None
    """The codec of a publisher that sends no sequence header; None: it has to."""
    read: Callable[[bytes, int, int], tuple[tuple[bytes, ...], bool]]
    """The units of a frame, and whether it is a key frame, from payload, position of the data in it, and size of the
    lengths in bytes. Raises `RemoteProtocolError`."""
    is_completed_by_frames: bool = False
    """Whether some parameters are known only after the first frame."""


AudioPieces = Sequence[tuple[bytes, int]]
"""Consecutive coded frames with their durations in ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioMapping(CodecMapping[AnyCodec]):
    """How RTMP carries an audio codec."""

    sound_flags: Callable[[AnyCodec], int] | None = None
    """Rate, size and channels in the first byte of a legacy message (FLV annex E.4.2.1)."""
    announced_as: Callable[[AnyCodec], tuple[int, ...]] | None = None
    """Sound formats by which a peer may say that it takes the codec; None: any of ``legacy_identifiers``."""
    writer: Callable[[AnyCodec], Callable[[Frame], Parts]] = lambda codec: one_unit
    """Return what gives the data of frames as they are written."""
    read: Callable[[bytes, int, AnyCodec | None], tuple[AnyCodec | None, AudioPieces]]
    """The codec and the frames in the data of a message, from the data, the first byte of a legacy message, and what
    is known of the codec. The same codec object if nothing changed; no frames while it is not known. Raises
    `RemoteProtocolError`."""
    with_channels: Callable[[AnyCodec, int], AnyCodec] | None = None
    """The codec with the number of channels of a multichannel configuration."""
