"""One TCP (or TLS) connection of an RTSP client: bytes in, requests and media out of them, bytes out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING

from polycast.errors import RemoteProtocolError
from polycast.net.address import peer_of
from polycast.protocols.rtsp.masking import dump
from polycast.protocols.rtsp.requests import Answer, RequestHandler
from polycast.protocols.rtsp.session import Session
from polycast.protocols.tcp_server import ServerConnection
from polycast.wire.rtsp.authentication import ServerAuthenticator
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.parser import InterleavedRun, MessageParser
from polycast.wire.rtsp.refusal import refusal
from polycast.wire.rtsp.states import State

if TYPE_CHECKING:
    from polycast.protocols.rtsp.server import RtspServer

# Bytes that may wait while a request is being answered; over it, reading pauses. More is sent by nobody before the
# answer, and a read brings up to 256 KiB beyond it.
PENDING_LIMIT = 64 * 1024

# Seconds a client may keep a connection open without a session, once it has sent a request: long enough for a person
# who types a password.
IDLE_TIMEOUT = 60.0

SERVER_NAME = "polycast"


class Connection(ServerConnection):
    """A client's connection."""

    server: RtspServer

    def __init__(self, server: RtspServer) -> None:
        super().__init__(server)
        self.local_host = ""
        self.failures = 0
        """Authentication failures in a row."""
        self.asked_for = ""
        """The path whose credentials the client was asked for and has not given."""
        self.session: Session | None = None
        """The session whose media flow over this connection, or the last one that was created on it."""
        self.sessions: set[Session] = set()
        """All that it carries."""
        self.authenticator = ServerAuthenticator(
            secrets.token_hex(16), methods=server.authentication_methods, offer_sha256=True
        )
        self._parser = MessageParser()
        self._handler = RequestHandler(self)
        self._task: asyncio.Task[None] | None = None
        self._last_received = self.opened_at
        """When something came that was not a train of media. A session that has those ends with its connection, or by
        a request, which is none."""
        self._event_count = 0
        self._stalled_at_event = -1
        self._stalled_since = 0.0

    # The shell

    def on_connected(self) -> None:
        peername = self.transport.get_extra_info("peername")
        self.peer_address = peername if isinstance(peername, tuple) else self.peer
        self.local_host = peer_of(self.transport.get_extra_info("sockname"))[0]
        super().on_connected()

    def on_lost(self, reason: str) -> None:
        if self._task is not None:
            self._task.cancel()
        for session in list(self.sessions):
            session.detach(self)
        if self.asked_for:
            self.log.warning("left without the credentials that path '%s' asks for", self.asked_for)
        super().on_lost(reason)

    def receive(self, data: bytes, now: float) -> bool:
        parser = self._parser
        session = self.session
        if session is not None and session.train_tracks and self._task is None:
            train = parser.take_train(data)
            if train is not None:
                track = session.train_tracks.get(train[0])
                if track is not None and track.take_train(data, train, now, self.is_gathered):
                    return False
        self._last_received = now
        parser.receive_data(data)
        return self.go_on(now)

    def go_on(self, now: float) -> bool:
        if self._task is not None:
            return False
        next_event = self._parser.next_event
        while self.is_open:
            event = next_event()
            if event is None:
                return False
            self._event_count += 1
            if type(event) is InterleavedRun:
                session = self.session
                if session is not None:
                    session.on_interleaved(event, now, is_gathered=self.is_gathered)
                if event.is_last:
                    return False
            elif isinstance(event, Request):
                self.silent_since = None
                if self._on_request(event):
                    return False
            if self.is_slice_over():
                return True
        return False

    def end_slice(self, now: float) -> None:
        if self._task is None:
            self.release_reading()
        elif self._parser.buffered > PENDING_LIMIT:
            self.hold_reading()

    def expect_frames(self, channels: Collection[int]) -> None:
        """Skip bytes between interleaved frames of these channels instead of closing; none: close again."""
        self._parser.expect_frames(channels)

    @property
    def skipped(self) -> int:
        """Bytes skipped so far."""
        return self._parser.skipped

    @property
    def held_size(self) -> int:
        return self._parser.buffered

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self.close(f"invalid data: {error}", refusal(error))

    def on_internal_error(self) -> None:
        self.server.on_internal_error()
        self.close("internal error", Response(500))

    # Requests

    def _on_request(self, request: Request) -> bool:
        """Answer a request; return whether the answer has to be waited for."""
        if self.log.is_debug():
            self.log.debug("[c->s] %s", dump(request))
        answer = self._handler.handle(request)
        if isinstance(answer, Answer):
            self._finish(request, answer)
            return False
        self._task = self.loop.create_task(self._wait_for(request, answer))
        return True

    async def _wait_for(self, request: Request, coroutine: Coroutine[None, None, Answer]) -> None:
        try:
            answer = await coroutine
        except Exception:
            self.server.on_internal_error()
            answer = Answer(Response(500), close="internal error")
        self._task = None
        if not self.is_open:
            return
        try:
            self._finish(request, answer)
        except Exception:
            self.server.on_internal_error()
            self.abort("internal error")
            return
        self.resume_work()

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
        self.answer(data)

    # Life

    def on_dropped(self, count: int) -> None:
        self.log.warning("the client is too slow to read the stream: %d packets dropped", count)

    def on_tick(self, now: float) -> None:
        session = self.session
        stream = session.stream if session is not None else None
        self.weight = 1
        if session is not None and stream is not None:
            if session.state is State.PLAYING:
                self.outbox.set_bit_rate(stream.rate.bit_rate, self.server.queue_minimum)
            elif session.state is State.RECORDING:
                self.weight += len(stream.readers)
        if self._task is None:
            self._check_idle(now)

    def _check_idle(self, now: float) -> None:
        if self.silent_since is not None:
            if now - self.opened_at >= self.server.read_timeout:
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
        if response is not None and self.is_open:
            self.send(response)
        super().close(reason)
