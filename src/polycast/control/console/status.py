"""The state of the server as the console shows it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast import _version
from polycast.config.schema import Configuration
from polycast.control.console.thumbnails import ARE_POSSIBLE
from polycast.control.contract import ClusterNode, MediaServer, SessionServer, StreamAddress
from polycast.control.lag import LoopLag
from polycast.items import Count

_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
_MAXIMUM_DISKS: Final = 20
"""File systems that are shown."""


class ServerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A server of a protocol."""

    name: str
    is_running: bool
    collection: Annotated[str, Meta(description="Its list in the API.")]
    viewers: Annotated[str, Meta(description="Its list of viewers in API v3; empty if they are the sessions.")]
    can_kick: Annotated[bool, Meta(description="Whether the items of its list can be disconnected.")]
    address: StreamAddress | None


class DiskItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file system that the server writes to."""

    folder: str
    purpose: Annotated[str, Meta(description="recordings or log.")]
    total: Annotated[Count, Meta(description="Bytes.")]
    free: Annotated[Count, Meta(description="Bytes.")]


class WorkerItem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A worker process."""

    number: int
    pid: int
    cpu: Annotated[float, Meta(description="Processor time since its start, seconds.")]
    memory: Annotated[Count, Meta(description="Resident memory, bytes.")]
    loop_lag: Annotated[float, Meta(description="Lag of its event loop, seconds.")]
    loop_lag_maximum: Annotated[float, Meta(description="The longest of the last minute, seconds.")]


class ServerStatus(Struct, frozen=True, kw_only=True, rename="camel"):
    """The program and what it uses."""

    version: str
    python: str
    system: str
    uptime: Annotated[float, Meta(description="Seconds since the API was started.")]
    cpu: Annotated[float, Meta(description="Processor time since the start, seconds.")]
    memory: Annotated[Count | None, Meta(description="Resident memory, bytes; null where it is not known.")]
    loop_lag: Annotated[float, Meta(description="Lag of the event loop, seconds.")]
    loop_lag_maximum: Annotated[float, Meta(description="The longest of the last minute, seconds.")]
    dialect: Annotated[str, Meta(description="Whose names the configuration file has.")]
    playback_port: Annotated[int | None, Meta(description="Port of the playback server; null if it does not run.")]
    playback_scheme: str
    has_thumbnails: Annotated[bool, Meta(description="Whether pictures of streams can be made.")]
    disks: list[DiskItem]
    servers: list[ServerItem]
    nodes: Annotated[list[ClusterNode], Meta(description="Those of the cluster. Empty without one.")]
    workers: Annotated[list[WorkerItem], Meta(description="Empty for a server that is one process.")]


def describe_server(media_server: MediaServer, lag: LoopLag, started: float, playback_port: int | None) -> ServerStatus:
    """Return the state. It looks at disks, so it is called in a thread; ``started`` is monotonic seconds."""
    configuration = media_server.configuration
    return ServerStatus(
        version=_version.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        uptime=round(time.monotonic() - started, 1),
        cpu=round(time.process_time(), 3),
        memory=_resident_memory(),
        loop_lag=round(lag.last, 6),
        loop_lag_maximum=round(lag.maximum, 6),
        dialect=configuration.dialect,
        playback_port=playback_port,
        playback_scheme="https" if configuration.playback_encryption else "http",
        has_thumbnails=ARE_POSSIBLE,
        disks=list(_disks(configuration)),
        servers=[_describe(name, collection, media_server) for collection, name in media_server.server_names.items()],
        nodes=list(media_server.nodes),
        workers=[
            WorkerItem(
                number=worker.number,
                pid=worker.pid,
                cpu=worker.cpu_seconds,
                memory=worker.memory,
                loop_lag=worker.lag,
                loop_lag_maximum=worker.longest_lag,
            )
            for worker in media_server.workers
        ],
    )


def _describe(name: str, collection: str, media_server: MediaServer) -> ServerItem:
    server: SessionServer | None = media_server.servers.get(name)
    return ServerItem(
        name=name,
        is_running=server is not None,
        collection=collection,
        viewers=server.viewers_collection if server is not None else "",
        can_kick=server is not None and server.can_kick,
        address=media_server.addresses.get(name),
    )


def _resident_memory() -> int | None:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_SIZE
    except (OSError, IndexError, ValueError):
        if sys.platform == "darwin":
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return None


def _disks(configuration: Configuration) -> Iterable[DiskItem]:
    places = [("recordings", _fixed_part(path.record_path)) for path in configuration.paths.values() if path.record]
    if any(destination.value == "file" for destination in configuration.log_destinations):
        places.append(("log", Path(configuration.log_file).parent))
    seen: set[tuple[str, int]] = set()
    for purpose, folder in dict.fromkeys(places):
        found = _existing(folder.absolute())
        try:
            device = found.stat().st_dev
            usage = shutil.disk_usage(found)
        except OSError:
            continue
        if (purpose, device) not in seen and len(seen) < _MAXIMUM_DISKS:
            seen.add((purpose, device))
            yield DiskItem(folder=str(folder), purpose=purpose, total=usage.total, free=usage.free)


def _fixed_part(record_path: str) -> Path:
    """Return the folder of recordings without what depends on the path and the time."""
    return Path(record_path.partition("%")[0] + "x").parent


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)
