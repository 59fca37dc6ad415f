"""Command line and main loop of the benchmarks."""

import argparse
import fnmatch
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

from bench.measure import Measurement, Subject, measure_floor, measure_idle, measure_server, own_server
from bench.report import machine_facts, print_machine, print_scenario, write_json
from bench.scenarios import FLOORS, PROTOCOLS, SCENARIOS, Scenario, missed_targets
from bench.workers import raise_file_limit

DURATION = 10.0  # seconds
QUICK_DURATION = 3.0  # seconds
IDLE_RUNS = 7
QUICK_IDLE_RUNS = 3
PHASE_LIMIT = 120  # seconds that one window may take beside its duration


class PhaseTimeoutError(Exception):
    """A window did not come to its end."""


def main() -> int:
    options = _parse_arguments()
    scenarios = [scenario for scenario in SCENARIOS if _is_chosen(scenario.name, options.only)]
    if options.list or not scenarios:
        print("\n".join(scenario.name for scenario in SCENARIOS))
        return 0 if options.list else 2
    raise_file_limit()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _time_out)
    seconds = options.duration or (QUICK_DURATION if options.quick else DURATION)
    idle_runs = QUICK_IDLE_RUNS if options.quick else IDLE_RUNS
    subjects = [own_server()]
    if options.server:
        subjects[0].command = shlex.split(options.server)
    if options.peer:
        subjects.append(Subject("peer", shlex.split(options.peer)))

    facts = machine_facts()
    print_machine(facts)
    results: dict[str, list[Measurement]] = {}
    for scenario in scenarios:
        results[scenario.name] = _run_scenario(scenario, subjects, seconds, idle_runs)
        print_scenario(scenario, results[scenario.name])
        if options.json:
            write_json(options.json, facts, results, {"seconds": seconds, "quick": options.quick})
    failed = any(measurement.error for measurements in results.values() for measurement in measurements)
    return 1 if failed else 0


def _run_scenario(scenario: Scenario, subjects: list[Subject], seconds: float, idle_runs: int) -> list[Measurement]:
    measurements = [
        _bounded(f"floor: {name}", seconds, partial(measure_floor, scenario, name, FLOORS[name], seconds))
        for name in scenario.floors
    ]
    floor = measurements[0].cpu_per_gigabit if measurements else None
    for measurement in measurements[1:]:
        _set_ratio(measurement, floor)
    for subject in subjects:
        if scenario.readers:
            measure = partial(measure_server, scenario, PROTOCOLS[scenario.protocol], subject, seconds)
        else:
            measure = partial(measure_idle, subject, idle_runs)
        measurement = _bounded(subject.name, seconds, measure)
        _set_ratio(measurement, floor)
        if subject is subjects[0] and not measurement.error:
            measurement.missed = missed_targets(scenario, measurement)
        measurements.append(measurement)
    return measurements


def _set_ratio(measurement: Measurement, floor: float | None) -> None:
    if floor and measurement.cpu_per_gigabit:
        measurement.ratio = measurement.cpu_per_gigabit / floor


def _bounded(name: str, seconds: float, measure: Callable[[], Measurement]) -> Measurement:
    """Run one window; whatever goes wrong there becomes its result, and the others still run."""
    signal.alarm(int(seconds) + PHASE_LIMIT)
    try:
        return measure()
    except Exception as error:
        return Measurement(name, error=f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)


def _is_chosen(name: str, patterns: str | None) -> bool:
    return patterns is None or any(fnmatch.fnmatch(name, pattern.strip()) for pattern in patterns.split(","))


def _time_out(_signal: int, _frame: FrameType | None) -> None:
    raise PhaseTimeoutError("it took too long")


def _end(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the server beside bare loops.")
    parser.add_argument("--only", metavar="NAMES", help="scenarios to run, comma-separated, with wildcards (tcp-*)")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--quick", action="store_true", help=f"windows of {QUICK_DURATION:g} s, not {DURATION:g} s")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="length of each measured window")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to a file")
    parser.add_argument("--server", metavar="COMMAND", help="the server's command; {config} is its configuration")
    parser.add_argument("--peer", metavar="COMMAND", help="command of another server to measure beside it")
    return parser.parse_args()
