"""One connection of an RTMP client: it publishes or plays one stream."""

from __future__ import annotations

import asyncio
import secrets
from abc import abstractmethod
from collections.abc import Coroutine, Sequence

from polycast.config.dialects.registry import MEDIAMTX, dialect_of
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.hub.access_request import AccessRequest, Action, Credentials, PlainCredentials
from polycast.hub.errors import AccessDenied, NoOnePublishing, PathError, Redirected
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.items import SessionItem, SessionState
from polycast.media.track import Track, describe_tracks
from polycast.net.address import join_host_port
from polycast.protocols.handing_over import HandedOver
from polycast.protocols.rtmp.analysis import AnalysisTimer
from polycast.protocols.rtmp.credentials import LoginCredentials
from polycast.protocols.rtmp.reader import MessageReader, SharedMuxer
from polycast.protocols.rtmp.selection import advice, select_converted
from polycast.protocols.session_fields import session_fields
from polycast.protocols.tcp_server import ServerConnection, TcpServer
from polycast.protocols.transcoding import TranscodedTrack, transcoded_track
from polycast.transcode.audio import AAC
from polycast.wire.rtmp import events
from polycast.wire.rtmp.address import Target
from polycast.wire.rtmp.login import Login, Response
from polycast.wire.rtmp.server import PLAY_NOT_FOUND, PLAY_REFUSED, PUBLISH_DENIED, PUBLISH_REFUSED
from polycast.wire.rtmp.server import ServerConnection as Engine
from polycast.wire.rtmp.supported import NOTHING_TO_CARRY, Selection

KEY_FRAME_PATIENCE = 10.0
"""Seconds without a key frame after which a warning is logged; encoders send one every 1 to 5 seconds."""

PUBLISHER_PATIENCE = 5.0
"""Seconds that a player waits for a connected publisher whose tracks are not known yet: longer than the analysis of a
publisher takes."""

_SEED_SIZE = 4096
"""Random bytes for a handshake: more than twice 1536."""


class Host(TcpServer):
    """The server, as connections use it."""

    login: Login
    """How publishers log in when they connect, if the configuration requires it."""

    @property
    @abstractmethod
    def session_type(self) -> str:
        """What the API calls a session."""

    @abstractmethod
    def new_id(self) -> str:
        """Return an id for a new connection."""

    @abstractmethod
    def add_client(self, connection: Connection) -> None:
        """Add a new connection to the sessions."""

    @abstractmethod
    def remove_client(self, connection: Connection) -> None:
        """Remove a lost connection."""

    @abstractmethod
    def shared_muxer(
        self, stream: Stream, tracks: tuple[Track, ...], transcoded: tuple[TranscodedTrack, ...]
    ) -> SharedMuxer:
        """Return the muxer that serves these tracks of a stream; ``transcoded`` are those that are converted.

        Raises LocalProtocolError.
        """


class Connection(ServerConnection, Publisher):
    """A client's connection."""

    server: Host

    def __init__(self, server: Host) -> None:
        super().__init__(server)
        self.id = server.new_id()
        self.counters = Counters()
        self.mode: SessionState = "idle"
        """``idle``, ``read`` or ``publish``."""
        self.user = ""
        self.path: Path | None = None
        self.path_name = ""
        self._engine = self._new_engine(secrets.token_bytes(_SEED_SIZE))
        self._stream: Stream | None = None
        self._reader: MessageReader | None = None
        self._task: asyncio.Task[None] | None = None
        self._analysis = AnalysisTimer(self.loop, self.clock)
        self._waiting_since: float | None = None
        """Since when the reader waits for a key frame; None once that was logged, or it has received one."""

    def _new_engine(self, seed: bytes) -> Engine:
        server = self.server
        return Engine(
            self.opened_at,
            seed=seed,
            timeout=server.read_timeout,
            login=server.login,
            starts_early=dialect_of(server.configuration.dialect) is not MEDIAMTX,
        )

    # The shell

    @property
    def seed(self) -> bytes:
        return self._engine.seed

    def take(self, handed: HandedOver) -> None:
        super().take(handed)
        self._engine = self._new_engine(handed.seed)

    def on_connected(self) -> None:
        self.server.add_client(self)
        super().on_connected()

    def on_closing(self, reason: str) -> None:
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._analysis.cancel()
        self._leave(reason)
        self._engine.abandon()
        self.server.remove_client(self)

    def receive(self, data: bytes, now: float) -> bool:
        engine = self._engine
        self.counters.bytes_received += len(data)
        if self.history is not None:
            self.remember(data)
        happened = engine.receive_data(data, now)
        # Most reads contain only a part of a frame and cause no event.
        if happened or engine.has_output or self._stream is None:
            self._handle(happened, now)
        while engine.has_more and self.is_open and not self.is_slice_over():
            self._handle(engine.receive_data(b"", now), now)
        return engine.has_more

    def continue_receiving(self, now: float) -> bool:
        return self.receive(b"", now)

    @property
    def held_size(self) -> int:
        return self._engine.held_size

    def end_slice(self, now: float) -> None:
        if self._stream is not None and self._reader is None:
            self._stream.end_of_read()

    def on_protocol_error(self, error: RemoteProtocolError) -> None:
        self._flush()
        super().on_protocol_error(error)

    # Events

    def _handle(self, happened: list[events.Event], now: float) -> None:
        self._flush()
        stream = self._stream
        for event in happened:
            if isinstance(event, events.FrameReceived):
                if stream is not None:
                    stream.publish_frame(event.track, event.frame, now)
                    self.counters.packets_received += 1
            elif isinstance(event, events.TrackChanged):
                if stream is not None:
                    stream.set_codec(event.track, event.codec)
            elif isinstance(event, events.TracksKnown):
                self._start_publishing(event.tracks, now)
                stream = self._stream
            else:
                self._handle_rare(event)
        if stream is None:
            self._analysis.watch(self._engine.demuxer, now, self._check_timeout)

    def _check_timeout(self) -> None:
        now = self.clock()
        timeout = self._engine.next_timeout()
        if timeout is None or now < timeout or not self.is_open:
            return
        try:
            self._handle(self._engine.handle_timeout(now), now)
        except RemoteProtocolError as error:
            self._flush()
            self.close(str(error))
        else:
            self.end_slice(now)
            self.resume_work()

    def _handle_rare(self, event: events.Event) -> None:
        self.silent_since = None
        if isinstance(event, events.PublishRequested):
            self._begin(self._publish(event))
        elif isinstance(event, events.PlayRequested):
            self._begin(self._play(event))
        elif isinstance(event, events.LoginRequested):
            self._flush()
            self.close("the client was asked to log in")
        elif isinstance(event, events.TrackIgnored):
            self.log.warning("%s track %d is skipped: %s", event.kind, event.number + 1, event.reason)
        elif isinstance(event, events.PeerClosedStream):
            if self._task is not None:
                self._task.cancel()
            self._leave(f"the client ended its stream ({event.reason})")
            self.mode = "idle"

    def _begin(self, coroutine: Coroutine[None, None, None]) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self.server.context.loop.create_task(self._guard(coroutine))
        self._task.add_done_callback(lambda _: coroutine.close())  # the client may go before the task has begun

    async def _guard(self, coroutine: Coroutine[None, None, None]) -> None:
        try:
            await coroutine
        except RemoteProtocolError as error:
            self.on_protocol_error(error)
        except Exception:
            self.on_internal_error()
        else:
            self._task = None

    # Publishing

    async def _publish(self, event: events.PublishRequested) -> None:
        hub = self.server.context.hub
        try:
            if await self._move_to_home([target.path for target in event.targets]):
                return
            target = await self._authorize(Action.PUBLISH, event.targets, event.login)
            path = hub.path(target.path)
            try:
                path.set_publisher(self)
            finally:
                hub.release(path)
        except PathError as error:
            await self._refuse(PUBLISH_DENIED if isinstance(error, AccessDenied) else PUBLISH_REFUSED, error)
            return
        self.path, self.path_name, self.query = path, path.name, target.query
        self.mode = "publish"
        now = self.clock()
        self._handle(self._engine.accept_publish(now), now)
        self.end_slice(now)
        self.resume_work()

    def _start_publishing(self, tracks: tuple[Track, ...], now: float) -> None:
        path = self.path
        if path is None:
            return
        try:
            self._stream = path.start_publishing(self, tracks, publishes_packets=False)
        except PathError as error:
            self.close(str(error))
            return
        self.log.info("is publishing to path '%s', %s", path.name, describe_tracks(tracks))

    def close_publisher(self, reason: str) -> None:
        self.close(reason)

    # Playing

    async def _play(self, event: events.PlayRequested) -> None:
        hub = self.server.context.hub
        if await self._move_to_owner([target.path for target in event.targets]):
            return
        try:
            target = await self._authorize(Action.READ, event.targets)
            path = hub.path(target.path)
            try:
                stream = await path.wait_ready(follows=True, patience=PUBLISHER_PATIENCE, query=target.query)
                self._start_playing(path, stream, target.query)
            finally:
                hub.release(path)
        except Redirected as error:
            # No player follows a redirection in response to "play", so it becomes an error text.
            await self._refuse(PLAY_NOT_FOUND, PathError(f"{NoOnePublishing(path.name)} ({error})"))
        except PathError as error:
            not_found = isinstance(error, NoOnePublishing)
            await self._refuse(PLAY_NOT_FOUND if not_found else PLAY_REFUSED, error)

    def _start_playing(self, path: Path, stream: Stream, query: str) -> None:
        path.check_reader_limit()
        selection, transcoded = self._select_tracks(path, stream)
        if not selection.tracks:
            raise PathError(NOTHING_TO_CARRY)
        try:
            shared = self.server.shared_muxer(stream, selection.tracks, transcoded)
            tracks = self._engine.accept_play(selection.tracks)
        except LocalProtocolError as error:
            raise PathError(str(error)) from None
        self._flush()
        reader = MessageReader(shared, self.outbox, self.counters, close=self._end_of_stream, reference=self.reference)
        self.query = reader.query = query
        path.attach_reader(reader, stream)
        reader.begin(stream)
        self._reader = reader
        self._waiting_since = self.clock()
        self._stream = stream
        self.path, self.path_name = path, path.name
        self.mode = "read"
        self.log.info("is reading from path '%s', %s", path.name, describe_tracks(tracks))

    def _select_tracks(self, path: Path, stream: Stream) -> tuple[Selection, tuple[TranscodedTrack, ...]]:
        """Return the tracks for the client, and those among them that are converted for it."""
        tracks, engine = stream.descriptions, self._engine
        transcodes = path.configuration.transcode_audio
        if transcodes:
            loop = self.server.context.loop
            selection, transcoded = select_converted(
                engine, tracks, lambda track: transcoded_track(stream, track, AAC, loop, path.log)
            )
        else:
            selection, transcoded = engine.select_tracks(tracks), ()
        for track, reason in selection.skipped:
            remedy = "" if transcodes else advice(track, selection)
            self.log.warning("track %d (%s) is skipped: %s%s", track.index + 1, track.codec_name, reason, remedy)
        return selection, transcoded

    def _end_of_stream(self, reason: str) -> None:
        self._reader = None
        try:
            self._engine.end_play()
        except LocalProtocolError:
            pass  # the client disconnected at the same time
        self._flush()
        self.close(reason)

    # Both

    async def _move_to_owner(self, paths: Sequence[str]) -> bool:
        """Hand the client over to the worker that has the stream, which may refuse; return whether it accepted."""
        workers, hub = self.other_workers, self.server.context.hub
        for path in () if workers is None else paths:
            owner = workers.streaming(path) if workers is not None and not hub.has_stream(path) else None
            if owner is not None:
                return await self.hand_over(owner, path)
        self.history = None
        return False

    async def _move_to_home(self, paths: Sequence[str]) -> bool:
        """Hand the client over to the worker that always has the stream of the path; return whether it did so.

        Raises PathError if it must, but cannot.
        """
        workers = self.other_workers
        homes = [] if workers is None else [home for path in paths if (home := workers.home_of(path)) is not None]
        if not homes:
            self.history = None
            return False
        if not await self.hand_over(homes[0]):
            raise PathError("the worker that has the stream of this path cannot serve the client now")
        return True

    async def _authorize(self, action: Action, targets: Sequence[Target], login: Response | None = None) -> Target:
        """Return the first target that the client is authorised for; raises the error of the most likely one."""
        hub = self.server.context.hub
        errors: list[PathError] = []
        # A path named in the configuration is more likely than one that matches an expression.
        for target in sorted(targets, key=lambda target: not hub.is_named(target.path)):
            credentials: Credentials = PlainCredentials(target.user, target.password)
            if login is not None:
                credentials = LoginCredentials(login)
            try:
                self.user = await hub.authorize(
                    AccessRequest(
                        action,
                        target.path,
                        target.query,
                        self.peer[0],
                        credentials,
                        protocol="rtmp",
                        id=self.id,
                        user_agent=self._engine.user_agent,
                        takes_token_from_query=True,
                    )
                )
            except PathError as error:
                errors.append(error)
            else:
                return target
        raise errors.pop(0)  # what is raised refers to this frame

    async def _refuse(self, code: str, error: PathError) -> None:
        """Send the error and close; after failed authentication, the answer is delayed."""
        self.log.info("request refused: %s", error)
        if isinstance(error, AccessDenied):
            await asyncio.sleep(self.server.failure_pause)
        try:
            self._engine.refuse(code, str(error))
        except LocalProtocolError:
            pass  # the client disconnected in the meantime
        self._flush()
        self.close(str(error))

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data:
            self.answer(data)

    def _leave(self, reason: str) -> None:
        """Stop publishing or reading."""
        path, self.path = self.path, None
        reader, self._reader = self._reader, None
        self._stream = None
        if path is None:
            return
        if reader is not None:
            path.remove_reader(reader)
            reader.end()
        path.remove_publisher(self, reason)
        self.server.context.hub.release(path)

    def on_dropped(self, count: int) -> None:
        self.log.warning("the client is too slow to read the stream: %d frames dropped", count)

    def on_tick(self, now: float) -> None:
        stream = self._stream
        self.weight = 1
        if stream is not None:
            if self._reader is not None:
                self.outbox.set_bit_rate(stream.meter.bit_rate, self.server.queue_minimum)
                self._check_key_frame(self._reader, now)
            else:
                self.weight += len(stream.readers)
        self._check_timeout()

    def _check_key_frame(self, reader: MessageReader, now: float) -> None:
        since = self._waiting_since
        if since is None:
            return
        if reader.flowing:
            self._waiting_since = None
        elif now - since >= KEY_FRAME_PATIENCE:
            self._waiting_since = None
            self.log.warning(
                "no key frame has arrived for %g s; the client receives nothing until one does", KEY_FRAME_PATIENCE
            )

    def reference(self) -> Reference:
        return Reference(self.server.session_type, self.id)

    def item(self) -> SessionItem:
        """Return the item for the API."""
        return SessionItem(
            address=join_host_port(*self.peer),
            state=self.mode,
            path=self.path_name,
            query=self.query,
            user=self.user,
            user_agent=self._engine.user_agent,
            transport=self.server.name,
            **session_fields(self.created, self.counters),
        )
