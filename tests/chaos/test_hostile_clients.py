"""Clients that send as fast as they can: nobody else waits for them, and the server ends when it is told to.

Judged by the server's own metric, in the processor's time. Whatever such clients sent used to be worked through before
anybody else had a turn: up to twelve seconds for the data of one.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import socket
import ssl
import struct
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.interop import tools
from tests.wire.http.cases import HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame, long
from tests.wire.rtmp.support import SIMPLE_HANDSHAKE

from polycast.net.work import READ_SIZE

CLIENTS = 3
ATTACK_SECONDS = 0.5
"""Of the processor's time that the server works while it is attacked: far more than `LAG_LIMIT`."""
LAG_LIMIT = 0.2
"""Seconds of the processor's time, which say nothing about what else the machine does."""
STOP_LIMIT = 2.0
"""The same, from the signal to the end."""

# Runs the server; what its metrics call the loop's lag is what the loop's own thread worked meanwhile. On SIGUSR1, it
# forgets what it has measured.
RUNNER = """
import runpy, signal, sys, time
from polycast.control.lag import LoopLag

schedule, on_timer, start = LoopLag._schedule, LoopLag._on_timer, LoopLag.start

def schedule_at_work(self):
    self.begin = time.thread_time()
    schedule(self)

def on_timer_at_work(self):
    worked = time.thread_time() - self.begin
    on_timer(self)
    self._lags[-1] = min(self._lags[-1], worked)

def start_and_listen(self):
    signal.signal(signal.SIGUSR1, lambda *_: self._lags.clear())
    start(self)

LoopLag._schedule, LoopLag._on_timer, LoopLag.start = schedule_at_work, on_timer_at_work, start_and_listen
sys.argv[0] = "polycast"
runpy.run_module("polycast", run_name="__main__")
"""


OPTIONS = b"OPTIONS rtsp://x/live RTSP/1.0\r\nCSeq: 1\r\n\r\n"
FRAMES = b"$\x00\x00\x00$\x02\x00\x00"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
GET = b"GET /live/index.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
EMPTY_MESSAGES = b"\x04\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x00" + b"\xc4" * 1000


@dataclass
class Server:
    program: tools.Program

    def port(self, name: str) -> int:
        match = re.search(rf"\[{name}\] listener opened on 127\.0\.0\.1:(\d+)", self.program.output)
        assert match is not None, self.program.describe()
        return int(match[1])

    def longest_lag(self) -> float:
        """Return the longest one since this was asked before."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port('metrics')}/metrics", timeout=60) as response:
            text = response.read().decode()
        self.program.process.send_signal(signal.SIGUSR1)
        match = re.search(r"^polycast_event_loop_lag_max_seconds (\S+)$", text, re.MULTILINE)
        assert match is not None
        return float(match[1])

    def wait_until_worked(self, seconds: float = ATTACK_SECONDS) -> None:
        """Wait until it has worked for these seconds, however busy the machine is."""
        enough = worked(self.program.process.pid) + seconds
        self.program.wait_until(lambda: worked(self.program.process.pid) > enough, "work")


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path) as server:
        yield server


@contextlib.contextmanager
def running(tmp_path: Path) -> Iterator[Server]:
    tools.make_certificate(tmp_path)
    (tmp_path / "server.yml").write_text(
        "rtspAddress: 127.0.0.1:0\nrtspsAddress: 127.0.0.1:0\nrtmpAddress: 127.0.0.1:0\nhlsAddress: 127.0.0.1:0\n"
        "protocols: [tcp]\nencryption: optional\nmetrics: yes\nmetricsAddress: 127.0.0.1:0\npaths:\n  all:\n"
    )
    (tmp_path / "runner.py").write_text(RUNNER)
    environment = {"PYTHONPATH": str(tools.ROOT / "src")}
    command = [sys.executable, "runner.py", "server.yml"]
    with tools.start("polycast", command, tmp_path, environment=environment) as program:
        for name in ("RTSP", "RTSPS", "RTMP", "HLS", "metrics"):
            program.wait_until(lambda name=name: f"[{name}] listener opened" in program.output, f"{name} listener")
        yield Server(program)


def flood(port: int, first: bytes, data: bytes, over: threading.Event, *, tls: bool = False) -> None:
    """Send as fast as the server takes it, and read what it answers; connect again when it closes."""
    data *= READ_SIZE // len(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    while not over.is_set():
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            if tls:
                client = stack.enter_context(context.wrap_socket(client))
            client.settimeout(0.1)
            if first:
                client.sendall(first)
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    client.send(data[:16_384] if tls else data)
                with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
                    client.settimeout(0.001)
                    while client.recv(1 << 18):
                        pass
                client.settimeout(0.1)


@contextlib.contextmanager
def attacked(attack: Callable[[threading.Event], None]) -> Iterator[None]:
    """Let several clients attack until the block ends."""
    over = threading.Event()
    threads = [threading.Thread(target=attack, args=(over,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


WORKED = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the time of a process is read from /proc")


@WORKED
@pytest.mark.parametrize(
    ("name", "first", "data"),
    [
        pytest.param("RTSP", b"", OPTIONS, id="RTSP requests"),
        pytest.param("RTSP", b"", FRAMES, id="interleaved frames without a session"),
        pytest.param("RTSPS", b"", OPTIONS, id="RTSP requests in TLS"),
        pytest.param("RTMP", SIMPLE_HANDSHAKE, EMPTY_MESSAGES, id="RTMP messages without content"),
        pytest.param("HLS", b"", GET, id="HTTP requests"),
        pytest.param("HLS", HTTP2, frame(WINDOW_UPDATE, 0, 0, long(1)), id="HTTP/2 windows"),
        pytest.param("HLS", HTTP2, frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535) * 60), id="HTTP/2 settings"),
        pytest.param("HLS", HTTP2, frame(PING, 0, 0, bytes(8)), id="HTTP/2 pings"),
        pytest.param("HLS", HTTP2, frame(HEADERS, 5, 1, b"\x20" * 16_000), id="HPACK table sizes"),
        pytest.param("HLS", b"GET / HTTP/1.1\r\n", b"A: b\r\n", id="an HTTP head without end"),
    ],
)
def test_nobody_waits_for_a_flood(shared_server: Server, name: str, first: bytes, data: bytes) -> None:
    server = shared_server
    port = server.port(name)
    server.longest_lag()
    with attacked(lambda over: flood(port, first, data, over, tls=name == "RTSPS")):
        server.wait_until_worked()
    lag = server.longest_lag()
    print(f"the longest lag: {lag * 1000:.0f} ms")
    assert lag < LAG_LIMIT
    assert "internal error" not in server.program.output


def worked(process: int) -> float:
    """Return the seconds that a process has worked so far, on Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def worked_by_ended() -> float:
    """Return the seconds that all programs have worked which the tests started and which have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@WORKED
def test_a_flooded_server_ends_in_time(server: Server) -> None:
    port = server.port("RTSP")
    with attacked(lambda over: flood(port, b"", OPTIONS, over)):
        server.wait_until_worked()
        before, ended = worked(server.program.process.pid), worked_by_ended()
        server.program.process.send_signal(signal.SIGINT)
        assert server.program.wait(), "it does not end as long as it is flooded"
        used = worked_by_ended() - ended - before
    print(f"it took {used * 1000:.0f} ms of the processor's time to end")
    assert used < STOP_LIMIT


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
def test_unique_and_failed_requests_are_not_cached(server: Server) -> None:
    """Each used to keep its request or its response until somebody had read it: 260 MB and more."""

    def peak() -> int:
        status = Path(f"/proc/{server.program.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024

    before = peak()
    requests = b"".join(b"GET /p%d/x.ts HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(6000))
    with attacked(lambda over: flood(server.port("HLS"), b"", requests[:READ_SIZE], over)):
        server.wait_until_worked(4 * ATTACK_SECONDS)
    assert peak() - before < 64
