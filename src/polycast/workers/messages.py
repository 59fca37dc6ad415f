"""What the supervisor and its workers tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from polycast.config.schema import Configuration
from polycast.config.webhooks import EventName
from polycast.hub.movement import Movement
from polycast.hub.stats import Reference
from polycast.protocols.handing_over import HandedOver


@dataclass(frozen=True, slots=True)
class Shared:
    """Values that are the same for all workers, and do not change while the server runs."""

    count: int
    """Of all workers."""
    secret: bytes
    """Random bytes that all workers know, and nobody else."""
    folder: str
    """Where the Unix sockets of all workers are; nobody else may enter it."""
    demo_path: str | None


@dataclass(frozen=True, slots=True)
class StartWorker:
    """The first call of a worker."""

    number: int
    """From 1."""
    shared: Shared
    configuration: Configuration
    placed: dict[str, int]
    """The numbers of the workers that run the sources and commands of paths, by path."""


@dataclass(frozen=True, slots=True)
class ApplyConfiguration:
    """A new configuration."""

    configuration: Configuration
    placed: dict[str, int]
    """As in `StartWorker`."""


class SentSocket(Struct, frozen=True, array_like=True):
    """A socket that a worker has sent to another one (`workers.sockets`)."""

    number: int
    """Of the worker that it comes from."""
    name: int
    """The number under which it was sent."""


class HandOver(Struct, frozen=True, array_like=True):
    """A connection that another worker is to serve. The answer is whether it would; it does so when it is told to."""

    sent: SentSocket
    """Its socket, which was sent before."""
    server: str
    """The name of its server: ``RTSP``."""
    connection: HandedOver


class PassedDatagram(Struct, frozen=True, array_like=True):
    """A datagram that another worker is to process."""

    server: str
    data: bytes
    address: tuple[Any, ...]


class KickSession(Struct, frozen=True, array_like=True):
    """A session to close."""

    server: str
    """The name of its server: ``RTSP``."""
    id: str


class MoveCamera(Struct, frozen=True, array_like=True):
    """A movement of the camera of a path's source.

    The answer is an error, empty if there is none; null if the source is not in this worker.
    """

    path: str
    movement: Movement


class RecordingRequest(Struct, frozen=True, array_like=True):
    """A path that is to be recorded from now on whatever its settings say, or no longer."""

    path: str
    is_wanted: bool


class ReaderCount(Struct, frozen=True, array_like=True):
    """How many clients read a path, whose number is limited, in one worker."""

    worker: int
    path: str
    readers: int


class PathEvent(Struct, frozen=True, array_like=True):
    """What happened to a path of a worker."""

    name: EventName
    path: str
    who: Reference | None = None
    """The publisher or reader."""
    file: str = ""
    """The recorded file."""
    duration: float = 0.0
    """Of the recorded file, in seconds."""
    tracks: list[str] = []
    """Codecs, in API v1."""
    labels: list[str] = []
    """The same in API v3."""
