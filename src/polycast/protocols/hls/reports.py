"""Tells the observers of paths who watches: their commands run for viewers as for the readers of other protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from polycast.hub.hub import Hub
from polycast.hub.path import Path, PathObserver, notify_observers
from polycast.hub.stats import Reference
from polycast.log import Log
from polycast.protocols.hls.audience import Visit

# Viewers of one address that observers are told about. Somebody who pretends to be many programs is no reason to start
# as many commands; behind a proxy that is not trusted, all viewers have one address.
MAXIMUM_PER_ADDRESS: Final = 1_000


def reference_of(visit: Visit) -> Reference:
    """Return the name of a viewer in the API."""
    return Reference("hlsSession", visit.id)


class ViewerReports:
    """The viewers that observers were told about."""

    def __init__(self, hub: Hub, log: Log) -> None:
        self._observers = hub.observers
        self._log = log
        self._paths: dict[Visit, Path] = {}
        """The paths that they read."""
        self._counts: Counter[str] = Counter()
        """By IP address."""

    def begin(self, visit: Visit, path: Path) -> None:
        """A viewer reads the stream of a path, perhaps since before."""
        address = _address_of(visit)
        if visit in self._paths or self._counts[address] >= MAXIMUM_PER_ADDRESS:
            return
        self._paths[visit] = path
        self._counts[address] += 1
        self._tell(lambda observer: observer.on_viewer_added(path, reference_of(visit), visit.query))

    def end(self, visit: Visit) -> None:
        """A viewer has left, perhaps before."""
        path = self._paths.pop(visit, None)
        if path is None:
            return
        address = _address_of(visit)
        self._counts[address] -= 1
        if not self._counts[address]:
            del self._counts[address]
        self._tell(lambda observer: observer.on_viewer_removed(path, reference_of(visit), visit.query))

    def _tell(self, what: Callable[[PathObserver], None]) -> None:
        notify_observers(self._observers, self._log, what)


def _address_of(visit: Visit) -> str:
    return visit.address.rpartition(":")[0]
