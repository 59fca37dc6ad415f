"""The hub: all paths of a server by name, created and removed according to the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from polycast.config.diff import restarts_path
from polycast.config.path_schema import PathConfiguration
from polycast.hub.access import AccessControl
from polycast.hub.access_request import AccessRequest, Action
from polycast.hub.entries import PathEntries
from polycast.hub.errors import PathError, PathNotConfigured, RedirectedToNode
from polycast.hub.other_workers import OtherWorkers
from polycast.hub.path import OtherNodes, Path, PathEntry, PathObserver, Source, notify_observers
from polycast.hub.relay import PathRelay
from polycast.hub.slate import Slate
from polycast.hub.stats import CipherMeter
from polycast.log import Log
from polycast.rtp.header import PacketSizes
from polycast.rtp.repacketize import DEFAULT_SIZES

SourceFactory = Callable[[Path], Source | None]
"""Creates the source of a path's configuration; None if it has none."""

FallbackFactory = Callable[[Path, str], Source | None]
"""Creates the source that pulls from the URL of a redirection; None if it cannot."""

SlateFactory = Callable[[Path], Slate | None]
"""Returns what readers of a path get while nobody publishes; None if that is nothing."""

SLICE_SECONDS: Final = 0.001
"""How long new settings are applied to paths before others get their turn."""


class Hub:
    """All paths of a server. Used only from the event loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        access: AccessControl,
        make_source: SourceFactory | None = None,
        make_fallback: FallbackFactory | None = None,
        make_slate: SlateFactory | None = None,
        other_nodes: OtherNodes | None = None,
        other_workers: OtherWorkers | None = None,
    ) -> None:
        self._other_workers = other_workers
        self._loop = loop
        self._log = log
        self._make_source = make_source
        self._pull_redirection = make_fallback
        self._make_slate = make_slate
        self._entries = PathEntries()
        self._paths: dict[str, Path] = {}
        self.other_nodes = other_nodes
        """The cluster; None without one."""
        self.access = access
        self.observers: list[PathObserver] = []
        self.cipher_meter = CipherMeter()
        """What is encrypted for all clients."""

    @property
    def paths(self) -> Mapping[str, Path]:
        """The existing paths, by name."""
        return self._paths

    def configure(self, entries: Mapping[str, PathConfiguration], packet_sizes: PacketSizes = DEFAULT_SIZES) -> None:
        """Apply the entries of the configuration, at the start: while streams run, use `reconfigure`.

        ``packet_sizes`` apply to streams that begin later.
        """
        for _ in self._use(self.entries_of(entries, packet_sizes)):
            pass

    def entries_of(self, entries: Mapping[str, PathConfiguration], packet_sizes: PacketSizes) -> PathEntries:
        """Return the entries of a new configuration, for `reconfigure`. To be called in a thread."""
        return PathEntries(entries, packet_sizes, self._entries)

    async def reconfigure(self, entries: PathEntries) -> None:
        """Apply the entries of a new configuration. Must not be called again before it has returned.

        Paths whose settings are the same, or differ only in those that can change at any time, keep their publisher and
        readers, also if another entry applies to them from now on; the others are closed, and created again if they are
        configured by name.

        There may be thousands: in between, others get their turn. For them, all entries are the new ones from the
        beginning; a path may have its old settings for some milliseconds.
        """
        end = self._loop.time() + SLICE_SECONDS
        for _ in self._use(entries):
            if self._loop.time() >= end:
                await asyncio.sleep(0)
                end = self._loop.time() + SLICE_SECONDS

    def _use(self, entries: PathEntries) -> Iterator[None]:
        """Use new entries, from the first step on; each step applies them to one path."""
        self._entries = entries
        for path in tuple(self._paths.values()):
            yield
            # It may be gone meanwhile, and another one in its place that has the new settings.
            if self._paths.get(path.name) is path:
                self._apply_entry(path)
        for name, entry in entries.exact.items():
            yield
            if name not in self._paths:
                self._create(name, entry, ())

    def _apply_entry(self, path: Path) -> None:
        try:
            entry, groups = self._entries.entry_of(path.name)
        except PathNotConfigured:
            self._close(path, "the path was removed from the configuration")
            return
        if entry is path.entry:  # so are the groups
            return
        # Addresses and commands may contain the groups.
        if groups != path.groups or restarts_path(path.configuration, entry.configuration):
            self._close(path, "the configuration of the path changed")
        else:
            path.reconfigure(entry, groups)
            self._on_unused(path)

    def find_entry(self, name: str) -> tuple[PathEntry, tuple[str, ...]]:
        """Return the entry for a path name and the groups that its expression matched.

        An exact entry wins; then the first matching expression in the order of the file. Raises InvalidPathName or
        PathNotConfigured.
        """
        return self._entries.find(name)

    def is_named(self, name: str) -> bool:
        """Whether the configuration has an entry for exactly this path."""
        return name in self._entries.exact

    def has_stream(self, name: str) -> bool:
        """Whether there is a stream on a path, of this process or a copy."""
        path = self._paths.get(name)
        return path is not None and path.stream is not None

    async def authorize(self, request: AccessRequest) -> str:
        """Return the name of the user if the client is allowed.

        Raises AccessDenied, InvalidPathName or PathNotConfigured.
        """
        entry, _ = self.find_entry(request.path)
        return await self.access.check(request, entry.configuration)

    def asks_once(self, name: str, action: Action) -> bool:
        """Whether a client that was authorised for a path is not asked again; see `AccessControl.asks_once`."""
        try:
            entry, _ = self.find_entry(name)
        except PathError:
            return False
        return self.access.asks_once(action, name, entry.configuration)

    def is_protected(self, name: str, action: Action) -> bool:
        """Whether the configuration of a path requires credentials or certain addresses of clients."""
        try:
            entry, _ = self.find_entry(name)
        except PathError:
            return False
        return not self.access.is_unprotected(action, name, entry.configuration)

    def is_elsewhere(self, name: str) -> bool:
        """Whether another node of the cluster publishes a path."""
        return self.other_nodes is not None and self.other_nodes.is_owned_elsewhere(name)

    def redirect(self, name: str, server: str, scheme: str, file: str = "") -> None:
        """Raise RedirectedToNode if a reader is to be redirected to another node of the cluster.

        ``server`` is the name of the protocol's server, ``scheme`` that of its addresses: readers are never
        redirected to another scheme, which may be less secure. ``file`` follows the path, and begins with a slash. The
        target has no credentials and no query.
        """
        target = self.other_nodes.redirection(name, server) if self.other_nodes is not None else ""
        if target.startswith(f"{scheme}://"):
            raise RedirectedToNode(f"{target}/{quote(name)}{file}")

    def path(self, name: str) -> Path:
        """Return the path of a name, created if an expression matches and it does not exist yet.

        The caller uses it immediately (publishes, reads or waits) or returns it with `release`.
        Raises InvalidPathName or PathNotConfigured.
        """
        path = self._paths.get(name)
        if path is None:
            entry, groups = self.find_entry(name)
            path = self._create(name, entry, groups)
        return path

    def release(self, path: Path) -> None:
        """Remove a path that was created for a request that did not use it."""
        self._on_unused(path)

    def close(self, reason: str) -> None:
        """Close all paths."""
        for path in list(self._paths.values()):
            self._close(path, reason)

    def __iter__(self) -> Iterator[Path]:
        return iter(tuple(self._paths.values()))

    def _create(self, name: str, entry: PathEntry, groups: tuple[str, ...]) -> Path:
        path = Path(
            name,
            entry,
            groups,
            loop=self._loop,
            log=self._log,
            observers=self.observers,
            on_unused=self._on_unused,
            make_fallback=self._make_fallback,
            other_nodes=lambda: self.other_nodes,
            other_workers=self._other_workers,
        )
        self._paths[name] = path
        notify_observers(self.observers, path.log, lambda observer: observer.on_path_created(path))
        if not path.is_run_here:
            return path
        slate = self._make_slate(path) if self._make_slate is not None else None
        if slate is not None:
            path.set_slate(slate)
        if self._make_source is not None:
            source = self._make_source(path)
            if source is not None:
                path.attach_source(source)
        return path

    def _make_fallback(self, path: Path, target: str) -> Source | None:
        if target.startswith("/"):
            name = target[1:]
            return PathRelay(path, lambda: self.path(name), self.release, self._loop)
        return self._pull_redirection(path, target) if self._pull_redirection is not None else None

    def _on_unused(self, path: Path) -> None:
        # A path configured by name stays; one that an expression matched is removed with its last user.
        if path.name not in self._entries.exact and path.is_unused and self._paths.get(path.name) is path:
            self._close(path, "not in use")

    def _close(self, path: Path, reason: str) -> None:
        if self._paths.get(path.name) is path:
            del self._paths[path.name]
        path.close(reason)
