"""Header blocks of HTTP/2 (HPACK, RFC 7541). The hpack package provides the static table and the Huffman code.

The meaning of a block depends on the dynamic table that earlier blocks have built. Browsers of one kind build the same
tables and send the same blocks, so tables are immutable values here: two connections with the same table share one
object, and with it the blocks that were decoded before. Measured, a browser's request takes 85 microseconds with
hpack's decoder and 1 if it is cached.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from hpack import HPACKError, OversizedHeaderListError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from polycast.wire.http.message import HEADER_COUNT_LIMIT, HEADERS_LIMIT, SECRETS, TARGET_LIMIT, Header, Request

# Bytes of headers, decompressed, each with the 32 bytes that RFC 9113 section 6.5.2 counts for it.
HEADER_LIST_LIMIT: Final = TARGET_LIMIT + HEADERS_LIMIT + 32 * HEADER_COUNT_LIMIT

# Fields of a block; with more, it is not decoded to its end.
_FIELD_LIMIT: Final = 2 * HEADER_COUNT_LIMIT

# Bytes of a table, with 32 more per entry (RFC 7541 section 4.1): the default that clients may use.
TABLE_SIZE: Final = 4096

# Changes of the table's size in a block: the smallest one since the previous block, and the last one (RFC 7541 section
# 4.2).
_RESIZE_LIMIT: Final = 2

# Bytes of a block that is cached. Browsers' requests have a few hundred at first, then thirty.
KNOWN_SIZE: Final = 2 * 1024

# Cached blocks, and tables.
KNOWN_LIMIT: Final = 2048

# Bytes of a coded path that is cached: all viewers of a stream request the same files at about the same time.
_SHARED_SIZE: Final = 256

_ENTRY_OVERHEAD: Final = 32
_STATIC: Final = tuple(HeaderTable.STATIC_TABLE)

# Bits of an integer after its first byte: more than any length or index in a block has.
_INTEGER_BITS: Final = 28


@lru_cache(maxsize=512)
def _decode_shared(text: bytes) -> bytes:
    return bytes(decode_huffman(text))


class Table:
    """A dynamic table. It is immutable; a block that changes it leads to another one."""

    __slots__ = ("entries", "known", "limit", "size")

    def __init__(self, entries: tuple[Header, ...], limit: int, size: int) -> None:
        self.entries = entries
        """Newest first."""
        self.limit = limit
        """Maximum bytes, as chosen by the client."""
        self.size = size
        self.known: dict[bytes, tuple[Request, Table]] = {}
        """Requests without a body by their blocks, with the tables that these lead to."""


class HeaderBlockCache:
    """Tables, and the blocks that were decoded with them. Shared by the connections of a server; requests with
    credentials are not cached."""

    def __init__(self) -> None:
        self.empty = Table((), TABLE_SIZE, 0)
        """The table of a new connection."""
        self._tables: dict[tuple[tuple[Header, ...], int], Table] = {}
        self._count = 0

    def share(self, table: Table) -> Table:
        """Return the shared table with the same content; this one if it contains credentials."""
        if any(name in SECRETS for name, _ in table.entries):
            return table
        if not table.entries and table.limit == TABLE_SIZE:
            return self.empty
        if len(self._tables) >= KNOWN_LIMIT:
            self.clear()
        return self._tables.setdefault((table.entries, table.limit), table)

    def keep(self, table: Table, block: bytes, request: Request, after: Table) -> None:
        """Cache the meaning of a block for a table."""
        if len(block) > KNOWN_SIZE or request.has_secrets:
            return
        if table is not self.empty and self._tables.get((table.entries, table.limit)) is not table:
            return  # only one connection has it
        if self._count >= KNOWN_LIMIT:
            self.clear()  # what is still requested is cached again at the next request
        self._count += 1
        table.known[block] = (request, after)

    def clear(self) -> None:
        """Clear the cache."""
        for table in (self.empty, *self._tables.values()):
            table.known = {}
        self._tables = {}
        self._count = 0


class HeaderReader:
    """Decodes the header blocks of one connection, one after the other."""

    __slots__ = ("_before", "_known", "pending", "table")

    def __init__(self, known: HeaderBlockCache) -> None:
        self._known = known
        self.table = self._before = known.empty
        """The table after the blocks so far, and before the last one."""
        self.pending: tuple[int, int, list[bytes]] | None = None
        """Stream, flags and pieces of a block that continues in the next frame."""

    def find(self, block: bytes) -> Request | None:
        """Return the request of a block that was decoded before with the same table; then `skip` or `read` the
        block."""
        found = self.table.known.get(block)
        return found[0] if found is not None else None

    def skip(self, block: bytes) -> None:
        """Continue after a block that was found."""
        self.table = self.table.known[block][1]

    def read(self, block: bytes) -> list[Header]:
        """Decode a block. Raises as `decode` does."""
        fields, table = decode(self.table, block)
        self._before = self.table
        if table is not self.table:
            self.table = self._known.share(table)
        return fields

    def keep(self, block: bytes, request: Request) -> None:
        """Cache the request of the last block, which has no body."""
        self._known.keep(self._before, block, request, self.table)

    def release(self) -> None:
        """Release memory: the connection is over."""
        self.table = self._before = self._known.empty
        self.pending = None


def decode(table: Table, block: bytes) -> tuple[list[Header], Table]:
    """Return the fields of a block, and the table after it.

    Raises HPACKError; OversizedHeaderListError, a subclass, if there are too many fields or they are too large.
    """
    reader = _BlockReader(table, block)
    try:
        fields = reader.fields()
    except IndexError:
        raise HPACKError("a truncated block, or an index that does not exist") from None
    return fields, reader.table_after(table)


class _BlockReader:
    """Decodes one block, and changes a copy of the table."""

    __slots__ = ("_data", "_entries", "_is_changed", "_limit", "_position", "_size")

    def __init__(self, table: Table, data: bytes) -> None:
        self._data = data
        self._position = 0
        self._entries = list(table.entries)
        self._limit = table.limit
        self._size = table.size
        self._is_changed = False

    def table_after(self, before: Table) -> Table:
        return Table(tuple(self._entries), self._limit, self._size) if self._is_changed else before

    def fields(self) -> list[Header]:
        """Return the fields of the block (RFC 7541 section 6)."""
        data = self._data
        fields: list[Header] = []
        total = resizes = 0
        while self._position < len(data):
            first = data[self._position]
            if first & 0x80:
                field = self._entry(self._integer(7))
            elif first & 0x40:
                field = self._literal(6)
                self._add(field)
            elif first & 0x20:
                resizes += 1
                if fields or resizes > _RESIZE_LIMIT:
                    raise HPACKError("the size of the table changes too often, or after a field")
                self._resize(self._integer(5))
                continue
            else:
                field = self._literal(4)
            fields.append(field)
            total += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
            if total > HEADER_LIST_LIMIT or len(fields) > _FIELD_LIMIT:
                raise OversizedHeaderListError("too many fields, or too large ones")
        return fields

    def _entry(self, index: int) -> Header:
        if index <= len(_STATIC):
            if index == 0:
                raise HPACKError("index 0")
            return _STATIC[index - 1]
        return self._entries[index - len(_STATIC) - 1]

    def _literal(self, bits: int) -> Header:
        index = self._integer(bits)
        name = self._entry(index)[0] if index else self._string()
        return name, self._string(is_shared=name == b":path")

    def _string(self, *, is_shared: bool = False) -> bytes:
        """Read a string; others are likely to send the same one if ``is_shared``."""
        is_coded = self._data[self._position] & 0x80
        length = self._integer(7)
        start = self._position
        self._position = end = start + length
        if end > len(self._data):
            raise HPACKError("a truncated string")
        text = self._data[start:end]
        if not is_coded:
            return text
        return _decode_shared(text) if is_shared and end - start <= _SHARED_SIZE else bytes(decode_huffman(text))

    def _integer(self, bits: int) -> int:
        """Read an integer with a prefix of ``bits`` bits (RFC 7541 section 5.1)."""
        data = self._data
        limit = (1 << bits) - 1
        value = data[self._position] & limit
        self._position += 1
        if value < limit:
            return value
        for shift in range(0, _INTEGER_BITS, 7):
            byte = data[self._position]
            self._position += 1
            value += (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise HPACKError("an integer that is too large")

    # The table (RFC 7541 section 4)

    def _add(self, field: Header) -> None:
        self._is_changed = True
        self._entries.insert(0, field)
        self._size += len(field[0]) + len(field[1]) + _ENTRY_OVERHEAD
        self._shrink()

    def _resize(self, size: int) -> None:
        if size > TABLE_SIZE:
            raise HPACKError("a table larger than agreed on")
        self._is_changed |= size != self._limit
        self._limit = size
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._limit:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _ENTRY_OVERHEAD
