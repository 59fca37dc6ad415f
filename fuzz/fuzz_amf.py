"""Fuzz target: AMF0 and AMF3 values; what is read can be written and read again."""

from __future__ import annotations

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import amf0, amf3
from polycast.wire.rtmp.amf import Date, Value
from polycast.wire.rtmp.amf0 import EcmaArray
from polycast.wire.rtmp.metadata import parse_metadata

_VALUES: list[Value] = [
    "@setDataFrame",
    "onMetaData",
    {"videocodecid": 7.0, "audiocodecid": "mp4a", "list": [1.0, None, True, {"a": {}}], "date": Date(1.5)},
    EcmaArray(width=1.0, audioTrackIdInfoMap={"1": {}, "2": {"x": 1.0}}),
]

SEEDS: list[bytes] = [
    b"",
    amf0.encode(*_VALUES),
    amf3.encode(*_VALUES, b"bytes", -1, 1 << 28),
    b"\x11" + amf3.encode({"a": [1, 2.5, "text"]}) + amf0.encode(None, "x"),
    b"\x03\x00\x01a\x07\x00\x00\x00\x00\x09",
    b"\x0a\x00\x00\x00\x02\x05\x06",
    b"\x0c\x00\x00\x00\x03abc\x0f\x00\x00\x00\x01x\x10\x00\x01C\x00\x00\x09",
    bytes.fromhex("09050a1303430361040106000d0500000000010f03003ff80000000000001103000603610401"),
]


def fuzz_one(data: bytes) -> None:
    """Values or RemoteProtocolError."""
    for codec in (amf0, amf3):
        try:
            values = codec.decode(data)
        except RemoteProtocolError:
            continue
        parse_metadata(values)
        try:
            written = codec.encode(*values)
        except (LocalProtocolError, RecursionError):
            continue  # AMF0 has no bytes; values may contain themselves
        try:
            codec.decode(written)
        except RemoteProtocolError as error:
            # References that are written out again may be deeper or more than is allowed.
            if not any(word in str(error) for word in ("nested", "more than", "string of")):
                raise AssertionError("what was written is not readable") from error
