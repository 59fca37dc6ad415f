"""The clients that get streams as one long response, and those that wait for a picture."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from polycast.hub.hub import Hub
from polycast.hub.path import Path
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.log import Log
from polycast.media.codec import MJPEG
from polycast.net.http.file import ResponseFactory
from polycast.net.http.transaction import Transaction
from polycast.net.memory import held_memory_of
from polycast.protocols.hls.audience import Visit
from polycast.protocols.http_streams.files import StreamFile
from polycast.protocols.http_streams.formats import (
    FlvFormat,
    Format,
    PictureFormat,
    TransportFormat,
    picture_source,
)
from polycast.protocols.http_streams.session import PictureSession, StreamSession
from polycast.protocols.transcoding import transcoded_track
from polycast.transcode.jpeg import JPEG
from polycast.transcode.pyav import import_av
from polycast.wire.http.response import Response

PICTURE_SECONDS: Final = 10.0
"""Seconds that a request for a picture waits: longer than the time between key frames of usual streams."""
PURPOSE: Final = "pictures as JPEG of other codecs"


class HttpStreams:
    """All such clients of a server."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._hub = hub
        self._loop = loop
        self._log = log
        self._formats: WeakKeyDictionary[Stream, dict[StreamFile, Format]] = WeakKeyDictionary()
        self._sessions: dict[str, tuple[Visit, StreamSession]] = {}
        """By the id of the visit."""
        self._waiting: set[PictureSession] = set()

    async def open(
        self, transaction: Transaction, file: StreamFile, visit: Visit, responses: ResponseFactory
    ) -> Response | None:
        """Begin to answer a request that was allowed; return the response to one for the head only.

        Raises PathError, LocalProtocolError if the format cannot carry the stream, MissingDependency.
        """
        path = self._hub.path(visit.path)
        try:
            stream = await path.wait_ready(follows=True, query=visit.query)
            path.check_reader_limit()
            shared = await self._format(path, stream, file)
            is_picture = file is StreamFile.PICTURE
            response = responses.streamed("image/jpeg" if is_picture else shared.content_type)
            if transaction.request.method == "HEAD":
                return response
            if is_picture:
                assert isinstance(shared, PictureFormat)
                self._send_picture(transaction, path, stream, shared, visit, responses)
            else:
                self._send_stream(transaction, path, stream, shared, visit, response)
        finally:
            self._hub.release(path)
        return None

    async def _format(self, path: Path, stream: Stream, file: StreamFile) -> Format:
        formats = self._formats.setdefault(stream, {})
        key = StreamFile.PICTURES if file is StreamFile.PICTURE else file
        found = formats.get(key)
        if found is not None:
            return found
        tracks = tuple(stream.descriptions)
        made: Format
        if key is StreamFile.FLV:
            made = FlvFormat(tracks)
        elif key is StreamFile.TRANSPORT:
            made = TransportFormat(tracks)
        else:
            source = picture_source(tracks)
            if isinstance(source.codec, MJPEG):
                made = PictureFormat(source, None)
            else:
                await asyncio.to_thread(import_av, PURPOSE)
                transcoded = transcoded_track(stream, source, JPEG, self._loop, path.log)
                made = PictureFormat(transcoded.track, transcoded)
        return formats.setdefault(key, made)

    def _send_stream(
        self,
        transaction: Transaction,
        path: Path,
        stream: Stream,
        shared: Format,
        visit: Visit,
        response: Response,
    ) -> None:
        log = self._log.child(f"conn {visit.address}")
        reference = Reference("hlsSession", visit.id)
        session = StreamSession(transaction, shared, reference, lambda: self._forget(visit, log), log=log)
        session.query = visit.query
        if transaction.is_cancelled:
            return
        session.begin(path, stream)  # the stream may have ended meanwhile
        self._sessions[visit.id] = visit, session
        log.info("is reading from path '%s', over HTTP (%s)", path.name, shared.content_type.partition(";")[0])
        transaction.respond(response)

    def _forget(self, visit: Visit, log: Log) -> None:
        found = self._sessions.pop(visit.id, None)
        if found is not None:
            held_memory_of(self._loop).forget(found[1])
            log.info("no longer reads from path '%s'", visit.path)

    def _send_picture(
        self,
        transaction: Transaction,
        path: Path,
        stream: Stream,
        shared: PictureFormat,
        visit: Visit,
        responses: ResponseFactory,
    ) -> None:
        session = PictureSession(
            transaction,
            shared,
            Reference("hlsSession"),
            lambda: self._on_picture_ended(session, timer),
            respond=lambda picture: responses.document(200, b"image/jpeg", picture),
            absent=lambda: responses.text(503, "there is no picture yet"),
        )
        if transaction.is_cancelled:
            return
        session.begin(path, stream)  # the stream may have ended meanwhile
        self._waiting.add(session)
        timer = self._loop.call_later(PICTURE_SECONDS, session.give_up)

    def _on_picture_ended(self, session: PictureSession, timer: asyncio.TimerHandle) -> None:
        self._waiting.discard(session)
        timer.cancel()  # it would keep the session, and the picture

    def visits(self) -> Iterator[Visit]:
        """Return the visits of all clients that get streams, with what was sent to them."""
        for visit, session in self._sessions.values():
            visit.bytes_sent = session.bytes_sent
            yield visit

    def tick(self) -> None:
        """Called about once a second."""
        memory = held_memory_of(self._loop)
        for visit, session in list(self._sessions.values()):
            session.tick(session.stream_bit_rate)
            memory.update(session, visit.address.rpartition(":")[0], 0, session.waiting_size)

    def kick(self, visit_id: str) -> bool:
        """Close the session with this id; return whether there is one."""
        found = self._sessions.get(visit_id)
        if found is not None:
            found[1].close_reader("kicked")
        return found is not None

    def close(self, reason: str) -> None:
        """Close all of them."""
        for _, session in list(self._sessions.values()):
            session.close_reader(reason)
        for waiting in list(self._waiting):
            waiting.give_up()
