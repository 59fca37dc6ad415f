"""A stream of events about paths, sessions and the configuration (server-sent events, WHATWG HTML section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import msgspec

from polycast.config.webhooks import EventName
from polycast.control.console.log_ring import LogLine
from polycast.control.contract import MediaServer
from polycast.control.ids import universal_id
from polycast.control.settings import ReloadStatus
from polycast.control.v3.tracks import label_of
from polycast.hub.path import Path, PathObserver
from polycast.hub.stats import Reference
from polycast.hub.stream import Reader

# Events queued for one client. A client that falls further behind is disconnected, to limit memory.
MAXIMUM_WAITING: Final = 1_000

# Clients that may listen at the same time.
MAXIMUM_SUBSCRIBERS: Final = 100

# Seconds between two comments that keep idle connections open.
KEEP_ALIVE_SECONDS: Final = 15.0

# Seconds between two checks of the sessions, which do not report changes themselves.
POLL_SECONDS: Final = 1.0

# Milliseconds that a client should wait before it reconnects.
RETRY_MILLISECONDS: Final = 2_000

EVENTS: Final = {
    EventName.PATH_CREATED: "A path was created.",
    EventName.PATH_CLOSED: "A path was closed.",
    EventName.PATH_READY: "The stream of a path can be read.",
    EventName.PATH_NOT_READY: "The stream of a path has ended.",
    EventName.PATH_ONLINE: "A publisher or source delivers the stream of a path.",
    EventName.PATH_OFFLINE: "The publisher or source of a path has gone.",
    EventName.READER_ADDED: "A reader has joined a path.",
    EventName.READER_REMOVED: "A reader has left a path.",
    EventName.SEGMENT_CREATED: "A recorded file was created.",
    EventName.SEGMENT_COMPLETED: "A recorded file is complete.",
    EventName.UPLOAD_FAILED: "A recorded file cannot be uploaded, although others can; it is tried again later.",
    EventName.SESSION_CREATED: "A session of a client was created.",
    EventName.SESSION_CHANGED: "The state of a session changed.",
    EventName.SESSION_CLOSED: "A session was closed.",
    EventName.CONFIG_RELOADED: "A new configuration is in effect.",
    EventName.CONFIG_FAILED: "A new configuration was rejected; the old one remains in effect.",
}
"""Names of events and their meanings. A client that is too slow gets ``overflow`` as its last one."""

Seen = dict[tuple[str, str], str]
Listener = Callable[[str, Mapping[str, object]], None]
"""Called with the name of an event and what belongs to it."""


class Subscriber:
    """One client. `events` yields its events in the format in which they are sent."""

    def __init__(self, *, is_v3: bool = False, has_log: bool = False) -> None:
        """``is_v3``: whether ids and codecs are those of API v3. ``has_log``: whether it also gets lines of the log."""
        self.is_v3 = is_v3
        self.has_log = has_log
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_cut = False

    def put(self, event: bytes) -> None:
        """Queue an event, or disconnect the client if too many are queued."""
        if self._is_cut:
            return
        if self._queue.qsize() >= MAXIMUM_WAITING:
            self.close(b"event: overflow\ndata: {}\n\n")
            return
        self._queue.put_nowait(event)

    def close(self, last: bytes = b"") -> None:
        """End the stream of events; queued ones are still sent."""
        if not self._is_cut:
            self._is_cut = True
            if last:
                self._queue.put_nowait(last)
            self._queue.put_nowait(None)

    async def events(self) -> AsyncIterator[bytes]:
        """Yield events, and comments while there are none."""
        yield b"retry: %d\n\n" % RETRY_MILLISECONDS
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), KEEP_ALIVE_SECONDS)
            except TimeoutError:
                yield b": keep-alive\n\n"
                continue
            if event is None:
                return
            yield event


class EventHub(PathObserver):
    """Sends events to subscribers and webhooks. An observer of the hub; idle without any."""

    def __init__(self, media_server: MediaServer) -> None:
        self._media_server = media_server
        self._subscribers: set[Subscriber] = set()
        self._listener: Listener | None = None
        self._poller: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more clients may listen."""
        return len(self._subscribers) >= MAXIMUM_SUBSCRIBERS

    def subscribe(self, *, is_v3: bool = False, has_log: bool = False) -> Subscriber:
        """Start collecting events for a client, with the ids and codecs of API v3 or of v1; see `Subscriber`."""
        subscriber = Subscriber(is_v3=is_v3, has_log=has_log)
        self._subscribers.add(subscriber)
        self._set_polling()
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a client that has disconnected."""
        self._subscribers.discard(subscriber)
        self._set_polling()

    def set_listener(self, listener: Listener | None) -> None:
        """Call ``listener`` with each event."""
        self._listener = listener
        self._set_polling()

    @property
    def _is_observed(self) -> bool:
        return bool(self._subscribers) or self._listener is not None

    def _set_polling(self) -> None:
        if not self._is_observed:
            if self._poller is not None:
                self._poller.cancel()
                self._poller = None
        elif self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    def close(self) -> None:
        """End all streams of events."""
        for subscriber in list(self._subscribers):
            subscriber.close()
            self.unsubscribe(subscriber)

    def on_path_created(self, path: Path) -> None:
        self.emit(EventName.PATH_CREATED, path=path.name)

    def on_path_closed(self, path: Path) -> None:
        self.emit(EventName.PATH_CLOSED, path=path.name)

    def on_path_ready(self, path: Path) -> None:
        if self._is_observed and path.stream is not None:
            tracks = path.stream.descriptions
            labels = [label_of(track.codec) for track in tracks]
            self.emit(EventName.PATH_READY, {"tracks": labels}, path=path.name, tracks=[str(track) for track in tracks])

    def on_path_not_ready(self, path: Path) -> None:
        self.emit(EventName.PATH_NOT_READY, path=path.name)

    def on_path_online(self, path: Path) -> None:
        if self._is_observed and path.publisher is not None:
            self.emit(EventName.PATH_ONLINE, path=path.name, source=path.publisher.reference())

    def on_path_offline(self, path: Path) -> None:
        self.emit(EventName.PATH_OFFLINE, path=path.name)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        if self._is_observed:
            self.emit(EventName.READER_ADDED, path=path.name, reader=reader.reference())

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        if self._is_observed:
            self.emit(EventName.READER_REMOVED, path=path.name, reader=reader.reference())

    def on_segment_created(self, path: Path, file: str) -> None:
        self.emit(EventName.SEGMENT_CREATED, path=path.name, file=file)

    def on_segment_completed(self, path: Path, file: str, duration: float) -> None:
        self.emit(EventName.SEGMENT_COMPLETED, path=path.name, file=file, duration=duration)

    def on_upload_failed(self, name: str, file: str) -> None:
        self.emit(EventName.UPLOAD_FAILED, path=name, file=file)

    def on_configuration(self, status: ReloadStatus) -> None:
        """Send the result of a configuration change."""
        if status.ok:
            self.emit(EventName.CONFIG_RELOADED, source=status.source.value)
        else:
            self.emit(EventName.CONFIG_FAILED, source=status.source.value, error=status.error)

    def on_log_line(self, line: LogLine) -> None:
        """Send a line of the log to those who want it."""
        event = _event("log", msgspec.to_builtins(line))
        for subscriber in self._subscribers:
            if subscriber.has_log:
                subscriber.put(event)

    def emit(self, name: EventName, in_v3: Mapping[str, object] = {}, **data: object) -> None:
        """Send an event. ``in_v3``: what is different for clients of API v3, besides ids."""
        if self._listener is not None:
            self._listener(name, data)
        if self._subscribers:
            event = _event(name, data)
            universal = {key: _with_universal_id(key, value) for key, value in data.items()}
            event_in_v3 = _event(name, {**universal, **in_v3})
            for subscriber in self._subscribers:
                subscriber.put(event_in_v3 if subscriber.is_v3 else event)

    async def _poll(self) -> None:
        seen = self._sessions()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._media_server.refresh()
            now = self._sessions()
            self._emit_changes(seen, now)
            seen = now

    def _sessions(self) -> Seen:
        return {
            (server.collection, key): item.state
            for server in self._media_server.servers.values()
            for key, item in server.sessions().items()
        }

    def _emit_changes(self, old: Seen, new: Seen) -> None:
        for (collection, session), state in new.items():
            if (collection, session) not in old:
                self.emit(EventName.SESSION_CREATED, collection=collection, id=session, state=state)
            elif old[collection, session] != state:
                self.emit(EventName.SESSION_CHANGED, collection=collection, id=session, state=state)
        for collection, session in old.keys() - new.keys():
            self.emit(EventName.SESSION_CLOSED, collection=collection, id=session)


def _event(name: str, data: Mapping[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _with_universal_id(key: str, value: object) -> object:
    if isinstance(value, Reference):
        return Reference(value.type, universal_id(value.id))
    return universal_id(value) if key == "id" and isinstance(value, str) else value
