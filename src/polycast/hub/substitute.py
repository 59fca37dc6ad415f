"""What feeds a path instead of a publisher of its own, for as long as there are readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from polycast.config.path_schema import PathConfiguration
from polycast.hub.on_demand import Input, OnDemand, State
from polycast.hub.other_workers import OtherWorkers
from polycast.hub.publisher import Publisher, Source


class Host(Protocol):
    """The path, as its substitute sees it."""

    publisher: Publisher | None
    on_demand: OnDemand | None

    @property
    def configuration(self) -> PathConfiguration:
        """Its settings."""

    def set_on_demand(
        self, *, start: Callable[[], None], stop: Callable[[str], None], start_timeout: float, close_after: float
    ) -> None:
        """Let readers start what makes the path ready."""


class Substitute:
    """The source of readers that cannot be redirected, or of those of a path that another node publishes."""

    __slots__ = (
        "_before",
        "_copy",
        "_host",
        "_pull",
        "_settling",
        "check_publisher",
        "is_elsewhere",
        "other_workers",
        "source",
    )

    def __init__(
        self,
        host: Host,
        pull: Callable[[str], Source | None],
        copy: Callable[[], Source | None],
        check_publisher: Callable[[], None],
        is_elsewhere: Callable[[], bool],
        other_workers: OtherWorkers | None = None,
    ) -> None:
        """``pull`` makes the source that pulls from the target of a redirection. ``copy`` makes the one that copies the
        stream from the node that publishes the path; both return None if there is none. ``check_publisher`` raises
        CannotPublish if other nodes allow no publisher here. ``is_elsewhere`` tells whether another node publishes the
        path."""
        self._host = host
        self._pull = pull
        self._copy = copy
        self.check_publisher = check_publisher
        self.is_elsewhere = is_elsewhere
        self.other_workers = other_workers
        self._settling = 0
        self.source: Source | None = None
        self._before: OnDemand | None = None
        """What starts the path's own source or command, while another node publishes the path."""

    @property
    def is_copy(self) -> bool:
        """Whether the stream is, or will be, copied from another node."""
        return self.source is not None and self.source.is_copy

    @property
    def is_settling(self) -> bool:
        """Whether somebody waits in `settle`."""
        return self._settling > 0

    async def settle(self, path: str) -> None:
        """Learn which worker is to start what the path gets its stream from; anything may happen to it meanwhile."""
        if self.other_workers is None:
            return
        self._settling += 1
        try:
            await self.other_workers.settle(path)
        finally:
            self._settling -= 1

    def start_pulling(self, target: str) -> bool:
        """Let the server pull from ``target`` once a reader wants it; return whether it can."""
        return self.source is not None or self._set(self._pull(target))

    def start_copying(self) -> bool:
        """Let the stream be copied from the node that publishes the path, if another one does; return whether it is."""
        if self.source is not None:
            return self.source.is_copy
        host = self._host
        is_free = host.publisher is None and (host.on_demand is None or host.on_demand.state is State.STOPPED)
        return is_free and self._set(self._copy())

    def continue_copying(self) -> None:
        """Copy from another node, if it publishes the path, for readers that are there already."""
        if self.start_copying() and self._host.on_demand is not None:
            self._host.on_demand.handle(Input.WANTED)

    def remove(self, reason: str) -> bool:
        """End it; return whether there was one."""
        source, self.source = self.source, None
        if source is None:
            return False
        if self._host.on_demand is not None:
            self._host.on_demand.close()
        self._host.on_demand, self._before = self._before, None
        source.stop(reason)
        return True

    def _set(self, source: Source | None) -> bool:
        if source is None:
            return False
        host = self._host
        self.source, self._before = source, host.on_demand
        host.set_on_demand(
            start=source.start,
            stop=source.stop,
            start_timeout=float(host.configuration.source_on_demand_start_timeout),
            close_after=float(host.configuration.source_on_demand_close_after),
        )
        return True
