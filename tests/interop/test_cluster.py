"""Three servers and a real NATS server: what is published on one is readable on all, also when something fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.documents.snippets import ROOT, snippets_of
from tests.interop import tools
from tests.interop.tools import Network, Program, Server, free_port

PICTURES_PER_SECOND = 25
HASHES = ("-an", "-c", "copy", "-f", "framemd5", "-flush_packets", "1", "-")
PAGE = ROOT / "docs" / "cluster.md"
OVER_TCP = ("-rtsp_transport", "tcp")

SETTINGS = """
cluster: ["nats://127.0.0.1:{nats}"]
clusterToken: a secret
nodeName: {name}
nodeAddress: 127.0.0.1:0
protocols: [tcp]
hlsSegmentDuration: 500ms
hlsAlwaysRemux: no
paths:
  all:
    publisherGrace: 30s
"""


def nats_server() -> str:
    """Return the program: one on the path, or the one that ``make test`` has built."""
    found = shutil.which("nats-server") or shutil.which("nats-server", path=Path(sys.executable).parent)
    if found is None:
        pytest.skip("nats-server is not installed: go install github.com/nats-io/nats-server/v2@latest")
    return str(found)


class Nats:
    """A NATS server that can be stopped and started again, with what it has on disk."""

    def __init__(self, folder: Path, network: tools.Network | None = None) -> None:
        self.program = nats_server()
        self.folder = folder
        self.network = network = network or tools.Network()
        self.port = 4222 if network.namespace else free_port()
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        command = [self.program, "-a", self.network.host, "-p", str(self.port), "-js", "-sd", self.folder / "nats"]
        running = self._running.enter_context(tools.start("nats-server", command, self.folder, net=self.network))
        running.wait_until(lambda: "Server is ready" in running.errors, "ready line")

    def stop(self) -> None:
        self._running.close()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    server = Nats(tmp_path)
    server.start()
    yield server
    server.stop()


@contextlib.contextmanager
def node(name: str, nats: Nats, folder: Path) -> Iterator[Server]:
    (folder / name).mkdir(exist_ok=True)
    settings = SETTINGS.replace("{nats}", str(nats.port)).replace("{name}", name)
    with tools.run_server(folder / name, settings, rtmp=True, hls="mpegts") as server:
        yield server


def publishing(url: str, color: str) -> list[str | Path]:
    picture = f"testsrc2=size=160x120:rate={PICTURES_PER_SECOND},drawbox=color={color}"
    encoder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p")
    return tools.quick_ffmpeg("-re", "-f", "lavfi", "-i", picture, *encoder, "-f", "flv", url)


def publisher(server: Server, path: str, color: str, folder: Path) -> contextlib.AbstractContextManager[Program]:
    return tools.start("publisher", publishing(server.rtmp_url(path), color), folder)


def reader(url: str, folder: Path, *arguments: str) -> contextlib.AbstractContextManager[Program]:
    """Return FFmpeg, which prints a line for each picture."""
    return tools.start("reader", tools.ffmpeg(*arguments, "-i", url, *HASHES), folder)


def pictures(program: Program) -> int:
    return sum(1 for line in program.output.splitlines() if line and not line.startswith("#"))


def more(program: Program, count: int) -> Callable[[], bool]:
    target = pictures(program) + count
    return lambda: pictures(program) >= target


def test_three_machines(nats: Nats, tmp_path: Path) -> None:
    tools.require("ffmpeg")
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as stack_of_a:
        a = stack_of_a.enter_context(node("a", nats, tmp_path))
        b, c = (stack.enter_context(node(name, nats, tmp_path)) for name in "bc")
        for server in (a, b, c):
            server.program.wait_until(lambda each=server: "connected to NATS" in each.log, "the registry")  # type: ignore[misc]

        # A name belongs to one server.
        (tmp_path / "again").mkdir()
        with pytest.raises(pytest.fail.Exception, match="another server is node 'b' already"):
            stack.enter_context(node("b", nats, tmp_path / "again"))

        # Published at A over RTMP, read at B over RTSP and at C over HLS.
        first = stack.enter_context(publisher(a, "cam", "red", tmp_path))
        a.wait_for_publisher("cam", first)
        at_b = stack.enter_context(reader(b.url("cam"), tmp_path, *OVER_TCP))
        at_b.wait_until(lambda: pictures(at_b) > 10, "pictures at B")
        hls = f"http://127.0.0.1:{c.hls_port}/cam/index.m3u8"
        at_c = stack.enter_context(reader(hls, tmp_path))
        at_c.wait_until(lambda: pictures(at_c) > 10, "pictures at C")
        assert "copies from node 'a'" in b.log
        assert "copies from node 'a'" in c.log

        # Without the registry, everything goes on, for new readers, too; and a new publisher is accepted.
        nats.stop()
        at_b.wait_until(lambda: "the connection to NATS is lost" in b.log, "log line")
        at_b.wait_until(more(at_b, 2 * PICTURES_PER_SECOND), "pictures at B without the registry")
        fresh = stack.enter_context(publisher(c, "fresh", "green", tmp_path))
        c.wait_for_publisher("fresh", fresh)
        nats.start()
        b.program.wait_until(lambda: b.log.count("connected to NATS") == 2, "the registry again")
        deadline = time.monotonic() + tools.START_SECONDS
        command = tools.ffmpeg(*OVER_TCP, "-i", b.url("fresh"), "-frames:v", "5", *HASHES)
        while pictures(later := tools.run("reader", command, tmp_path)) < 5:
            # It may take a moment until C has told what it has.
            assert time.monotonic() < deadline, later.describe()
        assert at_b.process.poll() is None

        # A is killed: readers at B stay, and continue when the encoder is back, at C.
        a.program.process.kill()
        first.stop()
        b.program.wait_until(lambda: "node 'a' does not answer any more" in b.log, "notice of the death of A")
        second = stack.enter_context(publisher(c, "cam", "blue", tmp_path))
        c.wait_for_publisher("cam", second)
        at_b.wait_until(more(at_b, 2 * PICTURES_PER_SECOND), "pictures at B after A was killed")
        assert "copies from node 'c'" in b.log
        assert "readers continue with the new publisher" in b.log
        with pytest.raises(AssertionError, match="the server died"):
            stack_of_a.close()


def test_a_node_on_each_core(net: Network, tmp_path: Path) -> None:
    """The commands of the documentation, with their ports; what is published on one node is read on the other."""
    if not net.namespace:
        pytest.skip("the usual ports are free in a network of its own")
    tools.require("ffmpeg")
    commands = next(snippet.text for snippet in snippets_of(PAGE) if "for core in" in snippet.text)
    nats = Nats(tmp_path, net)
    (tmp_path / "polycast.yml").write_text(
        f'cluster: ["nats://127.0.0.1:{nats.port}"]\nclusterToken: a secret\npaths:\n  all_others:\n'
    )
    (tmp_path / "polycast").write_text(f'#!/bin/sh\nexec {" ".join(tools.POLYCAST)} "$@"\n')
    (tmp_path / "polycast").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with contextlib.ExitStack() as stack:
        stack.callback(nats.stop)
        nats.start()
        shell = ["setsid", "sh", "-c", f"trap 'trap - INT; kill -INT -$$; wait' INT\n{commands}"]
        nodes = stack.enter_context(tools.start("nodes", shell, tmp_path, net=net, environment=environment))
        nodes.wait_until(lambda: nodes.output.count("connected to NATS") == 2, "two nodes")
        first = publishing("rtmp://127.0.0.1:1935/cam", "red")
        stack.enter_context(tools.start("publisher", first, tmp_path, net=net))
        nodes.wait_until(lambda: "is publishing to path 'cam'" in nodes.output, "a publisher")
        command = tools.ffmpeg(*OVER_TCP, "-i", "rtsp://127.0.0.1:8654/cam", "-frames:v", "25", *HASHES)
        deadline = time.monotonic() + tools.START_SECONDS
        while pictures(read := tools.run("reader", command, tmp_path, net=net)) < 25:
            # It may take a moment until the second node knows of the first one.
            assert time.monotonic() < deadline, read.describe()
        assert "copies from node" in nodes.output
