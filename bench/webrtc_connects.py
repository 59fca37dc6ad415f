"""How fast viewers connect over WebRTC, and what a connected one takes: ``python -m bench.webrtc_connects``.

Viewers connect one after the other, as fast as they can, and stay: signalling, connectivity check, DTLS handshake and
first receiver report, like a browser. All are in one process, on a core of its own. The stream is silent, so that
nothing but connecting is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.measure import SETTINGS
from bench.model import Setup
from bench.rtsp_load import connect_publisher
from bench.server import READER_CORE, Server, cpu_seconds, free_tcp_port, resident_bytes
from bench.webrtc_viewer import SRTP_PROFILES, Viewer
from polycast.net.dtls import DtlsIdentity

PATH: Final = "bench0"
SETTLE_SECONDS: Final = 2.0
"""Until the server has freed what only the handshakes needed."""


def connect(port: int, path: str, identity: DtlsIdentity) -> tuple[Viewer, float]:
    """Return a connected viewer, and how many seconds that took."""
    began = time.perf_counter()
    viewer = Viewer(identity, port, path)
    viewer.check()
    viewer.shake_hands()
    return viewer, time.perf_counter() - began


def measure(count: int, directory: str) -> None:
    """Measure and print."""
    port, media = free_tcp_port(), free_tcp_port()
    configuration = Path(directory, "polycast.yml")
    settings = Setup("webrtc", port, port + 1, media, directory).fill(SETTINGS["webrtc"])
    configuration.write_text(f"readTimeout: 600s\n{settings}")
    command = [sys.executable, "-m", "polycast", str(configuration)]
    with Server(command, port, Path(directory, "log"), os.environ) as server:
        publisher = connect_publisher(port, PATH)
        os.sched_setaffinity(0, {READER_CORE})
        identity = DtlsIdentity(SRTP_PROFILES)
        connect(port + 1, PATH, identity)  # loads what the first one needs
        memory, cpu, began = resident_bytes(server.pid), cpu_seconds(server.pid), time.perf_counter()
        connected = [connect(port + 1, PATH, identity) for _ in range(count)]
        took, cpu = time.perf_counter() - began, cpu_seconds(server.pid) - cpu
        time.sleep(SETTLE_SECONDS)
        memory = resident_bytes(server.pid) - memory
        seconds = sorted(each for _, each in connected)
        median, slow = statistics.median(seconds), seconds[count * 99 // 100]
        print(f"{count} viewers connected in {took:.1f} s; each within {median * 1e3:.1f} ms (p99 {slow * 1e3:.1f} ms)")
        print(f"  the server: {cpu / count * 1e3:.2f} ms of CPU and {memory / count / 1e3:.1f} kB each")
        publisher.socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.webrtc_connects", description=__doc__)
    parser.add_argument("--viewers", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure(arguments.viewers, directory)


if __name__ == "__main__":
    main()
