"""The queue between the event loop, where frames arrive, and the thread or task that reads them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from polycast.media.frame import Frame
from polycast.media.track import Track

# Frames queued in newest-first mode, where a key frame drops all earlier ones: a group of pictures of 20 seconds.
MAXIMUM_NEWEST_FRAMES = 600

# Bytes that may be queued, in any mode.
MAXIMUM_BYTES = 64 * 1024 * 1024

# Audio frames queued in newest-first mode: about a second.
MAXIMUM_NEWEST_SOUND = 50

# Longest single wait, in seconds: on Windows, Ctrl-C does not interrupt one without a timeout.
WAIT_SECONDS = 1.0


class EventKind(StrEnum):
    """What happened to a connection."""

    CONNECTED = "connected"
    """The connection is established; frames follow."""
    DISCONNECTED = "disconnected"
    """The stream has ended or the connection was lost."""
    WAITING = "waiting"
    """The connection failed; another attempt follows."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a reader or writer, given to ``on_event``."""

    kind: EventKind
    reason: str
    """The reason, as text; empty for ``connected``."""
    time: float
    """When, in seconds since 1970-01-01 UTC."""


@dataclass(slots=True)
class Arrival:
    """A queued frame."""

    track: Track
    frame: Frame
    epoch: int
    """Changes when the stream restarts."""
    skipped: int
    """Frames dropped immediately before it."""


@dataclass(slots=True)
class End:
    """The end of the queue."""

    error: Exception | None


Entry = Arrival | Event | End


class Inbox:
    """Queues entries for the consumer, within limits. ``limit``: frames; None for newest-first.

    Newest-first: each key frame drops all queued frames of its track. With a limit: frames that arrive when the queue
    is full are dropped, up to the next key frame.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._condition = threading.Condition(threading.Lock())
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._frames = 0
        self._sound = 0
        self._needs_key = True
        self._key_track = -1
        self._lost = 0
        self._ended = False
        self._wakers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self.dropped = 0
        """Number of frames dropped so far."""

    @property
    def is_newest_first(self) -> bool:
        """Whether new frames replace old ones."""
        return self._limit is None

    # In the event loop

    def begin(self, key_track: int) -> None:
        """Start a stream: frames of ``key_track`` must start with a key frame; -1 for a stream without video."""
        with self._condition:
            self._key_track = key_track
            self._needs_key = key_track >= 0

    def put(self, arrivals: list[Arrival]) -> None:
        """Add frames and wake the consumer."""
        with self._condition:
            before = len(self._entries)
            for arrival in arrivals:
                if self._limit is None:
                    self._put_newest(arrival)
                else:
                    self._put_limited(arrival, self._limit)
            if len(self._entries) != before or arrivals:
                self._wake()

    def put_event(self, entry: Event | End) -> None:
        """Add an event, or the end, at its position between the frames."""
        with self._condition:
            if self._ended:
                return
            self._ended = isinstance(entry, End)
            self._entries.append(entry)
            self._wake()

    def _put_newest(self, arrival: Arrival) -> None:
        if arrival.track.index != self._key_track:
            self._sound += 1
            self._append(arrival)
            if self._sound > MAXIMUM_NEWEST_SOUND:
                self._drop_oldest_sound()
            return
        if arrival.frame.key:
            self._drop_pictures()
            self._needs_key = False
        elif self._needs_key:
            self._count_lost()
            return
        arrival.skipped, self._lost = self._lost, 0
        self._append(arrival)
        self._frames += 1
        if self._frames > MAXIMUM_NEWEST_FRAMES or self._bytes > MAXIMUM_BYTES:
            self._drop_pictures()
            self._needs_key = True

    def _put_limited(self, arrival: Arrival, limit: int) -> None:
        is_key = arrival.track.index == self._key_track and arrival.frame.key
        has_room = self._frames < limit and self._bytes < MAXIMUM_BYTES
        if (self._needs_key and not is_key) or not has_room:
            self._needs_key = self._needs_key or self._key_track >= 0
            self._count_lost()
            return
        self._needs_key = False
        arrival.skipped, self._lost = self._lost, 0
        self._append(arrival)
        self._frames += 1

    def _count_lost(self) -> None:
        self._lost += 1
        self.dropped += 1

    def _append(self, arrival: Arrival) -> None:
        self._entries.append(arrival)
        self._bytes += arrival.frame.size

    def _drop_pictures(self) -> None:
        kept: deque[Entry] = deque()
        for entry in self._entries:
            if isinstance(entry, Arrival) and entry.track.index == self._key_track:
                self._lost += 1 + entry.skipped
                self.dropped += 1
                self._bytes -= entry.frame.size
            else:
                kept.append(entry)
        self._entries = kept
        self._frames = 0

    def _drop_oldest_sound(self) -> None:
        for position, entry in enumerate(self._entries):
            if isinstance(entry, Arrival) and entry.track.index != self._key_track:
                del self._entries[position]
                self._bytes -= entry.frame.size
                self._sound -= 1
                self.dropped += 1
                return

    def _wake(self) -> None:
        self._condition.notify_all()
        for loop, event in self._wakers:
            with contextlib.suppress(RuntimeError):  # the consumer's loop is closed
                loop.call_soon_threadsafe(event.set)

    # In the consumer's thread

    def get(self, timeout: float | None, *, one: bool) -> list[Entry]:
        """Return the queued entries, in order, waiting up to ``timeout`` seconds; empty if nothing arrived."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._condition:
            while not self._entries:
                rest = WAIT_SECONDS if deadline is None else min(WAIT_SECONDS, deadline - time.monotonic())
                if rest <= 0:
                    return []
                self._condition.wait(rest)
            return self._get(one)

    async def get_async(self, timeout: float | None, *, one: bool) -> list[Entry]:
        """Do what `get` does, in an event loop."""
        event = asyncio.Event()
        waker = (asyncio.get_running_loop(), event)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    with self._condition:
                        if self._entries:
                            return self._get(one)
                        event.clear()
                        self._wakers.add(waker)
                    await event.wait()
        except TimeoutError:
            return []
        finally:
            with self._condition:
                self._wakers.discard(waker)

    def _get(self, one: bool) -> list[Entry]:
        if one:
            entry = self._entries.popleft()
            if isinstance(entry, Arrival):
                self._bytes -= entry.frame.size
                self._frames -= 1
            return [entry]
        entries = list(self._entries)
        self._entries.clear()
        self._bytes = self._frames = self._sound = 0
        return entries
