"""MPEG-4 descriptors of an esds box (ISO/IEC 14496-1 section 7.2.6, ISO/IEC 14496-14 section 5.6)."""

from __future__ import annotations

from typing import NamedTuple

from polycast.errors import RemoteProtocolError
from polycast.wire.mp4.boxes import full_box

_ELEMENTARY_STREAM = 0x03
_DECODER_CONFIGURATION = 0x04
_DECODER_SPECIFIC = 0x05
_SYNC_LAYER = 0x06
AUDIO_STREAM = 0x15
"""streamType 5 (audio), upStream 0, reserved 1 (ISO/IEC 14496-1 section 7.2.6.6)."""
VISUAL_STREAM = 0x11
"""The same with streamType 4 (visual)."""


class DecoderConfiguration(NamedTuple):
    """What an esds box says of its stream."""

    object_type: int
    """objectTypeIndication (mp4ra.org)."""
    rest: bytes
    """The descriptors behind it; see `read_decoder_specific`."""


def build_elementary_stream(object_type: int, specific: bytes, stream_type: int = AUDIO_STREAM) -> bytes:
    """Return an esds box; ``specific`` may be empty."""
    # bufferSizeDB, maxBitrate and avgBitrate stay 0: not known of a live stream
    configuration = bytes((object_type, stream_type)) + bytes(11)
    if specific:
        configuration += _descriptor(_DECODER_SPECIFIC, specific)
    stream = bytes(3) + _descriptor(_DECODER_CONFIGURATION, configuration) + _descriptor(_SYNC_LAYER, b"\x02")
    return full_box(b"esds", 0, 0, _descriptor(_ELEMENTARY_STREAM, stream))


def _descriptor(tag: int, content: bytes) -> bytes:
    """Return a descriptor with an expandable size (ISO/IEC 14496-1 section 8.3.3)."""
    size = len(content)
    encoded = bytes((size & 0x7F,))
    while size > 0x7F:
        size >>= 7
        encoded = bytes((size & 0x7F | 0x80,)) + encoded
    return bytes((tag,)) + encoded + content


def read_elementary_stream(data: bytes) -> DecoderConfiguration:
    """Read the content of an esds box. Raises RemoteProtocolError."""
    tag, offset, end = _read_descriptor(data, 4)
    if tag == _ELEMENTARY_STREAM and end - offset >= 3:
        flags = data[offset + 2]
        offset += 3 + (2 if flags & 0x80 else 0)
        if flags & 0x40 and offset < end:
            offset += 1 + data[offset]
        offset += 2 if flags & 0x20 else 0
        tag, offset, end = _read_descriptor(data, offset)
    if tag != _DECODER_CONFIGURATION or end - offset < 13:
        raise RemoteProtocolError("an esds box has no decoder configuration")
    return DecoderConfiguration(data[offset], data[offset + 13 :])


def read_decoder_specific(rest: bytes) -> bytes | None:
    """Return the content of the decoder's own descriptor; None if another one is there. Raises RemoteProtocolError."""
    tag, start, end = _read_descriptor(rest, 0)
    return rest[start:end] if tag == _DECODER_SPECIFIC else None


def _read_descriptor(data: bytes, offset: int) -> tuple[int, int, int]:
    """Return tag, start and end of the descriptor at ``offset`` (ISO/IEC 14496-1 section 8.3.3)."""
    if offset >= len(data):
        raise RemoteProtocolError("an MPEG-4 descriptor is truncated")
    tag = data[offset]
    size = 0
    for position in range(offset + 1, offset + 5):
        if position >= len(data):
            break
        size = size << 7 | data[position] & 0x7F
        if not data[position] & 0x80:
            return tag, position + 1, min(position + 1 + size, len(data))
    raise RemoteProtocolError("the size of an MPEG-4 descriptor is not valid")
