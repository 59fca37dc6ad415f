"""One TCP (or TLS) connection of an RTSP client: bytes in, requests and media out of them, bytes out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import TYPE_CHECKING, cast

from polycast.errors import RemoteProtocolError
from polycast.hub.outbox import Outbox
from polycast.net.address import join_host_port, peer_of
from polycast.net.losses import describe_loss
from polycast.protocols.rtsp.masking import dump
from polycast.protocols.rtsp.requests import Answer, RequestHandler
from polycast.protocols.rtsp.session import Session
from polycast.wire.rtsp.authentication import ServerAuthenticator
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.parser import InterleavedRun, MessageParser
from polycast.wire.rtsp.states import State

if TYPE_CHECKING:
    from polycast.protocols.rtsp.server import RtspServer

# Bytes that may wait while a request is being answered; over it, reading pauses.
PENDING_LIMIT = 1024 * 1024

# Seconds a client may keep a connection open without a session, once it has sent a request: long enough for a person
# who types a password.
IDLE_TIMEOUT = 60.0

# Seconds for the last bytes (a response, a TLS farewell) to leave a connection that is being closed.
CLOSE_GRACE = 2.0

# A client that sends requests and takes no responses is closed when this many times the queue's limit wait for it;
# media alone stays below.
RESPONSE_LIMIT_FACTOR = 2

SERVER_NAME = "polycast"


class Connection(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, server: RtspServer) -> None:
        self.server = server
        self._now = server.now
        self._on_read = server.on_read
        self.peer: tuple[str, int] = ("", 0)
        self.local_host = ""
        self.close_reason = ""
        self.failures = 0
        """Authentication failures in a row."""
        self.session: Session | None = None
        """The session whose media flow over this connection, or the last one that was created on it."""
        self.authenticator = ServerAuthenticator(
            secrets.token_hex(16), methods=server.authentication_methods, offer_sha256=True
        )
        self._parser = MessageParser()
        self._handler = RequestHandler(self)
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._closing = False
        self._opened = server.now()
        self._last_received = self._opened
        """When something came that was not a train of media. A session that has those ends with its connection, or by
        a request, which is none."""
        self._is_gathered = False
        """Whether the last read brought what had come over some time (`net.moderation`)."""
        self._has_sent_request = False
        self._event_count = 0
        self._stalled_at_event = -1
        self._stalled_since = 0.0
        self._closed_since: float | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peername = transport.get_extra_info("peername")
        self.peer = peer_of(peername)
        self.peer_address = peername if isinstance(peername, tuple) else self.peer
        self.local_host = peer_of(transport.get_extra_info("sockname"))[0]
        self.log = self.server.log.child(f"conn {join_host_port(*self.peer)}")
        self.outbox = Outbox(self.transport, self._opened)
        self.server.add_connection(self)
        self.log.info("opened")

    def connection_lost(self, exc: Exception | None) -> None:
        reason = self.close_reason or describe_loss(exc)
        self.close_reason = reason
        self._closing = True
        if self._task is not None:
            self._task.cancel()
        self.server.remove_connection(self)
        for session in self.server.sessions_of(self):
            session.detach(self)
        self.log.info("closed (%s)", reason)

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        """The reader goes on at its next key frame by itself."""

    def data_received(self, data: bytes) -> None:
        is_gathered = self._on_read()
        parser = self._parser
        session = self.session
        if session is not None and session.train_tracks and self._task is None and not self._closing:
            try:
                train = parser.take_train(data)
                if train is not None:
                    track = session.train_tracks.get(train[0])
                    if track is not None and track.take_train(data, train, self._now(), is_gathered):
                        return
            except Exception:
                self.server.on_internal_error()
                self.close("internal error", Response(500))
                return
        self._is_gathered = is_gathered
        self._last_received = self._now()
        parser.receive_data(data)
        if self._task is None:
            self._process()
        elif parser.buffered > PENDING_LIMIT and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.close_reason = self.close_reason or "closed by the client"
        return False

    # Requests

    def _process(self) -> None:
        next_event = self._parser.next_event
        try:
            while not self._closing:
                event = next_event()
                if event is None:
                    return
                self._event_count += 1
                if type(event) is InterleavedRun:
                    session = self.session
                    if session is not None:
                        session.on_interleaved(event, self._last_received, is_gathered=self._is_gathered)
                    if event.is_last:
                        return
                elif isinstance(event, Request):
                    self._has_sent_request = True
                    if self._on_request(event):
                        return
        except RemoteProtocolError as error:
            self.close(f"invalid data: {error}", Response(error.status))
        except Exception:
            self.server.on_internal_error()
            self.close("internal error", Response(500))

    def _on_request(self, request: Request) -> bool:
        """Answer a request; return whether the answer has to be waited for."""
        if self.log.is_debug():
            self.log.debug("[c->s] %s", dump(request))
        answer = self._handler.handle(request)
        if isinstance(answer, Answer):
            self._finish(request, answer)
            return False
        self._task = self.server.context.loop.create_task(self._wait_for(request, answer))
        return True

    async def _wait_for(self, request: Request, coroutine: Coroutine[None, None, Answer]) -> None:
        try:
            answer = await coroutine
        except Exception:
            self.server.on_internal_error()
            answer = Answer(Response(500), close="internal error")
        self._task = None
        if self._closing:
            return
        try:
            self._finish(request, answer)
        except Exception:
            self.server.on_internal_error()
            self.abort("internal error")
            return
        if self._paused:
            self._paused = False
            self.transport.resume_reading()
        self._process()

    def _finish(self, request: Request, answer: Answer) -> None:
        response = answer.response
        if request.cseq is not None:
            response.headers.set("CSeq", request.cseq)
        self.send(response)
        if answer.close:
            self.close(answer.close)
        elif answer.after is not None:
            try:
                answer.after()
            except Exception:
                self.server.on_internal_error()
                self.close("internal error")

    def send(self, response: Response) -> None:
        """Send a response."""
        response.headers.set("Server", SERVER_NAME)
        # By name only: the order of the challenges counts.
        response.headers = Headers(sorted(response.headers.items(), key=lambda item: item[0]))
        data = response.serialize()
        if self.log.is_debug():
            self.log.debug("[s->c] %s", dump(response))
        if self.transport.is_closing():
            return
        self.outbox.write(data)
        if self.transport.get_write_buffer_size() > RESPONSE_LIMIT_FACTOR * self.outbox.limit:
            self.abort("the client does not read the responses")

    # Life

    def tick(self, now: float) -> None:
        """Called about once a second: time-outs and slow readers."""
        if self._closed_since is not None:
            if now - self._closed_since >= CLOSE_GRACE:
                self.transport.abort()
            return
        dropped = self.outbox.take_dropped()
        if dropped:
            self.log.warning("the client is too slow to read the stream: %d packets dropped", dropped)
        session = self.session
        if session is not None and session.stream is not None and session.state is State.PLAYING:
            self.outbox.set_bit_rate(session.stream.rate.bit_rate, self.server.queue_minimum)
        if self.outbox.is_stuck(now, self.server.write_timeout):
            self.abort(f"the client took no data for {self.server.write_timeout:g} s")
            return
        if self._task is None:
            self._check_idle(now)

    def _check_idle(self, now: float) -> None:
        if not self._has_sent_request:
            if now - self._opened >= self.server.read_timeout:
                self.close("no request received in time")
        elif self._has_stalled(now):
            self.close("a request was not completed in time")
        elif not self.server.has_session(self) and now - self._last_received >= IDLE_TIMEOUT:
            self.close("idle for too long")

    def _has_stalled(self, now: float) -> bool:
        """Whether the client began a request or frame and has not finished it in time, however often it sent a bit."""
        if not self._parser.is_incomplete:
            self._stalled_at_event = -1
        elif self._stalled_at_event != self._event_count:
            self._stalled_at_event = self._event_count
            self._stalled_since = now
        return self._stalled_at_event >= 0 and now - self._stalled_since >= self.server.read_timeout

    def on_session_closed(self, session: Session, reason: str, *, close_connection: bool) -> None:
        """A session that was on this connection has ended."""
        if self.session is session:
            self.session = None
            if close_connection:
                self.close(reason)

    def close(self, reason: str, response: Response | None = None) -> None:
        """Close once everything queued was sent; ``response`` is the last of it."""
        if self._closing:
            return
        if response is not None:
            self.send(response)
        self._closing = True
        self.close_reason = reason
        self._closed_since = self.server.now()
        self.transport.close()

    def abort(self, reason: str) -> None:
        """Close at once; what is queued is lost."""
        self._closing = True
        self.close_reason = self.close_reason or reason
        self.transport.abort()
