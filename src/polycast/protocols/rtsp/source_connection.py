"""The connection to a camera or server: requests with their answers, credentials, interleaved media."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence

from polycast.log import Log
from polycast.protocols.early_media import EarlyMedia
from polycast.protocols.outgoing import OutgoingConnection
from polycast.protocols.pull import PullError
from polycast.wire.rtsp import client
from polycast.wire.rtsp.client import ClientConnection as Engine
from polycast.wire.rtsp.interleaved import InterleavedRun, interleaved_frame
from polycast.wire.rtsp.masking import dump
from polycast.wire.rtsp.message import REASONS, Request, Response

MediaHandler = Callable[[InterleavedRun, float], None]
"""Receives interleaved frames of one channel, and their time of reception (monotonic seconds)."""

EndOfReadHandler = Callable[[bool], None]
"""Called after each processed read: whether it was coalesced (see `Stream.end_of_read`)."""


class StatusError(PullError):
    """The server answered a request with an error."""

    def __init__(self, response: Response) -> None:
        reason = response.reason or REASONS.get(response.status, "")
        super().__init__(
            f"bad status code: {response.status} ({reason})" if reason else f"bad status code: {response.status}"
        )
        self.status = response.status


class ClientConnection(OutgoingConnection):
    """A client's end of an RTSP connection. Not usable before `net.dial.connect` has returned it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, log: Log, credentials: tuple[str, str] | None, timeout: float
    ) -> None:
        super().__init__(loop, log)
        self._engine = Engine(credentials, new_nonce=lambda: secrets.token_hex(8), trace=self._trace)
        self._timeout = timeout
        self._answers: dict[int, asyncio.Future[Response]] = {}
        """Pending answers, by number of the request."""
        self._timer: asyncio.TimerHandle | None = None
        self._on_media: MediaHandler | None = None
        self._on_end_of_read: EndOfReadHandler | None = None
        self._early: EarlyMedia[InterleavedRun] = EarlyMedia()
        """Received from the answer to PLAY until the tracks are published."""
        self._last_early_read = b""

    # Base class

    def receive(self, data: bytes, now: float) -> bool:
        engine = self._engine
        self._handle(engine.receive_data(data, now), now)
        return self.continue_receiving(now) if engine.has_more else False

    def continue_receiving(self, now: float) -> bool:
        engine = self._engine
        while engine.has_more and self.is_open:
            if self.is_slice_over():
                return True
            self._handle(engine.receive_data(b"", now), now)
        return False

    def end_slice(self, now: float) -> None:
        if self._on_end_of_read is not None:
            self._on_end_of_read(self.is_coalesced)

    @property
    def held_size(self) -> int:
        return self._engine.held_size + self._early.size

    def on_lost(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().on_lost(reason)

    def _trace(self, message: Request | Response) -> None:
        if self.log.is_debug():
            self.log.debug("[%s] %s", "c->s" if isinstance(message, Request) else "s->c", dump(message))

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.answer(data)

    def _handle(self, happened: list[client.Event], now: float) -> None:
        self._flush()
        for event in happened:
            if type(event) is InterleavedRun:
                if self._on_media is not None:
                    self._on_media(event, now)
                else:
                    self._keep(event)
            elif isinstance(event, client.Answered):
                answer = self._answers.get(event.number)
                if answer is not None and not answer.done():
                    answer.set_result(event.response)
            elif isinstance(event, client.NotAnswered):
                answer = self._answers.get(event.number)
                if answer is not None and not answer.done():
                    text = f"no answer to {event.method} within {event.patience:g} s"
                    answer.set_exception(TimeoutError(text))
            elif isinstance(event, client.KeepAliveRefused):
                outcome = "not answered" if event.status is None else f"answered with {event.status}"
                self.log.debug("keep-alive %s was %s", event.method, outcome)
            elif isinstance(event, client.SessionEnded):
                self.fail(PullError(f"the server has ended the session ({event.method})"))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._engine.next_timeout()
        self._timer = None if due is None else self.loop.call_later(due - self.clock(), self._on_timer)

    def _on_timer(self) -> None:
        if not self.is_open:
            return
        try:
            now = self.clock()
            self._handle(self._engine.handle_timeout(now), now)
            self._set_timer()
        except Exception:
            self.on_internal_error()

    # Media

    @property
    def local_host(self) -> str:
        """Our IP address on this connection."""
        return str(self.transport.get_extra_info("sockname")[0])

    @property
    def remote_host(self) -> str:
        """The server's IP address."""
        return str(self.transport.get_extra_info("peername")[0])

    def set_media_handler(self, handler: MediaHandler, on_end_of_read: EndOfReadHandler, now: float) -> None:
        """Pass interleaved frames to ``handler`` from now on, early ones first; call ``on_end_of_read`` after each
        processed read."""
        self._on_media = handler
        self._on_end_of_read = on_end_of_read
        self._last_early_read = b""
        for run in self._early.take():
            handler(run, now)
        on_end_of_read(False)

    def send_interleaved(self, channel: int, data: bytes) -> None:
        """Send one interleaved frame: an RTCP packet."""
        self.answer(interleaved_frame(channel, data))

    def expect_frames(self, channels: Collection[int]) -> None:
        """From now on, skip bytes between interleaved frames of these channels instead of raising an error."""
        self._engine.expect_frames(channels)

    @property
    def skipped(self) -> int:
        """Bytes skipped so far."""
        return self._engine.skipped

    def _keep(self, run: InterleavedRun) -> None:
        # It keeps the complete buffer of the read, even if only a small part is frames.
        if self._early.add(run, 0 if run.data is self._last_early_read else len(run.data)):
            self._last_early_read = run.data

    # Requests

    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        accept: Collection[int] = (200,),
    ) -> Response:
        """Send a request and return its answer; challenges are answered with the credentials.

        Raises StatusError for an answer that is not in ``accept``, PullError or TimeoutError.
        """
        if self.lost.done():
            self.lost.result()
        answer: asyncio.Future[Response] = self.loop.create_future()
        number = self._engine.send_request(method, url, headers, body, now=self.clock(), patience=self._timeout)
        self._answers[number] = answer
        self._flush()
        self._set_timer()
        try:
            await asyncio.wait((answer, self.lost), return_when=asyncio.FIRST_COMPLETED)
            response = answer.result() if answer.done() else await self._raise_lost()
        finally:
            del self._answers[number]
            self._engine.forget(number)
        if response.status not in accept:
            raise StatusError(response)
        return response

    def send(self, method: str, url: str) -> None:
        """Send a request whose answer does not matter."""
        if self.is_open and not self._engine.is_closed:
            self._engine.send_request(method, url, now=self.clock())
            self._flush()

    def keep_alive(self, url: str, public: Collection[str]) -> None:
        """Send periodic keep-alives to the server; whether the stream is alive is decided by its packets.

        ``url``: of the whole presentation. ``public``: the methods that the server announced, in upper case.
        """
        self._engine.keep_alive(url, public, self.clock())
        self._set_timer()

    async def _raise_lost(self) -> Response:
        await self.lost
        raise PullError("closed by the server")
