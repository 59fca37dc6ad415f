"""Polycast's own metrics, which are the same in all dialects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from polycast import _version
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
    for part in parts(server.item for server in sources.servers()):
        yield Table(part.labels, part.families, part.rows(sources))


def parts(items: Iterable[type[Struct]]) -> Iterator[Part]:
    """Yield all metrics of servers with these items."""
    yield _PATHS
    yield _sessions(items)
    yield from _OTHERS


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
                path.stream.rate.bit_rate if path.stream is not None else 0,
                max(0.0, now - path.ready_since) if path.ready_since is not None else 0,
                *(getattr(counters, field) for field in _PATH_COUNTERS),
            ),
        )


_PATHS: Final = Part(
    ("name",),
    (
        Family("polycast_path_readers", "Readers of a path."),
        Family("polycast_path_bit_rate", "Bits per second published."),
        Family("polycast_path_ready_seconds", "Seconds since a path is ready."),
        *(_family("path", metric) for metric in _PATH_COUNTERS.values()),
    ),
    _path_rows,
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
    Part(("version",), [Family("polycast_info", "Which version runs.")], _version_row),
)
