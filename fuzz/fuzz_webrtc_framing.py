"""Packets with their sizes, as anybody who connects to the TCP port for media may send them."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc.framing import MAXIMUM_SIZE, Deframer

SEEDS: list[bytes] = [
    b"\x00\x03abc\x00\x00\x00\x01d",
    b"\xff\xff" + bytes(20),
    b"\x00\x00" * 9,
    b"\x20\x00" + bytes(8192),
]
DICTIONARY: list[bytes] = [b"\x00\x00", b"\x20\x00", b"\x20\x01"]


def _packets(pieces: list[bytes]) -> tuple[list[bytes], str, int]:
    deframer, packets = Deframer(), []
    try:
        for piece in pieces:
            deframer.receive_data(piece)
            while (packet := deframer.next_packet()) is not None:
                packets.append(packet)
    except RemoteProtocolError as error:
        return packets, str(error), 0
    return packets, "", deframer.held_size


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out, byte by byte the same packets as at once, and little is held."""
    whole = _packets([data])
    if whole != _packets([data[index : index + 1] for index in range(len(data))]):
        raise ValueError("packets depend on how the data arrives")
    packets, error, held = whole
    if held > MAXIMUM_SIZE + 2:
        raise ValueError("more than one packet is held")
    if not error and sum(len(packet) + 2 for packet in packets) + held != len(data):
        raise ValueError("bytes were lost")
