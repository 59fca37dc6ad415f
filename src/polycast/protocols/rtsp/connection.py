"""One TCP (or TLS) connection of an RTSP client: drives the engine, and passes its requests to the handler."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from functools import partial

from polycast.errors import RemoteProtocolError
from polycast.hub.errors import PathError
from polycast.hub.stream import Stream
from polycast.items import ConnectionItem
from polycast.log import Log
from polycast.net.address import join_host_port, peer_of
from polycast.protocols.handing_over import History
from polycast.protocols.rtsp.context import SessionContext
from polycast.protocols.rtsp.reading import Reading
from polycast.protocols.rtsp.recording import Recording
from polycast.protocols.rtsp.reports import ReportSender
from polycast.protocols.rtsp.requests import Outcome, RequestHandler
from polycast.protocols.rtsp.requests import Request as HandledRequest
from polycast.protocols.rtsp.sessions import Sessions
from polycast.protocols.rtsp.tunnels import TunnelEnd, Tunnels
from polycast.protocols.tcp_server import ServerConnection, TcpServer
from polycast.wire.rtsp import events
from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.masking import dump
from polycast.wire.rtsp.message import Request, Response
from polycast.wire.rtsp.server import ServerConnection as Engine
from polycast.wire.rtsp.server_session import ServerSession


class Connection(ServerConnection):
    """A client's connection."""

    def __init__(
        self,
        server: TcpServer,
        sessions: Sessions,
        context: SessionContext,
        reports: ReportSender,
        tunnels: Tunnels,
    ) -> None:
        super().__init__(server)
        self.asked_for = ""
        self._sessions = sessions
        self._context = context
        self._reports = reports
        self._tunnels = tunnels
        self._tunnel: TunnelEnd | None = None
        """What carries it through HTTP or WebSocket."""
        self._engine: Engine
        self._task: asyncio.Task[None] | None = None
        """Prepares the answer to a request."""
        self._media: Reading | Recording | None = None
        """What the frames of ``_media_session`` belong to: looked up for the first run after a request."""
        self._media_session: ServerSession | None = None
        self._stream: Stream | None = None
        """The stream that received media in this slice."""

    @property
    def local_host(self) -> str:
        return peer_of(self.transport.get_extra_info("sockname"))[0]

    @property
    def remote_host(self) -> tuple[str, int]:
        peername = self.transport.get_extra_info("peername")
        if not isinstance(peername, tuple) or self.forwarded is not None:
            return self.peer[0], 0
        return str(peername[0]), int(peername[3]) if len(peername) == 4 else 0

    @property
    def failure_pause(self) -> float:
        return self.server.failure_pause

    def item(self) -> ConnectionItem:
        """Return the item for the API."""
        session = self._sessions.find(self._engine.session)
        return ConnectionItem(
            created=self.created.astimezone(),
            address=join_host_port(*self.peer),
            session=session.id if session is not None else None,
            tunnel="none" if self._tunnel is None or self._tunnel.role is None else self._tunnel.role.name,
            bytes_received=self.bytes_received,
            bytes_sent=self.outbox.written,
        )

    # Base class

    def on_connected(self) -> None:
        nonce = secrets.token_hex(16)
        engine = Engine(
            self._context.endpoint, self.peer[0], self.opened_at, nonce=nonce, trace=partial(_trace, self.log)
        )
        self._engine = engine
        self._sessions.add_connection(engine, self)
        super().on_connected()

    def on_closing(self, reason: str) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._media = self._media_session = None
        self._sessions.remove_connection(self._engine, reason or "not in use")
        if self._tunnel is not None:
            self._tunnel.leave()

    def on_lost(self, reason: str) -> None:
        if self.asked_for:
            refusals = self._context.hub.access.refusals
            suffix = refusals.log_suffix(self.peer[0], self.asked_for, "left without credentials", self.clock())
            if suffix is not None:
                self.log.warning("left without the credentials that path '%s' asks for%s", self.asked_for, suffix)
        super().on_lost(reason)

    def receive(self, data: bytes, now: float) -> bool:
        engine = self._engine
        if self.history is not None:
            self.remember(data)
        received = engine.receive(data, now)
        if isinstance(received, InterleavedRun):
            self._on_run(received, now)
            return False
        self._handle(received, now)
        return self.continue_receiving(now) if engine.has_more else False

    def continue_receiving(self, now: float) -> bool:
        engine = self._engine
        while engine.has_more and self.is_open:
            if self.is_slice_over():
                return True
            self._handle(engine.receive_data(b"", now), now)
        return False

    def end_slice(self, now: float) -> None:
        stream = self._stream
        if stream is not None:
            self._stream = None
            stream.end_of_read(coalesced=self._coalescing.is_active)
        if self._task is not None:
            if self._engine.is_full:
                self.hold_reading()
        elif self._pauses:
            self.release_reading()

    @property
    def skipped(self) -> int:
        return self._engine.skipped

    @property
    def held_size(self) -> int:
        held = self._engine.held_size
        return held if self._tunnel is None else held + self._tunnel.held_size

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self.flush()
        super().on_protocol_error(error)

    def on_internal_error(self) -> None:
        self._engine.fail()
        self.flush()
        super().on_internal_error()

    def flush(self) -> None:
        """Send the engine's output."""
        data = self._engine.data_to_send()
        if data:
            self.answer(data)

    def retire(self) -> None:
        """It is the POST connection of a tunnel: what it receives is passed to the GET connection."""
        self.silent_since = None
        self._engine.abandon()

    # Events

    def _handle(self, happened: list[events.Event], now: float) -> None:
        if self._engine.output:
            self.flush()
        if self.silent_since is not None and self._engine.has_spoken:
            self.silent_since = None
        for event in happened:
            if not self.is_open:
                return
            if type(event) is InterleavedRun:
                self._on_run(event, now)
            else:
                self._on_event(event)

    def _on_run(self, run: InterleavedRun, now: float) -> None:
        """Process interleaved frames. The hot path."""
        media = self._media if self._engine.session is self._media_session else self._find_media()
        if media is not None:
            stream = media.on_interleaved(run, now)
            if stream is not None:
                self._stream = stream

    def _find_media(self) -> Reading | Recording | None:
        """Find what the frames on this connection belong to, until the next request."""
        session = self._media_session = self._engine.session
        self._media = None if session is None else self._own_media()
        return self._media

    def _on_event(self, event: events.Event) -> None:
        self._media_session = self._media = None
        if isinstance(event, events.RequestRefused):
            self.log.info("request refused (%d): %s", event.status, event.reason)
        elif isinstance(event, events.MethodUnknown):
            self.log.debug("method %s is not implemented", event.method)
        elif isinstance(event, events.HttpReceived):
            self.history = History() if self.history is not None else None  # the tunnel keeps the received bytes
            self._tunnel = self._tunnels.begin(self, event.data)
        elif isinstance(event, events.ConnectionEnded):
            self.close(event.reason)
        elif not isinstance(event, InterleavedRun):
            handler = RequestHandler(self, self._engine, self._sessions, self._context, self._reports)
            elsewhere = self._other_worker(event)
            if elsewhere is None:
                self.history = None
                outcome = handler.handle(event)
            else:
                outcome = self._hand_over(handler, event, *elsewhere)
            if isinstance(outcome, list):
                self._finish(outcome)
            else:
                waiting = outcome
                self._task = self.loop.create_task(self._wait_for(handler, waiting))
                self._task.add_done_callback(
                    lambda _: waiting.close()
                )  # the client may disconnect before the task starts

    def _other_worker(self, event: events.Event) -> tuple[int, str] | None:
        """Return the index of the worker that should serve the client in place of this one, and the path that this is
        for, empty if only that one can serve it; None if it is served here."""
        workers = self.other_workers
        if workers is None:
            return None
        if isinstance(event, events.AnnounceRequested):
            home = workers.home_of(event.path)
            return None if home is None else (home, "")
        if not isinstance(event, events.DescribeRequested | events.SetupRequested):
            return None
        if self._context.hub.has_stream(event.path):
            return None
        owner = workers.streaming(event.path)
        return None if owner is None else (owner, event.path)

    async def _hand_over(self, handler: RequestHandler, event: HandledRequest, index: int, path: str) -> Outcome:
        """Let another worker answer a request; answer it here if that one does not."""
        if await self.hand_over(index, path):
            return []
        if not path:
            raise RemoteProtocolError("the worker that has the stream of this path cannot serve the client now", 503)
        outcome = handler.handle(event)
        return outcome if isinstance(outcome, list) else await outcome

    async def _wait_for(self, handler: RequestHandler, coroutine: Coroutine[None, None, Outcome]) -> None:
        try:
            try:
                outcome = await coroutine
            except (RemoteProtocolError, PathError) as error:
                outcome = handler.refuse(error)
            self._task = None
            if self.is_open:
                self._finish(outcome)
        except Exception:
            self._task = None
            self.on_internal_error()
        self.resume_work()

    def _finish(self, outcome: Outcome) -> None:
        """A request was answered."""
        self._media_session = self._media = None
        self.flush()
        for event in outcome:
            self._on_event(event)

    def _own_media(self) -> Reading | Recording | None:
        session = self._sessions.find(self._engine.session)
        return session.media if session is not None else None

    # Life cycle

    def on_dropped(self, count: int) -> None:
        self.log.warning("the client is too slow to read the stream: %d packets dropped", count)

    def on_tick(self, now: float) -> None:
        media = self._own_media()
        self.weight = 1
        if isinstance(media, Recording):
            if media.receiver is not None:
                self.weight += len(media.receiver.stream.readers)
        elif media is not None and media.reader is not None:
            self.outbox.set_bit_rate(media.stream.meter.bit_rate, self.server.queue_minimum)
        if self._tunnel is not None:
            self._tunnel.tick(now)
        self._handle(self._engine.handle_timeout(now), now)


def _trace(log: Log, message: Request | Response) -> None:
    if log.is_debug():
        log.debug("[%s] %s", "c->s" if isinstance(message, Request) else "s->c", dump(message))
