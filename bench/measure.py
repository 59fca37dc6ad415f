"""One measured window of a server or of a floor."""

import math
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench import srt_load
from bench.certificate import write_certificate
from bench.model import WARM_UP, Floor, Measurement, Protocol, Scenario, Setup, Subject
from bench.server import (
    CORES_ARE_SEPARATE,
    PUBLISHER_CORE,
    READER_CORE,
    SERVER_CORE,
    Server,
    bind_udp_pairs,
    core_busy_seconds,
    cpu_seconds,
    free_tcp_port,
    open_files,
    resident_bytes,
)
from bench.workers import Worker

IDLE_SETTLE = 1.0  # seconds between the start and the reading of an idle server's memory
BUSY_LOAD = 0.9  # share of its core from which the load generator may be the bottleneck
DELIVERED = 0.9  # share of the stream's rate below which a note says so; one key frame more or less stays above
BUSY_OTHERS = 0.05  # share of the server's core that others may use before a note says so
LATE_PUBLISHER = 33.0  # milliseconds, one frame
MEGABYTE = 1_000_000

_LOW_LATENCY = (
    "rtspAddress: 127.0.0.1:{port}\nprotocols: [tcp]\nrtmpDisable: yes\nhlsAddress: 127.0.0.1:{second_port}\n"
    "hlsVariant: lowLatency\nhlsAlwaysRemux: yes\nhlsEncryption: yes\n"
    "hlsServerKey: {directory}/server.key\nhlsServerCert: {directory}/server.crt\npaths:\n  all:\n"
)

_SRT = (
    "rtspAddress: 127.0.0.1:{port}\nprotocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\n"
    "srt: yes\nsrtAddress: 127.0.0.1:{second_port}\npaths:\n  all:\n"
)

SETTINGS = {
    "rtsp": (
        "rtspAddress: 127.0.0.1:{port}\nrtpAddress: 127.0.0.1:{rtp}\nrtcpAddress: 127.0.0.1:{rtcp}\n"
        "protocols: [udp, tcp]\nrtmpDisable: yes\nhlsDisable: yes\npaths:\n  all:\n"
    ),
    "rtmp": "rtmpAddress: 127.0.0.1:{port}\nrtspDisable: yes\nhlsDisable: yes\npaths:\n  all:\n",
    "webrtc": (
        "rtspAddress: 127.0.0.1:{port}\nprotocols: [tcp]\nrtmpDisable: yes\nhlsDisable: yes\nwebrtc: yes\n"
        "webrtcAddress: 127.0.0.1:{second_port}\nwebrtcLocalUDPAddress: 127.0.0.1:{rtp}\npaths:\n  all:\n"
    ),
    "srt": _SRT,
    "srt-aes": _SRT + f"    srtReadPassphrase: {srt_load.PASSPHRASE}\n",
    "hls": (
        "rtspAddress: 127.0.0.1:{port}\nprotocols: [tcp]\nrtmpDisable: yes\nhlsAddress: 127.0.0.1:{second_port}\n"
        "hlsVariant: fmp4\nhlsAlwaysRemux: yes\npaths:\n  all:\n"
    ),
    "hls-ll": _LOW_LATENCY,
    "hls-ll-h2": _LOW_LATENCY,
}

Loads = list[tuple[int, Worker]]
"""Load generators with the cores that they run on."""

REPOSITORY = Path(__file__).resolve().parent.parent


def measure_server(scenario: Scenario, protocol: Protocol, subject: Subject, seconds: float) -> Measurement:
    measurement = Measurement(subject.name, scenario.streams, scenario.readers)
    with running_server(subject, scenario.protocol, scenario.recording) as (server, port), ExitStack() as stack:
        measurement.start_seconds = server.start_seconds
        publisher = stack.enter_context(Worker(PUBLISHER_CORE, protocol.publish, port, scenario.streams))
        publisher.answer()
        before = resident_bytes(server.pid)
        arguments = (port, scenario.streams, scenario.readers, scenario.transport)
        sink = stack.enter_context(Worker(READER_CORE, protocol.read, *arguments))
        sink.answer()
        publisher.ask("start")
        _measure_window(
            measurement,
            server.pid,
            publisher,
            sink,
            seconds,
            [(PUBLISHER_CORE, publisher), (READER_CORE, sink)],
            warm_up=protocol.warm_up,
        )
        after = resident_bytes(server.pid)
        measurement.resident_mb = after / MEGABYTE
        measurement.kilobytes_per_reader = (after - before) / 1000 / scenario.readers
        measurement.open_files = open_files(server.pid)
        server.check()
    return measurement


def measure_floor(scenario: Scenario, name: str, floor: Floor, seconds: float) -> Measurement:
    measurement = Measurement(f"floor: {name}", scenario.streams, scenario.readers)
    with ExitStack() as stack:
        sender = stack.enter_context(Worker(SERVER_CORE, floor.send, scenario.streams, scenario.readers))
        ready = sender.answer()
        arguments = (ready["port"], scenario.readers) if floor.needs_port else (scenario.readers,)
        sink = stack.enter_context(Worker(READER_CORE, floor.read, *arguments))
        sender.ask("start", ports=sink.answer()["ports"])
        _measure_window(measurement, sender.pid, sender, sink, seconds, [(READER_CORE, sink)])
    return measurement


def measure_idle(subject: Subject, runs: int) -> Measurement:
    """Several starts: the median time to the first accepted connection, and the largest memory."""
    measurement = Measurement(subject.name)
    starts, memories, shares = [], [], []
    for _ in range(runs):
        with running_server(subject) as (server, _port):
            time.sleep(IDLE_SETTLE)
            before = cpu_seconds(server.pid)
            time.sleep(IDLE_SETTLE)
            shares.append((cpu_seconds(server.pid) - before) / IDLE_SETTLE)
            starts.append(server.start_seconds)
            memories.append(resident_bytes(server.pid) / MEGABYTE)
            measurement.open_files = open_files(server.pid)
    measurement.start_seconds = statistics.median(starts)
    measurement.resident_mb = max(memories)
    measurement.core_share = statistics.median(shares)
    measurement.notes.append(f"median of {runs} starts, {min(starts):.3f} to {max(starts):.3f} s")
    return measurement


@contextmanager
def running_server(subject: Subject, protocol: str = "rtsp", recording: str = "") -> Iterator[tuple[Server, int]]:
    """A server with one protocol (RTSP over TCP and UDP), every other one off, in its own directory; and its port.

    ``recording`` is the format in which it records, if any.
    """
    port = free_tcp_port()
    for even, odd in bind_udp_pairs(1):
        rtp_port = even.getsockname()[1]
        even.close()
        odd.close()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        configuration = Path(directory) / "server.yml"
        setup = Setup(protocol, port, port + 1, rtp_port, directory, recording)
        if "{directory}" in SETTINGS.get(protocol, ""):
            write_certificate(Path(directory))
        if subject.configuration is not None:
            configuration.write_text(subject.configuration(setup))
        else:
            configuration.write_text(setup.fill(SETTINGS[protocol]))
        argv = [part.replace("{config}", str(configuration)) for part in subject.command]
        paths = [str(REPOSITORY / "src"), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            **subject.environment,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        # Where it is set, every start compiles the server anew, which no installed server does.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        log = Path(directory) / "server.log"
        with Server(argv, port, log, environment, subject.workers) as server:
            yield server, port


def own_server(workers: int = 1) -> Subject:
    """This project's server, with so many processes."""
    command = [sys.executable, "-m", "polycast", "{config}"]
    if workers == 1:
        return Subject("polycast", command)
    name = f"polycast, {workers} workers"
    return Subject(name, command, environment={"RTSP_WORKERS": str(workers)}, workers=workers)


def _measure_window(
    measurement: Measurement,
    pid: int,
    feed: Worker,
    sink: Worker,
    seconds: float,
    loads: Loads,
    *,
    warm_up: float = WARM_UP,
) -> None:
    """Warm up, measure for `seconds`, stop the feed, let everything arrive."""
    time.sleep(warm_up)
    feed.ask("mark")
    before = _snapshot(pid, sink, loads)
    time.sleep(seconds)
    after = _snapshot(pid, sink, loads)
    lateness = feed.ask("mark")["latest_ms"]
    sent = feed.ask("stop")
    results = sink.ask("finish", from_ns=before["ns"], to_ns=after["ns"])

    window = (after["ns"] - before["ns"]) / 1e9
    used = after["cpu"] - before["cpu"]
    gigabits = (after["bytes"] - before["bytes"]) * 8 / 1e9
    measurement.window_seconds = window
    measurement.cpu_seconds = used
    measurement.delivered_gigabits = gigabits
    measurement.cpu_per_gigabit = used / gigabits if gigabits else None
    measurement.core_share = used / window
    measurement.load_share = max(after["load"][core] - before["load"][core] for core, _worker in loads) / window
    _count_delays(measurement, results["delays_ns"])
    _count_losses(measurement, sent, results)
    if "failures" in results:
        measurement.lost_packets = results["failures"]
        measurement.requests_per_second = (after["requests"] - before["requests"]) / window
        measurement.notes.append(f"{measurement.requests_per_second:,.0f} requests/s")
    nominal = sent["bytes_per_second"] * measurement.readers * window * 8 / 1e9
    if gigabits < nominal * DELIVERED:
        measurement.notes.append(f"only {gigabits / nominal:.0%} of the stream's rate was delivered in the window")
    _write_notes(measurement, (after["busy"] - before["busy"] - used) / window, lateness)


def _snapshot(pid: int, sink: Worker, loads: Loads) -> dict[str, Any]:
    totals = sink.ask("mark")
    load: dict[int, float] = defaultdict(float)
    for core, worker in loads:
        load[core] += cpu_seconds(worker.pid)
    return {
        "ns": time.monotonic_ns(),
        "cpu": cpu_seconds(pid),
        "bytes": totals["bytes"],
        "requests": totals.get("requests", 0),
        "load": load,
        "busy": core_busy_seconds(SERVER_CORE),
    }


def _count_delays(measurement: Measurement, delays_ns: list[int]) -> None:
    measurement.delay_samples = len(delays_ns)
    if not delays_ns:
        return
    last = len(delays_ns) - 1
    measurement.delay_p50_ms = delays_ns[int(0.50 * last)] / 1e6
    measurement.delay_p99_ms = delays_ns[int(0.99 * last)] / 1e6
    measurement.delay_maximum_ms = delays_ns[last] / 1e6


def _count_losses(measurement: Measurement, sent: dict[str, int], results: dict[str, Any]) -> None:
    """Sampled readers: gaps, and what is missing at the ends. The others: what a complete sampled one got more.

    A server may send more than it got (RTCP over TCP, another packetization), so what a complete reader gets is
    taken from the sampled readers that got every frame without a gap, and from the publisher if there is none.
    """
    readers = results["readers"]
    samples = [reader["sample"] for reader in readers]
    complete = [
        sample is not None and sample["missing"] == 0 and sample["frames"] == sent["frames"] for sample in samples
    ]
    references = [reader for reader, is_complete in zip(readers, complete, strict=True) if is_complete]
    expected_packets = min((reader["receives"] for reader in references), default=sent["packets"])
    expected_bytes = min((reader["bytes"] for reader in references), default=sent["bytes"])
    packet_size = sent["bytes"] / sent["packets"]
    lost = 0
    for reader, sample, is_complete in zip(readers, samples, complete, strict=True):
        if is_complete:
            continue
        if sample is not None:
            lost += max(sample["missing"], sent["packets"] - sample["packets"], 1)
        elif reader["is_datagram"]:
            lost += max(0, expected_packets - reader["receives"])
        else:
            lost += math.ceil(max(0, expected_bytes - reader["bytes"]) / packet_size)
    measurement.lost_packets = lost
    measurement.socket_drops = sum(reader["socket_drops"] for reader in readers)
    measurement.closed_readers = results["closed"]


def _write_notes(measurement: Measurement, others: float, lateness: float) -> None:
    notes = measurement.notes
    if measurement.load_share is not None and measurement.load_share > BUSY_LOAD:
        notes.append(f"the load generator used {measurement.load_share:.0%} of its core: it may be the bottleneck")
    if not CORES_ARE_SEPARATE:
        notes.append("one core for everything: server and load generator disturb each other")
    elif others > BUSY_OTHERS:
        notes.append(f"others used {others:.0%} of the server's core")
    if lateness > LATE_PUBLISHER:
        notes.append(f"frames were sent up to {lateness:.0f} ms late")
    if measurement.socket_drops:
        notes.append(f"{measurement.socket_drops} packets dropped at the readers' sockets, not by the server")
    if measurement.closed_readers:
        notes.append(f"{measurement.closed_readers} readers were closed")
