"""Fuzz target: a chunk stream, whole and in pieces, and what its messages do to a server and a client.

The first byte chooses the size of the pieces.
"""

from __future__ import annotations

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.address import ServerAddress
from polycast.wire.rtmp.chunks import MAXIMUM_PARTIAL_SIZE, ChunkReader, RawMessage, serialize_message
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.connection import Connection
from polycast.wire.rtmp.events import PlayRequested, PublishRequested
from polycast.wire.rtmp.handshake import PACKET_SIZE
from polycast.wire.rtmp.server import PLAY_REFUSED, ServerConnection

_CONNECT = serialize_message(
    20,
    0,
    0,
    [amf0.encode("connect", 1, {"app": "live", "tcUrl": "rtmp://h/live", "capsEx": 3, "fourCcList": ["*"]})],
    3,
)
_PUBLISH = serialize_message(20, 1, 0, [amf0.encode("publish", 5, None, "key?user=u&pass=p", "live")], 3)
_PLAY = serialize_message(20, 1, 0, [amf0.encode("play", 5, None, "key", -2000)], 3)
_METADATA = serialize_message(
    18, 1, 0, [amf0.encode("@setDataFrame", "onMetaData", {"videocodecid": 7, "audiocodecid": 10})], 4
)
_CONTROLS = b"".join(
    serialize_message(kind, 0, 0, [payload], 2)
    for kind, payload in (
        (1, b"\x00\x00\x10\x00"),
        (2, b"\x00\x00\x00\x04"),
        (3, b"\x00\x00\x10\x00"),
        (4, b"\x00\x06\x00\x00\x00\x01"),
        (4, b"\x00\x03\x00\x00\x00\x01\x00\x00\x00\x64"),
        (5, b"\x00\x26\x25\xa0"),
        (6, b"\x00\x26\x25\xa0\x02"),
        (22, b"\x08\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\xaf\x00\x00\x00\x00\x0d"),
    )
)
_RECORD = bytes.fromhex(
    "17000000000164001effe100196764001eacd940a02ff9610000030001000003003c8f162d9601000668ebe3cb22c0fdf8f800"
)
_MEDIA = b"".join(
    (
        serialize_message(9, 1, 0, [_RECORD], 6),
        serialize_message(8, 1, 0, [b"\xaf\x00\x12\x10"], 4),
        serialize_message(9, 1, 0xFFFFF0, [b"\x17\x01\x00\x00\x00\x00\x00\x00\x04\x65\x88\x84\x00"], 6),
        serialize_message(8, 1, 0x1000000, [b"\xaf\x01\x21\x10\x04"], 4),
        serialize_message(9, 1, 0x1000000, [b"\x17\x01\x00\x00\x00\x00\x00\x01\x00" + bytes(256)], 6),
    )
)
_RESULTS = b"".join(
    serialize_message(20, 0, 0, [amf0.encode(name, *values)], 3)
    for name, values in (
        ("_result", (1, {"capsEx": 15}, {"code": "NetConnection.Connect.Success"})),
        ("_result", (4, None, 1)),
        ("onStatus", (0, None, {"level": "status", "code": "NetStream.Play.Start"})),
    )
)

SEEDS: list[bytes] = [
    b"",
    b"\x00" + _CONNECT + _PUBLISH + _METADATA + _MEDIA,
    b"\x01" + _CONNECT + _PLAY + _CONTROLS,
    b"\x05" + _RESULTS + _METADATA + _MEDIA,
    b"\xff" + _CONTROLS + _MEDIA,
    b"\x07\xc3\x43\x83\x03\x00\xff\x01\xff\xff",
]

_ADDRESS = ServerAddress(False, "h", 1935, "app", "stream", "rtmp://h/app")
_HANDSHAKE = b"\x03" + bytes(2 * PACKET_SIZE)


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError leaves the engines, and pieces give what the whole gives."""
    piece, data = (data[0] or 1 << 16, data[1:]) if data else (1, data)
    if _messages(data, len(data) or 1) != _messages(data, piece):
        raise AssertionError("the result depends on how the bytes were cut")
    _drive(ServerConnection(0.0, seed=bytes(16)), data, piece)
    _drive(ClientConnection(_ADDRESS, Mode.PLAY, 0.0, seed=bytes(16)), data, piece)
    _drive(ClientConnection(_ADDRESS, Mode.PUBLISH, 0.0, seed=bytes(16)), data, piece)


def _messages(data: bytes, piece: int) -> list[tuple[int, int, bytes]] | None:
    reader = ChunkReader()
    messages: list[tuple[int, int, bytes]] = []
    try:
        for position in range(0, len(data), piece):
            for message in _drain(reader, data[position : position + piece]):
                messages.append((message.type, message.timestamp, message.payload))
    except RemoteProtocolError:
        return None
    if reader.partial_size > MAXIMUM_PARTIAL_SIZE:
        raise AssertionError("too much is held")
    return messages


def _drain(reader: ChunkReader, data: bytes) -> list[RawMessage]:
    messages = reader.receive(data)
    while reader.has_more:
        messages += reader.receive(b"")
    return messages


def _drive(connection: Connection, data: bytes, piece: int) -> None:
    try:
        events = connection.receive_data(_HANDSHAKE, 0.0)
        for position in range(0, len(data), piece):
            events += connection.receive_data(data[position : position + piece], 0.1)
            while events or connection.has_more:
                events += connection.receive_data(b"", 0.1)
                if not events:
                    continue
                event = events.pop()
                if isinstance(connection, ServerConnection) and isinstance(event, PublishRequested):
                    events += connection.accept_publish(0.1)
                elif isinstance(connection, ServerConnection) and isinstance(event, PlayRequested):
                    connection.refuse(PLAY_REFUSED, "no")
            connection.data_to_send()
        connection.handle_timeout(5.0)
        connection.handle_timeout(50.0)
    except RemoteProtocolError:
        return
    except LocalProtocolError as error:
        # Only when the state changed between event and answer, which takes a second event in the same piece.
        if "in state" not in str(error):
            raise
