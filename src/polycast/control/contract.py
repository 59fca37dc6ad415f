"""The interfaces of the application and its servers that the control services use.

What runs in the same process fulfils them as it is. For a server with several workers, the supervisor has copies of
what its workers know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from msgspec import Meta, Struct

from polycast.config.path_schema import PathConfiguration
from polycast.config.schema import Configuration
from polycast.hub.access import AccessControl
from polycast.hub.access_request import Action
from polycast.hub.movement import Movement
from polycast.hub.path import PathEntry, PathObserver
from polycast.hub.retry import Failure
from polycast.hub.stats import Counters, Reference
from polycast.items import ConnectionItem, ForwardItem, MetricBlock, SessionItem, ViewerItem
from polycast.log import Log
from polycast.media.track import Track
from polycast.record.numbers import DiskNumbers, RecordingNumbers

if TYPE_CHECKING:
    from polycast.control.console.cameras import CameraItem
    from polycast.control.settings import Settings


FieldsOfItem = Callable[[Any], Mapping[str, Any]]
"""Returns what an item has in API v3 beyond what all have; annotated with the TypedDict of these fields."""


class StreamAddress(Struct, frozen=True, kw_only=True, rename="camel"):
    """Where streams can be read: ``scheme://host:port/path``."""

    scheme: str
    port: int
    is_page: Annotated[bool, Meta(description="Whether it is a web page; else it is for players.")]


class ClusterNode(Struct, frozen=True, kw_only=True, rename="camel"):
    """A node of the cluster that lives."""

    name: str
    address: Annotated[str, Meta(description="Where the other nodes get streams.")]
    is_self: Annotated[bool, Meta(description="Whether it is this server.")]
    is_draining: Annotated[bool, Meta(description="Whether it takes no new publishers and sources.")]
    cpu: Annotated[float, Meta(description="Share of one core that its event loop uses, 0 to 1.")]
    bit_rate: Annotated[float, Meta(description="Of everything that its publishers send, bit/s.")]
    publishers: int
    readers: int


class ClusterPath(Struct, frozen=True, kw_only=True, rename="camel"):
    """A path that a node of the cluster publishes."""

    name: str
    node: Annotated[str, Meta(description="Name of the node that has its publisher, or runs its source.")]


class SessionServer(Protocol):
    """A protocol server, as declared in ``protocols.base.Server``."""

    @property
    def name(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def can_kick(self) -> bool: ...
    @property
    def item(self) -> type[Struct]: ...
    @property
    def internal_errors(self) -> int: ...
    @property
    def ports(self) -> dict[str, int]: ...

    @property
    def connections_collection(self) -> str: ...
    @property
    def viewers_collection(self) -> str: ...
    @property
    def metric_blocks(self) -> tuple[MetricBlock, ...]: ...
    @property
    def item_fields(self) -> FieldsOfItem: ...
    def items(self) -> Mapping[str, Struct]: ...
    def connections(self) -> Mapping[str, ConnectionItem]: ...
    def viewers(self) -> Mapping[str, ViewerItem]: ...
    def sessions(self) -> Mapping[str, SessionItem]: ...
    def kick(self, session_id: str) -> bool: ...


class TrackCounters(Protocol):
    """What was received of a track (`hub.live_track.TrackCounters`)."""

    @property
    def bytes(self) -> int: ...
    @property
    def packets(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def foreign(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def key_interval(self) -> float: ...


class LiveTrack(Protocol):
    """A track that is being published (`hub.live_track.LiveTrack`)."""

    @property
    def track(self) -> Track: ...
    @property
    def counters(self) -> TrackCounters: ...
    @property
    def discontinuities(self) -> int: ...


class StreamMeter(Protocol):
    """Measures a stream (`hub.stats.StreamMeter`)."""

    @property
    def bit_rate(self) -> float: ...
    @property
    def deliveries(self) -> int: ...
    @property
    def delivery_seconds(self) -> float: ...
    @property
    def longest_delivery(self) -> float: ...


class Stream(Protocol):
    """What is published (`hub.stream.Stream`)."""

    @property
    def descriptions(self) -> Sequence[Track]: ...
    @property
    def tracks(self) -> Sequence[LiveTrack]: ...
    @property
    def key_track(self) -> int: ...
    @property
    def bytes_received(self) -> int: ...
    @property
    def meter(self) -> StreamMeter: ...


class Participant(Protocol):
    """What publishes."""

    def reference(self) -> Reference: ...


class Source(Participant, Protocol):
    """A source that the server runs (`hub.publisher.Source`)."""

    async def move(self, movement: Movement) -> None: ...


class Reader(Protocol):
    """What reads."""

    def reference(self) -> Reference: ...
    def clients(self) -> Sequence[Reference]: ...


class Path(Protocol):
    """A path (`hub.path.Path`)."""

    @property
    def name(self) -> str: ...
    @property
    def entry(self) -> PathEntry: ...
    @property
    def configuration(self) -> PathConfiguration: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_copy(self) -> bool: ...
    @property
    def publisher(self) -> Participant | None: ...
    @property
    def source(self) -> Source | None: ...
    @property
    def source_failure(self) -> Failure | None: ...
    @property
    def stream(self) -> Stream | None: ...
    @property
    def ready_since(self) -> float | None: ...
    @property
    def online_since(self) -> float | None: ...
    @property
    def is_online(self) -> bool: ...
    @property
    def readers(self) -> Sequence[Reader]: ...


class CipherMeter(Protocol):
    """What encryption costs (`hub.stats.CipherMeter`)."""

    @property
    def packets(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Hub(Protocol):
    """All paths (`hub.hub.Hub`)."""

    @property
    def access(self) -> AccessControl: ...
    @property
    def observers(self) -> MutableSequence[PathObserver]: ...
    @property
    def cipher_meter(self) -> CipherMeter: ...
    @property
    def paths(self) -> Mapping[str, Path]: ...
    def __iter__(self) -> Iterator[Path]: ...
    def find_entry(self, name: str) -> tuple[PathEntry, tuple[str, ...]]: ...
    def is_protected(self, name: str, action: Action) -> bool: ...


class Traffic(Protocol):
    """The traffic of each path since its creation (`control.traffic.Traffic`)."""

    def of(self, path: Any) -> Counters:
        """Return the traffic of a path so far."""
        ...


class Forwarding(Protocol):
    """What sends streams to other servers."""

    def items(self, path: Any) -> Sequence[ForwardItem]:
        """Return the destinations of a path."""
        ...


class Cleaner(Protocol):
    """What deletes recorded files (`record.cleaner.Cleaner`)."""

    @property
    def deleted(self) -> int: ...


class Uploader(Protocol):
    """What uploads recorded files (`record.uploads.Uploader`)."""

    @property
    def waiting(self) -> int: ...
    @property
    def uploaded(self) -> int: ...
    @property
    def set_aside(self) -> int: ...


class Recorder(Protocol):
    """All recordings (`record.recorder.Recorder`)."""

    def recording_numbers(self) -> Sequence[RecordingNumbers]: ...
    def disk_numbers(self) -> Sequence[DiskNumbers]: ...
    @property
    def open_files(self) -> frozenset[str]: ...
    def start(self, name: str, duration: float | None = None) -> None: ...
    def stop(self, name: str) -> bool: ...
    @property
    def cleaner(self) -> Cleaner: ...
    @property
    def uploader(self) -> Uploader: ...


class WorkerState(Protocol):
    """A worker process, as metrics show it."""

    @property
    def number(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def lag(self) -> float: ...
    @property
    def longest_lag(self) -> float: ...
    @property
    def cpu_seconds(self) -> float: ...
    @property
    def memory(self) -> int: ...


class Cluster(Protocol):
    """The cluster that the server belongs to (`app.cluster.ClusterMember`)."""

    async def drain(self, name: str, *, is_draining: bool) -> bool:
        """Let a node take no new publishers and sources, or take them again; return whether it has answered."""
        ...

    @property
    def owners(self) -> Sequence[ClusterPath]:
        """The published paths of the cluster with their nodes, sorted by name; empty without a cluster."""
        ...

    def answer_paths(self, describe: Callable[[], bytes]) -> None:
        """Set what other nodes get that ask for the paths of this one: a JSON list."""
        ...

    async def paths_elsewhere(self) -> Sequence[tuple[str, bytes]]:
        """Return what the other nodes answer, by their names; those that do not answer are omitted."""
        ...


class MediaServer(Protocol):
    """The running application."""

    @property
    def configuration(self) -> Configuration: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def log(self) -> Log: ...
    @property
    def servers(self) -> Mapping[str, SessionServer]:
        """The running servers; a reload replaces the mapping, so do not keep it."""
        ...

    @property
    def server_names(self) -> Mapping[str, str]:
        """The names of all servers, by their collections in the API."""
        ...

    @property
    def metric_blocks(self) -> Sequence[MetricBlock]:
        """The metrics of all servers under the names of MediaMTX, whether the servers run or not."""
        ...

    @property
    def addresses(self) -> Mapping[str, StreamAddress]:
        """Where streams can be read, by the names of the running servers."""
        ...

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        """The nodes of the cluster, this one included; none without a cluster."""
        ...

    @property
    def settings(self) -> Settings: ...
    @property
    def forwarding(self) -> Forwarding: ...
    @property
    def recorder(self) -> Recorder: ...

    async def thumbnail(self, path: str) -> bytes:
        """Return a JPEG picture of a stream that another process of the server has. Raises PolycastError."""
        ...

    @property
    def dropped_datagrams(self) -> int:
        """Datagrams that the system did not take."""
        ...

    @property
    def cluster(self) -> Cluster | None: ...

    @property
    def workers(self) -> Sequence[WorkerState]:
        """The worker processes; none for a server that is one process."""
        ...

    def observe_traffic(self) -> Traffic:
        """Begin to count the traffic of each path."""
        ...

    async def refresh_keys(self) -> None:
        """Fetch the keys of tokens again."""
        ...

    async def find_cameras(self, hosts: Sequence[str], user: str, password: str) -> Sequence[CameraItem]:
        """Return the cameras at ``hosts``, or those in the network if it is empty, with their streams.

        ``user``: "" for none. Raises OSError for an address that cannot be used.
        """
        ...

    async def refresh(self) -> None:
        """Before a request: bring up to date what the server knows of its workers."""
        ...
