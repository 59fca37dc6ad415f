"""The last hour of each stream and of the server, in samples of ten seconds."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.control.contract import Hub, LiveTrack, Path, Stream, Traffic
from polycast.control.lag import LoopLag
from polycast.control.slices import in_slices

INTERVAL: Final = 10.0
"""Seconds of a sample."""

SAMPLES: Final = 360
"""Samples that are kept: an hour."""

MAXIMUM_PATHS: Final = 1_000
"""Paths whose history is kept, with 10 kB each. Further ones have none."""

_GAP: Final = math.nan

Values = list[float | None]


class StreamHistory(Struct, frozen=True, kw_only=True, rename="camel"):
    """The last hour of a path, one value per sample; null where it had no stream."""

    interval: Annotated[float, Meta(description="Seconds of a sample.")]
    bit_rate: Annotated[Values, Meta(description="Of the publisher, bit/s.")]
    bit_rate_out: Annotated[Values, Meta(description="To all readers, bit/s.")]
    frame_rate: Annotated[Values, Meta(description="Of the first video track, pictures per second as they arrive.")]
    key_frame_interval: Annotated[
        Values, Meta(description="Seconds between the last two key frames; 0 until there were two.")
    ]
    packets_lost: Annotated[Values, Meta(description="Packets of the publisher that were lost in the sample.")]
    readers: Annotated[Values, Meta(description="Clients at the end of the sample.")]
    longest_delivery: Annotated[
        float | None,
        Meta(description="The longest time that media took through the server in the last minute or so, seconds."),
    ]


class ServerHistory(Struct, frozen=True, kw_only=True, rename="camel"):
    """The last hour of the server, one value per sample."""

    interval: Annotated[float, Meta(description="Seconds of a sample.")]
    bit_rate: Annotated[Values, Meta(description="Received from all publishers, bit/s.")]
    bit_rate_out: Annotated[Values, Meta(description="Sent to all readers, bit/s.")]
    cpu: Annotated[Values, Meta(description="Of one core, percent.")]
    loop_lag: Annotated[Values, Meta(description="The longest lag of the event loop in the minute before, seconds.")]


class Rings:
    """Some series of the same length. Each keeps the last samples."""

    def __init__(self, count: int) -> None:
        self._series = [array("f") for _ in range(count)]

    def add(self, *values: float) -> None:
        """Add one value to each series."""
        for series, value in zip(self._series, values, strict=True):
            series.append(value)
            if len(series) > SAMPLES:
                del series[0]

    def add_gap(self) -> None:
        """Add a sample without values."""
        self.add(*[_GAP] * len(self._series))

    @property
    def is_empty(self) -> bool:
        """Whether there are no values."""
        return all(math.isnan(value) for value in self._series[0])

    def __iter__(self) -> Iterator[Values]:
        """Yield the values of each series, the oldest first."""
        for series in self._series:
            yield [None if math.isnan(value) else _rounded(value) for value in series]


class _Observed:
    """A path whose history is kept."""

    def __init__(self) -> None:
        self.rings = Rings(6)
        self._stream: Stream | None = None
        self._counts = (0, 0, 0, 0)

    def add(self, stream: Stream | None, sent: int, readers: int, seconds: float) -> None:
        """Add a sample."""
        if stream is None:
            self._stream = None
            self.rings.add_gap()
            return
        track = rated_track(stream)
        lost = sum(each.counters.lost for each in stream.tracks)
        counts = stream.bytes_received, sent, track.counters.frames if track is not None else 0, lost
        # The totals of a path go on with its next stream, those of the stream begin again.
        before = self._counts if stream is self._stream else (0, self._counts[1], 0, 0)
        self._stream, self._counts = stream, counts
        received, sent, frames, lost = (max(0, new - old) for new, old in zip(counts, before, strict=True))
        interval = track.counters.key_interval if track is not None else 0.0
        self.rings.add(received * 8 / seconds, sent * 8 / seconds, frames / seconds, interval, lost, readers)


class History:
    """Takes the samples. ``lag`` is measured by somebody else."""

    def __init__(self, hub: Hub, traffic: Traffic, lag: LoopLag, refresh: Callable[[], Awaitable[None]]) -> None:
        """``refresh`` is awaited before a sample is taken."""
        self._hub = hub
        self._traffic = traffic
        self._lag = lag
        self._refresh = refresh
        self._paths: dict[Path, _Observed] = {}
        self._server = Rings(4)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take samples."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """End, and forget everything."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._paths.clear()
        self._server = Rings(4)

    def of(self, path: Path) -> StreamHistory:
        """Return the history of a path."""
        observed = self._paths.get(path)
        rate, out, frames, interval, lost, readers = observed.rings if observed is not None else Rings(6)
        return StreamHistory(
            interval=INTERVAL,
            bit_rate=rate,
            bit_rate_out=out,
            frame_rate=frames,
            key_frame_interval=interval,
            packets_lost=lost,
            readers=readers,
            longest_delivery=round(path.stream.meter.longest_delivery, 6) if path.stream is not None else None,
        )

    def of_server(self) -> ServerHistory:
        """Return the history of the server."""
        rate, out, cpu, lag = self._server
        return ServerHistory(interval=INTERVAL, bit_rate=rate, bit_rate_out=out, cpu=cpu, loop_lag=lag)

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        last, cpu = clock(), time.process_time()
        totals: tuple[int, int] | None = None
        while True:
            await asyncio.sleep(INTERVAL)
            now, used = clock(), time.process_time()
            seconds = now - last
            new = await self.sample(seconds)
            if totals is not None:
                received, sent = (
                    max(0, after - before) * 8 / seconds for after, before in zip(new, totals, strict=True)
                )
                self._server.add(received, sent, (used - cpu) / seconds * 100, self._lag.maximum)
            last, cpu, totals = now, used, new

    async def sample(self, seconds: float) -> tuple[int, int]:
        """Take the samples of all paths, of so many seconds; return the bytes that they received and sent in all."""
        received = sent = 0
        await self._refresh()
        paths = list(self._hub.paths.values())
        async for its_received, its_sent in in_slices(paths, lambda path: self._sample_path(path, seconds)):
            received += its_received
            sent += its_sent
        for path in [path for path, observed in self._paths.items() if path.is_closed or observed.rings.is_empty]:
            del self._paths[path]
        return received, sent

    def _sample_path(self, path: Path, seconds: float) -> tuple[int, int]:
        counters = self._traffic.of(path)
        observed = self._paths.get(path)
        if observed is None and path.stream is not None and len(self._paths) < MAXIMUM_PATHS:
            observed = self._paths[path] = _Observed()
        if observed is not None:
            readers = sum(len(reader.clients()) for reader in path.readers)
            observed.add(path.stream, counters.bytes_sent, readers, seconds)
        return counters.bytes_received, counters.bytes_sent


def rated_track(stream: Stream) -> LiveTrack | None:
    """Return the track whose frames are counted; None without video."""
    track = stream.tracks[stream.key_track]
    return track if track.track.kind == "video" else None


def _rounded(value: float) -> float:
    return round(value, 3) if value < 1_000 else round(value)
