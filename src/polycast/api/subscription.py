"""The reader in the hub: waits for the stream, receives its frames, reconnects when it restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from polycast.api.clip import Clip, ClipRecorder, clip_file
from polycast.api.errors import ConnectionFailed, StreamEnded, is_permanent, public_error
from polycast.api.inbox import Arrival, End, Event, EventKind, Inbox
from polycast.api.rate import RateMeter
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
from polycast.record.memory import RecordingMemory

if TYPE_CHECKING:
    from polycast.hub.path import Path
    from polycast.hub.stream import Stream

# Consecutive redirections from one path to another.
MAXIMUM_REDIRECTS = 5

# Seconds between two attempts to start an on-demand source.
RETRY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SubscriptionOptions:
    """What is read, and how."""

    video: bool
    """Whether video is decoded; if neither video nor audio is, all tracks are read as encoded frames."""
    audio: bool
    """Whether audio is decoded."""
    reconnect: bool
    history: float = 0.0
    """Seconds of the stream that are kept for clips."""
    has_feed: bool = False
    """Whether a client feeds the path and calls `Subscription.fail` if it cannot, so that a missing publisher is not an
    error."""


class _Clips:
    """The clips that are recorded of what a subscription reads, and what they may begin with."""

    def __init__(self) -> None:
        self.recorders: list[ClipRecorder] = []
        self.memory: RecordingMemory | None = None

    def begin(self, path: Path, stream: Stream, history: float) -> None:
        """A stream begins."""
        self.memory = RecordingMemory(path, stream, history) if history else None
        self.recorders = [recorder for recorder in self.recorders if not recorder.finished.done()]
        for recorder in self.recorders:
            recorder.begin(path, stream)

    def end_stream(self) -> None:
        """The stream has ended."""
        memory, self.memory = self.memory, None
        if memory is not None:
            memory.stop()

    def stop(self) -> None:
        """Complete all clips."""
        self.end_stream()
        for recorder in self.recorders:
            recorder.stop()


class Subscription(FrameReader, PathObserver):
    """Reads a path into an inbox. Created in any thread; everything else happens in the loop's thread."""

    def __init__(
        self,
        runtime: Runtime,
        hub: Hub,
        name: str,
        inbox: Inbox,
        log: Log,
        options: SubscriptionOptions,
    ) -> None:
        self._runtime = runtime
        self._hub = hub
        self._name = name
        self._inbox = inbox
        self._options = options
        self._clips = _Clips()
        self._log = log
        self._path: Path | None = None
        self._stream: Stream | None = None
        self._tracks: dict[int, Track] = {}
        self._epoch = 0
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Event | None = None
        self._over = False
        self.meter = RateMeter()
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
        self._clips.stop()
        self._detach()
        self.meter.end(error or StreamEnded("the reader has ended"))
        if self in self._hub.observers:
            self._hub.observers.remove(self)
        if self._task is not None:
            self._task.cancel()
        self._inbox.put_event(End(error))

    def fail(self, error: PolycastError) -> None:
        """Handle an error of the client that feeds the path: it ends the reader, or becomes an event."""
        if not self._options.reconnect or is_permanent(error):
            self.stop(error)
        else:
            self._emit(EventKind.WAITING, str(error))

    def record(self, file: str | os.PathLike[str], before: float, after: float | None) -> Clip:
        """Record what is read from now on, and what is kept of the last seconds. See `Reader.record`."""
        if before > self._options.history:
            raise ValueError(
                f"{before:g} seconds before this call are not kept: pass history={before:g} to read, when the reader "
                "is made"
            )
        if self._over:
            raise StreamEnded("the reader has ended")
        name = clip_file(file)
        recorder = ClipRecorder(name, self._log, self._runtime.loop)
        self._clips.recorders.append(recorder)
        if self._path is not None and self._stream is not None:
            recorder.begin(self._path, self._stream, self._clips.memory, before)
        if after is not None:
            recorder.stop_after(after)
        return Clip(self._runtime, recorder, name)

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
            if track.kind == "video" and not self.meter.known.done():
                self.meter.add(entry.dts, track.clock_rate, discontinuity=entry.discontinuity)
            arrivals.append(Arrival(track, entry, self._epoch, 0))
        if arrivals:
            self._inbox.put(arrivals)

    def close_reader(self, reason: str) -> None:
        self._stream = None
        self._clips.end_stream()
        if self._over:
            return
        if not self._options.reconnect:
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
                    if not self._options.reconnect and not self._options.has_feed:
                        self.stop(public_error(error))
                        return
                    if not told and not self._options.has_feed:
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
        self.meter.restart()
        path.attach_reader(self, stream)
        self._clips.begin(path, stream, self._options.history)

    def _select(self, descriptions: tuple[Track, ...]) -> dict[int, Track]:
        """Return the tracks to read: the first of each requested kind. Raises UnsupportedCodec."""
        from polycast.api.decoding import choose_tracks

        return choose_tracks(descriptions, video=self._options.video, audio=self._options.audio)

    def _detach(self) -> None:
        path, self._path = self._path, None
        self._stream = None
        if path is not None:
            path.remove_reader(self)

    def _emit(self, kind: EventKind, reason: str) -> None:
        if kind is EventKind.WAITING:
            # An unreachable server is worth a warning; a program that publishes later is not.
            (self._log.warning if self._options.has_feed else self._log.info)("%s; waiting for it", reason)
        self._inbox.put_event(Event(kind, reason, time.time()))
