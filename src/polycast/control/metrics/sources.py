"""Where the values of metrics come from, whatever their names are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from polycast.control.contract import MediaServer, Path, SessionServer, Traffic
from polycast.control.lag import LoopLag


class Sources(NamedTuple):
    """What is running, and what is measured of it."""

    media_server: MediaServer
    traffic: Traffic
    lag: LoopLag

    def paths(self) -> Iterator[Path]:
        """Yield the paths. The loop may do other work in between; paths that end meanwhile are left out."""
        return (path for path in tuple(self.media_server.hub) if not path.is_closed)

    def servers(self) -> tuple[SessionServer, ...]:
        """Return the running servers."""
        return tuple(self.media_server.servers.values())


def state_of(path: Path) -> str:
    """Return the state of a path in all dialects."""
    return "ready" if path.stream is not None else "notReady"
