"""A client's connection, HTTP/1.1 or HTTP/2, plain or TLS, and the responses sent over it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.net.address import join_host_port, peer_of
from polycast.net.http.transaction import HttpHost, Transaction
from polycast.net.tcp import TcpConnection
from polycast.security.addresses import IPNetwork
from polycast.wire.http.http1 import Http1Connection
from polycast.wire.http.http2 import Http2Connection
from polycast.wire.http.http2_frames import PREFACE
from polycast.wire.http.message import Request
from polycast.wire.http.response import Response

# Bytes queued for a slow client; the rest of the responses follows as the client accepts data, and until then stays
# in memory that all clients share.
QUEUE_LIMIT: Final = 256 * 1024

# Bytes handed to the transport at once.
WRITE_SIZE: Final = 128 * 1024

# Bytes passed to the engine at once: a few requests. A client may send thousands in a row, which must not all be read
# before the first is answered.
RECEIVE_SIZE: Final = 2 * 1024

# Bytes of a streamed response that may be queued before its handler has to wait.
STREAM_LIMIT: Final = 64 * 1024

# Seconds in which a client must accept WRITE_SIZE bytes, or all that is queued: 52 kbit/s.
STALL_TIMEOUT = 20.0

# Seconds without a request after which a connection is closed. Players send one at least once per segment.
IDLE_TIMEOUT = 120.0

# Two or more words that are not a request line of HTTP/1.1: neither a method nor a version.
_OTHER_PREFACE: Final = re.compile(
    rb"(?!(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|CONNECT|TRACE) )[A-Z]+ [^\r\n]*(?<! HTTP/\d\.\d)\r\n"
)

Engine = Http1Connection | Http2Connection


class HttpConnection(TcpConnection):
    """A client's connection."""

    def __init__(self, server: HttpHost) -> None:
        super().__init__(server.loop, server.log, server.now)
        self.server = server
        self._engine: Engine | None = None
        """None until the first bytes show the version."""
        self._unread = b""
        """Data not passed to the engine yet."""
        self._transactions: dict[int, Transaction] = {}
        """Requests that are being answered, by stream."""
        self._draining: list[Transaction] = []
        """Streamed responses whose handlers wait until the client has accepted more."""
        self._is_working = False
        self._is_write_paused = False
        self._is_shutting_down = False
        """Whether to close after the responses in progress."""
        self._watch = _Watch(server.now())

    # TcpConnection

    @property
    def held_size(self) -> int:
        bodies = sum(len(transaction.request.body) for transaction in self._transactions.values())
        return len(self._unread) + bodies + (self._engine.held_size if self._engine is not None else 0)

    def on_connected(self) -> None:
        self.transport.set_write_buffer_limits(high=QUEUE_LIMIT, low=QUEUE_LIMIT // 2)
        self.log = self.server.log.child(f"conn {join_host_port(*self.peer)}")
        encryption = self.transport.get_extra_info("ssl_object")
        if encryption is not None:
            self._engine = self._make_engine(is_http2=encryption.selected_alpn_protocol() == "h2")
        self.server.add_connection(self)
        self.log.debug("opened")
        if self._engine is not None:
            self._send(self._engine)

    def on_closing(self, reason: str) -> None:
        transactions = list(self._transactions.values())
        self._transactions.clear()
        self._draining.clear()
        self._unread = b""
        for transaction in transactions:
            transaction.cancel()

    def on_lost(self, reason: str) -> None:
        if self._engine is not None:
            self._engine.release()
        self.server.remove_connection(self)
        self.log.debug("closed (%s)", reason)

    def on_internal_error(self) -> None:
        self.server.on_internal_error()
        self.abort("internal error")

    def eof_received(self) -> bool:
        super().eof_received()
        engine = self._engine
        if not self.is_open or engine is None or not engine.is_sending or not self.transport.can_write_eof():
            return False
        engine.shut_down()  # it may have ended only its own side, and still read
        return True

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._continue()

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection uses TLS."""
        return self.transport.get_extra_info("ssl_object") is not None

    @property
    def trusted_proxies(self) -> Sequence[IPNetwork]:
        """Proxies whose headers about the client are believed."""
        return self.server.trusted_proxies

    @property
    def local_address(self) -> tuple[str, int]:
        """IP address and port at this end."""
        return peer_of(self.transport.get_extra_info("sockname"))

    # Requests

    def receive(self, data: bytes, now: float) -> bool:
        engine = self._engine
        if engine is None or self._unread or self._is_working or len(data) > RECEIVE_SIZE:
            self._unread += data
            return self.continue_receiving(now)
        # Most reads are a request or two, which can be processed without a check of the budget.
        self._pass(engine, data)
        return self._work_on(engine, now)

    def continue_receiving(self, now: float) -> bool:
        """Handle what was received, for one slice; an immediate response may let the next request begin."""
        engine = self._engine or self._recognize()
        if engine is None or self._is_working:
            return False
        return self._work_on(engine, now)

    def _work_on(self, engine: Engine, now: float) -> bool:
        self._is_working = True
        try:
            is_done = self._handle_requests(engine, now)
            while is_done and self._unread and not engine.is_full and self.is_open:
                if self.is_slice_over():
                    return True
                self._pass_next(engine)
                is_done = self._handle_requests(engine, now)
        finally:
            self._is_working = False
        if not is_done:
            return self.is_open
        if self._unread or engine.is_full:
            self.hold_reading()
        elif self._pauses:
            self.release_reading()
        return False

    def _recognize(self) -> Engine | None:
        """Return the engine for the client's HTTP version; None while it is not known."""
        data = self._unread
        if len(data) < len(PREFACE) and PREFACE.startswith(data):
            return None
        if _OTHER_PREFACE.match(data):  # RFC 9113 section 3.4: such a client expects no HTTP/1.1
            self.close("invalid data: neither HTTP/1.1 nor HTTP/2")
            return None
        self._engine = self._make_engine(is_http2=data.startswith(PREFACE))
        return self._engine

    def _make_engine(self, *, is_http2: bool) -> Engine:
        caches, limit = self.server.request_caches, self.server.handler.body_limit
        return Http2Connection(caches.blocks, limit) if is_http2 else Http1Connection(caches.requests, limit)

    def _pass_next(self, engine: Engine) -> None:
        data = self._unread
        if len(data) > RECEIVE_SIZE:
            data, self._unread = data[:RECEIVE_SIZE], data[RECEIVE_SIZE:]
        else:
            self._unread = b""
        self._pass(engine, data)

    def _pass(self, engine: Engine, data: bytes) -> None:
        try:
            engine.receive_data(data)
        except RemoteProtocolError as error:
            self._unread = b""  # the engine answers the requests before it, and then it is finished
            if not self.close_reason:
                self.log.info("request refused (%d): %s", error.status, error)
                self.close_reason = f"invalid data: {error}"

    def _handle_requests(self, engine: Engine, now: float) -> bool:
        """Handle the requests that the engine has read; return whether there are no more for now."""
        while self.is_open:
            event = engine.next_event()
            if event is None:
                if not engine.has_work:
                    return True
                self._send(engine)  # which may be what the next request waits for
                event = engine.next_event()
                if event is None:
                    return True
            if isinstance(event, Request):
                self._watch.on_request(now)
                self.silent_since = None
                transaction = self._transactions[event.stream] = Transaction(self, event, now)
                self.server.handler.handle(transaction)
            else:
                self._forget(event.stream)
            if engine.events and self.is_slice_over():
                return False
        return True

    def _forget(self, stream: int) -> None:
        transaction = self._transactions.pop(stream, None)
        if transaction is not None:
            transaction.cancel()

    def _continue(self) -> None:
        """Continue after a change that requests or responses may have waited for."""
        if self._is_working or not self.is_open:
            return
        engine = self._engine
        if engine is not None:
            self._send(engine)
            if engine.events or self._unread or engine.has_work:
                self.resume_work()

    # Responses

    def respond(self, transaction: Transaction, response: Response) -> None:
        """Send the response to a request, or start a streamed one; does nothing if the client is gone."""
        request = transaction.request
        stream = request.stream
        engine = self._engine
        if engine is None or self._transactions.get(stream) is not transaction:
            return
        is_head = request.method == "HEAD"
        if is_head or not response.is_streamed:
            del self._transactions[stream]
        date = self.server.date()
        if self._is_write_paused:
            engine.respond(stream, response, date, head=is_head)
            return
        whole = engine.respond_at_once(stream, response, date, head=is_head)
        if whole:
            self._write((whole,))
        if not self._is_working and (not whole or engine.events or self._unread or self._is_shutting_down):
            self._continue()

    def send_body(self, transaction: Transaction, data: bytes, *, is_last: bool) -> None:
        """Send a piece of a streamed response; does nothing if the client is gone."""
        stream = transaction.request.stream
        engine = self._engine
        if engine is None or self._transactions.get(stream) is not transaction:
            return
        if is_last:
            del self._transactions[stream]
        engine.send_body(stream, data, is_last=is_last)
        self._continue()

    def abandon(self, transaction: Transaction) -> None:
        """End a streamed response that cannot be completed."""
        stream = transaction.request.stream
        if self._engine is not None and self._transactions.get(stream) is transaction:
            del self._transactions[stream]
            self._engine.abandon(stream)
            self._continue()

    def unsent(self, transaction: Transaction) -> int:
        """Return how many bytes of a streamed response wait, in the connection's queue and beyond it."""
        engine = self._engine
        if engine is None or not self.is_open:
            return 0
        return engine.unsent(transaction.request.stream) + self.transport.get_write_buffer_size()

    async def drain(self, transaction: Transaction) -> None:
        """Return when there is room for more of a streamed response."""
        engine = self._engine
        if engine is None or not self.is_open or self._has_room(engine, transaction):
            return
        transaction.drained = self.loop.create_future()
        self._draining.append(transaction)
        await transaction.drained

    def _has_room(self, engine: Engine, transaction: Transaction) -> bool:
        return engine.unsent(transaction.request.stream) < STREAM_LIMIT and not self._is_write_paused

    def _wake(self, engine: Engine) -> None:
        for transaction in list(self._draining):
            if self._has_room(engine, transaction):
                self._draining.remove(transaction)
                if transaction.drained is not None and not transaction.drained.done():
                    transaction.drained.set_result(None)

    def _send(self, engine: Engine) -> None:
        transport = self.transport
        while not self._is_write_paused:
            pieces = engine.data_to_send(WRITE_SIZE)
            if not pieces:
                break
            if self._write(pieces) < WRITE_SIZE:
                break
        if self._draining:
            self._wake(engine)
        if self._is_shutting_down and not (self._transactions or engine.is_sending):
            engine.shut_down()
            self._write(engine.data_to_send(WRITE_SIZE))
        if engine.is_finished and self.is_open:
            if not self._is_write_paused:
                transport.set_write_buffer_limits(high=1)  # paused until everything has been sent
            if not self._is_write_paused:
                super().close("closed after the last response")

    def _write(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Hand data to the transport; return its size. After the connection was lost nothing is written."""
        transport = self.transport
        size = sum(map(len, pieces))
        if size and not transport.is_closing():
            self._watch.written += size
            if len(pieces) == 1:
                transport.write(pieces[0])
            else:
                transport.writelines(pieces)
        return size

    # Life

    def tick(self, now: float) -> None:
        """Called about once a second: timeouts and stalled clients."""
        watch, engine = self._watch, self._engine
        if not self.is_open:
            self.check_progress(now, STALL_TIMEOUT)
            return
        waiting = self.transport.get_write_buffer_size()
        self.check_memory()
        if watch.has_stalled(now, waiting, has_more=engine is not None and engine.is_sending):
            self.abort("the client does not read the response")
            return
        # A request that is incomplete because reading is paused is not the client's fault.
        is_ours = bool(self._unread and engine is not None) or self.is_behind or (engine is not None and engine.is_full)
        is_incomplete = engine is None or (engine.is_incomplete and not is_ours)
        if watch.is_late(now, self.server.read_timeout, is_incomplete=is_incomplete):
            self._time_out(engine)
        elif not (is_incomplete or self._transactions) and watch.is_idle(now):
            self.close("no request in a while")

    def _time_out(self, engine: Engine | None) -> None:
        if engine is not None and not self._transactions:
            engine.time_out()
            self._continue()
        self.close("no request received in time")

    def close(self, reason: str) -> None:
        """Close after everything queued has been sent; unanswered requests are cancelled."""
        if not self.is_open:
            return
        self.close_reason = self.close_reason or reason
        for stream in list(self._transactions):
            self._forget(stream)
        if self._engine is not None:
            self._engine.shut_down()
            self._send(self._engine)
        super().close(reason)

    def shut_down(self, reason: str) -> None:
        """Accept no more requests, and close when those in progress are answered."""
        if self._engine is None or not self._transactions:
            self.close(reason)
            return
        self.close_reason = self.close_reason or reason
        self._is_shutting_down = True
        if isinstance(self._engine, Http1Connection):
            self._engine.shut_down()
        # Some HTTP/2 clients abort requests in progress when they receive GOAWAY; so it follows the last response.


class _Watch:
    """The timeouts of a connection. All times are in monotonic seconds."""

    __slots__ = ("_drained_then", "_has_requested", "_incomplete_since", "_last_request", "_stalled_since", "written")

    def __init__(self, now: float) -> None:
        self._last_request = now
        self._has_requested = False
        self._incomplete_since: float | None = None
        self.written = 0
        """Bytes handed to the transport."""
        self._stalled_since: float | None = None
        self._drained_then = 0

    def on_request(self, now: float) -> None:
        """A request was received."""
        self._last_request = now
        self._has_requested = True

    def is_late(self, now: float, timeout: float, *, is_incomplete: bool) -> bool:
        """Return whether a request in progress, or the first one, takes longer than ``timeout``."""
        if not is_incomplete and self._has_requested:
            self._incomplete_since = None
            return False
        if self._incomplete_since is None:
            self._incomplete_since = now
            return False
        return now - max(self._incomplete_since, self._last_request) >= timeout

    def is_idle(self, now: float) -> bool:
        """Return whether the client has neither sent a request nor accepted data for a long time."""
        return now - self._last_request >= IDLE_TIMEOUT and self._stalled_since is None

    def has_stalled(self, now: float, waiting: int, *, has_more: bool) -> bool:
        """Return whether the client has stalled; ``waiting`` is the number of bytes queued in the transport."""
        drained = self.written - waiting
        if waiting == 0 and not has_more:
            self._stalled_since = None
        elif self._stalled_since is None or drained - self._drained_then >= WRITE_SIZE:
            self._stalled_since = now
            self._drained_then = drained
        else:
            return now - self._stalled_since >= STALL_TIMEOUT
        return False
