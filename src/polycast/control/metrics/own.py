"""Polycast's own metrics, which are the same in all dialects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from polycast import _version
from polycast.control.contract import Stream
from polycast.control.items import PathItem
from polycast.control.metrics.exposition import Family, Row, Table
from polycast.control.metrics.sources import Sources
from polycast.items import Metric, SessionItem, metrics_of


class Part(NamedTuple):
    """Metrics with the same labels, and where their values come from."""

    labels: Sequence[str]
    families: Sequence[Family]
    rows: Callable[[Sources], Iterator[Row]]


def tables(sources: Sources) -> Iterator[Table]:
    """Yield all tables."""
    has_workers = bool(sources.media_server.workers)
    for part in parts((server.item for server in sources.servers()), has_workers=has_workers):
        yield Table(part.labels, part.families, part.rows(sources))


def parts(items: Iterable[type[Struct]], *, has_workers: bool = True) -> Iterator[Part]:
    """Yield all metrics of servers with these items, and those of workers."""
    yield _PATHS
    yield _DISCARDS
    yield _sessions(items)
    yield from _RECORDINGS
    yield from _OTHERS
    if has_workers:
        yield _WORKERS
        yield _WORKER_INFO


def _family(of: str, metric: Metric) -> Family:
    if metric.grows:
        return Family(f"polycast_{of}_{metric.name}_total", f"{metric.meaning}, by {of}.", True)
    return Family(f"polycast_{of}_{metric.name}", f"{metric.meaning}.")


# Paths

_PATH_COUNTERS: Final = metrics_of(PathItem)


def _path_rows(sources: Sources) -> Iterator[Row]:
    now = time.time()
    for path in sources.paths():
        counters = sources.traffic.of(path)
        yield (
            (path.name,),
            (
                len(path.readers),
                path.stream.meter.bit_rate if path.stream is not None else 0,
                max(0.0, now - path.ready_since) if path.ready_since is not None else 0,
                *_deliveries(path.stream),
                *(getattr(counters, field) for field in _PATH_COUNTERS),
            ),
        )


def _deliveries(stream: Stream | None) -> tuple[float | None, ...]:
    if stream is None:
        return None, None, None
    meter = stream.meter
    return meter.deliveries, meter.delivery_seconds, meter.longest_delivery


_PATHS: Final = Part(
    ("name",),
    (
        Family("polycast_path_readers", "Readers of a path."),
        Family("polycast_path_bit_rate", "Bits per second published."),
        Family("polycast_path_ready_seconds", "Seconds since a path is ready."),
        Family(
            "polycast_path_deliveries_total", "Batches of media sent to all readers, since the path is ready.", True
        ),
        Family(
            "polycast_path_delivery_seconds_total",
            "Time that they took, from the read of their first byte to the last reader.",
            True,
        ),
        Family("polycast_path_delivery_max_seconds", "The longest of these times in the last minute."),
        *(_family("path", metric) for metric in _PATH_COUNTERS.values()),
    ),
    _path_rows,
)


def _discard_rows(sources: Sources) -> Iterator[Row]:
    for path in sources.paths():
        counters = sources.traffic.of(path)
        yield (path.name, "slow_reader"), (counters.packets_dropped,)
        yield (path.name, "payload_type"), (counters.packets_invalid,)


_DISCARDS: Final = Part(
    ("name", "reason"),
    [
        Family(
            "polycast_path_discarded_packets_total",
            "Packets that were discarded: a reader was too slow (slow_reader), or they were of another type than "
            "announced (payload_type).",
            True,
        )
    ],
    _discard_rows,
)


# Sessions


def _sessions(items: Iterable[type[Struct]]) -> Part:
    metrics = dict(metrics_of(SessionItem))
    for item in items:
        if issubclass(item, SessionItem):
            metrics |= metrics_of(item)

    def rows(sources: Sources) -> Iterator[Row]:
        for server in sources.servers():
            for key, session in server.sessions().items():
                values = [getattr(session, field, None) for field in metrics]
                yield (server.collection, key, session.state, session.path), values

    families = [_family("session", metric) for metric in metrics.values()]
    return Part(("collection", "id", "state", "path"), families, rows)


# Recordings


def _recording_rows(sources: Sources) -> Iterator[Row]:
    for recording in sources.media_server.recorder.recording_numbers():
        yield (
            (recording.path,),
            (
                recording.written_bytes,
                recording.segments,
                recording.queued_bytes,
                recording.dropped_frames,
                recording.discarded_frames,
                recording.errors,
            ),
        )


def _disk_rows(sources: Sources) -> Iterator[Row]:
    return (((disk.root,), (disk.free, disk.queued)) for disk in sources.media_server.recorder.disk_numbers())


def _deletions(sources: Sources) -> Iterator[Row]:
    recorder = sources.media_server.recorder
    uploader = recorder.uploader
    yield (), (recorder.cleaner.deleted, uploader.uploaded, uploader.waiting, uploader.set_aside)


_RECORDINGS: Final = (
    Part(
        ("name",),
        [
            Family("polycast_recording_bytes_total", "Bytes written to files, since recording of a path began.", True),
            Family("polycast_recording_segments_total", "Files that were created.", True),
            Family("polycast_recording_queued_bytes", "Bytes that wait for the disk."),
            Family(
                "polycast_recording_dropped_frames_total",
                "Frames that are not in the recording, as the disk was too slow or failed.",
                True,
            ),
            Family(
                "polycast_recording_discarded_frames_total",
                "Frames that are not in the recording, as they came too late or are invalid.",
                True,
            ),
            Family("polycast_recording_errors_total", "Errors of the disk.", True),
        ],
        _recording_rows,
    ),
    Part(
        ("directory",),
        [
            Family("polycast_recordings_free_bytes", "Free space of the disk of a directory of recordings."),
            Family("polycast_recordings_queued_bytes", "Bytes of all its recordings that wait for the disk."),
        ],
        _disk_rows,
    ),
    Part(
        (),
        [
            Family("polycast_recordings_deleted_total", "Recorded files deleted for their age or size.", True),
            Family("polycast_recordings_uploaded_total", "Recorded files that were uploaded.", True),
            Family("polycast_recordings_waiting_for_upload", "Recorded files that are still to be uploaded."),
            Family(
                "polycast_recordings_upload_failed",
                "Of these recorded files, those that cannot be uploaded although others can.",
            ),
        ],
        _deletions,
    ),
)


# The rest


def _errors(sources: Sources) -> Iterator[Row]:
    return (((server.name,), (server.internal_errors,)) for server in sources.servers())


def _reloads(sources: Sources) -> Iterator[Row]:
    status = sources.media_server.settings.status
    results: Mapping[str, int] = {"success": status.successes, "failure": status.failures}
    return (((result,), (count,)) for result, count in results.items())


def _last_reload(sources: Sources) -> Iterator[Row]:
    status = sources.media_server.settings.status
    yield (), (int(status.ok), status.success_time)


def _loop(sources: Sources) -> Iterator[Row]:
    yield (), (sources.lag.last, sources.lag.maximum)


def _datagrams(sources: Sources) -> Iterator[Row]:
    yield (), (sources.media_server.dropped_datagrams,)


def _cipher(sources: Sources) -> Iterator[Row]:
    meter = sources.media_server.hub.cipher_meter
    yield (), (meter.packets, meter.seconds)


def _worker_rows(sources: Sources) -> Iterator[Row]:
    for worker in sources.media_server.workers:
        yield (str(worker.number),), (worker.lag, worker.longest_lag, worker.cpu_seconds, worker.memory)


_WORKERS: Final = Part(
    ("worker",),
    [
        Family("polycast_worker_event_loop_lag_seconds", "By how much a timer of a worker's event loop was late."),
        Family("polycast_worker_event_loop_lag_max_seconds", "The longest lag of the last minute."),
        Family("polycast_worker_cpu_seconds_total", "CPU time that a worker has used, in user and system mode.", True),
        Family("polycast_worker_resident_memory_bytes", "Memory of a worker."),
    ],
    _worker_rows,
)
"""Only with several workers; the metrics of the process are those of the supervisor."""


def _worker_info(sources: Sources) -> Iterator[Row]:
    return (((str(worker.number), str(worker.pid)), (1,)) for worker in sources.media_server.workers)


_WORKER_INFO: Final = Part(
    ("worker", "pid"), [Family("polycast_worker_info", "The processes of the workers.")], _worker_info
)


def _version_row(_: Sources) -> Iterator[Row]:
    yield (_version.__version__,), (1,)


_OTHERS: Final = (
    Part(
        ("server",),
        [Family("polycast_internal_errors_total", "Exceptions that should not have happened, by server.", True)],
        _errors,
    ),
    Part(
        ("result",),
        [Family("polycast_config_reloads_total", "New configurations since the start, by result.", True)],
        _reloads,
    ),
    Part(
        (),
        [
            Family("polycast_config_last_reload_successful", "Whether the last new configuration was taken."),
            Family(
                "polycast_config_last_reload_success_timestamp_seconds",
                "Unix time at which the running configuration was taken.",
            ),
        ],
        _last_reload,
    ),
    Part(
        (),
        [
            Family("polycast_event_loop_lag_seconds", "By how much a timer of the event loop was late."),
            Family("polycast_event_loop_lag_max_seconds", "The longest lag of the last minute."),
        ],
        _loop,
    ),
    Part(
        (),
        [
            Family(
                "polycast_udp_dropped_datagrams_total",
                "Datagrams that were not sent because the system took no more and the queue was full.",
                True,
            )
        ],
        _datagrams,
    ),
    Part(
        (),
        [
            Family("polycast_cipher_packets_total", "Packets of media that were encrypted, except within TLS.", True),
            Family("polycast_cipher_seconds_total", "Time that their encryption took.", True),
        ],
        _cipher,
    ),
    Part(("version",), [Family("polycast_info", "Which version runs.")], _version_row),
)
