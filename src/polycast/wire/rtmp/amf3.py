"""AMF3, the value format of Flash Player 9 (Action Message Format -- AMF 3, Adobe, January 2013).

Used inside AMF0 (avmplus-object) if a client connects with ``objectEncoding`` 3. Types map as in `amf0`;
byte arrays are ``bytes``, vectors are lists. Externalizable objects have private formats and are refused.
"""

from __future__ import annotations

from struct import Struct
from typing import TypeVar

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtmp.amf import MAXIMUM_DEPTH, MAXIMUM_STRING_SIZE, MAXIMUM_VALUES, Date, Value

MAXIMUM_CLASS_MEMBERS = 1_000
"""Sealed members of one class; the peer sends the count."""

_UNDEFINED, _NULL, _FALSE, _TRUE, _INTEGER, _DOUBLE_MARKER, _STRING, _XML_DOCUMENT = range(8)
_DATE, _ARRAY, _OBJECT, _XML, _BYTE_ARRAY, _VECTOR_INT, _VECTOR_UINT, _VECTOR_DOUBLE = range(8, 16)
_VECTOR_OBJECT, _DICTIONARY = 16, 17

_DOUBLE = Struct(">d")
_INT32 = Struct(">i")
_UINT32 = Struct(">I")
_VECTORS = {_VECTOR_INT: _INT32, _VECTOR_UINT: _UINT32, _VECTOR_DOUBLE: _DOUBLE}

_MAXIMUM_INTEGER = (1 << 28) - 1
_MINIMUM_INTEGER = -(1 << 28)

_T = TypeVar("_T")


def decode(data: bytes, offset: int = 0) -> list[Value]:
    """Return all values in ``data``. Raises `RemoteProtocolError` if they are not valid AMF3."""
    decoder = _Decoder(data, offset)
    values: list[Value] = []
    while decoder.position < len(data):
        values.append(decoder.value(0))
    return values


def decode_value(data: bytes, offset: int, count: int = 0) -> tuple[Value, int, int]:
    """Return the value at ``offset``, the offset after it, and ``count`` plus the number of values in it."""
    decoder = _Decoder(data, offset, count)
    value = decoder.value(0)
    return value, decoder.position, decoder.count


def encode(*values: Value) -> bytes:
    """Return ``values`` as consecutive AMF3 values, without references. Dicts become dynamic anonymous objects."""
    output = bytearray()
    for value in values:
        _encode_value(output, value)
    return bytes(output)


class _Traits:
    __slots__ = ("dynamic", "members")

    def __init__(self, members: list[str], dynamic: bool) -> None:
        self.members = members
        self.dynamic = dynamic


class _Decoder:
    __slots__ = ("_data", "_objects", "_strings", "_traits", "count", "position")

    def __init__(self, data: bytes, position: int, count: int = 0) -> None:
        self._data = data
        self.position = position
        self.count = count
        self._strings: list[str] = []
        self._objects: list[Value] = []
        self._traits: list[_Traits] = []

    def value(self, depth: int) -> Value:
        self.count += 1
        if self.count > MAXIMUM_VALUES:
            raise RemoteProtocolError(f"AMF3: more than {MAXIMUM_VALUES} values")
        if depth > MAXIMUM_DEPTH:
            raise RemoteProtocolError(f"AMF3: nested deeper than {MAXIMUM_DEPTH} levels")
        marker = self._data[self._advance(1)]
        if marker in (_UNDEFINED, _NULL):
            return None
        if marker in (_FALSE, _TRUE):
            return marker == _TRUE
        if marker == _INTEGER:
            integer = self._integer()
            return integer - (1 << 29) if integer > _MAXIMUM_INTEGER else integer
        if marker == _DOUBLE_MARKER:
            number: float = _DOUBLE.unpack_from(self._data, self._advance(8))[0]
            return number
        if marker == _STRING:
            return self._string()
        return self._complex(marker, depth)

    def _complex(self, marker: int, depth: int) -> Value:
        """Decode types with a reference table; the lowest bit of the header distinguishes values from references."""
        if marker > _DICTIONARY:
            raise RemoteProtocolError(f"AMF3: unsupported type {marker}")
        header = self._integer()
        if not header & 1:
            return _entry(self._objects, header >> 1)
        size = header >> 1
        if marker == _DATE:
            return self._remember(Date(_DOUBLE.unpack_from(self._data, self._advance(8))[0]))
        if marker in (_XML, _XML_DOCUMENT, _BYTE_ARRAY):
            position = self._advance(size)
            data = bytes(self._data[position : position + size])
            return self._remember(data if marker == _BYTE_ARRAY else str(data, "utf-8", "replace"))
        if marker == _ARRAY:
            return self._array(size, depth)
        if marker == _OBJECT:
            return self._object(header, depth)
        if marker == _DICTIONARY:
            return self._dictionary(size, depth)
        return self._vector(marker, size, depth)

    def _advance(self, size: int) -> int:
        position = self.position
        if position + size > len(self._data):
            raise RemoteProtocolError("AMF3: truncated value")
        self.position = position + size
        return position

    def _integer(self) -> int:
        """Section 1.3.1: up to four bytes with 7 bits each, the fourth with 8."""
        value = 0
        for _ in range(3):
            byte = self._data[self._advance(1)]
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                return value
        return value << 8 | self._data[self._advance(1)]

    def _string(self) -> str:
        header = self._integer()
        if not header & 1:
            return _entry(self._strings, header >> 1)
        size = header >> 1
        if size > MAXIMUM_STRING_SIZE:
            raise RemoteProtocolError(f"AMF3: string of {size} bytes (the limit is {MAXIMUM_STRING_SIZE})")
        position = self._advance(size)
        text = str(self._data[position : position + size], "utf-8", "replace")
        if text:
            self._strings.append(text)
        return text

    def _remember(self, value: Value) -> Value:
        self._objects.append(value)
        return value

    def _check_count(self, count: int, size: int) -> None:
        if count * size > len(self._data) - self.position:
            raise RemoteProtocolError("AMF3: array longer than its message")

    def _members(self, members: dict[str, Value], depth: int) -> None:
        while key := self._string():
            members[key] = self.value(depth + 1)

    def _array(self, count: int, depth: int) -> Value:
        """Section 3.11: named members first, then the dense part. With named members, it becomes a dict."""
        self._check_count(count, 1)
        slot = len(self._objects)
        dense: list[Value] = []
        self._objects.append(dense)
        members: dict[str, Value] = {}
        self._members(members, depth)
        for _ in range(count):
            dense.append(self.value(depth + 1))
        if not members:
            return dense
        members.update((str(index), item) for index, item in enumerate(dense))
        self._objects[slot] = members
        return members

    def _object(self, header: int, depth: int) -> Value:
        traits = self._read_traits(header)
        members: dict[str, Value] = {}
        self._objects.append(members)
        for name in traits.members:
            members[name] = self.value(depth + 1)
        if traits.dynamic:
            self._members(members, depth)
        return members

    def _read_traits(self, header: int) -> _Traits:
        if not header & 2:
            return _entry(self._traits, header >> 2)
        if header & 4:
            raise RemoteProtocolError("AMF3: externalizable objects are not supported")
        count = header >> 4
        if count > MAXIMUM_CLASS_MEMBERS:
            raise RemoteProtocolError(f"AMF3: class with {count} members (the limit is {MAXIMUM_CLASS_MEMBERS})")
        self._string()  # the class name
        traits = _Traits([self._string() for _ in range(count)], bool(header & 8))
        self._traits.append(traits)
        return traits

    def _vector(self, marker: int, count: int, depth: int) -> Value:
        self._advance(1)  # whether its length is fixed
        vector: list[Value] = []
        self._objects.append(vector)
        item = _VECTORS.get(marker)
        if item is None:
            self._string()  # the type's name
            self._check_count(count, 1)
            vector.extend(self.value(depth + 1) for _ in range(count))
        else:
            self._check_count(count, item.size)
            position = self._advance(item.size * count)
            vector.extend(value for (value,) in item.iter_unpack(self._data[position : self.position]))
        return vector

    def _dictionary(self, count: int, depth: int) -> Value:
        self._advance(1)  # whether its keys are weak
        self._check_count(count, 2)
        members: dict[str, Value] = {}
        self._objects.append(members)
        for _ in range(count):
            key = self.value(depth + 1)
            members[key if isinstance(key, str) else type(key).__name__] = self.value(depth + 1)
        return members


def _entry(table: list[_T], index: int) -> _T:
    if index >= len(table):
        raise RemoteProtocolError("AMF3: reference to a value that does not exist")
    return table[index]


def _encode_integer(output: bytearray, value: int) -> None:
    if value < 0x80:
        output.append(value)
    elif value < 0x4000:
        output += bytes((value >> 7 | 0x80, value & 0x7F))
    elif value < 0x200000:
        output += bytes((value >> 14 | 0x80, value >> 7 & 0x7F | 0x80, value & 0x7F))
    else:
        output += bytes((value >> 22 & 0x7F | 0x80, value >> 15 & 0x7F | 0x80, value >> 8 & 0x7F | 0x80, value & 0xFF))


def _encode_string(output: bytearray, text: str) -> None:
    data = text.encode("utf-8", "replace")
    _encode_integer(output, len(data) << 1 | 1)
    output += data


def _encode_value(output: bytearray, value: Value) -> None:
    if value is None:
        output.append(_NULL)
    elif isinstance(value, bool):
        output.append(_TRUE if value else _FALSE)
    elif isinstance(value, int) and _MINIMUM_INTEGER <= value <= _MAXIMUM_INTEGER:
        output.append(_INTEGER)
        _encode_integer(output, value & 0x1FFFFFFF)
    elif isinstance(value, (int, float)):
        output.append(_DOUBLE_MARKER)
        output += _DOUBLE.pack(value)
    elif isinstance(value, str):
        output.append(_STRING)
        _encode_string(output, value)
    elif isinstance(value, bytes):
        output.append(_BYTE_ARRAY)
        _encode_integer(output, len(value) << 1 | 1)
        output += value
    elif isinstance(value, Date):
        output += bytes((_DATE, 1))
        output += _DOUBLE.pack(value.milliseconds)
    elif isinstance(value, list):
        output.append(_ARRAY)
        _encode_integer(output, len(value) << 1 | 1)
        output.append(1)  # no named members
        for item in value:
            _encode_value(output, item)
    elif isinstance(value, dict):
        output += b"\x0a\x0b\x01"  # object, dynamic traits without sealed members, no class name
        for key, item in value.items():
            if key:
                _encode_string(output, key)
                _encode_value(output, item)
        output.append(1)
    else:
        raise LocalProtocolError(f"AMF3 cannot carry {type(value).__name__}")
