"""MIKEY messages as GStreamer and gortsplib write them, and those that cannot be used."""

from __future__ import annotations

import base64

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.srtp.mikey import SIZE_LIMIT, KeyMessage, decode_message, encode_message, parse_message
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, AES_CM_128_HMAC_SHA1_80, MasterKey

# GStreamer 1.22, rtspsrc; it gives the length of the tag (10) as that of the authentication key.
GSTREAMER = (
    "AQAFAFjTRHABAADSUEzQAAAAAAsA7remsmg9zOoKEDXGA/fihmeqg+obvS5eoyUBAAAAFQABAQEBEAIBAQMBCgcBAQgBAQoBAQAAACIAIAAe"
    "0jh7P5UHy7sGZN/ZVqoU196ijXxRyErgbRqyfomxAA=="
)
# gortsplib 5.2, with the key 00 01 02 ... 1d.
GORTSPLIB = (
    "AQAFAAECAwQBAAARIjNEAAAABQsA7remsmg9zOoKEAAAAAAAAAAAAAAAAAAAAAABAAAAGAABAQEBEAIBAQMBFAcBAQgBAQoBAQsB"
    "CgAAACIAIAAeAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdAA=="
)

NTP = 0xEEB7A6B2683DCCEA
KEY = MasterKey(bytes(range(16)), bytes(range(16, 30)))


def test_gstreamer() -> None:
    message = decode_message(GSTREAMER)
    assert message.profile is AES_CM_128_HMAC_SHA1_80
    assert (len(message.key.key), len(message.key.salt)) == (16, 14)
    assert message.key.key.startswith(bytes.fromhex("d2387b3f"))
    assert message.roll_over_counters == {0xD2504CD0: 0}


def test_gortsplib() -> None:
    message = decode_message(GORTSPLIB)
    assert message == KeyMessage(AES_CM_128_HMAC_SHA1_80, KEY, {0x11223344: 5})
    assert encode_message(message.serialize(0x01020304, NTP, bytes(16))) == GORTSPLIB


@pytest.mark.parametrize("counters", [{}, {1: 2, 3: 0xFFFFFFFF}])
def test_aead(counters: dict[int, int]) -> None:
    message = KeyMessage(AEAD_AES_128_GCM, MasterKey(bytes(16), bytes(12)), counters)
    assert parse_message(message.serialize(7, NTP, bytes(16))) == message


def changed(position: int, value: int) -> bytes:
    data = bytearray(base64.b64decode(GORTSPLIB))
    data[position] = value
    return bytes(data)


# Where things are in the message of gortsplib: a header of 19 bytes, then T, RAND, SP and KEMAC.
TIMESTAMP, RANDOM, POLICY, KEY_TRANSPORT = 19, 29, 47, 76


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (changed(0, 2), "version 2"),
        (changed(1, 2), "type 2"),
        (changed(2, 2), "payload 2 is not supported"),
        (changed(8, 255), "truncated|not supported"),
        (changed(9, 1), "map 1"),
        (changed(TIMESTAMP + 1, 9), "timestamp of type 9"),
        (changed(RANDOM + 1, 8), "8 random bytes"),
        (changed(POLICY + 2, 1), "policy of protocol 1"),
        (changed(POLICY + 7, 2), "policy parameter 0 with value 2"),
        (changed(POLICY + 10, 32), "policy parameter 1 with value 32"),
        (changed(POLICY + 13, 0), "policy parameter 2 with value 0"),
        (changed(POLICY + 28, 4), "policy parameter 11 with value 4"),
        (changed(KEY_TRANSPORT + 1, 1), "an encrypted key"),
        (changed(KEY_TRANSPORT + 4, 20), "several keys"),
        (changed(KEY_TRANSPORT + 5, 0x00), "a key of type 0"),
        (changed(KEY_TRANSPORT + 5, 0x21), "a key with an MKI"),
        (changed(KEY_TRANSPORT + 7, 16), "invalid key data"),
        (changed(RANDOM, 0), "without a key"),
        (bytes(SIZE_LIMIT + 1), "larger than"),
        *((base64.b64decode(GORTSPLIB)[:size], "truncated|without a key") for size in (9, 15, 25, 40, 60, 80, 114)),
    ],
)
def test_what_cannot_be_used(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as raised:
        parse_message(data)
    assert raised.value.status == 466


@pytest.mark.parametrize("text", ["?", "AQ", "ä"])
def test_no_base64(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not base64"):
        decode_message(text)
