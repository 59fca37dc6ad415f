"""The client's side of RTSP (RFC 2326): one connection to a server, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.rtsp.authentication import ClientAuthenticator
from polycast.wire.rtsp.headers.session import Session
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.keep_alive import KeepAlive, interval_of
from polycast.wire.rtsp.message import Headers, Method, Request, Response
from polycast.wire.rtsp.parser import CLIENT_LIMITS, MessageParser

USER_AGENT: Final = "polycast"

PENDING_LIMIT: Final = 16
"""Unanswered requests that are remembered; matters for servers that never answer keep-alives."""

MESSAGES_PER_CALL: Final = 8
"""Maximum number of messages per call."""

_ALIVE: Final = (Method.OPTIONS, Method.GET_PARAMETER, Method.SET_PARAMETER, Method.ANNOUNCE)
"""Requests that servers send to check that the client is alive, or with information that is not needed."""

_END_METHODS: Final = (Method.TEARDOWN, Method.REDIRECT)


@dataclass(frozen=True, slots=True)
class Answered:
    """The final answer to a request, after authentication if the server requires it and credentials are available."""

    number: int
    """What `send_request` returned."""
    response: Response


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """A request was not answered in time; a late answer is ignored."""

    number: int
    method: str
    patience: float
    """The timeout in seconds."""


@dataclass(frozen=True, slots=True)
class KeepAliveRefused:
    """A method is left out of the keep-alives from now on; for the log."""

    method: str
    status: int | None
    """None if there was no answer."""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The server has ended the session."""

    method: str
    """The method: TEARDOWN or REDIRECT."""


Event = Answered | NotAnswered | KeepAliveRefused | SessionEnded | InterleavedRun


@dataclass(slots=True)
class _Exchange:
    """A request and, later, its answer."""

    number: int
    request: Request
    """Without the headers that are common to all requests."""
    patience: float
    deadline: float | None
    """None if nobody waits for the answer."""
    cseq: str = ""
    has_proof: bool = False
    """Whether it was sent again with credentials."""
    keeps_alive: bool = False
    was_passed: bool = False
    """Whether a later request was answered, so that answers without a number do not belong to this one."""


class _Credentials:
    """The server's challenges, and the credentials to answer them with."""

    def __init__(self, pair: tuple[str, str] | None, new_nonce: Callable[[], str]) -> None:
        self._authenticator = ClientAuthenticator(*pair) if pair is not None else None
        self._new_nonce = new_nonce
        self._challenges: list[str] = []

    def learn(self, response: Response) -> bool:
        """Store the challenges of a response; return whether they can be answered."""
        self._challenges = response.headers.get_all("WWW-Authenticate")
        return bool(self._challenges) and self._authenticator is not None

    def prove(self, request: Request) -> str | None:
        """Return the value of the Authorization header of a request; None without one."""
        if not self._challenges or self._authenticator is None:
            return None
        return self._authenticator.authorize(self._challenges, request.method, request.url, self._new_nonce())


class _KeepAlives:
    """When the requests of a `KeepAlive` are due."""

    def __init__(self, url: str, public: Collection[str], interval: float, now: float) -> None:
        self.url = url
        self.methods = KeepAlive(public)
        self.interval = interval
        self.next_time = now + interval

    def has_come(self, now: float) -> bool:
        """Return true once per interval."""
        if now < self.next_time:
            return False
        self.next_time = max(self.next_time + self.interval, now)
        return True


class ClientConnection:
    """One connection to a server.

    Call `receive_data` with received bytes, `handle_timeout` at `next_timeout`, and after each of
    these and of every other method write `data_to_send` to the socket. `RemoteProtocolError` means that the bytes
    cannot be parsed. While ``has_more`` is true, yield to other connections, then call `receive_data` without bytes.

    Requests may be sent at any time, several at once. Answers are matched with them, and those that ask for credentials
    are answered with these; the name of the session that SETUP created goes with all that follow.
    """

    def __init__(
        self,
        credentials: tuple[str, str] | None,
        *,
        new_nonce: Callable[[], str],
        trace: Callable[[Request | Response], None] | None = None,
    ) -> None:
        """``credentials``: user and password. ``new_nonce`` returns random text, for Digest. ``trace`` is called with
        each message, for the log."""
        self.session: Session | None = None
        """The parameters of the session in the answer to SETUP."""
        self.has_more = False
        """Whether received bytes are left for another call of `receive_data`."""
        self.is_closed = False
        self._credentials = _Credentials(credentials, new_nonce)
        self._trace = trace
        self._parser = MessageParser(CLIENT_LIMITS)
        self._numbers = 0
        self._sequence = 0
        self._pending: list[_Exchange] = []
        self._keep_alives: _KeepAlives | None = None
        self._output: list[bytes] = []

    # Bytes

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the socket and return what they mean. Raises `RemoteProtocolError`."""
        if self.is_closed:
            return []
        self.has_more = False
        happened: list[Event] = []
        run = self._parser.receive_run(data) if data else None
        for _ in range(MESSAGES_PER_CALL):
            try:
                found, run = run or self._parser.next_event(), None
            except RemoteProtocolError:
                if not happened:
                    self.is_closed = True
                    raise
                break  # the next call raises it again
            if found is None:
                return happened
            if type(found) is InterleavedRun:
                happened.append(found)
                if found.is_last:
                    return happened
            elif isinstance(found, Response):
                happened += self._on_response(found, now)
            elif isinstance(found, Request):
                happened += self._on_request(found)
        self.has_more = True
        return happened

    def data_to_send(self) -> bytes:
        """Return the bytes to write to the socket, once. They end where a message ends."""
        output = self._output
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        return data

    @property
    def held_size(self) -> int:
        """Received bytes that are not part of an event yet."""
        return self._parser.buffered

    def expect_frames(self, channels: Collection[int]) -> None:
        """From now on, skip bytes between interleaved frames of these channels instead of raising an error."""
        self._parser.expect_frames(channels)

    @property
    def skipped(self) -> int:
        """Bytes skipped so far."""
        return self._parser.skipped

    # Requests

    def send_request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        now: float,
        patience: float | None = None,
    ) -> int:
        """Send a request; return the number that its answer will have.

        ``patience``: timeout in seconds for the answer, and again after authentication; None: no timeout.
        """
        if self.is_closed:
            raise LocalProtocolError("the connection is closed")
        exchange = self._new_exchange(method, url, headers, body, now, patience)
        self._send(exchange)
        return exchange.number

    def forget(self, number: int) -> None:
        """Ignore the answer to a request, by its number."""
        for exchange in self._pending:
            if exchange.number == number:
                exchange.deadline = None

    def keep_alive(self, url: str, public: Collection[str], now: float) -> None:
        """Send keep-alives from now on, at the interval that follows from the answer to SETUP.

        ``url``: of the whole presentation. ``public``: the methods that the server announced, in upper case.
        """
        interval = interval_of(self.session.timeout if self.session is not None else None)
        self._keep_alives = _KeepAlives(url, public, interval, now)

    def _new_exchange(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        now: float,
        patience: float | None,
    ) -> _Exchange:
        self._numbers += 1
        deadline = now + patience if patience is not None else None
        return _Exchange(self._numbers, Request(method, url, Headers(headers), body), patience or 0.0, deadline)

    def _send(self, exchange: _Exchange) -> None:
        self._sequence += 1
        exchange.cseq = str(self._sequence)
        asked = exchange.request
        items = [("CSeq", exchange.cseq), ("User-Agent", USER_AGENT)]
        if self.session is not None:
            items.append(("Session", self.session.identifier))
        proof = self._credentials.prove(asked)
        if proof is not None:
            items.append(("Authorization", proof))
        self._make_room()
        self._pending.append(exchange)
        self._write(Request(asked.method, asked.url, Headers([*items, *asked.headers]), asked.body))

    def _make_room(self) -> None:
        if len(self._pending) < PENDING_LIMIT:
            return
        oldest = next((exchange for exchange in self._pending if exchange.deadline is None), None)
        if oldest is None:
            raise LocalProtocolError(f"more than {PENDING_LIMIT} requests wait for an answer")
        self._pending.remove(oldest)

    def _write(self, message: Request | Response) -> None:
        if self._trace is not None:
            self._trace(message)
        self._output.append(message.serialize())

    # Answers

    def _on_response(self, response: Response, now: float) -> list[Event]:
        if self._trace is not None:
            self._trace(response)
        exchange = self._take_exchange((response.cseq or "").strip()) if response.status >= 200 else None
        if exchange is None:
            return []
        is_awaited = exchange.deadline is not None
        if response.status == 401 and is_awaited and not exchange.has_proof and self._credentials.learn(response):
            exchange.has_proof = True
            exchange.deadline = now + exchange.patience
            self._send(exchange)
            return []
        if exchange.request.method == Method.SETUP and response.status == 200:
            self._store_session(response)
        if not is_awaited:
            return []
        if exchange.keeps_alive:
            return self._on_keep_alive(exchange, response.status)
        return [Answered(exchange.number, response)]

    def _take_exchange(self, cseq: str) -> _Exchange | None:
        """Return the request that a response answers; None if there is none."""
        pending = self._pending
        found = next((exchange for exchange in pending if exchange.cseq == cseq), None)
        if found is None:
            # Cameras that omit or mangle CSeq answer in order.
            found = next((exchange for exchange in pending if not exchange.was_passed), None)
            if found is None:
                return None
        for exchange in [*pending[: pending.index(found)]]:
            exchange.was_passed = True
            if exchange.deadline is None:
                pending.remove(exchange)
        pending.remove(found)
        return found

    def _store_session(self, response: Response) -> None:
        header = response.headers.get("Session")
        if header is not None:
            with suppress(RemoteProtocolError):
                session = Session.parse(header)
                known = self.session.timeout if self.session is not None else None
                self.session = Session(session.identifier, session.timeout or known)

    def _on_request(self, request: Request) -> list[Event]:
        """Answer a request of the server: some use requests as keep-alives."""
        if self._trace is not None:
            self._trace(request)
        response = Response(200 if request.method in (*_ALIVE, *_END_METHODS) else 501)
        if request.cseq is not None:
            response.headers.set("CSeq", request.cseq)
        self._write(response)
        return [SessionEnded(request.method)] if request.method in _END_METHODS else []

    # Time

    def next_timeout(self) -> float | None:
        """When to call `handle_timeout`, in the time of ``now``; None: never."""
        if self.is_closed:
            return None
        times = [exchange.deadline for exchange in self._pending if exchange.deadline is not None]
        if self._keep_alives is not None:
            times.append(self._keep_alives.next_time)
        return min(times, default=None)

    def handle_timeout(self, now: float) -> list[Event]:
        """Do what is due."""
        happened: list[Event] = []
        if self.is_closed:
            return happened
        for exchange in [*self._pending]:
            if exchange.deadline is None or now < exchange.deadline:
                continue
            exchange.deadline = None  # kept, so that a late answer is still matched with it
            if exchange.was_passed:
                self._pending.remove(exchange)
            if exchange.keeps_alive:
                happened += self._on_keep_alive(exchange, None)
            else:
                happened.append(NotAnswered(exchange.number, exchange.request.method, exchange.patience))
        keep_alives = self._keep_alives
        if keep_alives is not None and keep_alives.has_come(now):
            for method in keep_alives.methods.due():
                exchange = self._new_exchange(method, keep_alives.url, (), b"", now, keep_alives.interval / 2)
                exchange.keeps_alive = True
                self._send(exchange)
        return happened

    def _on_keep_alive(self, exchange: _Exchange, status: int | None) -> list[Event]:
        method = Method(exchange.request.method)
        if self._keep_alives is None or not self._keep_alives.methods.on_answer(method, status):
            return []
        return [KeepAliveRefused(method, status)]
