"""Publishers and readers that come and go leave nothing behind: no memory, no file descriptors, no tasks.

200 cycles, or 10,000 with POLYCAST_SOAK=full. Every cycle one publisher and one reader meet; some part with TEARDOWN,
some just hang up, some read over UDP, and some leave in the middle of a request.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.rtsp_client import RtspClient, key_frame, play, publish

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

FULL = os.environ.get("POLYCAST_SOAK") == "full"
CYCLES = 10_000 if FULL else 200
WARM_UP_CYCLES = 200 if FULL else 60
MEMORY_TOLERANCE = 3 * 1024 * 1024
"""Bytes of resident memory that may come on top after the warm-up, whatever the number of cycles."""
SETTLE_SECONDS = 10.0

# Runs the server and, on SIGUSR1, writes to the file named by the first argument how many objects only the collector of
# reference cycles has found, and how many tasks there are.
RUNNER = """
import asyncio, gc, os, runpy, signal, sys

report, configuration = sys.argv[1:]

def count(number, frame):
    garbage = gc.collect()
    with open(report + ".new", "w") as file:
        file.write(f"{len(asyncio.all_tasks())} {garbage}")
    os.replace(report + ".new", report)

signal.signal(signal.SIGUSR1, count)
sys.argv = ["polycast", configuration]
runpy.run_module("polycast", run_name="__main__")
"""


@dataclass(frozen=True)
class Usage:
    """What the server holds."""

    memory: int
    """Resident memory in bytes."""
    descriptors: int
    tasks: int
    garbage: int
    """Objects that were no longer in use and still there."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tools.Server]:
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)
    command = (sys.executable, runner, tmp_path / "tasks")
    with tools.run_server(tmp_path, command=command) as running:
        # The last thing that a server opens after its listeners.
        running.program.wait_until(lambda: watches_file(running), "watch on the configuration file")
        yield running


def watches_file(server: tools.Server) -> bool:
    """Whether the server has begun to watch its configuration file."""
    descriptors = Path(f"/proc/{server.program.process.pid}/fd")
    targets = []
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):
            targets.append(os.readlink(descriptor))
    return any("inotify" in target for target in targets)


def measure(server: tools.Server) -> Usage:
    process = Path(f"/proc/{server.program.process.pid}")
    report = server.folder / "tasks"
    report.unlink(missing_ok=True)
    server.program.process.send_signal(signal.SIGUSR1)
    server.program.wait_until(report.exists, "count of tasks")
    memory = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS:"))
    tasks, garbage = map(int, report.read_text().split())
    return Usage(int(memory.split()[1]) * 1024, len(list((process / "fd").iterdir())), tasks, garbage)


def cycle(server: tools.Server, index: int) -> None:
    path = f"soak{index % 7}"
    url = server.url(path)
    with RtspClient(server.port) as publisher, RtspClient(server.port) as reader:
        publish(publisher, url)
        if index % 3 == 0:
            play(reader, url, f"RTP/AVP;unicast;client_port={40000 + index % 1000 * 2}-{40001 + index % 1000 * 2}")
        else:
            play(reader, url)
        for packet in key_frame(index * 3, index * 3000):
            publisher.send_frame(0, packet)
        if index % 3:
            while reader.read_frame()[0] != 0:  # RTCP, which may come first
                pass
        if index % 4 == 0:
            assert reader.request("TEARDOWN", url).status == 200
        if index % 4 == 1:
            reader.socket.sendall(b"DESCRIBE rtsp://127.0.0.1/half RTSP/1.0\r\nCSeq:")
        if index % 2 == 0:
            assert publisher.request("TEARDOWN", url).status == 200


def measure_idle(server: tools.Server) -> Usage:
    """Return what a server holds that nobody uses, after a first connection: libuv keeps a descriptor from then on."""
    with RtspClient(server.port) as client:
        assert client.request("OPTIONS", server.url("none")).status == 200
        used = measure(server)
    return wait_for_rest(server, Usage(used.memory, used.descriptors - 1, used.tasks, used.garbage))


def wait_for_rest(server: tools.Server, rest: Usage) -> Usage:
    """Wait until the last connections are gone and what is held is no more than at ``rest``; return what is held."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        usage = measure(server)
        at_rest = usage.descriptors <= rest.descriptors and usage.tasks <= rest.tasks
        if at_rest or time.monotonic() > deadline:
            return usage
        time.sleep(0.1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_cycles_leave_nothing_behind(server: tools.Server) -> None:
    idle = measure_idle(server)
    for index in range(WARM_UP_CYCLES):
        cycle(server, index)
    warm = wait_for_rest(server, idle)
    assert (warm.descriptors, warm.tasks) == (idle.descriptors, idle.tasks)
    for index in range(CYCLES):
        cycle(server, index)
    after = wait_for_rest(server, idle)
    print(f"{CYCLES} cycles: idle {idle}, warm {warm}, after {after}")
    assert (after.descriptors, after.tasks) == (idle.descriptors, idle.tasks)
    assert after.memory - warm.memory <= MEMORY_TOLERANCE
