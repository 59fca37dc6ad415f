"""What is measured, and what comes out: servers, scenarios and measurements."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

WARM_UP = 2.0  # seconds of load before the window, at least


@dataclass(frozen=True)
class Setup:
    """What a server is configured for."""

    protocol: str
    """A key of `SETTINGS`."""
    port: int
    second_port: int
    rtp_port: int
    directory: str
    """Holds ``server.key`` and ``server.crt`` where the protocol needs them, and the recordings."""
    recording: str = ""
    """The format in which all streams are recorded, if they are."""

    def fill(self, settings: str) -> str:
        """Return settings with these values in the places of {port}, {second_port}, {rtp}, {rtcp} and {directory}.

        They end with the entry of all paths.
        """
        if self.recording:
            settings += (
                "    record: yes\n    recordFormat: {recording}\n"
                "    recordPath: {directory}/%path/%Y-%m-%d_%H-%M-%S-%f\n"
            )
        return settings.format(
            port=self.port,
            second_port=self.second_port,
            rtp=self.rtp_port,
            rtcp=self.rtp_port + 1,
            directory=self.directory,
            recording=self.recording,
        )


@dataclass
class Subject:
    """A server program: its name in the report, and its command, with {config} for its configuration file's path."""

    name: str
    command: list[str]
    configuration: Callable[[Setup], str] | None = None
    """Makes its configuration; None for this project's format."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables in addition to those of the benchmark."""
    protocols: frozenset[str] | None = None
    """The protocols in which it can be measured; None for all."""
    records: bool = True
    """Whether it can record."""
    workers: int = 1
    """How many processes it has."""


@dataclass
class Measurement:
    """The result of one window; None if a number does not apply."""

    subject: str
    streams: int = 0
    readers: int = 0
    window_seconds: float = 0.0
    cpu_seconds: float | None = None
    delivered_gigabits: float = 0.0
    cpu_per_gigabit: float | None = None
    ratio: float | None = None
    """CPU per gigabit in relation to the first floor of the same run."""
    core_share: float | None = None
    delay_p50_ms: float | None = None
    delay_p99_ms: float | None = None
    delay_maximum_ms: float | None = None
    delay_samples: int = 0
    lost_packets: int | None = None
    """RTP packets, RTMP frames, failed HTTP requests."""
    requests_per_second: float | None = None
    socket_drops: int = 0
    """Of the lost ones, those that the kernel dropped at a reader's full buffer."""
    closed_readers: int = 0
    kilobytes_per_reader: float | None = None
    resident_mb: float | None = None
    open_files: int | None = None
    start_seconds: float | None = None
    ready_seconds: float | None = None
    """From the start of the process until all sources play."""
    return_seconds: float | None = None
    """From the return of the origin until all sources play again."""
    peak_attempts: int | None = None
    """Most connections to the origin within one second, from its death on."""
    recording_share: float | None = None
    """CPU time per second that recording takes, beyond what the kernel takes to write as many bytes."""
    load_share: float | None = None
    """CPU of the load generators, as a share of their core (of the busier one, if they have two)."""
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Protocol:
    """A load generator: workers that publish and that read (`bench/rtsp_load.py` shows their signatures)."""

    publish: Callable[..., None]
    read: Callable[..., None]
    peers: tuple[Callable[[], Subject | None], ...] = ()
    """Other servers to measure for comparison, if they are installed."""
    warm_up: float = WARM_UP
    """Seconds of load before the window."""


@dataclass(frozen=True)
class Floor:
    """A bare loop: workers that send and that read (`bench/floor.py`)."""

    send: Callable[..., None]
    read: Callable[..., None]
    needs_port: bool
    """The readers connect to the sender; else the sender is told the readers' ports."""


@dataclass(frozen=True)
class Target:
    """A limit on one number of the server's measurement."""

    metric: str
    limit: float


@dataclass(frozen=True)
class Scenario:
    name: str
    protocol: str
    """A key of `PROTOCOLS`; or ``sources``, where the server pulls (`bench/sources.py`)."""
    transport: Literal["tcp", "udp", "none"]
    streams: int
    readers: int
    floors: tuple[str, ...] = ()
    """The ratio refers to the first one."""
    targets: tuple[Target, ...] = ()
    peers: tuple[Callable[[], Subject | None], ...] = ()
    """More servers to measure for comparison."""
    recording: str = ""
    """The format in which all streams are recorded; the servers are measured without it as well."""
