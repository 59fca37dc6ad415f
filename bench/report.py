"""The report: a table and JSON."""

import dataclasses
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.model import Measurement
from bench.scenarios import Scenario
from bench.server import CORES_ARE_SEPARATE

_COLUMNS = (
    ("", 26),
    ("cpu-s/Gbit", 10),
    ("ratio", 6),
    ("core", 7),
    ("Gbit/s", 7),
    ("p50 ms", 9),
    ("p99 ms", 9),
    ("lost", 7),
    ("kB/reader", 11),
    ("load core", 11),
)


def machine_facts() -> dict[str, Any]:
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "separate_cores": CORES_ARE_SEPARATE,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "udp_buffer_limit": int(next(iter(_lines("/proc/sys/net/core/rmem_max")), "0")),
    }


def print_machine(facts: dict[str, Any]) -> None:
    print(f"{facts['cpu']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}", flush=True)


def print_scenario(scenario: Scenario, measurements: Sequence[Measurement]) -> None:
    name, streams, readers = scenario.name, scenario.streams, scenario.readers
    print(f"\n{name}" + (f": {_count(streams, 'stream')}, {_count(readers, 'reader')}" if readers else ""))
    if not readers:
        for measurement in measurements:
            line = _sources_line(measurement) if streams else _idle_line(measurement)
            print(f"  {measurement.subject:26}{line}")
            _print_remarks(measurement)
        return
    print("  " + "".join(f"{title:>{width}}" if title else " " * width for title, width in _COLUMNS))
    for measurement in measurements:
        print(f"  {measurement.subject:26}{_load_line(measurement)}".rstrip())
        _print_remarks(measurement)
    print(end="", flush=True)


def print_comparison(results: dict[str, list[Measurement]]) -> None:
    """Print servers side by side as a Markdown table, if there is more than one."""
    rows = {
        name: {one.subject: one for one in measurements if not one.subject.startswith("floor")}
        for name, measurements in results.items()
    }
    names = list(dict.fromkeys(subject for row in rows.values() for subject in row))
    if len(names) < 2:
        return
    print("\nCPU seconds per delivered gigabit / 99th percentile of the delay / memory:\n")
    print(f"| | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for scenario, row in rows.items():
        cells = [_comparison_cell(row[name]) if name in row else "" for name in names]
        print(f"| {scenario} | {' | '.join(cells)} |")


def _comparison_cell(measurement: Measurement) -> str:
    if measurement.error:
        return "failed"
    values = (
        (measurement.cpu_per_gigabit, ".2f", ""),
        (measurement.delay_p99_ms, ".1f", " ms"),
        (measurement.resident_mb, ".0f", " MB"),
    )
    return " / ".join(f"{value:{style}}{unit}" for value, style, unit in values if value is not None)


def write_json(
    path: Path, facts: dict[str, Any], results: dict[str, list[Measurement]], options: dict[str, Any]
) -> None:
    document = {
        "machine": facts,
        "options": options,
        "scenarios": {name: [dataclasses.asdict(one) for one in rows] for name, rows in results.items()},
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _idle_line(measurement: Measurement) -> str:
    if measurement.error:
        return ""
    return (
        f"memory {_number(measurement.resident_mb, '.1f')} MB, "
        f"start to listening {_number(measurement.start_seconds, '.3f')} s, "
        f"idle {_number(measurement.core_share, '.2%')} of a core, {measurement.open_files} open files"
    )


def _sources_line(measurement: Measurement) -> str:
    if measurement.error:
        return ""
    return (
        f"all {measurement.streams} ready after {_number(measurement.ready_seconds, '.1f')} s, "
        f"{_number(measurement.core_share, '.1%')} of a core, memory {_number(measurement.resident_mb, '.1f')} MB; "
        f"the origin dies and returns: all back after {_number(measurement.return_seconds, '.1f')} s, "
        f"at most {_number(measurement.peak_attempts, 'd')} connections/s"
    )


def _load_line(measurement: Measurement) -> str:
    if measurement.error:
        return ""
    rate = measurement.delivered_gigabits / measurement.window_seconds if measurement.window_seconds else None
    values = (
        _number(measurement.cpu_per_gigabit, ".4f"),
        _number(measurement.ratio, ".2f"),
        _number(measurement.core_share, ".1%"),
        _number(rate, ".3f"),
        _number(measurement.delay_p50_ms, ".2f"),
        _number(measurement.delay_p99_ms, ".2f"),
        _number(measurement.lost_packets, "d"),
        _number(measurement.kilobytes_per_reader, ".1f"),
        _number(measurement.load_share, ".0%"),
    )
    return "".join(f"{value:>{width}}" for value, (_title, width) in zip(values, _COLUMNS[1:], strict=True))


def _print_remarks(measurement: Measurement) -> None:
    if measurement.error:
        print(f"    failed: {measurement.error}")
    for missed in measurement.missed:
        print(f"    target missed: {missed}")
    for note in measurement.notes:
        print(f"    note: {note}")


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
