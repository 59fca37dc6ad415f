"""What the console keeps while the API runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from polycast.control.console.endpoints import Console
from polycast.control.console.history import History
from polycast.control.console.log_ring import LogRing
from polycast.control.console.thumbnails import Thumbnails
from polycast.control.contract import MediaServer, Traffic
from polycast.control.lag import LoopLag


class ConsoleParts:
    """History, log and pictures. Another API that replaces the first one has the same."""

    def __init__(self, media_server: MediaServer, traffic: Traffic, lag: LoopLag) -> None:
        self._media_server = media_server
        self._lag = lag
        self.history = History(media_server.hub, traffic, lag, media_server.refresh)
        self.log = LogRing(media_server.log)
        self.thumbnails = Thumbnails()

    def start(self) -> None:
        """Begin to collect; it may be called again."""
        self.history.start()
        self.log.start()

    def stop(self) -> None:
        """End, and forget everything."""
        self.history.stop()
        self.log.stop()
        self.thumbnails.close()

    def endpoints(self, ports: Callable[[], Mapping[str, int]]) -> Console:
        """Return what answers requests. ``ports`` are those of the services, by configuration key."""
        return Console(self._media_server, self._lag, self.history, self.log, self.thumbnails, ports)
