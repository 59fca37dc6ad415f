"""Command line and main loop of the benchmarks."""

import argparse
import fnmatch
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

from bench.measure import measure_floor, measure_idle, measure_server, own_server
from bench.model import Measurement, Subject
from bench.peers import PeerError, find_peers
from bench.recording import compare, measure_writing, without
from bench.report import machine_facts, print_comparison, print_machine, print_scenario, write_json
from bench.scenarios import FLOORS, PROTOCOLS, SCENARIOS, Scenario, missed_targets
from bench.sources import measure_sources
from bench.workers import raise_file_limit

DURATION = 10.0  # seconds
QUICK_DURATION = 3.0  # seconds
IDLE_RUNS = 7
QUICK_IDLE_RUNS = 3
PHASE_LIMIT = 120  # seconds that one window may take beside its duration


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure."""

    seconds: float
    idle_runs: int
    repeats: int


class PhaseTimeoutError(Exception):
    """A window did not end in time."""


def main() -> int:
    options = _parse_arguments()
    scenarios = [scenario for scenario in SCENARIOS if _is_chosen(scenario.name, options.only)]
    if options.list or not scenarios:
        print("\n".join(scenario.name for scenario in SCENARIOS))
        return 0 if options.list else 2
    raise_file_limit()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _time_out)
    plan = Plan(
        options.duration or (QUICK_DURATION if options.quick else DURATION),
        QUICK_IDLE_RUNS if options.quick else IDLE_RUNS,
        max(1, options.repeat),
    )
    subjects = [own_server(count) for count in options.workers]
    if options.server:
        subjects[0].command = shlex.split(options.server)
    if options.peer:
        subjects.append(Subject("peer", shlex.split(options.peer)))
    try:
        subjects += find_peers()
    except PeerError as error:
        print(error, file=sys.stderr)
        return 2

    facts = machine_facts()
    print_machine(facts)
    results: dict[str, list[Measurement]] = {}
    for scenario in scenarios:
        results[scenario.name] = _run_scenario(scenario, subjects, plan)
        print_scenario(scenario, results[scenario.name])
        if options.json:
            write_json(options.json, facts, results, asdict(plan))
    print_comparison(results)
    failed = any(measurement.error for measurements in results.values() for measurement in measurements)
    return 1 if failed else 0


def _run_scenario(scenario: Scenario, subjects: list[Subject], plan: Plan) -> list[Measurement]:
    """All floors and servers, sequentially and repeatedly; the median run of each."""
    measures: list[tuple[str, Callable[[], Measurement]]] = [
        (f"floor: {name}", partial(measure_floor, scenario, name, FLOORS[name], plan.seconds))
        for name in scenario.floors
    ]
    protocol = PROTOCOLS.get(scenario.protocol)
    finders = (*scenario.peers, *protocol.peers) if protocol is not None and scenario.readers else ()
    peers = [find() for find in finders]
    subjects = [one for one in subjects if one.protocols is None or scenario.protocol in one.protocols]
    if scenario.recording:
        subjects = [one for one in subjects if one.records]
        measures.append(("floor: writing", partial(measure_writing, scenario, plan.seconds)))
    for subject in [*subjects, *(peer for peer in peers if peer is not None)]:
        if scenario.recording and protocol is not None:
            for one, what in ((without(subject), replace(scenario, recording="")), (subject, scenario)):
                measures.append((one.name, partial(measure_server, what, protocol, one, plan.seconds)))
        elif protocol is None:
            measures.append((subject.name, partial(measure_sources, scenario, subject, plan.seconds)))
        elif scenario.readers:
            measures.append((subject.name, partial(measure_server, scenario, protocol, subject, plan.seconds)))
        else:
            measures.append((subject.name, partial(measure_idle, subject, plan.idle_runs)))
    repeats = plan.repeats if scenario.readers else 1
    rounds = [[_bounded(name, plan.seconds, measure) for name, measure in measures] for _ in range(repeats)]
    measurements = [_median_run(runs) for runs in zip(*rounds, strict=True)]

    floor = measurements[0].cpu_per_gigabit if scenario.floors else None
    for measurement in measurements:
        if floor and measurement.cpu_per_gigabit and measurement is not measurements[0]:
            measurement.ratio = measurement.cpu_per_gigabit / floor
    if scenario.recording:
        compare(measurements)
    own = next(one for one in measurements if one.subject == subjects[0].name)
    if not own.error:
        own.missed = missed_targets(scenario, own)
    return measurements


def _median_run(runs: Sequence[Measurement]) -> Measurement:
    """The run with the median CPU per gigabit; what any run lost, and any run's failure, counts."""
    failed = [run for run in runs if run.error]
    if failed or len(runs) == 1:
        return (failed or runs)[0]
    ordered = sorted(runs, key=lambda run: run.cpu_per_gigabit or 0)
    median = ordered[(len(ordered) - 1) // 2]
    if median.lost_packets is not None:
        median.lost_packets = sum(run.lost_packets or 0 for run in runs)
    lowest, highest = ordered[0].cpu_per_gigabit or 0, ordered[-1].cpu_per_gigabit or 0
    median.notes.append(f"median of {len(runs)} runs, {lowest:.4f} to {highest:.4f} cpu-s/Gbit")
    return median


def _bounded(name: str, seconds: float, measure: Callable[[], Measurement]) -> Measurement:
    """Run one window; a failure becomes its result, and the others still run."""
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
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the server beside bare loops, and beside other servers.",
        epilog="The variables MEDIAMTX and RTSP_SIMPLE_SERVER name executables of those servers to measure as well.",
    )
    parser.add_argument("--only", metavar="NAMES", help="scenarios to run, comma-separated, with wildcards (tcp-*)")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--quick", action="store_true", help=f"windows of {QUICK_DURATION:g} s, not {DURATION:g} s")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="length of each measured window")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="TIMES", help="measure so often and report the median run"
    )
    parser.add_argument(
        "--workers",
        type=lambda text: [int(count) for count in text.split(",")],
        default=[1],
        metavar="COUNTS",
        help="numbers of processes to measure this server with, comma-separated: 1,2,4 (default: 1). "
        "With two cores more than processes, each has its own; otherwise, all share one",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to a file")
    parser.add_argument("--server", metavar="COMMAND", help="the server's command; {config} is its configuration")
    parser.add_argument("--peer", metavar="COMMAND", help="command of another server to measure beside it")
    return parser.parse_args()
