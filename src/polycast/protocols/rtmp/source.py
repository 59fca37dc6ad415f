"""Pulls a stream from an RTMP or RTMPS server."""

from __future__ import annotations

import secrets
from typing import ClassVar, Final

from polycast.config.dialects.registry import LEGACY, dialect_of
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.hub.stream import Stream
from polycast.net.dial import client_context, connect
from polycast.net.loop import sleep_and_read
from polycast.protocols.outgoing import OutgoingConnection
from polycast.protocols.pull import PullContext, Puller, PullError, first_of, until_lost
from polycast.protocols.rtmp.analysis import AnalysisTimer
from polycast.wire.rtmp import events
from polycast.wire.rtmp.address import DEFAULT_PORT, ServerAddress, parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.login import ClientLogin

SECURE_PORT: Final = 1936
"""The default port of RTMPS sources, as in MediaMTX; that of rtsp-simple-server is the one of RTMP."""

_SEED_SIZE: Final = 4096
"""Random bytes for a handshake: more than twice 1536."""

# Maximum and minimum seconds between two checks of the engine's timeouts.
LONGEST_TICK_SECONDS: Final = 1.0
SHORTEST_TICK_SECONDS: Final = 0.02


class RtmpPuller(Puller):
    """One RTMP address."""

    label: ClassVar[str] = "rtmp source"
    type_name: ClassVar[str] = "rtmpSource"

    async def pull(self, context: PullContext) -> None:
        try:
            is_legacy = dialect_of(context.configuration.dialect) is LEGACY
            address = parse_url(self.url, secure_port=DEFAULT_PORT if is_legacy else SECURE_PORT)
            tls = client_context(context.path_configuration.source_fingerprint) if address.secure else None
        except (LocalProtocolError, ValueError) as error:
            raise PullError(str(error)) from error
        context.log.debug("connecting")
        login = ClientLogin(address.user, address.password, address.app, secrets.token_hex(4))
        while True:
            connection = await connect(
                lambda: _Connection(context, address, login),
                address.host,
                address.port,
                tls=tls,
                timeout=context.read_timeout,
                dump_prefix=context.dump_prefix("rtmps_source_conn" if address.secure else "rtmp_source_conn"),
            )
            try:
                connection.begin()
                await first_of(connection.wait(), until_lost(connection.lost))
            except _LoginNeededError:
                continue
            finally:
                connection.leave()


class _LoginNeededError(PullError):
    """The server requires a login; the next connection performs its next step."""


class _Connection(OutgoingConnection):
    """Feeds the engine with data, and the stream with the engine's events."""

    def __init__(self, context: PullContext, address: ServerAddress, login: ClientLogin) -> None:
        super().__init__(context.loop, context.log)
        self._context = context
        self._engine = ClientConnection(
            address,
            Mode.PLAY,
            self.opened_at,
            seed=secrets.token_bytes(_SEED_SIZE),
            timeout=context.read_timeout,
            login=login,
        )
        self._stream: Stream | None = None
        self._analysis = AnalysisTimer(self.loop, self.clock)

    # The shell

    def receive(self, data: bytes, now: float) -> bool:
        if self.lost.done():
            return False
        engine = self._engine
        self._context.counters.bytes_received += len(data)
        try:
            self._handle(engine.receive_data(data, now), now)
            while engine.has_more and not self.is_slice_over():
                self._handle(engine.receive_data(b"", now), now)
        except PullError as error:
            self.fail(error)
        return engine.has_more

    def continue_receiving(self, now: float) -> bool:
        return self.receive(b"", now)

    @property
    def held_size(self) -> int:
        return self._engine.held_size

    def end_slice(self, now: float) -> None:
        if self._stream is not None:
            self._stream.end_of_read()

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self._flush()
        super().on_protocol_error(error)

    # Life

    def begin(self) -> None:
        """Send the handshake, after the certificate of the server was verified."""
        self._flush()

    async def wait(self) -> None:
        """Handle the engine's timeouts; ends with PullError if the server is silent for too long."""
        while True:
            timeout = self._engine.next_timeout()
            rest = LONGEST_TICK_SECONDS if timeout is None else timeout - self.clock()
            await sleep_and_read(max(SHORTEST_TICK_SECONDS, min(LONGEST_TICK_SECONDS, rest)))
            now = self.clock()
            if self._stream is not None:
                self.weight = 1 + len(self._stream.readers)
            if self.check_progress(now, self._context.write_timeout) and not self.is_behind:
                self._check_timeout()

    def _check_timeout(self) -> None:
        now = self.clock()
        timeout = self._engine.next_timeout()
        if timeout is None or now < timeout or self.lost.done():
            return
        try:
            self._handle(self._engine.handle_timeout(now), now)
        except RemoteProtocolError as error:
            self.fail(PullError(str(error)))
        except PullError as error:
            self.fail(error)
        else:
            self.end_slice(now)
            self.resume_work()

    def leave(self) -> None:
        """Signal the end to the server, and close."""
        self._analysis.cancel()
        self._stream = None
        self._engine.close_stream()
        self._flush()
        self._engine.abandon()
        self.finish()

    # Events

    def _handle(self, happened: list[events.Event], now: float) -> None:
        self._flush()
        stream = self._stream
        for event in happened:
            if isinstance(event, events.FrameReceived):
                if stream is not None:
                    stream.publish_frame(event.track, event.frame, now)
                    self._context.counters.packets_received += 1
            elif isinstance(event, events.TrackChanged):
                if stream is not None:
                    stream.set_codec(event.track, event.codec)
            elif isinstance(event, events.TracksKnown):
                stream = self._stream = self._context.publish(event.tracks, False)
            else:
                self._handle_rare(event)
        if stream is None:
            self._analysis.watch(self._engine.demuxer, now, self._check_timeout)

    def _handle_rare(self, event: events.Event) -> None:
        if isinstance(event, events.TrackIgnored):
            self._context.log.warning("%s track %d is skipped: %s", event.kind, event.number + 1, event.reason)
        elif isinstance(event, events.LoginRequested):
            raise _LoginNeededError("the server requires a login")
        elif isinstance(event, events.RequestRefused):
            raise PullError(": ".join(filter(None, (event.code, event.description))) or "the server refused")
        elif isinstance(event, events.PeerClosedStream):
            raise PullError(f"the server has ended the stream ({event.reason})")

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.answer(data)
