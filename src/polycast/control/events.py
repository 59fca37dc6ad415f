"""A stream of events about paths, sessions and the configuration (server-sent events, WHATWG HTML section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from polycast.control.contract import Controlled
from polycast.control.settings import ReloadStatus
from polycast.hub.path import Path, PathObserver
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
    "path_created": "A path was created.",
    "path_closed": "A path was closed.",
    "path_ready": "The stream of a path can be read.",
    "path_not_ready": "The stream of a path has ended.",
    "reader_added": "A reader has joined a path.",
    "reader_removed": "A reader has left a path.",
    "session_created": "A session of a client was created.",
    "session_changed": "The state of a session changed.",
    "session_closed": "A session was closed.",
    "config_reloaded": "A new configuration is in effect.",
    "config_failed": "A new configuration was rejected; the old one remains in effect.",
}
"""Names of events and their meanings. A client that is too slow gets ``overflow`` as its last one."""

Seen = dict[tuple[str, str], str]


class Subscriber:
    """One client. `events` yields its events in the format in which they are sent."""

    def __init__(self) -> None:
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
    """Sends events to subscribers. An observer of the hub; idle without subscribers."""

    def __init__(self, controlled: Controlled) -> None:
        self._controlled = controlled
        self._subscribers: set[Subscriber] = set()
        self._poller: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether no more clients may listen."""
        return len(self._subscribers) >= MAXIMUM_SUBSCRIBERS

    def subscribe(self) -> Subscriber:
        """Start collecting events for a client."""
        subscriber = Subscriber()
        self._subscribers.add(subscriber)
        if self._poller is None:
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        return subscriber

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Remove a client that has disconnected."""
        self._subscribers.discard(subscriber)
        if not self._subscribers and self._poller is not None:
            self._poller.cancel()
            self._poller = None

    def close(self) -> None:
        """End all streams of events."""
        for subscriber in list(self._subscribers):
            subscriber.close()
            self.unsubscribe(subscriber)

    def on_path_created(self, path: Path) -> None:
        self._emit("path_created", path=path.name)

    def on_path_closed(self, path: Path) -> None:
        self._emit("path_closed", path=path.name)

    def on_path_ready(self, path: Path) -> None:
        if self._subscribers and path.stream is not None:
            self._emit("path_ready", path=path.name, tracks=[str(track) for track in path.stream.descriptions])

    def on_path_not_ready(self, path: Path) -> None:
        self._emit("path_not_ready", path=path.name)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        if self._subscribers:
            self._emit("reader_added", path=path.name, reader=reader.reference())

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        if self._subscribers:
            self._emit("reader_removed", path=path.name, reader=reader.reference())

    def on_configuration(self, status: ReloadStatus) -> None:
        """Send the result of a configuration change."""
        if status.ok:
            self._emit("config_reloaded", source=status.source.value)
        else:
            self._emit("config_failed", source=status.source.value, error=status.error)

    def _emit(self, name: str, **data: object) -> None:
        if self._subscribers:
            event = b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
            for subscriber in self._subscribers:
                subscriber.put(event)

    async def _poll(self) -> None:
        seen = self._sessions()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            now = self._sessions()
            self._emit_changes(seen, now)
            seen = now

    def _sessions(self) -> Seen:
        return {
            (server.collection, key): item.state
            for server in self._controlled.servers.values()
            for key, item in server.sessions().items()
        }

    def _emit_changes(self, old: Seen, new: Seen) -> None:
        for (collection, session), state in new.items():
            if (collection, session) not in old:
                self._emit("session_created", collection=collection, id=session, state=state)
            elif old[collection, session] != state:
                self._emit("session_changed", collection=collection, id=session, state=state)
        for collection, session in old.keys() - new.keys():
            self._emit("session_closed", collection=collection, id=session)
