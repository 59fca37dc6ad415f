"""The pace of frames: one loop for publishers and for the floors, with the phases of many streams spread evenly."""

import select
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from bench.media import FRAME_INTERVAL, SyntheticStream

LEAD = 0.05  # seconds between the command to start and the first frame

SendFrame = Callable[[int, int, Any], None]
"""Called with the stream's index, the frame's number and the frame; stamps the frame and sends it."""


class Media(Protocol):
    """A stream in the form of a protocol; `SyntheticStream` is the one of RTP."""

    bytes_per_second: int

    def frame(self, number: int) -> Any: ...
    def packets_until(self, number: int) -> int: ...
    def bytes_until(self, number: int) -> int: ...


def run_feed(
    connection: Connection,
    stream_count: int,
    send_frame: SendFrame,
    start: dict[str, Any] | None = None,
    media: Media | None = None,
    finish: Callable[[int], None] | None = None,
    rest: Callable[[float], None] = time.sleep,
) -> None:
    """Send frames from the command "start" to "stop", then keep everything open until the process is terminated.

    ``finish`` is called after the last frame, with the number of the next one; ``rest`` waits for some seconds.
    """
    if media is None:
        media = SyntheticStream()
    if start is None:
        start = connection.recv()
    if start["command"] != "start":
        raise ValueError(f"expected start, not {start['command']}")
    connection.send({})
    commands = select.poll()
    commands.register(connection.fileno(), select.POLLIN)
    first = time.monotonic() + LEAD
    number = 0
    latest = 0.0
    while True:
        frame = media.frame(number)
        for stream in range(stream_count):
            deadline = first + (number + stream / stream_count) * FRAME_INTERVAL
            wait = deadline - time.monotonic()
            if wait > 0:
                rest(wait)
            else:
                latest = max(latest, -wait)
            send_frame(stream, number, frame)
        number += 1
        if commands.poll(0):
            command = connection.recv()["command"]
            connection.send(
                {
                    "frames": number,
                    "packets": media.packets_until(number),
                    "bytes": media.bytes_until(number),
                    "bytes_per_second": media.bytes_per_second,
                    "latest_ms": latest * 1000,
                }
            )
            latest = 0.0
            if command == "stop":
                if finish is not None:
                    finish(number)
                connection.recv()  # blocks until the process is terminated
