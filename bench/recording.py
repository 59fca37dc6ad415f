"""Recording: what the kernel takes to write the same bytes, and what a server takes for it."""

import dataclasses
import os
import select
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from bench.feed import LEAD
from bench.media import BITS_PER_SECOND, FRAMES_PER_SECOND
from bench.model import WARM_UP, Measurement, Subject
from bench.server import SERVER_CORE, cpu_seconds
from bench.workers import Worker

if TYPE_CHECKING:
    from bench.scenarios import Scenario

FLOOR = "floor: writing"
_WITHOUT = ", not recording"
_PART_SECONDS = 1.0


def without(subject: Subject) -> Subject:
    """Return a server for its row without recording."""
    return dataclasses.replace(subject, name=subject.name + _WITHOUT)


def measure_writing(scenario: "Scenario", seconds: float) -> Measurement:
    """Write the bytes of all streams, one part of a second per system call."""
    measurement = Measurement(FLOOR, scenario.streams)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        Worker(SERVER_CORE, write, scenario.streams, directory) as writer,
    ):
        writer.answer()
        time.sleep(WARM_UP)
        before, began = cpu_seconds(writer.pid), time.monotonic()
        time.sleep(seconds)
        used, window = cpu_seconds(writer.pid) - before, time.monotonic() - began
        lateness = writer.ask("mark")["latest_ms"]
    measurement.cpu_seconds, measurement.window_seconds = used, window
    measurement.core_share = used / window
    if lateness > _PART_SECONDS * 1000:
        measurement.notes.append(f"parts were written up to {lateness:.0f} ms late: the disk is too slow")
    return measurement


def write(connection: Connection, stream_count: int, directory: str) -> None:
    """Worker: a file per stream, the times of their parts spread evenly."""
    frame = os.urandom(BITS_PER_SECOND // 8 // FRAMES_PER_SECOND)
    pieces = [bytes(600), *(bytes(bytearray(frame)) for _ in range(FRAMES_PER_SECOND))]
    files = [os.open(Path(directory) / str(index), os.O_WRONLY | os.O_CREAT) for index in range(stream_count)]
    connection.send({})
    commands = select.poll()
    commands.register(connection.fileno(), select.POLLIN)
    first, number, latest = time.monotonic() + LEAD, 0, 0.0
    while not commands.poll(0):
        wait = first + number * _PART_SECONDS / stream_count - time.monotonic()
        latest = max(latest, -wait)
        if wait > 0:
            time.sleep(wait)
        os.writev(files[number % stream_count], pieces)
        number += 1
    with suppress(EOFError):
        connection.recv()
    connection.send({"latest_ms": latest * 1000})


def compare(measurements: Sequence[Measurement]) -> None:
    """Set what recording takes, for each server that was measured with it and without it."""
    shares = {one.subject: one.core_share for one in measurements if one.core_share is not None and not one.error}
    floor = shares.get(FLOOR)
    for measurement in measurements:
        share, rest = shares.get(measurement.subject), shares.get(measurement.subject + _WITHOUT)
        if share is not None and rest is not None and floor is not None:
            taken = share - rest
            measurement.recording_share = taken - floor
            measurement.notes.append(
                f"recording takes {taken:.1%} of a core: {taken - floor:.1%} more than the writing alone"
            )
