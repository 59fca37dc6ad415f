"""The chunk stream: header forms, timestamps, chunk sizes, interleaving, limits; every case also byte by byte."""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import chunks
from polycast.wire.rtmp.chunks import ChunkReader, ChunkWriter, serialize_message

Message = tuple[int, int, int, bytes]

BODY = bytes(range(20))
LONG = bytes(range(256)) * 2


def type_0(csid: int, timestamp: int, length: int, kind: int, stream: int = 1) -> bytes:
    return (
        bytes((csid,))
        + timestamp.to_bytes(3, "big")
        + length.to_bytes(3, "big")
        + bytes((kind,))
        + stream.to_bytes(4, "little")
    )


def type_1(csid: int, delta: int, length: int, kind: int) -> bytes:
    return bytes((0x40 | csid,)) + delta.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes((kind,))


def type_2(csid: int, delta: int) -> bytes:
    return bytes((0x80 | csid,)) + delta.to_bytes(3, "big")


def type_3(csid: int) -> bytes:
    return bytes((0xC0 | csid,))


def extended(value: int) -> bytes:
    return struct.pack(">I", value)


FULL = 0xFFFFFF

# Bytes, and the messages in them: type, message stream, timestamp, payload.
CASES: dict[str, tuple[bytes, list[Message]]] = {
    "the vector of the reference, type 0": (
        bytes.fromhex("19b1a191000014143d175d03") + BODY,
        [(20, 0x035D173D, 11641233, BODY)],
    ),
    "type 1 keeps the stream": (
        type_0(25, 100, 20, 20, 7) + BODY + type_1(25, 30, 4, 9) + BODY[:4],
        [(20, 7, 100, BODY), (9, 7, 130, BODY[:4])],
    ),
    "type 2 keeps the length": (
        type_0(25, 100, 20, 20) + BODY + type_2(25, 30) + BODY,
        [(20, 1, 100, BODY), (20, 1, 130, BODY)],
    ),
    "type 3 repeats the difference": (
        type_0(4, 100, 20, 8) + BODY + type_2(4, 23) + BODY + type_3(4) + BODY + type_3(4) + BODY,
        [(8, 1, 100, BODY), (8, 1, 123, BODY), (8, 1, 146, BODY), (8, 1, 169, BODY)],
    ),
    "type 3 after type 0 repeats its timestamp": (
        type_0(4, 23, 20, 8) + BODY + type_3(4) + BODY + type_3(4) + BODY,
        [(8, 1, 23, BODY), (8, 1, 46, BODY), (8, 1, 69, BODY)],
    ),
    "type 3 after a late type 0 means no difference": (
        type_0(4, 7_200_000, 20, 8) + BODY + type_3(4) + BODY,
        [(8, 1, 7_200_000, BODY), (8, 1, 7_200_000, BODY)],
    ),
    "continuation": (
        type_0(6, 0, 300, 9) + LONG[:128] + type_3(6) + LONG[128:256] + type_3(6) + LONG[256:300],
        [(9, 1, 0, LONG[:300])],
    ),
    "three layouts of the reference": (
        type_0(27, 100, 140, 9)
        + LONG[:128]
        + type_3(27)
        + LONG[128:140]
        + type_1(27, 5, 130, 9)
        + LONG[:128]
        + type_3(27)
        + LONG[128:130]
        + type_2(27, 15)
        + LONG[:128]
        + type_3(27)
        + LONG[128:130]
        + type_3(27)
        + LONG[:128]
        + type_3(27)
        + LONG[128:130],
        [(9, 1, 100, LONG[:140]), (9, 1, 105, LONG[:130]), (9, 1, 120, LONG[:130]), (9, 1, 135, LONG[:130])],
    ),
    "interleaved": (
        type_0(6, 0, 200, 9) + LONG[:128] + type_0(4, 9, 20, 8) + BODY + type_3(6) + LONG[128:200],
        [(8, 1, 9, BODY), (9, 1, 0, LONG[:200])],
    ),
    "interleaved many times": (
        type_0(6, 0, 400, 9)
        + LONG[:128]
        + type_0(4, 9, 20, 8)
        + BODY
        + type_3(6)
        + LONG[128:256]
        + type_2(4, 1)
        + BODY
        + type_3(6)
        + LONG[256:384]
        + type_3(6)
        + LONG[384:400],
        [(8, 1, 9, BODY), (8, 1, 10, BODY), (9, 1, 0, LONG[:400])],
    ),
    "two-byte chunk stream": (
        b"\x00\x00" + type_0(0, 0, 200, 9)[1:] + LONG[:128] + b"\xc0\x00" + LONG[128:200],
        [(9, 1, 0, LONG[:200])],
    ),
    "three-byte chunk stream 65599": (
        b"\x01\xff\xff" + type_0(0, 0, 200, 9)[1:] + LONG[:128] + b"\xc1\xff\xff" + LONG[128:200],
        [(9, 1, 0, LONG[:200])],
    ),
    "extended timestamp": (
        type_0(4, FULL, 20, 8) + extended(0x01000000) + BODY,
        [(8, 1, 0x01000000, BODY)],
    ),
    "extended timestamp of exactly 24 bits": (
        type_0(4, FULL, 20, 8) + extended(FULL) + BODY,
        [(8, 1, FULL, BODY)],
    ),
    "extended timestamp of zero": (
        type_0(4, FULL, 200, 8) + extended(0) + LONG[:128] + type_3(4) + extended(0) + LONG[128:200],
        [(8, 1, 0, LONG[:200])],
    ),
    "extended timestamp repeated on type 3": (
        type_0(6, FULL, 300, 9)
        + extended(20_000_000)
        + LONG[:128]
        + type_3(6)
        + extended(20_000_000)
        + LONG[128:256]
        + type_3(6)
        + extended(20_000_000)
        + LONG[256:300],
        [(9, 1, 20_000_000, LONG[:300])],
    ),
    "extended timestamp left out on type 3": (
        type_0(6, FULL, 300, 9)
        + extended(20_000_000)
        + LONG[:128]
        + type_3(6)
        + LONG[128:256]
        + type_3(6)
        + LONG[256:300],
        [(9, 1, 20_000_000, LONG[:300])],
    ),
    "extended difference": (
        type_0(4, 5, 20, 8) + BODY + type_2(4, FULL) + extended(20_000_000) + BODY + type_2(4, 1) + BODY,
        [(8, 1, 5, BODY), (8, 1, 20_000_005, BODY), (8, 1, 20_000_006, BODY)],
    ),
    "over the 24-bit boundary by differences": (
        type_0(4, FULL - 1, 20, 8) + BODY + type_2(4, 1) + BODY + type_3(4) + BODY,
        [(8, 1, FULL - 1, BODY), (8, 1, FULL, BODY), (8, 1, FULL + 1, BODY)],
    ),
    "over the 32-bit boundary by differences": (
        type_0(4, FULL, 20, 8) + extended(0xFFFFFFF0) + BODY + type_2(4, 0x20) + BODY,
        [(8, 1, 0xFFFFFFF0, BODY), (8, 1, 0x10, BODY)],
    ),
    "empty message": (type_0(3, 0, 0, 20) + type_0(4, 1, 20, 8) + BODY, [(20, 1, 0, b""), (8, 1, 1, BODY)]),
    "first header of type 1": (type_1(4, 7, 20, 8) + BODY, [(8, 0, 7, BODY)]),
    "chunk size changed in midst of another message": (
        type_0(6, 0, 300, 9) + LONG[:128] + type_0(2, 0, 4, 1, 0) + extended(1000) + type_3(6) + LONG[128:300],
        [(1, 0, 0, extended(1000)), (9, 1, 0, LONG[:300])],
    ),
    "chunk size of 2^31-1": (
        type_0(2, 0, 4, 1, 0) + extended(0x7FFFFFFF) + type_0(6, 0, 512, 9) + LONG,
        [(1, 0, 0, extended(0x7FFFFFFF)), (9, 1, 0, LONG)],
    ),
    "abort": (
        type_0(6, 0, 300, 9) + LONG[:128] + type_0(2, 0, 4, 2, 0) + extended(6) + type_0(6, 5, 20, 9) + BODY,
        [(2, 0, 0, extended(6)), (9, 1, 5, BODY)],
    ),
}


def read(data: bytes, piece: int = 1 << 30, chunk_size: int = 128) -> list[Message]:
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    messages: list[Message] = []
    for position in range(0, len(data), piece):
        for message in reader.receive(data[position : position + piece]):
            messages.append((message.type, message.stream_id, message.timestamp, message.payload))
    return messages


@pytest.mark.parametrize("piece", [1, 2, 3, 13, 129, 1 << 30])
@pytest.mark.parametrize("name", CASES)
def test_read(name: str, piece: int) -> None:
    data, messages = CASES[name]
    assert read(data, piece) == messages


@pytest.mark.parametrize("timestamp", [0, 1, FULL - 1, FULL, FULL + 1, 0xFFFFFFFF, 0x100000000, 0x100000005])
@pytest.mark.parametrize("csid", [2, 63, 64, 319, 320, 65599])
@pytest.mark.parametrize("length", [0, 1, 128, 129, 256, 257, 5000])
def test_what_is_written_is_read(timestamp: int, csid: int, length: int) -> None:
    payload = (bytes(range(256)) * 20)[:length]
    data = serialize_message(9, 1, timestamp, [payload[:3], payload[3:]], csid, 128)
    assert read(data) == [(9, 1, timestamp & 0xFFFFFFFF, payload)]
    assert read(data, 1) == [(9, 1, timestamp & 0xFFFFFFFF, payload)]


def test_written_bytes() -> None:
    assert serialize_message(9, 1, 40, [b"abc"], 6, 4096) == type_0(6, 40, 3, 9) + b"abc"
    assert serialize_message(9, 1, 1 << 24, [LONG[:200]], 6, 128) == (
        type_0(6, FULL, 200, 9) + extended(1 << 24) + LONG[:128] + type_3(6) + extended(1 << 24) + LONG[128:200]
    )


@given(
    st.lists(st.tuples(st.integers(0, 1 << 33), st.integers(0, 3000), st.sampled_from([4, 6, 100, 1000])), max_size=12),
    st.integers(16, 700),
    st.randoms(use_true_random=False),
)
def test_any_messages_in_any_pieces(specification: list[tuple[int, int, int]], chunk_size: int, random: Random) -> None:
    expected: list[Message] = []
    data = b""
    for timestamp, length, csid in specification:
        payload = random.randbytes(length)
        expected.append((8, 1, timestamp & 0xFFFFFFFF, payload))
        data += serialize_message(8, 1, timestamp, [payload], csid, chunk_size)
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    found: list[Message] = []
    position = 0
    while position < len(data):
        piece = random.choice((1, 5, 100, 1460, 4096))
        for message in reader.receive(data[position : position + piece]):
            found.append((message.type, message.stream_id, message.timestamp, message.payload))
        position += piece
    assert found == expected


BROKEN: dict[str, tuple[bytes, str]] = {
    "declared length of 16 MiB": (type_0(6, 0, 0xFFFFFF, 9), "16777215 bytes"),
    "command of 1 MiB": (type_0(3, 0, 1 << 20, 20), "1048576 bytes"),
    "chunk size of 0": (type_0(2, 0, 4, 1) + extended(0), "chunk size of 0"),
    "chunk size of 1": (type_0(2, 0, 4, 1) + extended(1), "chunk size of 1"),
    "chunk size with the highest bit": (type_0(2, 0, 4, 1) + extended(0x80000001), "chunk size of"),
    "type 3 first": (type_3(5) + BODY, "does not begin"),
    "type 2 first": (type_2(5, 1) + BODY, "does not begin"),
    "new header in midst": (type_0(6, 0, 300, 9) + LONG[:128] + type_0(6, 0, 300, 9), "before the previous one"),
    "too many chunk streams": (
        b"".join(serialize_message(8, 1, 0, [b"x"], csid) for csid in range(2, 2 + chunks.MAXIMUM_CHUNK_STREAMS + 1)),
        "chunk streams",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(name: str) -> None:
    data, text = BROKEN[name]
    with pytest.raises(RemoteProtocolError, match=text):
        read(data)
    with pytest.raises(RemoteProtocolError, match=text):
        read(data, 1)


def test_unfinished_messages_together_are_limited() -> None:
    reader = ChunkReader()
    reader.chunk_size = 1 << 22
    length = chunks.MAXIMUM_MESSAGE_SIZE
    part = bytes(1 << 22)
    for csid in range(3, 5):
        reader.receive(type_0(csid, 0, length, 9) + part)
    with pytest.raises(RemoteProtocolError, match="incomplete messages"):
        reader.receive(type_0(5, 0, length, 9) + part + type_3(5) + part[:100])


def test_nothing_is_reserved_for_a_declared_length() -> None:
    reader = ChunkReader()
    for csid in range(2, 2 + chunks.MAXIMUM_CHUNK_STREAMS):
        basic = bytes((csid,)) if csid < 64 else bytes((0, csid - 64))
        assert reader.receive(basic + type_0(0, 0, chunks.MAXIMUM_MESSAGE_SIZE, 9)[1:] + bytes(128)) == []


def test_an_aborted_message_frees_its_part_of_the_limit() -> None:
    reader = ChunkReader()
    reader.chunk_size = 1 << 22
    for _ in range(10):
        reader.receive(type_0(6, 0, chunks.MAXIMUM_MESSAGE_SIZE, 9) + bytes(1 << 22))
        reader.receive(type_0(2, 0, 4, 2) + extended(6))


def test_writer_announces_and_then_uses_a_chunk_size() -> None:
    writer = ChunkWriter()
    data = writer.write(1, extended(1000), 2) + writer.write(20, LONG, 3)
    assert read(data) == [(1, 0, 0, extended(1000)), (20, 0, 0, LONG)]
    assert len(data) == 12 + 4 + 12 + len(LONG)


@pytest.mark.parametrize(("length", "csid"), [(1 << 24, 6), (1, 1), (1, 65600)])
def test_what_the_format_lacks_cannot_be_written(length: int, csid: int) -> None:
    with pytest.raises(LocalProtocolError):
        serialize_message(9, 1, 0, [bytes(length)], csid, 1 << 16)


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        whole = read(data)
    except RemoteProtocolError:
        with pytest.raises(RemoteProtocolError):
            read(data, 1)
        return
    assert read(data, 1) == whole
