"""What the supervisor asks its workers for when somebody looks at the API or the metrics: everything, in one answer."""

from __future__ import annotations

import resource
from functools import cache
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw, Struct

from polycast.app.application import Application
from polycast.control.contract import SessionServer, Traffic
from polycast.hub.retry import Failure
from polycast.hub.stats import Counters, Reference
from polycast.items import ConnectionItem, ForwardItem, ViewerItem
from polycast.media import codec as codec_module
from polycast.media.codec import Codec
from polycast.media.track import RtpFormat, Track
from polycast.record.numbers import DiskNumbers, RecordingNumbers

if TYPE_CHECKING:
    from polycast.control.contract import LiveTrack, Path, Stream

NODE: Final = "node"
"""The type of a reader that is another worker: its own readers are those of the path."""

_PAGE: int = resource.getpagesize()


class TrackCounters(Struct, frozen=True, array_like=True):
    """What was received of a track."""

    bytes: int
    packets: int
    lost: int
    foreign: int
    frames: int
    key_interval: float


class TrackSnapshot(Struct, frozen=True, array_like=True):
    """One track."""

    index: int
    codec_name: str
    codec: Raw
    rtp: RtpFormat | None
    language: str | None
    title: str | None
    counters: TrackCounters
    discontinuities: int

    @property
    def track(self) -> Track:
        codec = msgspec.msgpack.decode(self.codec, type=_codecs()[self.codec_name])
        return Track(self.index, codec, self.rtp, self.language, self.title)


class Meter(Struct, frozen=True, array_like=True):
    """How a stream is doing."""

    bit_rate: float
    deliveries: int
    delivery_seconds: float
    longest_delivery: float


class StreamSnapshot(Struct, frozen=True, array_like=True):
    """A stream."""

    tracks: tuple[TrackSnapshot, ...]
    key_track: int
    bytes_received: int
    meter: Meter


class ParticipantSnapshot(Struct, frozen=True, array_like=True):
    """A publisher, or a reader with its clients."""

    name: Reference
    own_clients: tuple[Reference, ...] = ()

    def reference(self) -> Reference:
        return self.name

    def clients(self) -> tuple[Reference, ...]:
        return self.own_clients


class PathSnapshot(Struct, frozen=True, array_like=True):
    """A path of one worker."""

    name: str
    entry_name: str
    is_copy: bool
    """Whether its stream comes from another worker."""
    publisher: ParticipantSnapshot | None
    source: ParticipantSnapshot | None
    source_failure: Failure | None
    stream: StreamSnapshot | None
    ready_since: float | None
    online_since: float | None
    readers: tuple[ParticipantSnapshot, ...]
    counters: Counters
    forwards: tuple[ForwardItem, ...]


class ServerSnapshot(Struct, frozen=True, array_like=True):
    """A server of one worker."""

    name: str
    ports: dict[str, int]
    internal_errors: int
    items: dict[str, Raw]
    connections: dict[str, ConnectionItem]
    viewers: dict[str, ViewerItem]


class UploadNumbers(Struct, frozen=True, array_like=True):
    """Uploads of recorded files."""

    uploaded: int
    waiting: int
    set_aside: int


class ProcessNumbers(Struct, frozen=True, array_like=True):
    """The process of a worker."""

    lag: float
    longest_lag: float
    cpu_seconds: float
    memory: int
    """Bytes."""


class Snapshot(Struct, frozen=True, array_like=True):
    """Everything."""

    servers: list[ServerSnapshot]
    paths: list[PathSnapshot]
    recordings: list[RecordingNumbers]
    disks: list[DiskNumbers]
    uploads: UploadNumbers
    dropped_datagrams: int
    cipher_packets: int
    cipher_seconds: float
    process: ProcessNumbers


def take_snapshot(application: Application, traffic: Traffic, process: ProcessNumbers) -> Snapshot:
    """Return what the server of a worker knows."""
    meter, uploader = application.hub.cipher_meter, application.recorder.uploader
    return Snapshot(
        servers=[_server(server) for server in application.servers.values()],
        paths=[
            _path(path, traffic.of(path), tuple(application.forwarding.items(path)), is_copy=path.is_copy)
            for path in application.hub
        ],
        recordings=application.recorder.recording_numbers(),
        disks=application.recorder.disk_numbers(),
        uploads=UploadNumbers(uploader.uploaded, uploader.waiting, uploader.set_aside),
        dropped_datagrams=application.dropped_datagrams,
        cipher_packets=meter.packets,
        cipher_seconds=meter.seconds,
        process=process,
    )


def _path(path: Path, counters: Counters, forwards: tuple[ForwardItem, ...], *, is_copy: bool) -> PathSnapshot:
    """Return a path."""
    return PathSnapshot(
        name=path.name,
        entry_name=path.entry.name,
        is_copy=is_copy,
        publisher=ParticipantSnapshot(path.publisher.reference()) if path.publisher is not None else None,
        source=ParticipantSnapshot(path.source.reference()) if path.source is not None else None,
        source_failure=path.source_failure,
        stream=_stream(path.stream) if path.stream is not None else None,
        ready_since=path.ready_since,
        online_since=path.online_since,
        readers=tuple(
            ParticipantSnapshot(each.reference(), tuple(each.clients()))
            for each in path.readers
            if each.reference().type != NODE
        ),
        counters=counters,
        forwards=forwards,
    )


def _server(server: SessionServer) -> ServerSnapshot:
    """Return a server with its sessions."""
    return ServerSnapshot(
        name=server.name,
        ports=server.ports,
        internal_errors=server.internal_errors,
        items={key: Raw(msgspec.msgpack.encode(item)) for key, item in server.items().items()},
        connections=dict(server.connections()),
        viewers=dict(server.viewers()),
    )


def process_numbers(lag: float, longest_lag: float) -> ProcessNumbers:
    """Return the numbers of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    try:
        with open("/proc/self/statm", "rb") as file:
            memory = int(file.read().split()[1]) * _PAGE
    except OSError:  # not Linux: its peak
        memory = usage.ru_maxrss
    return ProcessNumbers(lag, longest_lag, usage.ru_utime + usage.ru_stime, memory)


def _stream(stream: Stream) -> StreamSnapshot:
    meter = stream.meter
    return StreamSnapshot(
        tuple(map(_track, stream.tracks)),
        stream.key_track,
        stream.bytes_received,
        Meter(meter.bit_rate, meter.deliveries, meter.delivery_seconds, meter.longest_delivery),
    )


def _track(live: LiveTrack) -> TrackSnapshot:
    track, counters = live.track, live.counters
    return TrackSnapshot(
        track.index,
        track.codec.name,
        Raw(msgspec.msgpack.encode(track.codec)),
        track.rtp,
        track.language,
        track.title,
        TrackCounters(
            counters.bytes,
            counters.packets,
            counters.lost,
            counters.foreign,
            counters.frames,
            counters.key_interval,
        ),
        live.discontinuities,
    )


@cache
def _codecs() -> dict[str, type[Codec]]:
    # Not the subclasses of Codec: for each class with slots, Python has a second one without them.
    classes = (each for each in vars(codec_module).values() if isinstance(each, type) and issubclass(each, Codec))
    return {each.name: each for each in classes if hasattr(each, "name")}
