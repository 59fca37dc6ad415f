"""What the supervisor remembers of its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from polycast.config.webhooks import EventName
from polycast.protocols.registry import server_kinds
from polycast.workers.merged import Kick, MergedServer, WorkerNumbers
from polycast.workers.messages import PathEvent
from polycast.workers.snapshot import ServerSnapshot, Snapshot


class State:
    """Servers, paths and files, by worker."""

    def __init__(self, count: int) -> None:
        self.servers: dict[str, MergedServer] = {}
        self.workers: list[WorkerNumbers] = []
        self.dropped_datagrams = 0
        self._paths: dict[int, set[str]] = {number: set() for number in range(1, count + 1)}
        self._files: dict[int, set[str]] = {number: set() for number in range(1, count + 1)}
        """Recorded files that are incomplete."""
        self._refreshing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def open_files(self) -> frozenset[str]:
        """Return the names of the recorded files that are incomplete."""
        return frozenset().union(*self._files.values())

    async def shared(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Wait for a call of ``refresh`` that begins from now on; all that wait at the same time share one."""

        async def run(before: asyncio.Task[None] | None) -> None:
            if before is not None:
                await asyncio.wait((before,))
            self._refreshing, self._next = self._next, None
            await refresh()

        if self._next is None:
            running = self._refreshing if self._refreshing is not None and not self._refreshing.done() else None
            self._next = asyncio.get_running_loop().create_task(run(running))
        await asyncio.shield(self._next)

    def update(self, snapshots: Mapping[int, Snapshot], pids: Mapping[int, int], kick: Kick) -> None:
        """Use what the workers know now, by their numbers."""
        parts: dict[str, dict[int, ServerSnapshot]] = {}
        for number, snapshot in snapshots.items():
            for server in snapshot.servers:
                parts.setdefault(server.name, {})[number] = server
        kinds = [kind for kind in server_kinds() if kind.name in parts]
        self.servers = {kind.name: MergedServer(kind, parts[kind.name], kick) for kind in kinds}
        self.dropped_datagrams = sum(snapshot.dropped_datagrams for snapshot in snapshots.values())
        self.workers = [
            WorkerNumbers(
                number,
                pids[number],
                snapshot.process.lag,
                snapshot.process.longest_lag,
                snapshot.process.cpu_seconds,
                snapshot.process.memory,
            )
            for number, snapshot in snapshots.items()
        ]

    def is_news(self, number: int, event: PathEvent) -> bool:
        """Remember what a worker tells; return whether it concerns the whole server: a path that has an entry of its
        own exists in every worker."""
        if event.name is EventName.PATH_CREATED:
            is_new = not self._exists(event.path)
            self._paths[number].add(event.path)
            return is_new
        if event.name is EventName.PATH_CLOSED:
            self._paths[number].discard(event.path)
            return not self._exists(event.path)
        if event.name is EventName.SEGMENT_CREATED:
            self._files[number].add(event.file)
        elif event.name is EventName.SEGMENT_COMPLETED:
            self._files[number].discard(event.file)
        return True

    def paths_ended_with(self, number: int) -> list[str]:
        """Forget a worker that has ended; return the paths that ended with it."""
        ended, self._paths[number], self._files[number] = self._paths[number], set(), set()
        return sorted(path for path in ended if not self._exists(path))

    def _exists(self, path: str) -> bool:
        return any(path in paths for paths in self._paths.values())
