"""What systemd is told, read from a datagram socket as systemd itself does."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.waiting import PATIENCE

from polycast.service.notify import ServiceManager

if sys.platform == "win32":
    pytest.skip("there is no systemd on Windows", allow_module_level=True)

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGURATION = (
    "rtspAddress: 127.0.0.1:0\nrtpAddress: 127.0.0.1:0\nrtcpAddress: 127.0.0.1:0\n"
    "rtmpDisable: yes\nhlsDisable: yes\npaths:\n  all:\n"
)


class Listener:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(PATIENCE)
        self.environment = {"NOTIFY_SOCKET": address}

    def receive(self) -> dict[str, str]:
        """Return the assignments of the next datagram."""
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def receive_other_than_pings(self) -> tuple[int, dict[str, str]]:
        """Return the number of signs of life before another message, and that message."""
        pings = 0
        while (message := self.receive()) == {"WATCHDOG": "1"}:
            pings += 1
        return pings, message

    def is_empty(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        return False


@pytest.fixture(params=["path", pytest.param("abstract", marks=pytest.mark.skipif(sys.platform != "linux", reason=""))])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@polycast-test-{os.getpid()}"
    listener = Listener(name)
    yield listener
    listener.socket.close()


def test_messages(listener: Listener) -> None:
    environment = {**listener.environment, "OTHER": "1"}
    manager = ServiceManager.from_environment(environment)
    assert manager.is_present
    assert environment == {"OTHER": "1"}, "commands must not be able to speak for the server"
    manager.ready()
    assert listener.receive() == {"READY": "1"}
    before = time.monotonic_ns() // 1000
    manager.reloading()
    message = listener.receive()
    assert message.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert before <= int(message["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    manager.ready("two\nlines")
    assert listener.receive() == {"READY": "1", "STATUS": "two lines"}
    manager.stopping()
    assert listener.receive() == {"STOPPING": "1"}
    assert listener.is_empty()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:3", "/nowhere/at/all"])
def test_nobody_listens(address: str) -> None:
    manager = ServiceManager.from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    manager.ready()
    manager.reloading()
    manager.stopping()
    assert manager.is_present is address.startswith("/")


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_watchdog_time(variables: dict[str, str], seconds: float) -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", **variables}
    assert ServiceManager.from_environment(environment).watchdog_seconds == seconds
    assert not environment


def test_watchdog_of_the_executable_that_runs_in_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getppid())}
    assert ServiceManager.from_environment(dict(variables)).watchdog_seconds == 0.0
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert ServiceManager.from_environment(dict(variables)).watchdog_seconds == 1.0


async def test_watchdog_pings_at_half_of_the_time(listener: Listener) -> None:
    loop = asyncio.get_running_loop()
    manager = ServiceManager.from_environment({**listener.environment, "WATCHDOG_USEC": "100000"})
    manager.start_watchdog()
    assert listener.receive() == {"WATCHDOG": "1"}, "the first comes at once"
    times = []
    listener.socket.setblocking(False)
    for _ in range(4):
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(listener.socket, 100) == b"WATCHDOG=1"
        times.append(loop.time())
    assert times[3] - times[0] >= 0.14, "three pauses of 50 ms"
    manager.stop_watchdog()
    await asyncio.sleep(0.1)  # two pauses: time for what must not come
    assert listener.is_empty()


async def test_no_watchdog_is_wanted(listener: Listener) -> None:
    manager = ServiceManager.from_environment(dict(listener.environment))
    manager.start_watchdog()
    assert listener.is_empty()


def test_a_whole_life(listener: Listener, tmp_path: Path) -> None:
    """Started, reloaded twice (well, and with a broken file), stopped: by a real process."""
    file = tmp_path / "server.yml"
    file.write_text(CONFIGURATION)
    environment = {
        **os.environ,
        **listener.environment,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
        "WATCHDOG_USEC": "200000",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "polycast", str(file)], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            pings, message = listener.receive_other_than_pings()
            assert pings >= 1, "a slow start must not look like death"
            assert message == {"READY": "1"}
            port = listening_port(process)
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()

            process.send_signal(signal.SIGHUP)
            assert listener.receive_other_than_pings()[1].keys() == {"RELOADING", "MONOTONIC_USEC"}
            assert listener.receive_other_than_pings()[1] == {"READY": "1", "STATUS": "running"}

            file.write_text("nonsense: 1\n")
            process.send_signal(signal.SIGHUP)
            assert "RELOADING" in listener.receive_other_than_pings()[1]
            status = listener.receive_other_than_pings()[1]
            assert status["READY"] == "1"
            assert "non-existent parameter: 'nonsense'" in status["STATUS"]
            assert listener.receive() == {"WATCHDOG": "1"}, "it goes on"

            process.send_signal(signal.SIGTERM)
            assert listener.receive_other_than_pings()[1] == {"STOPPING": "1"}
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_failed_start_is_never_ready(listener: Listener, tmp_path: Path) -> None:
    file = tmp_path / "server.yml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file.write_text(CONFIGURATION.replace("127.0.0.1:0", f"127.0.0.1:{taken.getsockname()[1]}", 1))
        done = subprocess.run(
            [sys.executable, "-m", "polycast", str(file)],
            env={**os.environ, **listener.environment, "PYTHONPATH": str(ROOT / "src")},
            stdout=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
    assert done.returncode == 1
    assert listener.is_empty()


def listening_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"\[RTSP\] listener opened on 127\.0\.0\.1:(\d+) \(TCP\)", line):
            return int(found[1])
    raise AssertionError("no listener was opened")
