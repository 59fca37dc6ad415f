"""One connection of an SRT client: it publishes or reads one stream."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from polycast.config.redact import redact_query
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.hub.errors import AccessDenied, PathError
from polycast.hub.path import Path, Publisher
from polycast.hub.stats import Counters, Reference
from polycast.hub.stream import Stream
from polycast.items import SessionState
from polycast.log import Log
from polycast.media.track import Track, describe_tracks
from polycast.net.address import join_host_port
from polycast.net.udp import Address
from polycast.protocols.base import Server, ServerContext
from polycast.protocols.session_fields import session_fields
from polycast.protocols.srt.handshakes import LogLines
from polycast.protocols.srt.item import SrtConnectionItem
from polycast.protocols.srt.keys import keys_for
from polycast.protocols.srt.link import Link
from polycast.protocols.srt.reader import SharedDatagrams, TransportReader
from polycast.protocols.srt.refusals import rejection_of
from polycast.protocols.srt.statistics import statistics_of
from polycast.protocols.transport_form import select_tracks
from polycast.protocols.transport_ingest import TransportIngest
from polycast.wire.srt.connection import Connection as Engine
from polycast.wire.srt.key_material import KeyMaterial
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.listener import ConnectionRequest
from polycast.wire.srt.rejection import RejectedError, Rejection
from polycast.wire.srt.stream_id import StreamId, parse_stream_id

CONNECTION_TYPE: Final = "srtConn"
"""What the API and commands call a connection."""

PUBLISHER_PATIENCE: Final = 5.0
"""Seconds that a reader waits for a connected publisher whose tracks are not known yet."""


class Host(Server):
    """The server, as connections use it."""

    context: ServerContext
    log: Log
    lines: LogLines

    @abstractmethod
    def now(self) -> float:
        """Return the monotonic time in seconds."""

    @abstractmethod
    def open_link(self, client: Connection, keys: ConnectionKeys | None) -> Link:
        """Accept a client."""

    @abstractmethod
    def refuse(self, client: Connection, reason: Rejection) -> None:
        """Tell a client that it is refused."""

    @abstractmethod
    def remove_client(self, client: Connection) -> None:
        """Remove a client that has gone."""

    @abstractmethod
    def shared_transport(self, stream: Stream, tracks: tuple[Track, ...], overhead: int) -> SharedDatagrams:
        """Return the muxer of these tracks of a stream, which all readers share. Raises LocalProtocolError.

        ``overhead``: bytes that encryption adds to each packet.
        """

    @property
    @abstractmethod
    def failure_pause(self) -> float:
        """Seconds by which the answer to a failed authentication is delayed."""


class Connection(Publisher):
    """A client, from its request on. It is accepted once it is known what it may do."""

    def __init__(self, server: Host, identifier: str, request: ConnectionRequest, address: Address, port: int) -> None:
        self.server = server
        self.id = identifier
        self.request = request
        self.address = address
        self.peer = (request.host, port)
        self.created = datetime.now(UTC)
        self.counters = Counters()
        self.log = server.log.child(f"conn {join_host_port(*self.peer)}")
        self.media = _Media()
        self.is_told = False
        """Whether the observer of connections knows it."""
        self._task: asyncio.Task[None] | None = None
        self._opened_at: float | None = server.now()

    # A slot of the connections of all servers

    @property
    def silent_since(self) -> float | None:
        """Since when it is undecided whether the client is accepted; None once it is."""
        return self._opened_at

    def evict(self) -> None:
        """Refuse: another client needs the slot."""
        self._refuse(Rejection.OVERLOAD, "another client needs its place")

    # Log

    def tell_opened(self) -> None:
        """Write it into the log, unless that has enough lines about clients that are not accepted."""
        self.media.is_logged = self.server.lines.take(self.server.now())
        if self.media.is_logged:
            self.log.info("opened")

    def _tell(self, text: str, *values: object) -> None:
        if self.media.is_logged:
            self.log.info(text, *values)

    # Decision

    def decide(self, loop: asyncio.AbstractEventLoop) -> None:
        """Find out whether the client is accepted."""
        self._task = loop.create_task(self._decide())

    async def _decide(self) -> None:
        try:
            wish = parse_stream_id(self.request.stream_id)
        except RemoteProtocolError as error:
            text = redact_query(self.request.stream_id)
            self._refuse(Rejection.BAD_REQUEST, f"invalid stream ID '{text}': {error}")
            return
        try:
            await (self._publish(wish) if wish.publishes else self._read(wish))
        except PathError as error:
            self._tell("request refused: %s", error)
            if isinstance(error, AccessDenied):
                await asyncio.sleep(self.server.failure_pause)
            self._refuse(rejection_of(error), str(error))
        except RejectedError as error:
            if error.reason is Rejection.BAD_SECRET:
                self.server.context.hub.access.count_wrong_secret(self.peer[0])
                await asyncio.sleep(self.server.failure_pause)
            self._refuse(error.reason, str(error))
        except Exception:
            self.on_internal_error()
        finally:
            self._task = None

    async def _authorize(self, action: Action, wish: StreamId) -> None:
        self.query = wish.query
        self.media.user = await self.server.context.hub.authorize(
            AccessRequest(
                action,
                wish.path,
                wish.query,
                self.peer[0],
                PlainCredentials(wish.user, wish.password),
                protocol="srt",
                id=self.id,
                takes_token_from_query=True,
            )
        )

    async def _keys(self, passphrase: str) -> ConnectionKeys | None:
        material: KeyMaterial | None = self.request.key_material
        if not passphrase and material is None:
            return None
        if material is None:
            raise RejectedError(Rejection.UNSECURE, "passphrase not provided by client")
        if not passphrase:
            raise RejectedError(Rejection.UNSECURE, "the client encrypts, but the path has no passphrase")
        await self.server.context.hub.access.wait_before_secret(self.peer[0])
        return await keys_for(passphrase, material)

    def _accept(self, keys: ConnectionKeys | None) -> Link:
        self._opened_at = None
        if not self.media.is_logged:
            self.media.is_logged = True
            self.log.info("opened")
        link = self.media.link = self.server.open_link(self, keys)
        return link

    # Publishing

    async def _publish(self, wish: StreamId) -> None:
        hub = self.server.context.hub
        await self._authorize(Action.PUBLISH, wish)
        path = hub.path(wish.path)
        try:
            keys = await self._keys(path.configuration.srt_publish_passphrase)
            path.set_publisher(self)
        finally:
            hub.release(path)
        media = self.media
        media.path, media.name, media.mode = path, path.name, "publish"
        media.ingest = TransportIngest(self._start_publishing, Counters(), self.log)
        self._accept(keys)

    def _start_publishing(self, tracks: Sequence[Track]) -> Stream | None:
        path = self.media.path
        if path is None:
            return None
        try:
            stream = path.start_publishing(self, tracks, publishes_packets=False)
        except PathError as error:
            self.close(str(error))
            return None
        self.log.info("is publishing to path '%s', %s", path.name, describe_tracks(tracks))
        return stream

    def close_publisher(self, reason: str) -> None:
        self.close(reason)

    def on_received(self, payloads: Sequence[bytes], now: float) -> None:
        """Publish what is due."""
        ingest = self.media.ingest
        if ingest is not None:
            ingest.receive(b"".join(payloads), now)

    # Reading

    async def _read(self, wish: StreamId) -> None:
        hub = self.server.context.hub
        await self._authorize(Action.READ, wish)
        path = hub.path(wish.path)
        try:
            keys = await self._keys(path.configuration.srt_read_passphrase)
            stream = await path.wait_ready(follows=True, patience=PUBLISHER_PATIENCE, query=wish.query)
            path.check_reader_limit()
            tracks = select_tracks(stream.descriptions)
            for track in stream.descriptions:
                if track not in tracks:
                    self.log.warning("skipping track %d (%s)", track.index + 1, track.codec_name)
            try:
                overhead = keys.encryption.tag_size if keys is not None else 0
                shared = self.server.shared_transport(stream, tracks, overhead)
            except LocalProtocolError as error:
                raise RejectedError(Rejection.UNSUPPORTED_MEDIA, str(error)) from None
            self._start_reading(path, stream, shared, keys)
        finally:
            hub.release(path)
        self.log.info("is reading from path '%s', %s", path.name, describe_tracks(tracks))

    def _start_reading(self, path: Path, stream: Stream, shared: SharedDatagrams, keys: ConnectionKeys | None) -> None:
        media = self.media
        link = self._accept(keys)
        reader = TransportReader(
            shared, link, self.counters, clock=self.server.now, close=self._end_of_stream, reference=self.reference
        )
        reader.query = self.query
        media.path, media.name, media.mode = path, path.name, "read"
        path.attach_reader(reader, stream)
        media.reader = reader

    def _end_of_stream(self, reason: str) -> None:
        self.media.reader = None
        self.close(reason)

    # End

    def close(self, reason: str) -> None:
        """Close once the client has played what was sent to it."""
        link = self.media.link
        if link is not None:
            self._leave(reason)
            link.close(reason, self.server.now())
        else:
            self._refuse(Rejection.CLOSE, reason)

    def abort(self, reason: str) -> None:
        """Close at once."""
        link = self.media.link
        if link is not None:
            link.abort(reason, self.server.now())
        else:
            self._refuse(Rejection.CLOSE, reason)

    def on_closed(self, reason: str) -> None:
        """The connection has ended."""
        ingest = self.media.ingest
        if ingest is not None:
            ingest.finish(self.server.now())
        if self.media.link is not None:
            self._count(self.media.link.engine)
        self._leave(reason)
        self.server.remove_client(self)
        self.log.info("closed (%s)", reason)

    def on_internal_error(self) -> None:
        """An exception is being handled, which is a bug."""
        self.log.exception("internal error")
        self.server.internal_errors += 1
        self.abort("internal error")

    def _refuse(self, code: Rejection, reason: str) -> None:
        """Tell the client, and forget it."""
        if self.media.link is not None:
            self.abort(reason)
            return
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self.server.refuse(self, code)
        self._leave(reason)
        self.server.remove_client(self)
        self._tell("closed (%s)", reason)

    def _leave(self, reason: str) -> None:
        """Stop publishing or reading."""
        media = self.media
        path, media.path = media.path, None
        reader, media.reader = media.reader, None
        media.ingest = None
        if path is None:
            return
        if reader is not None:
            path.remove_reader(reader)
        path.remove_publisher(self, reason)
        self.server.context.hub.release(path)

    def tick(self, now: float) -> None:
        """Called about once a second."""
        media = self.media
        if media.link is None:
            return
        engine = media.link.engine
        self._count(engine)
        stream = media.ingest.stream if media.ingest is not None else None
        media.link.share.weight = 1 + len(stream.readers) if stream is not None else 1
        if media.ingest is not None and not media.ingest.tick(now):
            self.close(media.ingest.problem)
            return
        dropped = engine.sent.dropped_packets
        if dropped != media.told_dropped and media.mode == "read":
            self.log.warning(
                "the client is too slow to read the stream: %d packets dropped", dropped - media.told_dropped
            )
            media.told_dropped = dropped

    # What is known of it

    def reference(self) -> Reference:
        return Reference(CONNECTION_TYPE, self.id)

    def _count(self, engine: Engine) -> Counters:
        """Update the counters of the session from those of the connection, and return them."""
        counters, sent, arrived = self.counters, engine.sent, engine.arrived
        counters.bytes_received, counters.bytes_sent = arrived.bytes, sent.bytes
        counters.packets_received, counters.packets_sent = arrived.packets, sent.packets
        counters.packets_dropped = sent.dropped_packets
        counters.packets_lost = arrived.dropped_packets if self.media.mode == "publish" else sent.lost_packets
        counters.packets_invalid = arrived.invalid_packets + arrived.undecryptable_packets
        counters.round_trip = engine.round_trip.time if engine.round_trip.is_known else None
        return counters

    def item(self) -> SrtConnectionItem | None:
        """Return the item for the API; None while the client is not accepted."""
        link = self.media.link
        if link is None:
            return None
        return SrtConnectionItem(
            address=join_host_port(*self.peer),
            state=self.media.mode,
            path=self.media.name,
            query=self.query,
            user=self.media.user,
            user_agent="",
            transport=self.server.name,
            statistics=statistics_of(link.engine, self.server.now()),
            **session_fields(self.created, self._count(link.engine)),
        )


class _Media:
    """What a client does."""

    def __init__(self) -> None:
        self.link: Link | None = None
        """None until it is accepted."""
        self.mode: SessionState = "idle"
        self.user = ""
        self.name = ""
        """Of the path."""
        self.path: Path | None = None
        self.ingest: TransportIngest | None = None
        self.reader: TransportReader | None = None
        self.is_logged = False
        """Whether the log says that it was opened, and so will say how it goes on."""
        self.told_dropped = 0
        """Dropped packets that were logged."""
