"""MIKEY messages, as the KeyMgmt header and session descriptions have them."""

from __future__ import annotations

import base64

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.key_mgmt import read_attribute, read_key_mgmt, write_key_mgmt
from polycast.wire.srtp.mikey import KeyMessage, decode_message, encode_message, parse_message
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, MasterKey
from polycast.wire.srtp.session import SrtpReceiver

_OURS = KeyMessage(AES_CM_128_HMAC_SHA1_80, MasterKey(bytes(16), bytes(14)), {1: 2}).serialize(3, 4, bytes(16))

SEEDS: list[bytes] = [
    _OURS,
    KeyMessage(AEAD_AES_128_GCM, MasterKey(bytes(16), bytes(12)), {}).serialize(3, 4, bytes(16)),
    # GStreamer's
    base64.b64decode(
        "AQAFAFjTRHABAADSUEzQAAAAAAsA7remsmg9zOoKEDXGA/fihmeqg+obvS5eoyUBAAAAFQABAQEBEAIBAQMBCgcBAQgBAQoBAQAAACIAIAAe"
        "0jh7P5UHy7sGZN/ZVqoU196ijXxRyErgbRqyfomxAA=="
    ),
    write_key_mgmt("rtsps://h/cam/trackID=0", encode_message(_OURS)).encode(),
    b"mikey " + base64.b64encode(_OURS),
]
DICTIONARY: list[bytes] = [b"prot=mikey", b'data="', b'uri="', b"\x0a\x10", b"\x01\x00\x00\x00\x18", b"\x20\x00\x1e"]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out, and what was read can be written and read again."""
    text = data.decode("latin-1")
    for read in (read_key_mgmt, read_attribute):
        try:
            message = read(text)
            if message is not None:
                decode_message(message)
        except RemoteProtocolError:
            pass
    try:
        found = parse_message(data)
    except RemoteProtocolError:
        return
    SrtpReceiver(found.profile, found.key, found.roll_over_counters)
    if parse_message(found.serialize(1, 2, bytes(16))) != found:
        raise ValueError("a message is read differently")
