"""A client's connection: HTTP/1.1 or HTTP/2, plain or in TLS, and the responses that leave over it."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from polycast.errors import RemoteProtocolError
from polycast.net.address import join_host_port, peer_of
from polycast.net.http.transaction import HttpHost, Transaction
from polycast.net.losses import describe_loss
from polycast.wire.http.http1 import Http1Connection
from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.http2_frames import PREFACE
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

# Bytes that wait for a slow client; the rest of what it asked for is handed over as it takes them, and until then
# stays in the muxer's memory, of which all clients share one copy.
QUEUE_LIMIT: Final = 256 * 1024

# Bytes handed to the transport at once.
WRITE_SIZE: Final = 128 * 1024

# Bytes that are taken in at once: a few requests. A client may send thousands in a row, which must not all be read
# before the first is answered.
RECEIVE_SIZE: Final = 4 * 1024

# Seconds in which a client must take WRITE_SIZE of what waits for it, or all of it: 52 kbit/s.
STALL_TIMEOUT = 20.0

# Seconds without a request after which a connection is closed. Players ask at least once per segment.
IDLE_TIMEOUT = 120.0

# Seconds for the last bytes to leave a connection that is being closed.
CLOSE_GRACE = 2.0


class HttpConnection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, server: HttpHost) -> None:
        self.server = server
        self.peer: tuple[str, int] = ("", 0)
        self._engine: Http1Connection | Http2Connection | None = None
        """None until the first bytes tell the version."""
        self._first_bytes = b""
        self._unread = b""
        """What came while the engine had enough."""
        self._transactions: dict[int, Transaction] = {}
        self._is_processing = False
        self._is_write_paused = False
        self._is_read_paused = False
        self._is_closing = False
        self._reason = ""
        self._last_request = server.now()
        self._has_requested = False
        self._incomplete_since: float | None = None
        self._written = 0
        self._stalled_since: float | None = None
        self._drained_then = 0
        self._closed_since: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=QUEUE_LIMIT, low=QUEUE_LIMIT // 2)
        self.peer = peer_of(transport.get_extra_info("peername"))
        self.log = self.server.log.child(f"conn {join_host_port(*self.peer)}")
        encryption = transport.get_extra_info("ssl_object")
        if encryption is not None:
            self._engine = self._make_engine(is_http2=encryption.selected_alpn_protocol() == "h2")
        self.server.add_connection(self)
        self.log.debug("opened")
        if self._engine is not None:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._cancel_all()
        self.server.remove_connection(self)
        self.log.debug("closed (%s)", self._reason or describe_loss(exc))

    def eof_received(self) -> bool:
        self._reason = self._reason or "closed by the client"
        engine = self._engine
        if self._is_closing or engine is None or not engine.is_sending or not self.transport.can_write_eof():
            return False
        engine.shut_down()  # it may have ended only its own side, and still read
        return True

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if not self._is_closing:
            self._process()

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        if self._unread or len(data) > RECEIVE_SIZE:
            self._unread += data
            self._read_on()
        else:
            self._receive(data)

    def _read_on(self) -> None:
        """Take what has come piece by piece, for as long as the engine has room."""
        while self._unread and not (self._is_read_paused or self._is_closing):
            piece, self._unread = self._unread[:RECEIVE_SIZE], self._unread[RECEIVE_SIZE:]
            self._receive(piece)

    def _receive(self, data: bytes) -> None:
        engine = self._engine
        if engine is None:
            data = self._first_bytes + data
            self._first_bytes = data
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                return
            engine = self._engine = self._make_engine(is_http2=data.startswith(PREFACE))
            self._first_bytes = b""
        try:
            engine.receive_data(data)
        except RemoteProtocolError as error:
            reason = f"invalid data: {error}"
            self._reason = self._reason or reason
            self._process()
            self.close(reason)
        except Exception:
            self.server.on_internal_error()
            self.abort("internal error")
        else:
            self._process()

    def _make_engine(self, *, is_http2: bool) -> Http1Connection | Http2Connection:
        return Http2Connection() if is_http2 else Http1Connection(self.server.known_requests)

    # Requests

    def _process(self) -> None:
        """Begin to answer what has come; an answer that is there at once may let the next request begin."""
        engine = self._engine
        if self._is_processing or engine is None:
            return
        self._is_processing = True
        try:
            while engine.has_work and not self._is_closing:
                event = engine.next_event()
                if event is None:
                    self._send()  # which may be what the next request waits for
                    event = engine.next_event()
                    if event is None:
                        break
                if isinstance(event, Request):
                    self._last_request = now = self.server.now()
                    self._has_requested = True
                    transaction = self._transactions[event.stream] = Transaction(self, event, now)
                    self.server.handler.handle(transaction)
                elif event.stream in self._transactions:
                    self._transactions.pop(event.stream).cancel()
        finally:
            self._is_processing = False
        if self._is_read_paused or engine.events:
            self._limit_reading(engine.is_full)

    def _limit_reading(self, is_full: bool) -> None:
        if is_full != self._is_read_paused and not self._is_closing:
            self._is_read_paused = is_full
            if is_full:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
                if self._unread:
                    self.server.loop.call_soon(self._read_on)

    def _cancel_all(self) -> None:
        transactions = list(self._transactions.values())
        self._transactions.clear()
        for transaction in transactions:
            transaction.cancel()

    def respond(self, transaction: Transaction, response: Response) -> None:
        """Send the answer to a request; nothing when the client has gone."""
        request = transaction.request
        engine = self._engine
        if engine is None or self._transactions.pop(request.stream, None) is not transaction:
            return
        is_head = request.method == "HEAD"
        date = self.server.date()
        if self._is_write_paused:
            engine.respond(request.stream, response, date, head=is_head)
            return
        whole = engine.respond_at_once(request.stream, response, date, head=is_head)
        if whole:
            self._written += len(whole)
            self.transport.write(whole)
        elif not self._is_processing:
            self._send()
        if engine.events and not self._is_processing:
            self._process()

    def _send(self) -> None:
        engine = self._engine
        if engine is None:
            return
        transport = self.transport
        while not self._is_write_paused:
            pieces = engine.take(WRITE_SIZE)
            if not pieces:
                break
            if len(pieces) == 1:
                size = len(pieces[0])
                transport.write(pieces[0])
            else:
                size = sum(map(len, pieces))
                transport.writelines(pieces)
            self._written += size
            if size < WRITE_SIZE:
                break
        if engine.is_finished and not self._is_closing:
            if not self._is_write_paused:
                transport.set_write_buffer_limits(high=1)  # paused until all has gone
            if not self._is_write_paused:
                self._end("closed after the last answer")

    # Life

    def tick(self, now: float) -> None:
        """Called about once a second: time-outs and clients that take nothing."""
        if self._closed_since is not None:
            if now - self._closed_since >= CLOSE_GRACE:
                self.transport.abort()
            return
        if self._has_stalled(now):
            self.abort("the client does not take its answer")
            return
        timeout = self.server.read_timeout
        engine = self._engine
        # A head that is cut where we stopped reading is not the client's fault.
        is_waiting = self._is_read_paused or bool(self._unread)
        is_incomplete = engine is None or (engine.is_incomplete and not is_waiting)
        if is_incomplete or not self._has_requested:
            if self._incomplete_since is None:
                self._incomplete_since = now
            elif now - max(self._incomplete_since, self._last_request) >= timeout:
                self.close("no request received in time")
            return
        self._incomplete_since = None
        if not self._transactions and now - self._last_request >= IDLE_TIMEOUT and self._stalled_since is None:
            self.close("no request in a while")

    def _has_stalled(self, now: float) -> bool:
        waiting = self.transport.get_write_buffer_size()
        drained = self._written - waiting
        if waiting == 0 and (self._engine is None or not self._engine.is_sending):
            self._stalled_since = None
        elif self._stalled_since is None or drained - self._drained_then >= WRITE_SIZE:
            self._stalled_since = now
            self._drained_then = drained
        else:
            return now - self._stalled_since >= STALL_TIMEOUT
        return False

    def close(self, reason: str) -> None:
        """Close once everything queued was sent; requests that are not answered are given up."""
        if self._is_closing:
            return
        self._reason = self._reason or reason
        self._cancel_all()
        if self._engine is not None:
            self._engine.shut_down()
            self._send()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._reason = self._reason or reason
        self._closed_since = self.server.now()
        if self._engine is None or not self._engine.is_discarding or not self.transport.can_write_eof():
            self.transport.close()
            return
        # Closed at once, the kernel would answer what still comes with a reset, which may cost the client its answer.
        self.transport.write_eof()
        if self._is_read_paused:
            self.transport.resume_reading()

    def abort(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        self._is_closing = True
        self._reason = self._reason or reason
        self.transport.abort()
