"""Typed messages: the bytes of each, and what is ignored."""

from __future__ import annotations

import pytest
from tests.wire.rtmp.support import raw

from polycast.errors import RemoteProtocolError
from polycast.wire.rtmp.chunks import RawMessage
from polycast.wire.rtmp.messages import (
    TYPES,
    Abort,
    Acknowledgement,
    Command,
    Data,
    Message,
    SetChunkSize,
    SetPeerBandwidth,
    UserControl,
    UserControlEvent,
    WindowAcknowledgementSize,
    parse_message,
    split_aggregate,
)

CASES: list[tuple[int, str, Message]] = [
    (1, "00001000", SetChunkSize(4096)),
    (2, "00000006", Abort(6)),
    (3, "05f5e100", Acknowledgement(100_000_000)),
    (4, "000000000001", UserControl(UserControlEvent.STREAM_BEGIN, 1)),
    (4, "000100000001", UserControl(UserControlEvent.STREAM_EOF, 1)),
    (4, "000200000001", UserControl(UserControlEvent.STREAM_DRY, 1)),
    (4, "000300000001000000c8", UserControl(UserControlEvent.SET_BUFFER_LENGTH, 1, 200)),
    (4, "000400000001", UserControl(UserControlEvent.STREAM_IS_RECORDED, 1)),
    (4, "00062d6a1180", UserControl(UserControlEvent.PING_REQUEST, 0x2D6A1180)),
    (4, "00072d6a1180", UserControl(UserControlEvent.PING_RESPONSE, 0x2D6A1180)),
    (4, "002000000001", UserControl(UserControlEvent.BUFFER_READY, 1)),
    (5, "002625a0", WindowAcknowledgementSize(2_500_000)),
    (6, "002625a002", SetPeerBandwidth(2_500_000, 2)),
    (18, "02000a6f6e4d6574614461746105", Data(("onMetaData", None))),
    (20, "020004706c6179004010000000000000050200016b", Command("play", 4.0, None, ("k",))),
]


@pytest.mark.parametrize(("message_type", "payload", "message"), CASES)
def test_round_trip(message_type: int, payload: str, message: Message) -> None:
    assert parse_message(raw(message_type, bytes.fromhex(payload))) == message
    assert message.payload() == bytes.fromhex(payload)
    assert TYPES[type(message)] == message_type


@pytest.mark.parametrize(
    ("message_type", "payload"),
    [
        (0, "00"),
        (7, "00"),
        (16, "00"),
        (19, "00"),
        (21, "00"),
        (99, "ffff"),
        (20, ""),
        (4, "0000"),
        (4, ""),
    ],
)
def test_what_is_ignored(message_type: int, payload: str) -> None:
    assert parse_message(raw(message_type, bytes.fromhex(payload))) is None


def test_an_unknown_user_control_event_keeps_its_number() -> None:
    assert parse_message(raw(4, bytes.fromhex("00ff00000001"))) == UserControl(255, 1)


@pytest.mark.parametrize("lead", ["00", ""])
def test_commands_and_data_of_type_amf3(lead: str) -> None:
    command = bytes.fromhex(lead + "020004706c6179004010000000000000051106036b")
    assert parse_message(raw(17, command)) == Command("play", 4.0, None, ("k",))
    assert parse_message(raw(15, bytes.fromhex(lead + "02000161110401"))) == Data(("a", 1))


@pytest.mark.parametrize("transaction", ["05", "0101", ""])
def test_a_command_without_transaction_number(transaction: str) -> None:
    message = parse_message(raw(20, bytes.fromhex("02000161" + transaction)))
    assert isinstance(message, Command)
    assert message.transaction_id == 0


@pytest.mark.parametrize(
    ("message_type", "payload"), [(1, "0000"), (3, ""), (5, "00"), (6, "000000"), (20, "05"), (18, "02")]
)
def test_broken(message_type: int, payload: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_message(raw(message_type, bytes.fromhex(payload)))


def flv_tag(kind: int, timestamp: int, payload: bytes) -> bytes:
    head = bytes((kind,)) + len(payload).to_bytes(3, "big") + (timestamp & 0xFFFFFF).to_bytes(3, "big")
    return head + bytes((timestamp >> 24,)) + bytes(3) + payload + (len(payload) + 11).to_bytes(4, "big")


def test_an_aggregate_is_split_and_its_times_follow_its_own() -> None:
    payload = flv_tag(8, 0x01000000, b"one") + flv_tag(9, 0x01000028, b"two") + flv_tag(22, 0x01000029, b"nested")
    messages = split_aggregate(RawMessage(22, 1, 0xFFFFFFF0, payload))
    assert [(item.type, item.timestamp, item.payload) for item in messages] == [
        (8, 0xFFFFFFF0, b"one"),
        (9, 0x18, b"two"),
    ]


def test_a_truncated_aggregate_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="truncated"):
        split_aggregate(RawMessage(22, 1, 0, flv_tag(8, 0, b"one")[:13]))


def test_an_aggregate_of_too_many_messages_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="more than"):
        split_aggregate(RawMessage(22, 1, 0, flv_tag(8, 0, b"") * 2000))
