"""RTMP publishers and readers that come and go leave nothing behind: no memory, no file descriptors, no tasks.

200 cycles, or 10,000 with POLYCAST_SOAK=full. Every cycle one publisher and one reader meet; some part with
deleteStream, some just hang up, some use TLS, and some leave in the middle of a handshake or of a message.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from tests.interop import tools
from tests.soak.test_soak_rtsp import (
    CYCLES,
    MEMORY_TOLERANCE,
    RUNNER,
    WARM_UP_CYCLES,
    measure_idle,
    wait_for_rest,
    watches_file,
)
from tests.support.waiting import PATIENCE
from tests.wire.rtmp.support import AUDIO, IDR, SEED, VIDEO, wire

from polycast.media.frame import Frame
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import Event, FrameReceived, RequestAccepted, RequestRefused
from polycast.wire.rtmp.muxer import OUTPUT_CHUNK_SIZE

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

SETTINGS = """
authenticationFailurePause: 1ms
paths:
  all:
  closed:
    publishUser: user
    publishPass: pass
"""

PING_REQUEST = wire(4, b"\x00\x06\x00\x00\x00\x2a", stream_id=0, chunk_size=OUTPUT_CHUNK_SIZE)
PING_RESPONSE = b"\x00\x07\x00\x00\x00\x2a"


class Client:
    """The client engine on a blocking socket."""

    def __init__(self, url: str, mode: Mode, tls: ssl.SSLContext | None = None) -> None:
        address = parse_url(url)
        plain = socket.create_connection((address.host, address.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=address.host)
        self.engine = ClientConnection(address, mode, 0.0, seed=SEED)
        self.events: list[Event] = []
        self.received = b""

    def __enter__(self) -> Client:
        self.flush()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def flush(self) -> None:
        data = self.engine.data_to_send()
        if data:
            self.socket.sendall(data)

    def receive(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"the server closed the connection after {self.events}"
        self.received += data
        self.events += self.engine.receive_data(data, 0.0)
        while self.engine.has_more:
            self.events += self.engine.receive_data(b"", 0.0)
        self.flush()

    def wait_for(self, *kinds: type) -> Event:
        while True:
            for event in self.events:
                if isinstance(event, kinds):
                    return event
            self.receive()

    def synchronize(self) -> None:
        """Return once the server has taken in everything sent so far."""
        self.received = b""
        self.socket.sendall(PING_REQUEST)
        while PING_RESPONSE not in self.received:
            self.receive()

    def publish(self) -> None:
        self.wait_for(RequestAccepted)
        self.engine.send_tracks([VIDEO, AUDIO])
        self.send_pair(0)

    def send_pair(self, number: int) -> None:
        self.engine.send_frame(0, Frame((IDR,), number * 3600, number * 3600, key=True))
        self.engine.send_frame(1, Frame((b"\x21\x10",), number * 1764, number * 1764, key=True))
        self.flush()
        self.synchronize()

    def part(self) -> None:
        """Leave politely."""
        self.engine.close_stream()
        self.flush()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tools.Server]:
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER)
    command = (sys.executable, runner, tmp_path / "tasks")
    with tools.run_server(tmp_path, SETTINGS, command=command, rtmp=True) as running:
        # The last thing that a server opens after its listeners.
        running.program.wait_until(lambda: watches_file(running), "watch on the configuration file")
        yield running


def cycle(server: tools.Server, index: int, tls: ssl.SSLContext) -> None:
    path = f"live/soak{index % 7}"
    secure = index % 5 == 0
    publisher_url, reader_url = server.rtmp_url(path, tls=secure), server.rtmp_url(path, tls=index % 10 == 5)
    with (
        Client(publisher_url, Mode.PUBLISH, tls if secure else None) as publisher,
        Client(reader_url, Mode.PLAY, tls if index % 10 == 5 else None) as reader,
    ):
        publisher.publish()
        if index % 3 == 0:
            with Client(server.rtmp_url("closed"), Mode.PUBLISH) as refused:
                assert isinstance(refused.wait_for(RequestAccepted, RequestRefused), RequestRefused)
        if isinstance(reader.wait_for(RequestAccepted, RequestRefused), RequestAccepted):
            publisher.send_pair(1)
            reader.wait_for(FrameReceived)
        if index % 4 == 0:
            reader.part()
        if index % 4 == 1:
            publisher.socket.sendall(b"\x06\x00\x00")  # the beginning of a message
        if index % 2 == 0:
            publisher.part()
    if index % 6 == 0:
        with socket.create_connection(("127.0.0.1", server.rtmp_port)) as half:
            half.sendall(b"\x03" + bytes(index % 1000))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_cycles_leave_nothing_behind(server: tools.Server) -> None:
    tls = ssl.create_default_context(cafile=str(server.folder / "ca.crt"))
    idle = measure_idle(server)
    for index in range(WARM_UP_CYCLES):
        cycle(server, index, tls)
    warm = wait_for_rest(server, idle)
    assert (warm.descriptors, warm.tasks) == (idle.descriptors, idle.tasks)
    began = time.monotonic()
    for index in range(CYCLES):
        cycle(server, index, tls)
    elapsed = time.monotonic() - began
    after = wait_for_rest(server, idle)
    print(f"{CYCLES} cycles in {elapsed:.0f} s: idle {idle}, warm {warm}, after {after}")
    assert (after.descriptors, after.tasks) == (idle.descriptors, idle.tasks)
    assert after.memory - warm.memory <= MEMORY_TOLERANCE
