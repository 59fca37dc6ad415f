"""The reader in the hub: waits for the stream, receives its frames, reconnects when it restarts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from polycast.api.errors import ConnectionFailed, is_permanent, public_error
from polycast.api.inbox import Arrival, End, Event, EventKind, Inbox
from polycast.api.runtime import Runtime
from polycast.errors import PolycastError
from polycast.hub.batch import FrameBatch
from polycast.hub.errors import NoOnePublishing, PathClosed, Redirected
from polycast.hub.hub import Hub
from polycast.hub.path import PathObserver
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader
from polycast.log import Log
from polycast.media.track import Track

if TYPE_CHECKING:
    from polycast.hub.path import Path
    from polycast.hub.stream import Stream

# Consecutive redirections from one path to another.
MAXIMUM_REDIRECTS = 5

# Seconds between two attempts to start an on-demand source.
RETRY_SECONDS = 1.0


class Subscription(FrameReader, PathObserver):
    """Reads a path into an inbox. Created in any thread; everything else happens in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        hub: Hub,
        name: str,
        inbox: Inbox,
        log: Log,
        *,
        video: bool,
        audio: bool,
        reconnect: bool,
        has_feed: bool = False,
    ) -> None:
        """``video`` and ``audio``: what is decoded; neither: encoded frames of all tracks. ``has_feed``: a client feeds
        the path and calls `fail` if it cannot, so a missing publisher is not an error.
        """
        self._runtime = runtime
        self._hub = hub
        self._name = name
        self._inbox = inbox
        self._video = video
        self._audio = audio
        self._reconnect = reconnect
        self._has_feed = has_feed
        self._log = log
        self._path: Path | None = None
        self._stream: Stream | None = None
        self._tracks: dict[int, Track] = {}
        self._epoch = 0
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Event | None = None
        self._over = False
        self.tracks: tuple[Track, ...] = ()
        """The current descriptions of all tracks of the stream; empty while there is none."""

    def start(self) -> None:
        """Start reading; frames, events and the end arrive in the inbox."""
        if self._over or self._task is not None:
            return
        self._ready = asyncio.Event()
        self._hub.observers.append(self)
        self._attach_at_once()
        self._task = self._runtime.loop.create_task(self._run())

    def stop(self, error: PolycastError | None = None) -> None:
        """End permanently."""
        if self._over:
            return
        self._over = True
        self._detach()
        if self in self._hub.observers:
            self._hub.observers.remove(self)
        if self._task is not None:
            self._task.cancel()
        self._inbox.put_event(End(error))

    def fail(self, error: PolycastError) -> None:
        """Handle an error of the client that feeds the path: it ends the reader, or becomes an event."""
        if not self._reconnect or is_permanent(error):
            self.stop(error)
        else:
            self._emit(EventKind.WAITING, str(error))

    # FrameReader

    def deliver_frames(self, batch: FrameBatch) -> None:
        arrivals: list[Arrival] = []
        for index, entry in batch.entries:
            track = self._tracks.get(index)
            if track is None:
                continue
            if isinstance(entry, Track):
                self._tracks[index] = entry
                self.tracks = tuple(entry if track.index == index else track for track in self.tracks)
                continue
            arrivals.append(Arrival(track, entry, self._epoch, 0))
        if arrivals:
            self._inbox.put(arrivals)

    def close_reader(self, reason: str) -> None:
        self._stream = None
        if self._over:
            return
        if not self._reconnect:
            self.stop()
            return
        self._emit(EventKind.DISCONNECTED, reason)
        self._wake()

    def reference(self) -> Reference:
        return Reference("pythonReader")

    # PathObserver

    def on_path_ready(self, path: Path) -> None:
        if path.on_demand is None and path.name == self._name:
            self._attach_at_once()  # before the first frame, so that it is not missed
        self._wake()

    # Connecting

    def _wake(self) -> None:
        if self._ready is not None:
            self._ready.set()

    def _attach_at_once(self) -> None:
        """Attach if the stream is live; `_run` reports errors."""
        path = self._hub.paths.get(self._name)
        if self._stream is None and path is not None and path.stream is not None:
            self._path = path
            with contextlib.suppress(PolycastError):
                self._begin(path, path.stream)

    async def _run(self) -> None:
        ready = self._ready
        if ready is None:
            return
        told = False
        while not self._over:
            ready.clear()
            if self._stream is None:
                try:
                    await self._attach()
                    told = False
                except NoOnePublishing as error:
                    if not self._reconnect and not self._has_feed:
                        self.stop(public_error(error))
                        return
                    if not told and not self._has_feed:
                        told = True
                        self._emit(EventKind.WAITING, str(error))
                except PathClosed:
                    self.stop()
                    return
                except PolycastError as error:
                    self.stop(public_error(error))
                    return
                except Exception as error:
                    self._log.exception("internal error")
                    self.stop(ConnectionFailed(f"internal error: {error!r}"))
                    return
            await self._wait(ready)

    async def _wait(self, ready: asyncio.Event) -> None:
        path = self._path
        if self._stream is None and path is not None and path.on_demand is not None:
            # Nothing indicates when to retry an on-demand source.
            await asyncio.sleep(RETRY_SECONDS)
            return
        await ready.wait()

    async def _attach(self) -> None:
        name = self._name
        for _ in range(MAXIMUM_REDIRECTS):
            path = self._path = self._hub.path(name)
            try:
                stream = await path.wait_ready()
            except Redirected as error:
                self._hub.release(path)
                if not error.target.startswith("/"):
                    raise
                name = error.target[1:]
                continue
            except BaseException:
                self._hub.release(path)
                raise
            self._begin(path, stream)
            return
        raise NoOnePublishing(self._name)

    def _begin(self, path: Path, stream: Stream) -> None:
        descriptions = stream.descriptions
        self._tracks = self._select(descriptions)
        self._epoch += 1
        self.tracks = descriptions
        key_track = next((index for index, track in self._tracks.items() if track.kind == "video"), -1)
        self._inbox.begin(key_track)
        self._emit(EventKind.CONNECTED, "")
        self._stream = stream
        path.attach_reader(self, stream)

    def _select(self, descriptions: tuple[Track, ...]) -> dict[int, Track]:
        """Return the tracks to read: the first of each requested kind. Raises UnsupportedCodec."""
        from polycast.api.decoding import choose_tracks

        return choose_tracks(descriptions, video=self._video, audio=self._audio)

    def _detach(self) -> None:
        path, self._path = self._path, None
        self._stream = None
        if path is not None:
            path.remove_reader(self)

    def _emit(self, kind: EventKind, reason: str) -> None:
        if kind is EventKind.WAITING:
            # An unreachable server is worth a warning; a program that publishes later is not.
            (self._log.warning if self._has_feed else self._log.info)("%s; waiting for it", reason)
        self._inbox.put_event(Event(kind, reason, time.time()))
