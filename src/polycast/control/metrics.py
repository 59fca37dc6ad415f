"""Metrics for Prometheus, computed from the current state at each scrape."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, get_args

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from polycast import _version
from polycast.control.contract import MediaServer, SessionServer
from polycast.control.items import PathItem
from polycast.control.lag import LoopLag
from polycast.control.traffic import Traffic
from polycast.items import Metric as ItemMetric
from polycast.items import SessionItem, SessionState, metrics_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp


# The metrics of rtsp-simple-server are integers, and scripts compare whole lines: 1, not the library's 1.0.
_WHOLE_NUMBER: Final = re.compile(rb"(?m) (-?[0-9]+)\.0$")

_SESSION_LABELS: Final = ("collection", "id", "state", "path")


class StateCollector(Collector):
    """Paths, sessions and reloads."""

    def __init__(self, media_server: MediaServer, traffic: Traffic, lag: LoopLag) -> None:
        self._media_server = media_server
        self._traffic = traffic
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Yield all families. Those of a server that is not running are absent."""
        yield from self._paths()
        for server in self._media_server.servers.values():
            yield _contents(server)
        yield from self._sessions()
        yield from self._server_errors()
        yield from self._reloads()
        yield from self._loop()

    def _paths(self) -> Iterator[Metric]:
        paths = list(self._media_server.hub.paths.values())
        states = GaugeMetricFamily("paths", "Paths that exist, by name and state.", labels=("name", "state"))
        readers = GaugeMetricFamily("polycast_path_readers", "Readers of a path.", labels=("name",))
        bit_rates = GaugeMetricFamily("polycast_path_bit_rate", "Bits per second published.", labels=("name",))
        ready = GaugeMetricFamily("polycast_path_ready_seconds", "Seconds since a path is ready.", labels=("name",))
        now = time.time()
        for path in paths:
            states.add_metric((path.name, "ready" if path.stream is not None else "notReady"), 1)
            readers.add_metric((path.name,), len(path.readers))
            bit_rates.add_metric((path.name,), path.stream.rate.bit_rate if path.stream is not None else 0)
            ready.add_metric((path.name,), max(0.0, now - path.ready_since) if path.ready_since is not None else 0)
        yield from (states, readers, bit_rates, ready)
        totals = [(path.name, self._traffic.of(path)) for path in paths]
        for field, metric in metrics_of(PathItem).items():
            family = _family(f"polycast_path_{metric.name}", metric, "path", ("name",))
            for path_name, counters in totals:
                family.add_metric((path_name,), getattr(counters, field))
            yield family

    def _sessions(self) -> Iterator[Metric]:
        sessions = [
            ((server.collection, key, item.state, item.path), item)
            for server in self._media_server.servers.values()
            for key, item in server.sessions().items()
        ]
        metrics = dict(metrics_of(SessionItem))
        for server in self._media_server.servers.values():
            if issubclass(server.item, SessionItem):
                metrics |= metrics_of(server.item)
        for field, metric in metrics.items():
            family = _family(f"polycast_session_{metric.name}", metric, "session", _SESSION_LABELS)
            for labels, item in sessions:
                value = getattr(item, field, None)
                if value is not None:
                    family.add_metric(labels, value)
            yield family

    def _server_errors(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "polycast_internal_errors", "Exceptions that should not have happened, by server.", labels=("server",)
        )
        for server in self._media_server.servers.values():
            family.add_metric((server.name,), server.internal_errors)
        yield family

    def _reloads(self) -> Iterator[Metric]:
        status = self._media_server.settings.status
        reloads = CounterMetricFamily(
            "polycast_config_reloads", "New configurations since the start, by result.", labels=("result",)
        )
        reloads.add_metric(("success",), status.successes)
        reloads.add_metric(("failure",), status.failures)
        yield reloads
        yield GaugeMetricFamily(
            "polycast_config_last_reload_successful", "Whether the last new configuration was taken.", float(status.ok)
        )
        yield GaugeMetricFamily(
            "polycast_config_last_reload_success_timestamp_seconds",
            "Unix time at which the running configuration was taken.",
            status.success_time,
        )

    def _loop(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "polycast_event_loop_lag_seconds", "By how much a timer of the event loop was late.", self._lag.last
        )
        yield GaugeMetricFamily(
            "polycast_event_loop_lag_max_seconds", "The longest lag of the last minute.", self._lag.maximum
        )
        version = GaugeMetricFamily("polycast_info", "Which version runs.", labels=("version",))
        version.add_metric((_version.__version__,), 1)
        yield version


def _contents(server: SessionServer) -> Metric:
    """Return how many sessions a server has in each state; if its items are not sessions, the items."""
    meaning = f"What the {server.name} server has."
    if not issubclass(server.item, SessionItem):
        family = GaugeMetricFamily(server.metric, meaning, labels=("name",))
        for name in server.items():
            family.add_metric((name,), 1)
        return family
    counts = dict.fromkeys(get_args(SessionState), 0)
    for item in server.sessions().values():
        counts[item.state] += 1
    family = GaugeMetricFamily(server.metric, meaning, labels=("state",))
    for state, count in counts.items():
        family.add_metric((state,), count)
    return family


def _family(name: str, metric: ItemMetric, of: str, labels: Sequence[str]) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if metric.grows else GaugeMetricFamily
    return kind(name, f"{metric.meaning}, by {of}." if metric.grows else f"{metric.meaning}.", labels=labels)


def application(media_server: MediaServer, traffic: Traffic, lag: LoopLag) -> ASGIApp:
    """Return the ASGI application that serves ``/metrics``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StateCollector(media_server, traffic, lag))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        text = _WHOLE_NUMBER.sub(rb" \1", encode(registry))
        return Response(text, headers={"Content-Type": content_type})

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
