"""The connection to a camera or server: requests with their answers, credentials, interleaved media."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Final

from polycast.hub.live_track import LiveTrack
from polycast.log import Log
from polycast.protocols.outgoing import OutgoingConnection
from polycast.protocols.pull import PullError
from polycast.wire.rtsp.authentication import ClientAuthenticator
from polycast.wire.rtsp.masking import dump
from polycast.wire.rtsp.message import REASONS, Headers, Method, Request, Response
from polycast.wire.rtsp.parser import CLIENT_LIMITS, InterleavedRun, MessageParser

USER_AGENT: Final = "polycast"

# Bytes of reads with interleaved frames that are kept from the answer to PLAY until the tracks are published: the first
# key frame is among them.
EARLY_MEDIA_LIMIT: Final = 4 * 1024 * 1024

# Requests without an answer yet: of a server that never answers keep-alives, the last ones are remembered.
PENDING_LIMIT: Final = 16

MediaHandler = Callable[[InterleavedRun], None]


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
        self._authenticator = ClientAuthenticator(*credentials) if credentials is not None else None
        self._timeout = timeout
        self._challenges: list[str] = []
        self._parser = MessageParser(CLIENT_LIMITS)
        self._cseq = 0
        self._pending: deque[tuple[str, asyncio.Future[Response] | None]] = deque()
        self._on_media: MediaHandler | None = None
        self._early: list[InterleavedRun] = []
        self._early_size = 0
        self.train_tracks: dict[int, LiveTrack] = {}
        """By channel, where trains of packets go straight to the tracks."""
        self.session = ""
        """Value of the Session header, without parameters; empty before SETUP."""

    # The shell

    def receive(self, data: bytes, now: float) -> bool:
        parser = self._parser
        if self.train_tracks:
            train = parser.take_train(data)
            if train is not None:
                track = self.train_tracks.get(train[0])
                if track is not None and track.take_train(data, train, now, self.is_gathered):
                    return False
        parser.receive_data(data)
        return self.go_on(now)

    def go_on(self, now: float) -> bool:
        next_event = self._parser.next_event
        while self.is_open and (event := next_event()) is not None:
            if type(event) is InterleavedRun:
                if self._on_media is not None:
                    self._on_media(event)
                else:
                    self._keep(event)
            elif isinstance(event, Response):
                self._on_response(event)
            elif isinstance(event, Request):
                self._on_request(event)
            if self.is_slice_over():
                return True
        return False

    @property
    def held_size(self) -> int:
        return self._parser.buffered + self._early_size

    # Media

    @property
    def local_host(self) -> str:
        """Our IP address on this connection."""
        return str(self.transport.get_extra_info("sockname")[0])

    @property
    def remote_host(self) -> str:
        """The server's IP address."""
        return str(self.transport.get_extra_info("peername")[0])

    def set_media_handler(self, handler: MediaHandler) -> None:
        """Take interleaved frames from now on, those that came early first."""
        self._on_media = handler
        early, self._early = self._early, []
        self._early_size = 0
        for run in early:
            handler(run)

    def send_interleaved(self, channel: int, data: bytes) -> None:
        """Send one interleaved frame: a receiver report."""
        self.answer(b"$" + bytes((channel,)) + len(data).to_bytes(2, "big") + data)

    def expect_frames(self, channels: Collection[int]) -> None:
        """Skip bytes between interleaved frames of these channels from now on, instead of giving up."""
        self._parser.expect_frames(channels)

    @property
    def skipped(self) -> int:
        """Bytes skipped so far."""
        return self._parser.skipped

    def _keep(self, run: InterleavedRun) -> None:
        # All of what was read is kept with it, however little of that are frames.
        if self._early_size + len(run.data) <= EARLY_MEDIA_LIMIT:
            self._early.append(run)
            self._early_size += len(run.data)

    # Requests

    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        *,
        body: bytes = b"",
        accept: Collection[int] = (200,),
        patience: float | None = None,
    ) -> Response:
        """Send a request and return its answer; credentials are given when they are asked for.

        ``patience``: seconds to wait for the answer, other than the connection's time-out. Raises StatusError for an
        answer that is not in ``accept``, PullError or TimeoutError.
        """
        patience = self._timeout if patience is None else patience
        response = await self._exchange(method, url, headers, body, patience)
        if response.status == 401 and self._learn(response):
            response = await self._exchange(method, url, headers, body, patience)
        if response.status not in accept:
            raise StatusError(response)
        return response

    def send(self, method: str, url: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        """Send a request whose answer does not matter."""
        if not self.transport.is_closing():
            self._write(method, url, headers, None)

    async def _exchange(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, patience: float
    ) -> Response:
        if self.lost.done():
            self.lost.result()
        answer: asyncio.Future[Response] = self.loop.create_future()
        self._write(method, url, headers, answer, body)
        try:
            async with asyncio.timeout(patience):
                await asyncio.wait((answer, self.lost), return_when=asyncio.FIRST_COMPLETED)
                return answer.result() if answer.done() else await self._raise_lost()
        except TimeoutError:
            raise TimeoutError(f"no answer to {method} within {patience:g} s") from None

    async def _raise_lost(self) -> Response:
        await self.lost
        raise PullError("closed by the server")

    def _learn(self, response: Response) -> bool:
        """Take the challenges of a refusal; return whether they can be answered."""
        self._challenges = response.headers.get_all("WWW-Authenticate")
        return bool(self._challenges) and self._authenticator is not None

    def _write(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        answer: asyncio.Future[Response] | None,
        body: bytes = b"",
    ) -> None:
        self._cseq += 1
        cseq = str(self._cseq)
        items = [("CSeq", cseq), ("User-Agent", USER_AGENT)]
        if self.session:
            items.append(("Session", self.session))
        if self._challenges and self._authenticator is not None:
            proof = self._authenticator.authorize(self._challenges, method, url, secrets.token_hex(8))
            if proof is not None:
                items.append(("Authorization", proof))
        request = Request(method, url, Headers([*items, *headers]), body)
        if self.log.is_debug():
            self.log.debug("[c->s] %s", dump(request))
        if len(self._pending) >= PENDING_LIMIT:
            self._pending.popleft()
        self._pending.append((cseq, answer))
        self.transport.write(request.serialize())

    def _on_response(self, response: Response) -> None:
        if self.log.is_debug():
            self.log.debug("[s->c] %s", dump(response))
        if response.status < 200 or not self._pending:
            return
        cseq = (response.cseq or "").strip()
        known = any(number == cseq for number, _ in self._pending)
        # Cameras that leave CSeq out or mangle it answer in order.
        number, answer = self._pending.popleft()
        while known and number != cseq:
            number, answer = self._pending.popleft()
        if answer is not None and not answer.done():
            answer.set_result(response)

    def _on_request(self, request: Request) -> None:
        """Answer a request of the server: some look for signs of life in this way."""
        if self.log.is_debug():
            self.log.debug("[s->c] %s", dump(request))
        alive = request.method in (Method.OPTIONS, Method.GET_PARAMETER, Method.SET_PARAMETER, Method.ANNOUNCE)
        ends = request.method in (Method.TEARDOWN, Method.REDIRECT)
        response = Response(200 if alive or ends else 501)
        if request.cseq is not None:
            response.headers.set("CSeq", request.cseq)
        self.answer(response.serialize())
        if ends:
            self.fail(PullError(f"the server has ended the session ({request.method})"))
