"""Publishes to an RTMP or RTMPS server."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import ClassVar

from polycast.errors import PolycastError, RemoteProtocolError
from polycast.hub.batch import FrameBatch
from polycast.hub.path import Path
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import FrameReader, Stream
from polycast.log import Log
from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.net.dial import connect
from polycast.net.outbox import Outbox
from polycast.protocols.outgoing import OutgoingConnection, tls_of
from polycast.protocols.push import CLOSE_SECONDS, PATIENCE, Pusher
from polycast.wire.rtmp.address import ServerAddress
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import LoginRequested, PeerClosedStream, RequestAccepted, RequestRefused
from polycast.wire.rtmp.login import ClientLogin

# Seconds between two checks of the connection.
CHECK_SECONDS = 1.0


class PushError(PolycastError):
    """The server refused the stream, or disconnected."""


class LoginNeededError(PolycastError):
    """The server requires a login; the next connection makes the next step of it."""


class PushConnection(OutgoingConnection):
    """A connection around an RTMP client engine."""

    lingers: ClassVar[bool] = True  # or the server may lose the end of the stream

    def __init__(self, address: ServerAddress, log: Log, login: ClientLogin) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(loop, log)
        self.engine = ClientConnection(
            address, Mode.PUBLISH, self.opened_at, seed=secrets.token_bytes(32), timeout=PATIENCE, login=login
        )
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.accepted.add_done_callback(lambda done: done.exception() if not done.cancelled() else None)

    def on_connected(self) -> None:
        self.flush()

    def receive(self, data: bytes, now: float) -> bool:
        for event in self.engine.receive_data(data, now):
            if isinstance(event, RequestAccepted):
                if not self.accepted.done():
                    self.accepted.set_result(None)
            elif isinstance(event, LoginRequested):
                self.fail(LoginNeededError())
            elif isinstance(event, RequestRefused):
                self.fail(PushError(f"the server refuses the stream: {event.code}: {event.description}"))
            elif isinstance(event, PeerClosedStream):
                self.fail(PushError(f"the server has ended the stream: {event.reason}"))
        self.flush()
        return self.engine.has_more

    def continue_receiving(self, now: float) -> bool:
        return self.receive(b"", now)

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self.flush()
        super().on_protocol_error(error)

    def fail(self, error: Exception) -> None:
        super().fail(error)
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def flush(self) -> None:
        """Write the engine's output."""
        data = self.engine.data_to_send()
        if data:
            self.answer(data)


class RtmpPusher(Pusher, FrameReader):
    """One connection to an RTMP server."""

    counters: Counters
    is_passive = True

    def __init__(self, address: ServerAddress, log: Log, fingerprint: str) -> None:
        super().__init__()
        self._address = address
        self._log = log
        self._fingerprint = fingerprint
        self._connection: PushConnection | None = None
        self._outbox: Outbox | None = None
        self._stream: Stream | None = None
        self._indexes: frozenset[int] = frozenset()
        self._key_track = -1
        self._flowing = False

    # Pusher

    async def open(self, path: Path, stream: Stream) -> None:
        address = self._address
        tls = tls_of(self._fingerprint) if address.secure else None
        login = ClientLogin(address.user, address.password, address.app, secrets.token_hex(4))
        while True:
            connection = self._connection = await connect(
                lambda: PushConnection(address, self._log, login), address.host, address.port, tls=tls, timeout=PATIENCE
            )
            try:
                async with asyncio.timeout(PATIENCE):
                    await asyncio.shield(connection.accepted)
            except LoginNeededError:
                connection.finish()
                continue
            except TimeoutError:
                raise TimeoutError(f"no answer within {PATIENCE:g} s") from None
            break
        tracks = connection.engine.send_tracks(stream.descriptions)
        connection.flush()
        for track in stream.descriptions:
            if track not in tracks:
                self._log.warning("the track %s is left out: RTMP does not carry it here", track.codec_name)
        self._indexes = frozenset(track.index for track in tracks)
        self._key_track = next((track.index for track in tracks if track.codec.kind is Kind.VIDEO), -1)
        self._outbox, self._stream = connection.outbox, stream
        path.attach_reader(self, stream)

    async def wait(self) -> None:
        connection, outbox = self._connection, self._outbox
        if connection is None or outbox is None:
            raise PushError("not connected")
        while not connection.lost.done():
            if outbox.is_stuck(time.monotonic(), PATIENCE):
                raise TimeoutError(f"the server has taken nothing for {PATIENCE:g} s")
            if self._stream is not None:
                outbox.set_bit_rate(self._stream.meter.bit_rate)
            await asyncio.wait((connection.lost,), timeout=CHECK_SECONDS)
        connection.lost.result()
        raise PushError("closed by the server")

    async def close(self, path: Path) -> None:
        path.remove_reader(self)
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(PolycastError):
            connection.engine.close_stream()
            connection.flush()
        await connection.finish_within(CLOSE_SECONDS)

    # FrameReader

    def deliver_frames(self, batch: FrameBatch) -> None:
        connection, outbox = self._connection, self._outbox
        if connection is None or outbox is None or not connection.is_open:
            return
        engine = connection.engine
        for index, entry in batch.entries:
            if index not in self._indexes:
                continue
            if not isinstance(entry, Frame):
                engine.update_track(entry)
                continue
            if not self._may_send(index, entry, outbox):
                continue
            engine.send_frame(index, entry)
            self.counters.packets_sent += 1
        data = engine.data_to_send()
        if data:
            outbox.write(data)
            self.counters.bytes_sent += len(data)

    def close_reader(self, reason: str) -> None:
        """The stream has ended; the supervisor notices that."""

    def reference(self) -> Reference:
        return Reference("rtmpPusher")

    def _may_send(self, index: int, frame: Frame, outbox: Outbox) -> bool:
        """Whether a frame is sent: from a key frame on, and while the server keeps up."""
        starts = (index == self._key_track and frame.key) or self._key_track < 0
        if starts and (outbox.ready or outbox.has_drained()):
            outbox.ready = self._flowing = True
        if not outbox.ready:
            self._flowing = False
            outbox.dropped += 1
            self.counters.packets_dropped += 1
        return self._flowing
