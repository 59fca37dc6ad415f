"""Starts an installed server (POSIX) as a user would, and asks it for a little of everything."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE = 30.0

CONFIGURATION = """\
rtspAddress: 127.0.0.1:0
rtpAddress: 127.0.0.1:0
rtcpAddress: 127.0.0.1:0
rtmpAddress: 127.0.0.1:0
hlsAddress: 127.0.0.1:0
api: yes
apiAddress: 127.0.0.1:0
metrics: yes
metricsAddress: 127.0.0.1:0
pprof: yes
pprofAddress: 127.0.0.1:0
paths:
  all:
"""

SERVICES = ("RTSP", "RTMP", "HLS", "metrics", "pprof", "API")


class Server:
    """A running server: its ports by name, its process, and how long it took to open the last of its listeners."""

    def __init__(self, process: subprocess.Popen[str], ports: dict[str, int], seconds: float) -> None:
        self.process = process
        self.ports = ports
        self.seconds_to_start = seconds

    def get(self, service: str, path: str, status: int = 200) -> bytes:
        """Return what an HTTP service answers, with this status: a page, if that is an error."""
        address = f"http://127.0.0.1:{self.ports[service]}{path}"
        request = urllib.request.Request(address, headers={"Accept": "*/*" if status == 200 else "text/html"})
        try:
            answer = urllib.request.urlopen(request, timeout=PATIENCE)
        except urllib.error.HTTPError as refused:
            answer = refused
        with answer:
            assert answer.status == status
            body = answer.read()
        assert isinstance(body, bytes)
        return body

    def check(self) -> None:
        """Ask each service something that only a whole server can answer."""
        with socket.create_connection(("127.0.0.1", self.ports["RTSP"]), timeout=PATIENCE) as client:
            url = f"rtsp://127.0.0.1:{self.ports['RTSP']}/cam"
            client.sendall(f"OPTIONS {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
            answer = client.recv(4096).decode()
        assert answer.startswith("RTSP/1.0 200 OK\r\n")
        assert "ANNOUNCE" in answer
        with socket.create_connection(("127.0.0.1", self.ports["RTMP"]), timeout=PATIENCE) as client:
            client.sendall(b"\x03" + bytes(1536))
            assert client.recv(1) == b"\x03"
        page = self.get("HLS", "/cam/", 404).decode()  # nobody publishes
        assert "<video" in page
        script = re.search(r'src="([^"]*hls\.min\.js)"', page) or re.search(r'src="([^"]*\.js)"', page)
        assert script is not None
        folder = script[1].rpartition("/")[0].removeprefix("..").removeprefix("/")
        assert len(self.get("HLS", f"/{folder}/hls.min.js")) > 100_000
        assert json.loads(self.get("API", "/v1/paths/list"))["items"] == {}
        assert b"<html" in self.get("API", "/")
        assert b"polycast_info" in self.get("metrics", "/metrics")
        assert self.get("pprof", "/debug/pprof/cmdline")

    def stop(self) -> str:
        """Shut the server down; return the rest of its log."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, rest
        return rest


@contextlib.contextmanager
def running(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    configuration: str = CONFIGURATION,
    *,
    seen_from: Path | None = None,
) -> Iterator[Server]:
    """Start a command with a configuration file as its last argument; wait until all listeners are open.

    ``seen_from`` is what ``folder`` is called where the command runs, if that is another root.
    """
    file = folder / "smoke.yml"
    file.write_text(configuration)
    before = time.monotonic()
    process = subprocess.Popen(
        [*command, file if seen_from is None else seen_from / file.name],
        cwd=folder,
        env=dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        ports: dict[str, int] = {}
        lines: list[str] = []
        assert process.stdout is not None
        while not ports.keys() >= set(SERVICES):
            line = process.stdout.readline()
            assert line, "the server ended:\n" + "".join(lines)
            lines.append(line)
            if found := re.search(r"\[(\w+)\] listener opened on 127\.0\.0\.1:(\d+)", line):
                ports[found[1]] = int(found[2])
        yield Server(process, ports, time.monotonic() - before)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the single executable runs the server in a child
        process.communicate()
