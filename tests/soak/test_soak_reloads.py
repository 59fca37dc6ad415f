"""Changes of the configuration with two workers: readers of a path that they do not concern lose no packet.

20 random changes, or 1,000 with POLYCAST_SOAK=full.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.interop.rtsp_client import RtspClient, key_frame, play, publish
from tests.soak.test_soak_rtsp import FULL
from tests.support.waiting import PATIENCE, until
from tests.workers.support import KEPT, Server, running

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux"),
]

CHANGES = 1_000 if FULL else 20
PACKET_SECONDS = 0.005
PATHS = ("one", "two", "three")


class Publisher(threading.Thread):
    """Sends packets with consecutive numbers until it is told to stop."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.client = RtspClient(port, timeout=PATIENCE)
        publish(self.client, f"rtsp://127.0.0.1:{port}/safe")
        self.is_over = threading.Event()
        self.sent = 0

    def run(self) -> None:
        while not self.is_over.is_set():
            for packet in key_frame(self.sent, self.sent * 450):
                self.client.send_frame(0, packet)
                self.sent += 1
            time.sleep(PACKET_SECONDS)


class Reader(threading.Thread):
    """Counts packets, and those that are missing between them."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.client = RtspClient(port, timeout=PATIENCE)
        play(self.client, f"rtsp://127.0.0.1:{port}/safe")
        self.received = 0
        self.missing = 0
        self.last = -1
        self.error = ""

    def run(self) -> None:
        try:
            while True:
                channel, packet = self.client.read_frame()
                if channel == 0:
                    number = int.from_bytes(packet[2:4])
                    if self.received:
                        self.missing += (number - self.last - 1) & 0xFFFF
                    self.last = number
                    self.received += 1
        except (OSError, AssertionError, ValueError) as error:
            self.error = repr(error)


async def change(server: Server, chance: random.Random, paths: dict[str, int], step: int) -> None:
    """Make a change that has nothing to do with the path ``safe``."""
    kind = chance.randrange(4)
    if kind == 0:
        values: dict[str, Any] = chance.choice(
            [
                {"readTimeout": f"{20 + step}s"},
                {"rtmp": bool(step % 2)},
                {"hlsSegmentCount": 7 + step % 5},
                {"webrtcHandshakeTimeout": f"{10 + step % 7}s"},
            ]
        )
        await server.post("/v3/config/global/patch", values, "PATCH")
        return
    name = chance.choice(PATHS)
    if name not in paths:
        await server.post(f"/v3/config/paths/add/{name}", {"maxReaders": step})
        paths[name] = step
    elif kind == 1:
        await server.post(f"/v3/config/paths/delete/{name}", method="DELETE")
        del paths[name]
    else:
        values = {"maxReaders": step} if kind == 2 else {"recordPath": f"./{step}/%path/%Y-%m-%d_%H-%M-%S-%f"}
        await server.post(f"/v3/config/paths/patch/{name}", values, "PATCH")


async def test_readers_of_another_path_lose_nothing(tmp_path: Path) -> None:
    async with (
        running(tmp_path, **KEPT) as server,
        server.at(1, "rtsp") as one,
        server.at(2, "rtsp") as two,
    ):
        publisher = await asyncio.to_thread(Publisher, one)
        publisher.start()
        await server.wait("is publishing to path 'safe'")
        readers = [await asyncio.to_thread(Reader, port) for port in (one, two)]
        for reader in readers:
            reader.start()
        chance, paths = random.Random(0), dict[str, int]()
        for step in range(CHANGES):
            await change(server, chance, paths, step)
        publisher.is_over.set()
        await asyncio.to_thread(publisher.join)
        await until(lambda: all((reader.last + 1) & 0xFFFF == publisher.sent & 0xFFFF for reader in readers))
        assert [(reader.missing, reader.error) for reader in readers] == [(0, "")] * 2
        print([reader.received for reader in readers], "packets")
        assert all(reader.received > CHANGES for reader in readers)
        for client in (publisher, *readers):
            with contextlib.suppress(OSError):
                client.client.socket.close()
