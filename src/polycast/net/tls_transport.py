"""TLS over the plain transport of an incoming or outgoing connection.

The event loops have their own. Measured with a thousand connections on uvloop, theirs takes twice the time of OpenSSL
and the socket for a small write, raises an exception for each read, and disconnects a slow client a fixed time after
the connection began to close, even if data is still queued for it.

Data is encrypted as soon as it is written, and queued in the plain transport if necessary. So limits and queue sizes
are bytes on the wire: up to 29 more for each record (RFC 8446 section 5.2, RFC 5246 section 6.2.3.3) than were written.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from polycast.net.lingering import LingeringClose
from polycast.net.work import LONGEST_SECONDS, READ_SIZE, SHARE, SLICE_SECONDS, work_queue_of

RECORD_SIZE: Final = 16 * 1024
"""Maximum bytes of data in a TLS record (RFC 8446 section 5.1). OpenSSL accepts and returns no more than that at
once."""


RECORD_LIMIT: Final = RECORD_SIZE + 2048
"""Maximum bytes of an encrypted record after its header (RFC 5246 section 6.2.3); OpenSSL refuses a longer one."""

RECORDS_AT_ONCE: Final = 16
"""Records passed to OpenSSL at once. It processes all records without data, such as key updates, which take ten
microseconds each, before it returns."""

UNREAD_SIZE: Final = 64 * 1024
"""Bytes that may be queued, in addition to twice the protocol's limit, for a client that makes OpenSSL answer."""

_HEADER_SIZE: Final = 5
_CONTENT_TYPES: Final = range(20, 24)


def end_of_records(data: bytes, position: int) -> int:
    """Return where the last of the next `RECORDS_AT_ONCE` whole records ends (RFC 8446 section 5.1)."""
    size = len(data)
    for _ in range(RECORDS_AT_ONCE):
        body = position + _HEADER_SIZE
        if position < size and data[position] not in _CONTENT_TYPES:
            return size  # OpenSSL says what is wrong
        if body > size:
            break
        length = data[body - 2] << 8 | data[body - 1]
        if length > RECORD_LIMIT:
            return size
        if body + length > size:
            break
        position = body + length
    return position


def _records(pieces: list[bytes | bytearray | memoryview]) -> Iterator[bytes | memoryview]:
    """Split data into full records and a last one; only records that span several pieces are copied."""
    gathered: list[memoryview] = []
    missing = RECORD_SIZE
    for piece in pieces:
        rest = memoryview(piece)
        while len(rest) >= missing:
            head, rest = rest[:missing], rest[missing:]
            yield b"".join((*gathered, head)) if gathered else head
            gathered.clear()
            missing = RECORD_SIZE
        if rest:
            gathered.append(rest)
            missing -= len(rest)
    if gathered:
        yield b"".join(gathered)


class _NullProtocol(asyncio.Protocol):
    """Replaces the protocol of a lost connection, so that the two do not keep each other in memory."""


_NOBODY: Final = _NullProtocol()


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """A connection after its handshake: the transport of ``protocol``, and the protocol of the plain transport.

    `data_received` of the protocol is called once for the data of one read of the socket, or for as much of it as can
    be decrypted in a slice (see `net.work`).

    ``ssl_object`` reads from ``incoming`` and writes to ``outgoing``. `close` sends the queued data first, however long
    that takes; `abort` does not wait. After that, the client has ``shutdown_timeout`` seconds to close its side as
    well (see `net.lingering`).
    """

    __slots__ = (
        "_decrypt",
        "_encrypt",
        "_error",
        "_has_ended",
        "_held",
        "_incoming",
        "_is_closing",
        "_is_paused",
        "_is_queued",
        "_loop",
        "_outgoing",
        "_plain",
        "_protocol",
        "_queue",
        "_send",
        "_shutdown_timeout",
        "_ssl_object",
        "_take",
        "_used_until",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plain: asyncio.Transport,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        protocol: asyncio.Protocol,
        shutdown_timeout: float,
        received: bytes = b"",
    ) -> None:
        """``received`` is the data that followed the handshake."""
        super().__init__()
        self._loop = loop
        self._plain = plain
        self._ssl_object = ssl_object
        self._incoming = incoming
        self._outgoing = outgoing
        self._protocol = protocol
        self._shutdown_timeout = shutdown_timeout
        self._encrypt = ssl_object.write
        self._decrypt = ssl_object.read
        self._take = outgoing.read
        self._send = plain.write
        self._error: Exception | None = None
        """Why the connection was aborted on this side."""
        self._has_ended = False
        """Whether the client has ended its side, in TLS or TCP."""
        self._is_closing = False
        self._is_paused = False
        """Whether the protocol has paused reading."""
        self._queue = work_queue_of(loop)
        self._is_queued = False
        """Whether records wait for a slice."""
        self._held = received
        """Data not passed to OpenSSL yet: less than a record, unless reading is paused or records wait for a slice."""
        self._used_until = 0.0
        """Time until which its share of the loop is used up."""

    def start(self) -> None:
        """Hand the connection to the protocol."""
        self._plain.set_protocol(self)
        self._protocol.connection_made(self)
        self._resume()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # asyncio.Transport: writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        size = len(data)
        if size > RECORD_SIZE:
            self._write_records([data])
            return
        try:
            written = self._encrypt(data)
            if written < size:
                self._encrypt_rest(data, written)
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._send(self._take())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        pieces = list(list_of_data)
        if sum(map(len, pieces)) <= RECORD_SIZE:
            self.write(b"".join(pieces))
        elif not self._is_closing:
            self._write_records(pieces)

    def _write_records(self, pieces: list[bytes | bytearray | memoryview]) -> None:
        encrypted: list[bytes] = []
        try:
            for record in _records(pieces):
                written = self._encrypt(record)
                if written < len(record):
                    self._encrypt_rest(record, written)
                # One by one: for each connection, `outgoing` keeps as much memory as it has ever held.
                encrypted.append(self._take())
        except ssl.SSLError as error:
            self._fail(error)
        else:
            plain = self._plain
            plain.writelines(encrypted)
            if plain.get_write_buffer_size():
                # asyncio before 3.12.9 and 3.13.2 ignores its limits in writelines (CVE-2024-12254).
                low, high = plain.get_write_buffer_limits()
                plain.set_write_buffer_limits(high, low)

    def _encrypt_rest(self, data: bytes | bytearray | memoryview, written: int) -> None:
        """Encrypt the rest for a client that wants short records (RFC 6066 section 4); OpenSSL takes one at a time."""
        view = memoryview(data)
        while written < len(view):
            written += self._encrypt(view[written:])

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if not self._is_closing:
            self._plain.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._plain.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are queued, counted as they go over the wire."""
        return self._plain.get_write_buffer_size()

    # asyncio.Transport: reading

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        self._is_paused = True
        if not self._is_closing:
            self._plain.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_closing:
            if self._held or self._has_ended:
                if not self._is_queued:
                    self._enqueue()
            else:
                self._plain.resume_reading()
        self._is_paused = False

    # asyncio.Transport: the rest

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._ssl_object
        if name == "sslcontext":
            return self._ssl_object.context
        if name == "cipher":
            return self._ssl_object.cipher()
        if name == "compression":
            return self._ssl_object.compression()
        if name == "peercert":
            return self._ssl_object.getpeercert()
        return self._plain.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._is_closing or self._plain.is_closing()

    def close(self) -> None:
        if self._is_closing:
            return
        try:
            self._ssl_object.unwrap()
        except ssl.SSLError:
            pass  # usually because the client's close_notify has not arrived yet
        self._end()

    def _end(self) -> None:
        """Close the plain transport after the last bytes, which OpenSSL has ready."""
        self._is_closing = True
        self._held = b""
        plain = self._plain
        self._send_output()
        if self._has_ended or plain.is_closing():
            plain.close()
        else:
            LingeringClose(plain, self, self._loop, self._shutdown_timeout)

    def _send_output(self) -> None:
        """Send what OpenSSL has ready, unless the connection is lost."""
        data = self._take()
        if data and not self._plain.is_closing():
            self._send(data)

    def abort(self) -> None:
        self._is_closing = True
        self._plain.abort()

    def _fail(self, error: Exception) -> None:
        if self._is_closing:
            return
        self._error = error
        if isinstance(error, ssl.SSLError):
            self._end()  # after the alert that tells the client
        else:
            self.abort()

    # asyncio.Protocol of the plain transport. It is not a BufferedProtocol: uvloop already reads into one buffer for
    # all
    # connections, and two calls and a slice for each read would take longer than the copy.

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        self._held = self._held + data if self._held else data
        if self._is_paused or self._is_queued:
            return
        if self._used_until > time.monotonic() + self._queue.lead or self._read() or len(data) >= READ_SIZE:
            self._enqueue()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._resume()
        return True  # `close` closes the plain transport after the last bytes

    def pause_writing(self) -> None:
        if not self._is_closing:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if not self._is_closing:
            self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        protocol, self._protocol = self._protocol, _NOBODY
        protocol.connection_lost(self._error or exc)

    # Reading

    def _resume(self) -> None:
        if not self._is_paused and not self._is_closing and not self._is_queued and self._read():
            self._enqueue()

    def _enqueue(self) -> None:
        if not self._is_closing:
            self._is_queued = True
            self._plain.pause_reading()
            self._queue.add(self)

    def work(self) -> bool:
        """Called by the work queue for one slice."""
        has_more = False
        if not self._is_paused and not self._is_closing:
            try:
                has_more = self._read()
            except Exception as error:  # the plain transport does the same with exceptions from data_received
                message = "the protocol of a TLS connection failed"
                self._loop.call_exception_handler({"message": message, "exception": error, "transport": self})
                self._fail(error)
        self._is_queued = has_more
        if not has_more and not self._is_paused and not self._is_closing:
            self._plain.resume_reading()
        return has_more

    def _read(self) -> bool:
        """Decrypt the available records and pass on their data, for one slice; return whether more are left."""
        held = self._held
        received: list[bytes] = []
        error: ssl.SSLError | None = None
        began = now = time.monotonic()
        slice_end = began + SLICE_SECONDS
        position = 0
        while not self._has_ended and (end := end_of_records(held, position)) > position:
            self._incoming.write(held if end - position == len(held) else held[position:end])
            position = end
            try:
                self._decrypt_all(received)
            except ssl.SSLError as failure:
                error = failure
                break
            now = time.monotonic()
            if now >= slice_end:
                break
        self._held = held[position:]
        self._used_until = max(self._used_until, began) + min(now - began, LONGEST_SECONDS) / SHARE
        if received:
            self._protocol.data_received(received[0] if len(received) == 1 else b"".join(received))
        self._after_read(error)
        return end_of_records(self._held, 0) > 0 and not self._is_paused and not self._is_closing

    def _decrypt_all(self, received: list[bytes]) -> None:
        incoming, decrypt = self._incoming, self._decrypt
        try:
            while incoming.pending:  # otherwise each read would end in an exception
                data = decrypt(RECORD_SIZE)
                if not data:
                    self._has_ended = True
                    break
                received.append(data)
        except ssl.SSLWantReadError:
            pass  # the last record was a message of TLS itself

    def _after_read(self, error: ssl.SSLError | None) -> None:
        if self._outgoing.pending:
            self._send_output()  # the answer to a key update
            plain = self._plain
            if plain.get_write_buffer_size() > 2 * plain.get_write_buffer_limits()[1] + UNREAD_SIZE:
                self._fail(ConnectionAbortedError("the other side does not read the answers of TLS"))
        if error is not None:
            self._fail(error)
        elif self._has_ended and not self._is_paused and not self._is_closing:
            self._protocol.eof_received()
            self.close()
