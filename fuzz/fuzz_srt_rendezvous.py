"""Fuzz target: the handshake of SRT with two sides that call each other. Only refusals may leave it."""

from __future__ import annotations

import struct

from polycast.wire.srt.caller import CallerOptions
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.handshake import Handshake, HandshakeType, parse_handshake
from polycast.wire.srt.packet import ControlType, build_control
from polycast.wire.srt.rejection import RejectedError
from polycast.wire.srt.rendezvous import Rendezvous, RendezvousRequest

_LENGTH = struct.Struct("!H")
_NOW = 100.0
_CAPABILITIES = struct.pack("!IIHH", 0x010501, 0xBF, 120, 120)


def fuzz_one(data: bytes) -> None:
    """Give datagrams, each after its length, to a side; the first byte is the last one of its cookie."""
    side = Rendezvous(CallerOptions(stream_id="x"), 5, 1000, data[0] if data else 0, _NOW)
    data, now = data[1:], _NOW
    for _ in range(64):
        if len(data) < 2:
            break
        size = _LENGTH.unpack_from(data)[0] % 1500
        try:
            found = side.receive_data(data[2 : 2 + size], now)
        except RejectedError as error:
            parse_handshake(side.reject(error.reason, now))
            return
        data = data[2 + size :]
        if isinstance(found, RendezvousRequest):
            side.accept(None, now)
        elif isinstance(found, Connection):
            found.receive_data(data[:1500], now)
        sent = side.data_to_send(now)
        if sent is not None:
            parse_handshake(sent)
            assert len(sent) < 1500
            assert side.data_to_send(now) is None, "once"
        now += 0.1


def _packet(kind: int, cookie: int, *extensions: tuple[int, bytes], flags: int = 0) -> bytes:
    handshake = Handshake(
        extension_field=flags, flow_window=8192, kind=kind, socket_id=9, cookie=cookie, initial_sequence=7,
        extensions=extensions,
    )  # fmt: skip
    return build_control(ControlType.HANDSHAKE, 0, 0, 5, handshake.build())


def _framed(*packets: bytes) -> bytes:
    return b"".join(_LENGTH.pack(len(packet)) + packet for packet in packets)


_CONCLUSION = HandshakeType.CONCLUSION
SEEDS: list[bytes] = [
    b"\x05"
    + _framed(
        _packet(HandshakeType.WAVE_A_HAND, 1),
        _packet(_CONCLUSION, 1),
        _packet(_CONCLUSION, 1, (2, _CAPABILITIES), flags=1),
        _packet(_CONCLUSION, 1, (2, _CAPABILITIES), flags=1),
    ),
    b"\x05"
    + _framed(
        _packet(_CONCLUSION, 9, (1, _CAPABILITIES), (5, b"daer"), flags=5),
        _packet(_CONCLUSION, 9, (1, _CAPABILITIES), flags=1),
        _packet(HandshakeType.AGREEMENT, 9),
    ),
    b"\x05" + _framed(_packet(HandshakeType.WAVE_A_HAND, 9), _packet(1010, 9)),
]
