"""Serialises tracks and frames as an FLV file (FLV 10.1 annex E.2 to E.4), for players over HTTP."""

from __future__ import annotations

from struct import Struct
from typing import Final

from polycast.errors import LocalProtocolError
from polycast.wire.rtmp.mapping import Parts
from polycast.wire.rtmp.muxer import Muxer

_HAS_AUDIO: Final = 4
_HAS_VIDEO: Final = 1
_HEADER: Final = Struct(">3sBBII")
"""Signature, version, flags, size of the header, size of the tag before the first one."""
_TAG_SIZE: Final = 11
_MAXIMUM_BODY: Final = 0xFFFFFF
"""Bytes of a tag: its length has 24 bits."""
_UINT32: Final = Struct(">I")


class FlvMuxer(Muxer):
    """Serialises the messages of a stream's tracks as tags. One muxer serves all readers of a stream."""

    def header(self) -> bytes:
        """Return the start of a file, which `initial` follows."""
        kinds = {track.kind for track in self.tracks}
        flags = _HAS_AUDIO * ("audio" in kinds) | _HAS_VIDEO * ("video" in kinds)
        return _HEADER.pack(b"FLV", 1, flags, _HEADER.size - _UINT32.size, 0)

    def _serialize(self, message_type: int, timestamp: int, parts: Parts, chunk_stream_id: int) -> bytes:
        length = sum(map(len, parts))
        if length > _MAXIMUM_BODY:
            raise LocalProtocolError(f"tag of {length} bytes: the length field has 24 bits")
        time = timestamp & 0xFFFFFFFF
        # the lower 24 bits of the timestamp come first, then the upper 8, then the stream id, which is 0
        head = (message_type << 56 | length << 32 | (time & 0xFFFFFF) << 8 | time >> 24).to_bytes(8, "big")
        return b"".join((head, bytes(3), *parts, _UINT32.pack(_TAG_SIZE + length)))
