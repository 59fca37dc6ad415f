"""Many sources that the server pulls from one origin.

Measures how quickly they are ready, what they cost, and what happens when the origin fails.
"""

import dataclasses
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

from bench.measure import BUSY_LOAD, MEGABYTE, running_server
from bench.model import Measurement, Subject
from bench.server import HOST, READER_CORE, cpu_seconds, free_tcp_port, open_files, resident_bytes
from bench.sources_load import BITS_PER_SECOND, serve
from bench.workers import Worker

if TYPE_CHECKING:
    from bench.scenarios import Scenario

READY_LIMIT = 60.0  # seconds until all sources must be ready
DEAD_SECONDS = 15.0  # seconds that the origin is away: two attempts of each source by the default pauses
SETTLE_SECONDS = 2.0  # before the window
POLL_SECONDS = 0.1


def measure_sources(scenario: "Scenario", subject: Subject, seconds: float) -> Measurement:
    """Start, window, death and return of the origin."""
    measurement = Measurement(subject.name, scenario.streams)
    api_port = free_tcp_port()
    with Worker(READER_CORE, serve) as origin:
        settings = _settings(origin.answer()["port"], api_port, scenario.streams)
        pulling = dataclasses.replace(
            subject, configuration=lambda setup: f"rtspAddress: {HOST}:{setup.port}\n{settings}"
        )
        with running_server(pulling) as (server, _port):
            started = time.monotonic() - server.start_seconds
            measurement.start_seconds = server.start_seconds
            measurement.ready_seconds = _wait_for_all(origin, scenario.streams) - started
            time.sleep(SETTLE_SECONDS)
            _check_ready(measurement, api_port, scenario.streams)

            before, load_before, began = cpu_seconds(server.pid), cpu_seconds(origin.pid), time.monotonic()
            time.sleep(seconds)
            used, window = cpu_seconds(server.pid) - before, time.monotonic() - began
            measurement.cpu_seconds, measurement.window_seconds = used, window
            measurement.core_share = used / window
            measurement.load_share = (cpu_seconds(origin.pid) - load_before) / window
            measurement.resident_mb = resident_bytes(server.pid) / MEGABYTE
            measurement.open_files = open_files(server.pid)

            died = origin.ask("die")["time"]
            before = cpu_seconds(server.pid)
            time.sleep(DEAD_SECONDS)
            dead_share = (cpu_seconds(server.pid) - before) / DEAD_SECONDS
            returned = origin.ask("return")["time"]
            measurement.return_seconds = _wait_for_all(origin, scenario.streams) - returned
            server.check()
            attempts = origin.ask("report")["attempts"]
    _count_attempts(measurement, attempts, died, returned)
    measurement.notes.append(f"{scenario.streams} streams of {BITS_PER_SECOND / 1e6:g} Mbit/s, no readers")
    measurement.notes.append(f"without the origin: {dead_share:.1%} of a core")
    if measurement.load_share > BUSY_LOAD:
        measurement.notes.append(f"the origin used {measurement.load_share:.0%} of its core: it may be the bottleneck")
    return measurement


def _settings(origin_port: int, api_port: int, count: int) -> str:
    paths = "".join(
        f"  cam{index}:\n    source: rtsp://{HOST}:{origin_port}/cam{index}\n    sourceProtocol: tcp\n"
        for index in range(count)
    )
    return (
        f"protocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\napi: yes\napiAddress: {HOST}:{api_port}\npaths:\n{paths}"
    )


def _wait_for_all(origin: Worker, count: int) -> float:
    """Wait until all streams play; return when the last one began, in monotonic seconds."""
    deadline = time.monotonic() + READY_LIMIT
    while (state := origin.ask("count"))["players"] < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {state['players']} of {count} sources play after {READY_LIMIT:.0f} s")
        time.sleep(POLL_SECONDS)
    last: float = state["last_play"]
    return last


def _check_ready(measurement: Measurement, api_port: int, count: int) -> None:
    """What the origin sees is not what counts: the server itself must say that the paths are ready."""
    with urllib.request.urlopen(f"http://{HOST}:{api_port}/v1/paths/list", timeout=10) as response:
        items: dict[str, Any] = json.load(response)["items"]
    ready = sum(bool(item["sourceReady"]) for item in items.values())
    if ready != count:
        raise ValueError(f"only {ready} of {count} paths are ready")


def _count_attempts(measurement: Measurement, attempts: list[float], died: float, returned: float) -> None:
    measurement.peak_attempts = _peak([attempt for attempt in attempts if attempt >= died])
    before = sum(attempt < died for attempt in attempts)
    away = sum(died <= attempt < returned for attempt in attempts)
    after = len(attempts) - before - away
    measurement.notes.append(
        f"connections to the origin: {before} at the start (at most {_peak([a for a in attempts if a < died])} in a "
        f"second), {away} in the {returned - died:.0f} s that it was away, {after} after its return"
    )


def _peak(times: list[float]) -> int:
    """The largest number within one second."""
    ordered = sorted(times)
    first = peak = 0
    for last, at in enumerate(ordered):
        while ordered[first] <= at - 1:
            first += 1
        peak = max(peak, last - first + 1)
    return peak
