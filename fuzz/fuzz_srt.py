"""SRT: handshakes, key material, and everything that a connection receives."""

from __future__ import annotations

import struct

from polycast.errors import RemoteProtocolError
from polycast.wire.srt.caller import Caller, CallerOptions
from polycast.wire.srt.conclusion import Terms
from polycast.wire.srt.connection import Connection, State
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.handshake import Handshake, HandshakeType, parse_handshake
from polycast.wire.srt.key_material import parse_key_material
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest, Listener
from polycast.wire.srt.pacing import UNLIMITED
from polycast.wire.srt.packet import ControlType, build_control
from polycast.wire.srt.receiver import WINDOW
from polycast.wire.srt.rejection import RejectedError
from polycast.wire.srt.stream_id import parse_stream_id

_NOW = 1000.0
_TERMS = Terms(bandwidth=UNLIMITED, idle_seconds=5.0)
_LENGTH = struct.Struct("!H")


def _cookie() -> int:
    hello = Handshake(version=4, extension_field=2, flow_window=8192, kind=HandshakeType.INDUCTION, socket_id=1)
    answer = Listener(bytes(16)).receive_data(
        build_control(ControlType.HANDSHAKE, 0, 0, 0, hello.build()), "h", 1, _NOW
    )
    assert isinstance(answer, bytes)
    return parse_handshake(answer).cookie


_COOKIE = _cookie()
_CAPABILITIES = (1, struct.pack("!IIHH", 0x010501, 0xBF, 120, 120))
_MATERIAL = (
    bytes.fromhex("122029010000000002000200000004040001020304050607 08090a0b0c0d0e0f")
    + bytes.fromhex("d5d1f5b5613699d831541c10a6588c8a440564b8f4140fe9")
)  # fmt: skip
"""Made with the passphrase "correct horse"."""


def _conclusion(*extensions: tuple[int, bytes]) -> bytes:
    handshake = Handshake(
        extension_field=7, flow_window=8192, kind=HandshakeType.CONCLUSION, socket_id=9, cookie=_COOKIE,
        initial_sequence=1000, extensions=(_CAPABILITIES, *extensions),
    )  # fmt: skip
    return build_control(ControlType.HANDSHAKE, 0, 0, 0, handshake.build())


def fuzz_one(data: bytes) -> None:
    """The first byte says what the rest is: a datagram for a listener or a caller, or some for a connection."""
    if not data:
        return
    kind, data = data[0] % 4, data[1:]
    if kind == 0:
        _listener(data)
    elif kind == 1:
        _caller(data)
    elif kind == 2:
        _material(data)
    else:
        _connection(data)


def _listener(data: bytes) -> None:
    answer = Listener(bytes(16)).receive_data(data, "h", 1, _NOW)
    if isinstance(answer, ConnectionRequest):
        try:
            parse_stream_id(answer.stream_id)
        except RemoteProtocolError:
            pass
        connection = answer.accept(5, _TERMS, None, _NOW)
        parse_handshake(answer.answer(connection, _NOW))
    elif answer is not None:
        assert len(answer) <= max(64, len(data))


def _caller(data: bytes) -> None:
    calling = Caller(CallerOptions(stream_id="x"), 0x1234, 1000, 0.0)
    for packet in _packets(data):
        try:
            if calling.receive_data(packet, 0.0) is not None:
                return
        except RejectedError:
            return


def _material(data: bytes) -> None:
    try:
        assert parse_key_material(data).build()
    except RemoteProtocolError:
        pass


def _packets(data: bytes) -> list[bytes]:
    """Return the pieces of data, each after its length."""
    packets = []
    while len(data) > 2 and len(packets) < 64:
        (size,) = _LENGTH.unpack_from(data)
        packets.append(data[2 : 2 + size % 1500])
        data = data[2 + size % 1500 :]
    return packets


def _connection(data: bytes) -> None:
    request = Listener(bytes(16)).receive_data(_conclusion(), "h", 1, _NOW)
    assert isinstance(request, ConnectionRequest)
    connection = request.accept(5, _TERMS, _KEYS if data[:1] == b"\1" else None, _NOW)
    now = _NOW
    for datagrams in split(bytes(1316 * 20), 1316):
        connection.send(datagrams, now)
    for packet in _packets(data[1:]):
        connection.receive_data(packet, now)
        now = _advance(connection, now)
    sent = connection.data_to_send()
    assert len(sent) < 3000, "an answer for each packet, and some retransmissions"
    assert connection.receiver.held_count <= WINDOW


def _advance(connection: Connection, now: float) -> float:
    for _ in range(3):
        now = max(now, min(connection.next_timeout(), now + 0.1))
        if connection.state is State.CLOSED:
            break
        connection.handle_timeout(now)
        connection.received()
    return now


def _keys() -> ConnectionKeys:
    from polycast.wire.srt.encryption import SessionKeys

    return ConnectionKeys(SessionKeys("correct horse", parse_key_material(_MATERIAL)), bytes)


_KEYS = _keys()


def _framed(*packets: bytes) -> bytes:
    return b"".join(_LENGTH.pack(len(packet)) + packet for packet in packets)


def _control(first: int, second: int, body: bytes) -> bytes:
    return struct.pack("!IIII", 0x80000000 | first, second, 100, 5) + body


_DATA = [struct.pack("!IIII", 1000 + number, 0xC0000001 + number, 100 * number, 5) + bytes(188) for number in range(8)]

SEEDS: list[bytes] = [
    b"\0" + _conclusion(),
    b"\0" + _conclusion((5, b"daer" + b"mac:"), (3, _MATERIAL)),
    b"\0" + _conclusion((6, b"evil")),
    b"\1" + _framed(bytes.fromhex(
        "8000000000000000000f2273000012340000000500004a17000003e8000005dc000020000000000100001234648563d8"
        "00000000000000000000000000000000"), bytes.fromhex(
        "800000000000000000000201000012340000000500000001000003e8000005dc00002000ffffffff1978303b648563d8"
        "0100007f0000000000000000000000000002000300010501000000bf00780078")),
    b"\2" + _MATERIAL,
    b"\3\0" + _framed(*_DATA),
    b"\3\0" + _framed(_DATA[0], _DATA[7], _DATA[3], _DATA[3], _DATA[7]),
    b"\3\1" + _framed(_DATA[0], _control(0x7FFF0003, 0, _MATERIAL), _DATA[1]),
    b"\3\0" + _framed(
        _control(0x20000, 1, struct.pack("!IIIIIII", 1010, 100_000, 50_000, 8190, 1, 1000, 1500)),
        _control(0x30000, 0, struct.pack("!III", 1011, 0x80000000 | 1012, 1015)),
        _control(0x60000, 1, bytes(4)),
        _control(0x70000, 1, struct.pack("!II", 1000, 1005)),
        _control(0x10000, 0, bytes(4)),
        _control(0x50000, 0, bytes(4)),
    ),
]  # fmt: skip
