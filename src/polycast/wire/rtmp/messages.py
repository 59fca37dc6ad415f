"""The messages of RTMP (Adobe RTMP 1.0 sections 5.4, 6 and 7): parses and serialises payloads.

Audio and video messages stay `RawMessage`; `flv` parses their payload. Undefined types are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import TypeAlias

from polycast.errors import RemoteProtocolError
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.chunks import RawMessage

MAXIMUM_AGGREGATE_MESSAGES = 500
"""Messages in one aggregate; servers aggregate about a second of audio and video."""

_UINT16 = Struct(">H")
_UINT32 = Struct(">I")
_TAG_HEADER = Struct(">BBHBHBBH")


class MessageType(IntEnum):
    """Message type identifiers."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5
    SET_PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    SHARED_OBJECT_AMF3 = 16
    COMMAND_AMF3 = 17
    DATA_AMF0 = 18
    SHARED_OBJECT_AMF0 = 19
    COMMAND_AMF0 = 20
    AGGREGATE = 22


class UserControlEvent(IntEnum):
    """User control events (section 7.1.7; 31 and 32 are Flash Media Server's)."""

    STREAM_BEGIN = 0
    STREAM_EOF = 1
    STREAM_DRY = 2
    SET_BUFFER_LENGTH = 3
    STREAM_IS_RECORDED = 4
    PING_REQUEST = 6
    PING_RESPONSE = 7
    BUFFER_EMPTY = 31
    BUFFER_READY = 32


class LimitType(IntEnum):
    """The limit types of Set Peer Bandwidth (section 5.4.5)."""

    HARD = 0
    SOFT = 1
    DYNAMIC = 2


@dataclass(frozen=True, slots=True)
class SetChunkSize:
    size: int
    """In bytes."""

    def payload(self) -> bytes:
        return _UINT32.pack(self.size)


@dataclass(frozen=True, slots=True)
class Abort:
    chunk_stream_id: int

    def payload(self) -> bytes:
        return _UINT32.pack(self.chunk_stream_id)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    sequence_number: int
    """Bytes received so far, modulo 2^32."""

    def payload(self) -> bytes:
        return _UINT32.pack(self.sequence_number & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class UserControl:
    event: int
    """A `UserControlEvent`, or the number of an unknown one."""
    value: int
    """Message stream, or for pings a timestamp."""
    buffer_length: int | None = None
    """In milliseconds; only for Set Buffer Length."""

    def payload(self) -> bytes:
        buffer_length = b"" if self.buffer_length is None else _UINT32.pack(self.buffer_length)
        return _UINT16.pack(self.event) + _UINT32.pack(self.value) + buffer_length


@dataclass(frozen=True, slots=True)
class WindowAcknowledgementSize:
    size: int
    """In bytes."""

    def payload(self) -> bytes:
        return _UINT32.pack(self.size)


@dataclass(frozen=True, slots=True)
class SetPeerBandwidth:
    size: int
    """In bytes."""
    limit_type: int = LimitType.DYNAMIC

    def payload(self) -> bytes:
        return _UINT32.pack(self.size) + bytes((self.limit_type,))


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    transaction_id: float
    object: Value = None
    """The command object; null for most."""
    arguments: tuple[Value, ...] = ()

    def payload(self) -> bytes:
        return amf0.encode(self.name, self.transaction_id, self.object, *self.arguments)

    def text(self, index: int) -> str:
        """Return argument ``index`` if it is a string, otherwise an empty string."""
        value = self.arguments[index] if index < len(self.arguments) else None
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Data:
    values: tuple[Value, ...]
    """The name of the handler, such as ``onMetaData``, and its arguments."""

    def payload(self) -> bytes:
        return amf0.encode(*self.values)


Message: TypeAlias = (
    SetChunkSize | Abort | Acknowledgement | UserControl | WindowAcknowledgementSize | SetPeerBandwidth | Command | Data
)

TYPES: dict[type[Message], MessageType] = {
    SetChunkSize: MessageType.SET_CHUNK_SIZE,
    Abort: MessageType.ABORT,
    Acknowledgement: MessageType.ACKNOWLEDGEMENT,
    UserControl: MessageType.USER_CONTROL,
    WindowAcknowledgementSize: MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE,
    SetPeerBandwidth: MessageType.SET_PEER_BANDWIDTH,
    Command: MessageType.COMMAND_AMF0,
    Data: MessageType.DATA_AMF0,
}


def parse_message(raw: RawMessage) -> Message | None:
    """Return the typed message, or None for ignored ones: shared objects, unknown types, empty commands.

    Raises `RemoteProtocolError` if the payload does not match the type.
    """
    payload = raw.payload
    match raw.type:
        case MessageType.COMMAND_AMF0:
            return _parse_command(amf0.decode(payload))
        case MessageType.COMMAND_AMF3:
            return _parse_command(amf0.decode(payload, _amf3_offset(payload)))
        case MessageType.DATA_AMF0:
            return Data(tuple(amf0.decode(payload)))
        case MessageType.DATA_AMF3:
            return Data(tuple(amf0.decode(payload, _amf3_offset(payload))))
        case MessageType.USER_CONTROL:
            return _parse_user_control(payload)
        case MessageType.SET_CHUNK_SIZE:
            return SetChunkSize(_uint32(payload, raw.type))
        case MessageType.ABORT:
            return Abort(_uint32(payload, raw.type))
        case MessageType.ACKNOWLEDGEMENT:
            return Acknowledgement(_uint32(payload, raw.type))
        case MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE:
            return WindowAcknowledgementSize(_uint32(payload, raw.type))
        case MessageType.SET_PEER_BANDWIDTH:
            # Some servers omit the limit type.
            return SetPeerBandwidth(_uint32(payload, raw.type), payload[4] if len(payload) > 4 else LimitType.DYNAMIC)
    return None


def _uint32(payload: bytes, message_type: int) -> int:
    if len(payload) < 4:
        raise RemoteProtocolError(f"message of type {message_type} with {len(payload)} bytes")
    value: int = _UINT32.unpack_from(payload)[0]
    return value


def _amf3_offset(payload: bytes) -> int:
    """AMF3 commands and data start with a zero byte, followed by AMF0 values, as Flash and librtmp write them."""
    return 1 if payload[:1] == b"\x00" else 0


def _parse_command(values: list[Value]) -> Command | None:
    if not values:
        return None
    name = values[0]
    if not isinstance(name, str):
        raise RemoteProtocolError("command without a name")
    transaction_id = values[1] if len(values) > 1 else 0
    if isinstance(transaction_id, bool) or not isinstance(transaction_id, (int, float)):
        transaction_id = 0
    return Command(name, transaction_id, values[2] if len(values) > 2 else None, tuple(values[3:]))


def _parse_user_control(payload: bytes) -> UserControl | None:
    # Unknown events may have any size; known ones have at least six bytes.
    if len(payload) < 6:
        return None
    event: int = _UINT16.unpack_from(payload)[0]
    value: int = _UINT32.unpack_from(payload, 2)[0]
    if event == UserControlEvent.SET_BUFFER_LENGTH and len(payload) >= 10:
        return UserControl(event, value, _UINT32.unpack_from(payload, 6)[0])
    return UserControl(event, value)


def split_aggregate(raw: RawMessage) -> list[RawMessage]:
    """Return the messages of an aggregate (section 7.1.6): FLV tags; the first one has the aggregate's timestamp."""
    payload = raw.payload
    messages: list[RawMessage] = []
    position = 0
    first: int | None = None
    while position + 11 <= len(payload):
        kind, size_high, size_low, time_high, time_low, time_extension, _, _ = _TAG_HEADER.unpack_from(
            payload, position
        )
        size = size_high << 16 | size_low
        time = time_extension << 24 | time_high << 16 | time_low
        position += 11
        if position + size > len(payload):
            raise RemoteProtocolError("aggregate message with a truncated part")
        if first is None:
            first = time
        if kind != MessageType.AGGREGATE:
            timestamp = (raw.timestamp + time - first) & 0xFFFFFFFF
            messages.append(RawMessage(kind, raw.stream_id, timestamp, payload[position : position + size]))
        if len(messages) > MAXIMUM_AGGREGATE_MESSAGES:
            raise RemoteProtocolError(f"aggregate of more than {MAXIMUM_AGGREGATE_MESSAGES} messages")
        position += size + 4
    return messages


def status(level: str, code: str, description: str, **more: Value) -> dict[str, Value]:
    """Return the information object of ``onStatus``, ``_result`` and ``_error`` (section 7.2)."""
    return {"level": level, "code": code, "description": description, **more}


def on_status(information: dict[str, Value], transaction_id: float = 0) -> Command:
    """Return an ``onStatus`` command."""
    return Command("onStatus", transaction_id, None, (information,))


def text_member(value: Value, *names: str) -> str:
    """Return the first of the members ``names`` of an object that is a string, otherwise an empty string."""
    if isinstance(value, dict):
        for name in names:
            member = value.get(name)
            if isinstance(member, str):
                return member
    return ""


def number_member(value: Value, name: str) -> float | None:
    """Return a member of an object if it is a number."""
    member = value.get(name) if isinstance(value, dict) else None
    if isinstance(member, (int, float)) and not isinstance(member, bool):
        return member
    return None
