"""One path: its publisher, its readers, and clients that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence, Set
from typing import Protocol

from polycast.config.path_schema import PathConfiguration
from polycast.hub.errors import (
    CannotPublish,
    NoOnePublishing,
    PathClosed,
    Redirected,
    SourceTimedOut,
    TooManyReaders,
)
from polycast.hub.interlude import Interlude
from polycast.hub.on_demand import Input, OnDemand, State
from polycast.hub.other_workers import OtherWorkers
from polycast.hub.owners import Owners
from polycast.hub.path_entry import PathEntry
from polycast.hub.publisher import Publisher, Source
from polycast.hub.retry import Failure
from polycast.hub.slate import Slate, SlatePlayer
from polycast.hub.stats import Reference
from polycast.hub.stream import Reader, Stream
from polycast.hub.substitute import Substitute
from polycast.log import Log
from polycast.media.track import Track, describe_tracks

__all__ = ["OtherNodes", "Path", "PathEntry", "PathObserver", "Publisher", "Source", "notify_observers"]

# Maximum number of readers that wait for one on-demand source; more are refused immediately.
MAXIMUM_PENDING_REQUESTS = 10_000


class PathObserver:
    """Observer of paths: commands, metrics, automatic muxers. Subclasses override what they need."""

    def on_path_created(self, path: Path) -> None:
        """The path was created; nobody uses it yet."""

    def on_path_closed(self, path: Path) -> None:
        """The path has ended for good, after its stream."""

    def on_path_reconfigured(self, path: Path, old: PathConfiguration) -> None:
        """Settings of the path changed that interrupt nothing; ``old`` are those before."""

    def on_path_ready(self, path: Path) -> None:
        """The path has a stream; no media was published yet."""

    def on_path_online(self, path: Path) -> None:
        """A publisher or source delivers the stream; after `on_path_ready`, if the stream is a new one."""

    def on_path_offline(self, path: Path) -> None:
        """The publisher or source has gone; before `on_path_not_ready`, if the stream ends as well."""

    def on_path_not_ready(self, path: Path) -> None:
        """The stream of the path has ended, and its readers were removed."""

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        """The reader was attached to the stream of the path."""

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        """The reader was detached."""

    def on_viewer_added(self, path: Path, viewer: Reference, query: str) -> None:
        """A client reads what one of the readers makes of the stream; ``query`` is that of its URL."""

    def on_viewer_removed(self, path: Path, viewer: Reference, query: str) -> None:
        """It has left."""

    def on_segment_created(self, path: Path, file: str) -> None:
        """The recorder has created a file."""

    def on_segment_completed(self, path: Path, file: str, duration: float) -> None:
        """The recorder has completed a file; ``duration`` in seconds."""

    def on_upload_failed(self, name: str, file: str) -> None:
        """A recorded file of the path with this name cannot be uploaded; the path may not exist any more."""


def notify_observers(observers: Sequence[PathObserver], log: Log, what: Callable[[PathObserver], None]) -> None:
    """Call ``what`` with each observer. An internal error in one affects neither the others nor the path."""
    for observer in tuple(observers):
        try:
            what(observer)
        except Exception:
            log.exception("internal error: an observer of paths failed")


class OtherNodes(Owners, Protocol):
    """The other nodes of a cluster, as a path asks them."""

    def source_of(self, path: Path) -> Source | None:
        """Return a source that copies the stream from the node that publishes the path; None if no other one does."""

    def check_publisher(self, path: Path) -> None:
        """Raise CannotPublish if another node publishes the path and keeps it, or if this node is draining."""


class Path:
    """A path that exists: configured by name, or matched by an expression and in use.

    Used only from the event loop. ``on_unused`` is called when nobody publishes, reads or waits.
    """

    def __init__(
        self,
        name: str,
        entry: PathEntry,
        groups: tuple[str, ...],
        *,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        observers: Sequence[PathObserver],
        on_unused: Callable[[Path], None],
        make_fallback: Callable[[Path, str], Source | None] | None = None,
        other_nodes: Callable[[], OtherNodes | None] = lambda: None,
        other_workers: OtherWorkers | None = None,
    ) -> None:
        self._loop = loop
        self._substitute = Substitute(
            self,
            lambda target: make_fallback(self, target) if make_fallback is not None else None,
            lambda: nodes.source_of(self) if (nodes := other_nodes()) is not None else None,
            lambda: nodes.check_publisher(self) if (nodes := other_nodes()) is not None else None,
            lambda: (nodes := other_nodes()) is not None and nodes.is_owned_elsewhere(name),
            other_workers,
        )
        self._observers = observers
        self._on_unused = on_unused
        self.name = name
        self.entry = entry
        self.groups = groups
        """The groups of the expression; passed to commands as G1, G2..."""
        self.log = log.child(f"path {name}")
        self.publisher: Publisher | None = None
        self.stream: Stream | None = None
        """The stream while the path is ready."""
        self.ready_since: float | None = None
        """Unix time in seconds."""
        self.source: Source | None = None
        self.on_demand: OnDemand | None = None
        self.is_copy = False
        """Whether the stream is, or was last, copied from another node; see `Publisher.is_copy`."""
        self._pending: set[asyncio.Future[Stream]] = set()
        self.online_since: float | None = None
        """Unix time in seconds since when a publisher or source delivers the stream; None if none does, that is, if
        there is no stream, or readers wait for another publisher."""
        self._interlude = Interlude(
            loop, self.log, grace=lambda: float(self.configuration.publisher_grace), on_over=self._on_grace_over
        )
        self._closed = False

    @property
    def configuration(self) -> PathConfiguration:
        """The settings of the entry."""
        return self.entry.configuration

    @property
    def is_closed(self) -> bool:
        """Whether it has ended for good: its entry was removed or changed, or nobody used it."""
        return self._closed

    @property
    def is_run_here(self) -> bool:
        """Whether its source, its slate and the commands that provide its stream run here, not in another worker."""
        others = self._substitute.other_workers
        return others is None or others.is_run_here(self.name)

    @property
    def readers(self) -> tuple[Reader, ...]:
        """The current readers."""
        return self.stream.readers if self.stream is not None else ()

    def _no_one_publishing(self) -> NoOnePublishing:
        failure = self.source_failure
        return NoOnePublishing(self.name, failure.error if failure is not None else "")

    def check_reader_limit(self, identifier: str = "", expected: Callable[[], Set[str]] = frozenset) -> None:
        """Raise TooManyReaders if no more clients may read the path.

        ``identifier`` is that of the client. ``expected`` returns those of clients that will read soon: they count.
        """
        limit = self.configuration.max_readers
        if limit:
            reading = [reader.reference().id for reader in self.readers]
            # Internal readers have no id.
            count = len([key for key in reading if key]) + len(expected() - {*reading, identifier})
            if self._substitute.other_workers is not None:
                count += self._substitute.other_workers.readers_of(self.name)
            if count >= limit:
                raise TooManyReaders(self.name, limit)

    @property
    def source_failure(self) -> Failure | None:
        """The failure of the path's source, or of the one that replaces its redirection."""
        source = self.source or self._substitute.source
        is_needed = self.stream is None or (self._interlude.slate is not None and not self.is_online)
        return source.failure if source is not None and is_needed else None

    @property
    def is_unused(self) -> bool:
        """Whether nobody publishes, reads or waits."""
        is_idle = self.source is None or (self.on_demand is not None and self.on_demand.state is State.STOPPED)
        is_wanted = bool(self._pending) or self._substitute.is_settling
        return self.publisher is None and is_idle and self.stream is None and not is_wanted

    def reconfigure(self, entry: PathEntry, groups: tuple[str, ...]) -> None:
        """Use new settings, which differ only in those that can change at any time (`config.diff.restarts_path`)."""
        old, self.entry, self.groups = self.configuration, entry, groups
        if old != self.configuration:
            self._notify(lambda observer: observer.on_path_reconfigured(self, old))

    def set_slate(self, slate: Slate) -> None:
        """Make the path ready, with a slate that is shown while nobody publishes."""
        self._interlude.slate = SlatePlayer(slate, self._loop, self.log)
        self.log.info("stream is available, %s", describe_tracks(slate.tracks))
        self._interlude.begin(self._begin_stream(slate.tracks, publishes_packets=False), "")

    def attach_source(self, source: Source) -> None:
        """Set the source of the path; it starts immediately, or with the first reader if it is on demand."""
        self.source = source
        if self.configuration.source_on_demand:
            self.set_on_demand(
                start=source.start,
                stop=source.stop,
                start_timeout=self.configuration.source_on_demand_start_timeout,
                close_after=self.configuration.source_on_demand_close_after,
            )
        else:
            source.start()

    def set_on_demand(
        self, *, start: Callable[[], None], stop: Callable[[str], None], start_timeout: float, close_after: float
    ) -> None:
        """Let readers start what makes the path ready."""
        self.on_demand = OnDemand(
            self._loop,
            start=start,
            stop=stop,
            on_stopped=self._on_stopped,
            start_timeout=start_timeout,
            close_after=close_after,
        )

    def _on_stopped(self) -> None:
        self._refuse_pending()
        self.stop_copying("not in use anymore")  # the next reader asks again who publishes the path
        self._check_unused()

    def _notify(self, what: Callable[[PathObserver], None]) -> None:
        notify_observers(self._observers, self.log, what)

    @property
    def is_online(self) -> bool:
        """Whether a publisher or source delivers the stream."""
        return self.online_since is not None

    @property
    def _is_interrupted(self) -> bool:
        """Whether the stream has no publisher, but its readers wait for another one."""
        return self.stream is not None and self.online_since is None

    def _notify_online(self) -> None:
        self.online_since = time.time()
        self._notify(lambda observer: observer.on_path_online(self))

    def _interrupt(self) -> None:
        """The publisher has gone; its readers stay."""
        if self.is_online and self._interlude.slate is not None:
            self.log.info("stream is offline")
        self._notify_offline()
        self.online_since = None

    def _notify_offline(self) -> None:
        if self.is_online:
            self._notify(lambda observer: observer.on_path_offline(self))

    def _notify_removed(self, reader: Reader) -> None:
        self._notify(lambda observer: observer.on_reader_removed(self, reader))

    # Readers' side.

    async def wait_ready(
        self, *, follows: bool = False, patience: float = 0.0, query: str = "", is_node: bool = False
    ) -> Stream:
        """Return the stream; with an on-demand source, start it and wait.

        With ``follows`` the path pulls from the target of its redirection, for readers whose protocol has no redirects.
        ``patience``: seconds to wait for a publisher whose tracks are not known yet. ``query``: of the reader's URL.
        ``is_node``: for another node, which never gets what is only copied from a third one.
        Raises Redirected, NoOnePublishing, SourceTimedOut or PathClosed.
        """
        if self.stream is None and self.on_demand is not None:
            await self._substitute.settle(self.name)
            if self._closed:
                raise PathClosed(self.name)
        source = self._substitute.source
        is_fallback = source is not None and self.publisher is source and not self.is_copy
        if self.stream is not None and (follows or not is_fallback) and not (is_node and self.is_copy):
            return self.stream
        is_elsewhere = self._substitute.start_copying()
        if is_elsewhere and is_node:
            raise self._no_one_publishing()
        target = self._redirection if not is_elsewhere else ""
        if target and not (follows and self._substitute.start_pulling(target)):
            raise Redirected(target)
        can_wait = self.on_demand is not None or (self.publisher is not None and patience)
        if not can_wait or len(self._pending) >= MAXIMUM_PENDING_REQUESTS:
            raise self._no_one_publishing()
        pending: asyncio.Future[Stream] = self._loop.create_future()
        self._pending.add(pending)
        try:
            if self.on_demand is not None:
                if self.on_demand.state is State.STOPPED:
                    self.on_demand.query = query
                self.on_demand.handle(Input.WANTED)
                return await pending
            async with asyncio.timeout(patience):
                return await pending
        except TimeoutError:
            raise self._no_one_publishing() from None
        finally:
            self._pending.discard(pending)
            self._check_unused()

    @property
    def _redirection(self) -> str:
        """The current target of the redirection; empty if there is none."""
        configuration = self.configuration
        if configuration.source == "redirect":
            return configuration.source_redirect
        return configuration.fallback if self.on_demand is None or self._substitute.source is not None else ""

    def _remove_substitute(self, reason: str, error: type[NoOnePublishing | PathClosed] = SourceTimedOut) -> None:
        if self._substitute.remove(reason):
            self._refuse_pending(error)

    def stop_copying(self, reason: str) -> None:
        """No other node publishes the path any more; readers that wait for it are refused."""
        if self._substitute.is_copy:
            self._remove_substitute(reason, NoOnePublishing)
            self._check_unused()

    def attach_reader(self, reader: Reader, stream: Stream, *, is_provisional: bool = False) -> None:
        """Attach a reader to the current stream: it receives batches from now on.

        Raises NoOnePublishing if the stream has ended, TooManyReaders.
        ``is_provisional``: for a client that is about to read; observers are not notified.
        """
        if self.stream is not stream:
            raise self._no_one_publishing()
        if not is_provisional and reader.reference().id:
            self.check_reader_limit(reader.reference().id)
        stream.add_reader(reader)
        if self.publisher is not None:
            self.publisher.request_key_frame()  # the reader starts with one
        if self.on_demand is not None and not reader.is_passive:
            self.on_demand.handle(Input.USED)
        if not is_provisional:
            self._notify(lambda observer: observer.on_reader_added(self, reader))

    def remove_reader(self, reader: Reader, *, is_provisional: bool = False) -> None:
        """Detach a reader; one that is not attached is ignored."""
        stream = self.stream
        if stream is None or reader not in stream.readers:
            return
        stream.remove_reader(reader)
        if not is_provisional:
            self._notify_removed(reader)
        if self.on_demand is not None and not reader.is_passive and all(each.is_passive for each in stream.readers):
            self.on_demand.handle(Input.UNUSED)
        self._check_unused()

    # Publisher's side.

    def set_publisher(self, publisher: Publisher) -> None:
        """Reserve the path for a client that wants to publish; see `start_publishing`.

        The current publisher is closed, unless ``overridePublisher`` is off. Raises CannotPublish.
        """
        if self.configuration.source != "publisher" or self.source is not None:
            raise CannotPublish(f"can't publish to path '{self.name}' since 'source' is not 'publisher'")
        if self.publisher is publisher:
            return
        self._substitute.check_publisher()
        self._replace_substitute(publisher, "a publisher has come")
        if self.publisher is not None and self.publisher is not publisher:
            if not self.configuration.override_publisher:
                raise CannotPublish(f"someone is already publishing to path '{self.name}'")
            self.log.info("closing existing publisher")
            old = self.publisher
            # The new one is set before the old one leaves: an unused path would be removed.
            self.publisher = publisher
            if not self._keep_stream("the publisher was replaced by another one"):
                self._end_stream("the publisher was replaced by another one")
            old.close_publisher("another client publishes on the path now")
        self.publisher = publisher

    def start_publishing(self, publisher: Publisher, tracks: Sequence[Track], *, publishes_packets: bool) -> Stream:
        """Make the path ready with a stream of these tracks. Raises CannotPublish if the path was lost."""
        if publisher is self.source and self._substitute.is_copy and not self._substitute.is_elsewhere():
            self._replace_substitute(publisher, "the path's own source has started")
        if isinstance(publisher, Source) and self.publisher is None:
            self.publisher = publisher
        if self.publisher is not publisher or self._closed:
            raise CannotPublish("publisher is not assigned to this path anymore")
        self.is_copy = publisher.is_copy
        if self._interlude.slate is not None and self.stream is not None:
            reason = self.stream.incompatibility(tracks)
            if reason:
                raise CannotPublish(reason)
            self._keep_stream("the publisher started again")
        if self._resume(tracks, publishes_packets=publishes_packets) and self.stream is not None:
            self._notify_online()
            if self.on_demand is not None:
                self.on_demand.handle(Input.BECAME_READY)
                if not all(reader.is_passive for reader in self.stream.readers):
                    self.on_demand.handle(Input.USED)
            return self.stream
        if self.stream is not None:
            self._end_stream("the publisher started again")
        stream = self._begin_stream(tracks, publishes_packets=publishes_packets)
        self._notify_online()
        return stream

    def _begin_stream(self, tracks: Sequence[Track], *, publishes_packets: bool) -> Stream:
        self.stream = stream = Stream(
            tracks,
            publishes_packets=publishes_packets,
            loop=self._loop,
            log=self.log,
            now=self._loop.time(),
            packet_sizes=self.entry.packet_sizes,
            has_absolute_time=self.configuration.use_absolute_timestamp,
        )
        self.ready_since = time.time()
        if self.on_demand is not None:
            self.on_demand.handle(Input.BECAME_READY)
        for pending in self._pending:
            if not pending.done():
                pending.set_result(stream)
        self._notify(lambda observer: observer.on_path_ready(self))
        return stream

    def _replace_substitute(self, publisher: Publisher, reason: str) -> None:
        source = self._substitute.source
        if source is not None and self.publisher is source:
            self.publisher = publisher
            if not self._keep_stream(reason):
                self._end_stream(reason)
        self._remove_substitute(reason)

    def stop_publishing(self, publisher: Publisher, reason: str) -> None:
        """End the stream but keep the path reserved for the publisher (it paused). Readers are closed."""
        if self.publisher is publisher:
            if self._interlude.slate is not None and self._keep_stream(reason):
                return
            self._end_stream(reason)
            if self.on_demand is not None:
                self.on_demand.handle(Input.LOST)

    def hold_publisher(self, publisher: Publisher, reason: str) -> None:
        """The publisher has lost its stream but will continue: readers stay until it does, or is removed."""
        if self.publisher is publisher and self.stream is not None:
            self.stream.flush()
            self._interrupt()
            if self._interlude.slate is not None:
                self._interlude.begin(self.stream, reason)
            self.log.debug("the stream is interrupted (%s)", reason)

    def remove_publisher(self, publisher: Publisher, reason: str, *, for_good: bool = False) -> None:
        """The publisher has left; one that is not the path's publisher is ignored.

        Readers are closed; with ``publisherGrace`` they wait that long for another publisher, unless ``for_good`` is
        set.
        """
        if self.publisher is not publisher:
            return
        self.publisher = None
        if for_good or not self._keep_stream(reason):
            # The reason concerns the publisher, not the readers.
            who = "the source ended" if isinstance(publisher, Source) else "the publisher left"
            self._lose_stream(reason if for_good else f"{who}: {reason}")

    def close_publisher(self, reason: str) -> None:
        """End the stream and its publisher, except for the server's own source."""
        self._end_stream(reason)
        publisher, self.publisher = self.publisher, None
        if publisher is not None and publisher is not self.source:
            publisher.close_publisher(reason)
        self._check_unused()

    def yield_to_node(self, reason: str) -> None:
        """Another node publishes the path now: end the publisher here. With ``publisherGrace``, readers stay."""
        publisher, self.publisher = self.publisher, None
        if publisher is None:
            return
        if not self._keep_stream(reason):
            self._end_stream(reason)
        publisher.close_publisher(reason)
        if self.stream is not None:
            self._substitute.continue_copying()
        self._check_unused()

    def follow_node(self) -> None:
        """Another node publishes the path now: readers that wait here for another publisher continue with it."""
        if self._is_interrupted and self.publisher is None:
            self._substitute.continue_copying()

    def _lose_stream(self, reason: str) -> None:
        self._end_stream(reason)
        if self.on_demand is not None:
            self.on_demand.handle(Input.LOST)
        else:
            self._refuse_pending(NoOnePublishing)
        self._check_unused()

    def _keep_stream(self, reason: str) -> bool:
        """The publisher has gone: let its readers stay, if the path is configured so; return whether it is."""
        if self.stream is None or self._closed or not self._interlude.is_possible:
            return False
        self.stream.flush()
        self._interrupt()
        self._interlude.begin(self.stream, reason)
        return True

    def _on_grace_over(self, reason: str) -> None:
        if self._is_interrupted:
            self._lose_stream(reason)

    def _resume(self, tracks: Sequence[Track], *, publishes_packets: bool) -> bool:
        """Continue the interrupted stream, if there is one and its readers can use these tracks."""
        if not self._is_interrupted or self.stream is None:
            return False
        if not self.stream.resume(tracks, publishes_packets=publishes_packets):
            self.log.info("the new publisher has different tracks; readers are disconnected")
            return False
        self._interlude.end()
        self.log.info("stream is online" if self._interlude.slate else "readers continue with the new publisher")
        return True

    def close(self, reason: str) -> None:
        """End everything: the entry was removed or changed, or the server stops."""
        if self._closed:
            return
        self._closed = True
        if self.on_demand is not None:
            self.on_demand.close()
        self._end_stream(reason)
        self._remove_substitute(reason, PathClosed)
        self._refuse_pending(PathClosed)
        if self.publisher is not None and self.publisher is not self.source:
            publisher, self.publisher = self.publisher, None
            publisher.close_publisher(reason)
        if self.source is not None:
            source, self.source = self.source, None
            source.stop(reason)
        self.publisher = None
        self._notify(lambda observer: observer.on_path_closed(self))

    def _end_stream(self, reason: str) -> None:
        stream = self.stream
        self._notify_offline()
        self.online_since = None
        self._interlude.end()
        if stream is None:
            return
        stream.flush()
        readers = stream.readers
        self.stream = None
        self.ready_since = None
        stream.close()
        for reader in readers:
            self._notify_removed(reader)
        self._notify(lambda observer: observer.on_path_not_ready(self))
        if readers and self.on_demand is not None:
            self.on_demand.handle(Input.UNUSED)
        # Last: a reader that leaves releases the path, which then may close.
        for reader in readers:
            try:
                reader.close_reader(reason)
            except Exception:
                self.log.exception("internal error: a reader failed as it was closed")

    def _refuse_pending(self, error: type[NoOnePublishing | PathClosed] = SourceTimedOut) -> None:
        for pending in self._pending:
            if not pending.done():
                pending.set_exception(error(self.name))

    def _check_unused(self) -> None:
        if not self._closed and self.is_unused:
            self._on_unused(self)
