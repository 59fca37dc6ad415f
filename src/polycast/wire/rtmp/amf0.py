"""AMF0, the value format of RTMP commands and metadata (Action Message Format -- AMF 0, Adobe, December 2007).

Types map to Python's: number is ``float``, object and ECMA array are ``dict``, strict array is ``list``, null and
undefined are ``None``, date is `amf.Date`. A value of type avmplus-object continues in AMF3 (section 3.1).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from struct import Struct

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp import amf3
from polycast.wire.rtmp.amf import MAXIMUM_DEPTH, MAXIMUM_STRING_SIZE, MAXIMUM_VALUES, Date, Value

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _MOVIE_CLIP, _NULL, _UNDEFINED, _REFERENCE = range(8)
_ECMA_ARRAY, _OBJECT_END, _STRICT_ARRAY, _DATE, _LONG_STRING, _UNSUPPORTED, _RECORD_SET, _XML = range(8, 16)
_TYPED_OBJECT, _AVM_PLUS = 16, 17

_NUMBER_SIZE = 9
"""Bytes of a number with its marker."""

_DOUBLE = Struct(">d")
_UINT16 = Struct(">H")
_UINT32 = Struct(">I")


def decode(data: bytes, offset: int = 0) -> list[Value]:
    """Return all values in ``data`` from ``offset`` on. Raises `RemoteProtocolError` if they are not valid AMF0."""
    return _Decoder(data, offset).values()


def encode(*values: Value) -> bytes:
    """Return ``values`` as consecutive AMF0 values. Integers become numbers, dicts become objects."""
    output = bytearray()
    for value in values:
        _encode_value(output, value)
    return bytes(output)


class EcmaArray(dict[str, Value]):
    """A dict that is written as an ECMA array, as is usual for ``onMetaData``; it is read as a plain dict."""


class _Decoder:
    __slots__ = ("_count", "_data", "_position", "_references")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._count = 0
        self._references: list[Value] = []

    def values(self) -> list[Value]:
        values: list[Value] = []
        size = len(self._data)
        while self._position < size:
            values.append(self._value(0))
        return values

    def _advance(self, size: int) -> int:
        """Return the current position and advance by ``size`` bytes."""
        position = self._position
        if position + size > len(self._data):
            raise RemoteProtocolError("AMF0: truncated value")
        self._position = position + size
        return position

    def _value(self, depth: int) -> Value:
        self._count += 1
        if self._count > MAXIMUM_VALUES:
            raise RemoteProtocolError(f"AMF0: more than {MAXIMUM_VALUES} values")
        if depth > MAXIMUM_DEPTH:
            raise RemoteProtocolError(f"AMF0: nested deeper than {MAXIMUM_DEPTH} levels")
        marker = self._data[self._advance(1)]
        if marker == _NUMBER:
            number: float = _DOUBLE.unpack_from(self._data, self._advance(8))[0]
            return number
        if marker == _STRING:
            return self._string(_UINT16)
        if marker == _BOOLEAN:
            return self._data[self._advance(1)] != 0
        if marker in (_NULL, _UNDEFINED, _UNSUPPORTED):
            return None
        return self._compound(marker, depth)

    def _compound(self, marker: int, depth: int) -> Value:
        if marker == _OBJECT:
            return self._members(depth)
        if marker == _ECMA_ARRAY:
            self._advance(4)  # the count is a hint; many writers send 0
            return self._members(depth)
        if marker == _TYPED_OBJECT:
            self._string(_UINT16)
            return self._members(depth)
        if marker == _STRICT_ARRAY:
            return self._strict_array(depth)
        if marker in (_LONG_STRING, _XML):
            return self._string(_UINT32)
        if marker == _DATE:
            return Date(_DOUBLE.unpack_from(self._data, self._advance(10))[0])
        if marker == _REFERENCE:
            index: int = _UINT16.unpack_from(self._data, self._advance(2))[0]
            if index >= len(self._references):
                raise RemoteProtocolError("AMF0: reference to a value that does not exist")
            return self._references[index]
        if marker == _AVM_PLUS:
            value, self._position, self._count = amf3.decode_value(self._data, self._position, self._count)
            return value
        raise RemoteProtocolError(f"AMF0: unsupported type {marker}")

    def _string(self, length: Struct) -> str:
        size = length.unpack_from(self._data, self._advance(length.size))[0]
        if size > MAXIMUM_STRING_SIZE:
            raise RemoteProtocolError(f"AMF0: string of {size} bytes (the limit is {MAXIMUM_STRING_SIZE})")
        position = self._advance(size)
        return str(self._data[position : position + size], "utf-8", "replace")

    def _members(self, depth: int) -> dict[str, Value]:
        members: dict[str, Value] = {}
        self._references.append(members)
        while True:
            key = self._string(_UINT16)
            if not key and self._data[self._position : self._position + 1] == b"\x09":
                self._position += 1
                return members
            # Some writers omit the end marker at the end of the message.
            if not key and self._position == len(self._data):
                return members
            members[key] = self._value(depth + 1)

    def _strict_array(self, depth: int) -> list[Value]:
        count = _UINT32.unpack_from(self._data, self._advance(4))[0]
        if count > len(self._data) - self._position:
            raise RemoteProtocolError("AMF0: array longer than its message")
        items: list[Value] = []
        self._references.append(items)
        if not self._decode_numbers(count, items):
            for _ in range(count):
                items.append(self._value(depth + 1))
        return items

    def _decode_numbers(self, count: int, items: list[Value]) -> bool:
        """Decode ``count`` values at once if all of them are numbers; return whether they are."""
        start, end = self._position, self._position + count * _NUMBER_SIZE
        if end > len(self._data) or self._data[start:end:_NUMBER_SIZE].count(_NUMBER) != count:
            return False
        body = bytearray(self._data[start:end])
        del body[::_NUMBER_SIZE]
        numbers = array("d", bytes(body))
        if sys.byteorder == "little":
            numbers.byteswap()
        items.extend(numbers)
        self._position = end
        return True


def _encode_value(output: bytearray, value: Value) -> None:
    if value is None:
        output.append(_NULL)
    elif isinstance(value, bool):
        output += bytes((_BOOLEAN, value))
    elif isinstance(value, (int, float)):
        output.append(_NUMBER)
        output += _DOUBLE.pack(value)
    elif isinstance(value, str):
        data = value.encode("utf-8", "replace")
        if len(data) > 0xFFFF:
            output.append(_LONG_STRING)
            output += _UINT32.pack(len(data))
        else:
            output.append(_STRING)
            output += _UINT16.pack(len(data))
        output += data
    elif isinstance(value, Date):
        output.append(_DATE)
        output += _DOUBLE.pack(value.milliseconds) + b"\x00\x00"
    elif isinstance(value, list):
        _encode_array(output, value)
    elif isinstance(value, EcmaArray):
        output.append(_ECMA_ARRAY)
        output += _UINT32.pack(len(value))
        _encode_members(output, value)
    elif isinstance(value, dict):
        output.append(_OBJECT)
        _encode_members(output, value)
    else:
        raise LocalProtocolError(f"AMF0 cannot carry {type(value).__name__}")


def _encode_array(output: bytearray, values: Iterable[Value]) -> None:
    items = list(values)
    output.append(_STRICT_ARRAY)
    output += _UINT32.pack(len(items))
    for item in items:
        _encode_value(output, item)


def _encode_members(output: bytearray, members: Mapping[str, Value]) -> None:
    for key, value in members.items():
        name = key.encode("utf-8", "replace")
        output += _UINT16.pack(len(name))
        output += name
        _encode_value(output, value)
    output += b"\x00\x00\x09"
