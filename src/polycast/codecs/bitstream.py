"""The bitstream of a codec: one object per codec, declared by its module and listed in `registry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from polycast.errors import LocalProtocolError
from polycast.media.codec import Codec, label

AnyCodec = TypeVar("AnyCodec", bound=Codec)

Units = Sequence[bytes]
"""The parts of a frame, as `media.frame.Frame` has them."""


def one_unit(data: bytes) -> tuple[bytes, ...]:
    """A frame that is one unit."""
    return (data,)


def _join(units: Units) -> bytes:
    return units[0] if len(units) == 1 else b"".join(units)


def _always(units: Units) -> bool:
    return True


def _unchanged(codec: Any, units: Units) -> Any:
    return codec


def _as_they_are(codec: Codec, units: Units) -> tuple[bytes, ...]:
    return tuple(units)


def _nothing_known(codec: Codec) -> None:
    return None


def _never(codec: Codec) -> bool:
    return False


def _no_codec_string(codec: Codec) -> str:
    raise LocalProtocolError(f"{label(codec)} has no name for the Web")


@dataclass(frozen=True, slots=True)
class Bitstream(Generic[AnyCodec]):
    """How the frames of one codec are parsed. The defaults are those of a codec whose frames are not parsed."""

    codec_type: type[AnyCodec]

    is_key: Callable[[Units], bool] = _always
    """Whether decoding can start at a frame."""

    split: Callable[[bytes], tuple[bytes, ...]] = one_unit
    """The units of a frame in the form that FFmpeg's encoders return: H264 and H265 in Annex B form, AV1 with size
    fields. Delimiters are left out. Raises `RemoteProtocolError`."""

    join: Callable[[Units], bytes] = _join
    """The reverse, for FFmpeg's decoders."""

    updated: Callable[[AnyCodec, Units], AnyCodec] = _unchanged
    """The codec as it is from a key frame on: the same object if it is unchanged. Raises `RemoteProtocolError` when
    the frame's headers are broken."""

    with_parameters: Callable[[AnyCodec, Units], tuple[bytes, ...]] = _as_they_are
    """The units of a frame, with the codec's parameter sets in front of a key frame that lacks them."""

    reorders: Callable[[AnyCodec], bool] = _never
    """Whether the parameter sets say that the decoding order differs from the presentation order (B-frames)."""

    resolution: Callable[[AnyCodec], tuple[int, int] | None] = _nothing_known
    """Width and height in pixels where they are known."""

    codec_string: Callable[[AnyCodec], str] = _no_codec_string
    """The codec string (RFC 6381). Raises `LocalProtocolError` for a codec that has none or whose
    parameters are not known, `RemoteProtocolError` where they are broken."""

    @property
    def has_changing_parameters(self) -> bool:
        """Whether key frames may carry new parameters, so that `updated` is worth a call."""
        return self.updated is not _unchanged
