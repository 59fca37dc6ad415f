"""Polycast's own metrics, which are the same in all dialects."""

from __future__ import annotations

import time
from collections.abc import Iterator

from polycast import _version
from polycast.control.items import PathItem
from polycast.control.metrics.exposition import Family, Row, Table
from polycast.control.metrics.sources import Sources
from polycast.items import Metric, SessionItem, metrics_of


def tables(sources: Sources) -> Iterator[Table]:
    """Yield all tables."""
    yield Table([*_PATH_FAMILIES, *(_family("path", metric) for metric in _PATH_COUNTERS.values())], _paths(sources))
    metrics = dict(metrics_of(SessionItem))
    for server in sources.servers():
        if issubclass(server.item, SessionItem):
            metrics |= metrics_of(server.item)
    yield Table([_family("session", metric) for metric in metrics.values()], _sessions(sources, tuple(metrics)))
    errors: Iterator[Row] = (({"server": server.name}, (server.internal_errors,)) for server in sources.servers())
    yield Table([_INTERNAL_ERRORS], errors)
    yield from _configuration(sources)
    yield Table(_LOOP_FAMILIES, [({}, (sources.lag.last, sources.lag.maximum))])
    yield Table([_INFO], [({"version": _version.__version__}, (1,))])


def _family(of: str, metric: Metric) -> Family:
    if metric.grows:
        return Family(f"polycast_{of}_{metric.name}_total", f"{metric.meaning}, by {of}.", True)
    return Family(f"polycast_{of}_{metric.name}", f"{metric.meaning}.")


_PATH_FAMILIES = (
    Family("polycast_path_readers", "Readers of a path."),
    Family("polycast_path_bit_rate", "Bits per second published."),
    Family("polycast_path_ready_seconds", "Seconds since a path is ready."),
)
_PATH_COUNTERS = metrics_of(PathItem)


def _paths(sources: Sources) -> Iterator[Row]:
    now = time.time()
    for path in sources.paths():
        counters = sources.traffic.of(path)
        yield (
            {"name": path.name},
            (
                len(path.readers),
                path.stream.rate.bit_rate if path.stream is not None else 0,
                max(0.0, now - path.ready_since) if path.ready_since is not None else 0,
                *(getattr(counters, field) for field in _PATH_COUNTERS),
            ),
        )


def _sessions(sources: Sources, fields: tuple[str, ...]) -> Iterator[Row]:
    for server in sources.servers():
        for key, item in server.sessions().items():
            labels = {"collection": server.collection, "id": key, "state": item.state, "path": item.path}
            yield labels, [getattr(item, field, None) for field in fields]


_INTERNAL_ERRORS = Family(
    "polycast_internal_errors_total", "Exceptions that should not have happened, by server.", True
)


_RELOADS = Family("polycast_config_reloads_total", "New configurations since the start, by result.", True)


def _configuration(sources: Sources) -> Iterator[Table]:
    status = sources.media_server.settings.status
    results = {"success": status.successes, "failure": status.failures}
    yield Table([_RELOADS], [({"result": result}, (count,)) for result, count in results.items()])
    families = (
        Family("polycast_config_last_reload_successful", "Whether the last new configuration was taken."),
        Family(
            "polycast_config_last_reload_success_timestamp_seconds",
            "Unix time at which the running configuration was taken.",
        ),
    )
    yield Table(families, [({}, (int(status.ok), status.success_time))])


_LOOP_FAMILIES = (
    Family("polycast_event_loop_lag_seconds", "By how much a timer of the event loop was late."),
    Family("polycast_event_loop_lag_max_seconds", "The longest lag of the last minute."),
)
_INFO = Family("polycast_info", "Which version runs.")
