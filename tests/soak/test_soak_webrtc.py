"""WebRTC viewers that come and go leave nothing behind: no memory, no file descriptors, no tasks.

200 cycles, or 10,000 with POLYCAST_SOAK=full. Every cycle a viewer gets an encrypted packet of a stream; some end their
session by the signalling, some say goodbye over DTLS, some never send anything to the media port, or stop in the middle
of their handshake, and in the full run, some are just gone: that is noticed after half a minute.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.webrtc_viewer import HANDSHAKE_LIMIT, SRTP_PROFILES, Viewer
from tests.interop import tools
from tests.interop.rtsp_client import RtspClient, key_frame, publish
from tests.soak.test_soak_rtsp import (
    CYCLES,
    FULL,
    MEMORY_TOLERANCE,
    RUNNER,
    measure,
    wait_for_rest,
    watches_file,
)

from polycast.net.dtls import DtlsIdentity

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

SETTINGS = """
api: yes
apiAddress: 127.0.0.1:{api}
webrtc: yes
webrtcAddress: 127.0.0.1:{signalling}
webrtcLocalUDPAddress: 127.0.0.1:{media}
webrtcHandshakeTimeout: 2s
readTimeout: 300s
paths:
  all:
"""


WARM_UP_CYCLES = 3000 if FULL else 100
"""Until there were as many sessions at a time as there will be."""
LOST_SECONDS = 90.0
"""Within that time, the session of a viewer that is gone has to end."""


class Stream:
    """A publisher over RTSP, and the port where its viewers come."""

    def __init__(self, publisher: RtspClient, port: int) -> None:
        self._publisher = publisher
        self._frames = 0
        self.port = port
        self.identity = DtlsIdentity(SRTP_PROFILES)

    def send_key_frame(self) -> None:
        for packet in key_frame(self._frames * 3, self._frames * 3000):
            self._publisher.send_frame(0, packet)
        self._frames += 1

    def cycle(self, index: int) -> None:
        viewer = Viewer(self.identity, self.port, "live")
        with viewer.media:
            if index % 8 == 6:
                return
            viewer.check()
            if index % 8 == 7:
                viewer.media.recv(2048)
                return
            receiver = viewer.shake_hands()
            viewer.media.settimeout(HANDSHAKE_LIMIT)
            self.send_key_frame()
            while True:
                data = viewer.media.recv(2048)
                if 128 <= data[0] <= 191 and receiver.open(data) is not None:
                    break
            if index % 2 == 0 or (index % 4 == 3 and not FULL):
                viewer.delete()
            elif index % 4 == 1:
                viewer.say_goodbye()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[tools.Server, dict[str, int]]]:
    pytest.importorskip("OpenSSL")
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)
    ports = {name: tools.free_port() for name in ("api", "signalling", "media")}
    settings = SETTINGS.format(**ports)
    with tools.run_server(tmp_path, settings, command=(sys.executable, runner, tmp_path / "tasks")) as running:
        running.program.wait_until(lambda: watches_file(running), "watch on the configuration file")
        yield running, ports


def wait_for_last_session(port: int) -> None:
    """Wait until the sessions of viewers that are just gone have ended."""
    deadline = time.monotonic() + LOST_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/webrtcsessions/list") as response:
            sessions = json.load(response)["items"]
        if not sessions:
            return
        time.sleep(0.5)
    raise AssertionError(f"{len(sessions)} sessions are still there")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_viewers_leave_nothing_behind(server: tuple[tools.Server, dict[str, int]]) -> None:
    running, ports = server

    with RtspClient(running.port, timeout=60) as publisher:
        publish(publisher, running.url("live"))
        stream = Stream(publisher, ports["signalling"])
        stream.send_key_frame()
        # What a first viewer makes the server load stays.
        stream.cycle(0)
        idle = measure(running)
        for index in range(WARM_UP_CYCLES):
            stream.cycle(index)
        wait_for_last_session(ports["api"])
        warm = wait_for_rest(running, idle)
        assert (warm.descriptors, warm.tasks) <= (idle.descriptors, idle.tasks)
        for index in range(CYCLES):
            stream.cycle(index)
        wait_for_last_session(ports["api"])
        after = wait_for_rest(running, idle)
        print(f"{CYCLES} cycles: idle {idle}, warm {warm}, after {after}")
        assert after.descriptors <= idle.descriptors
        assert after.tasks <= idle.tasks
        assert after.memory - warm.memory <= MEMORY_TOLERANCE
