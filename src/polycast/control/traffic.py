"""Traffic of each path since its creation, including publishers and readers that have left."""

from __future__ import annotations

from collections.abc import Iterable

from polycast.hub.path import Path, PathObserver
from polycast.hub.stats import Counters
from polycast.hub.stream import Reader, Stream


class Traffic(PathObserver):
    """Totals by path. An observer of the hub; costs nothing per packet."""

    def __init__(self, paths: Iterable[Path] = ()) -> None:
        self._totals: dict[Path, Counters] = {}
        self._streams: dict[Path, Stream] = {}
        self._readers: dict[Path, dict[Reader, tuple[int, int, int]]] = {}
        for path in paths:
            self.on_path_created(path)
            if path.stream is not None:
                self.on_path_ready(path)
                for reader in path.readers:
                    self.on_reader_added(path, reader)

    def of(self, path: Path) -> Counters:
        """Return the traffic of a path so far."""
        counters = Counters()
        _add(counters, self._totals.get(path, counters))
        if path in self._streams:
            _add_stream(counters, self._streams[path])
        for reader, start in self._readers.get(path, {}).items():
            _add_reader(counters, reader, start)
        return counters

    def on_path_created(self, path: Path) -> None:
        self._totals[path] = Counters()

    def on_path_closed(self, path: Path) -> None:
        self._totals.pop(path, None)
        self._readers.pop(path, None)
        self._streams.pop(path, None)

    def on_path_ready(self, path: Path) -> None:
        if path.stream is not None:
            self._streams[path] = path.stream

    def on_path_not_ready(self, path: Path) -> None:
        stream = self._streams.pop(path, None)
        if stream is not None:
            _add_stream(self._totals.setdefault(path, Counters()), stream)

    def on_reader_added(self, path: Path, reader: Reader) -> None:
        counters = reader.counters
        if counters is not None:
            start = counters.bytes_sent, counters.packets_sent, counters.packets_dropped
            self._readers.setdefault(path, {})[reader] = start

    def on_reader_removed(self, path: Path, reader: Reader) -> None:
        start = self._readers.get(path, {}).pop(reader, None)
        if start is not None:
            _add_reader(self._totals.setdefault(path, Counters()), reader, start)


def _add(total: Counters, part: Counters) -> None:
    total.bytes_received += part.bytes_received
    total.bytes_sent += part.bytes_sent
    total.packets_received += part.packets_received
    total.packets_sent += part.packets_sent
    total.packets_lost += part.packets_lost
    total.packets_invalid += part.packets_invalid
    total.packets_dropped += part.packets_dropped


def _add_stream(total: Counters, stream: Stream) -> None:
    for track in stream.tracks:
        total.bytes_received += track.counters.bytes
        total.packets_received += track.counters.packets
        total.packets_lost += track.counters.lost
        total.packets_invalid += track.counters.foreign


def _add_reader(total: Counters, reader: Reader, start: tuple[int, int, int]) -> None:
    counters = reader.counters
    if counters is not None:
        total.bytes_sent += counters.bytes_sent - start[0]
        total.packets_sent += counters.packets_sent - start[1]
        total.packets_dropped += counters.packets_dropped - start[2]
