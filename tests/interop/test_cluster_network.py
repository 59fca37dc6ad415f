"""Three machines, each with a network of its own, and NATS on a fourth: what readers see when something fails.

The times that `docs/cluster.md` gives are those that this test prints (``pytest -s``) on a machine with nothing else to
do. The limits here are for a busy one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.interop import tools
from tests.interop.test_cluster import HASHES, OVER_TCP, Nats
from tests.interop.tools import Network, Program, Server
from tests.support.preloaded_program import enter

NODES = ("a", "b", "c")
NATS_HOST = "203.0.113.10"
CAMERA = "rtsp://203.0.113.10:18554/camera"
API = "http://127.0.0.1:9997/v3"
CUT_SECONDS = 5.0
PICTURES_PER_SECOND = 25
PATIENCE = 60.0

SETTINGS = """
dialect: polycast
rtspAddress: :8554
rtspTransports: [tcp]
rtspEncryption: "no"
rtmpAddress: :1935
hlsAddress: :8888
hlsSegmentDuration: 500ms
hlsVariant: mpegts
webrtc: no
srt: no
api: yes
cluster: ["nats://203.0.113.10:4222"]
clusterToken: a secret
nodeName: {name}
authInternalUsers:
  - user: any
    permissions: [{action: publish}, {action: read}, {action: api}]
paths:
  camera:
    source: rtsp://203.0.113.10:18554/camera
    publisherGrace: 30s
  all_others:
    publisherGrace: 30s
"""
CAMERA_SETTINGS = """
dialect: polycast
rtspAddress: :18554
rtspTransports: [tcp]
rtspEncryption: "no"
rtmp: no
hls: no
webrtc: no
srt: no
paths:
  all_others:
"""


class Machines:
    """Namespaces whose cables lead to a switch in one more."""

    def __init__(self) -> None:
        self.prefix = f"pc{os.getpid()}-"
        self.networks: dict[str, Network] = {}

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], capture_output=True, check=True, timeout=tools.START_SECONDS)

    def make(self, *addresses: tuple[str, str]) -> None:
        switch = f"{self.prefix}switch"
        self.networks["switch"] = Network(switch)
        self.ip("netns", "add", switch)
        self.ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        self.ip("-n", switch, "link", "set", "bridge", "up")
        for name, address in addresses:
            space = f"{self.prefix}{name}"
            self.networks[name] = Network(space, address)
            self.ip("netns", "add", space)
            self.ip("-n", space, "link", "set", "lo", "up")
            self.ip("-n", space, "link", "add", "cable", "type", "veth", "peer", "name", name, "netns", switch)
            self.ip("-n", space, "address", "add", f"{address}/24", "dev", "cable")
            self.ip("-n", space, "link", "set", "cable", "up")
            self.ip("-n", switch, "link", "set", "dev", name, "master", "bridge", "up")

    def remove(self) -> None:
        for network in self.networks.values():
            subprocess.run(["ip", "netns", "delete", network.namespace], capture_output=True, check=False)

    @contextlib.contextmanager
    def cut(self, name: str) -> Iterator[None]:
        """Pull the cable of a machine at the switch for the length of the block: it notices nothing by itself."""
        self.ip("-n", self.networks["switch"].namespace, "link", "set", "dev", name, "down")
        try:
            yield
        finally:
            self.ip("-n", self.networks["switch"].namespace, "link", "set", "dev", name, "up")


@pytest.fixture
def machines() -> Iterator[Machines]:
    tools.require("ffmpeg")
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("network namespaces need root, ip and nsenter")
    made = Machines()
    try:
        try:
            made.make(("nats", NATS_HOST), *((name, f"203.0.113.{n}") for n, name in enumerate(NODES, 1)))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode(errors='replace').strip()}")
        yield made
    finally:
        made.remove()


class Pictures:
    """Notes when a program printed a line for a picture."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.times: list[float] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self.program.output_file.open() as output:
            while not self._is_over.wait(0.01):
                while (line := output.readline()).endswith("\n"):
                    if not line.startswith("#"):
                        self.times.append(time.monotonic())
                output.seek(output.tell() - len(line))

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def wait(self, count: int, what: str) -> None:
        """Wait for more pictures."""
        target = len(self.times) + count
        self.program.wait_until(lambda: len(self.times) >= target, what, PATIENCE)

    def wait_for_one_after(self, moment: float, what: str) -> float:
        """Return how many seconds after a moment the next picture came."""
        self.program.wait_until(lambda: bool(self.times) and self.times[-1] > moment, what, PATIENCE)
        return next(each for each in self.times if each > moment) - moment

    def longest_pause(self, since: float) -> float:
        times = [since, *(each for each in self.times if each > since)]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


class Cluster:
    """The servers and programs of one test."""

    def __init__(self, machines: Machines, folder: Path, stack: contextlib.ExitStack) -> None:
        self.machines = machines
        self.folder = folder
        self.stack = stack
        self.servers: dict[str, Server] = {}
        self.programs: list[Program] = []

    def run(self, name: str, command: Sequence[str | Path], folder: Path, place: str) -> Program:
        environment = {"PYTHONPATH": str(tools.ROOT / "src"), "PYTHONUNBUFFERED": "1"}
        network = self.machines.networks[place]
        program = self.stack.enter_context(tools.start(name, command, folder, net=network, environment=environment))
        self.programs.append(program)
        return program

    def stop(self) -> None:
        """End all programs at the same time; no server may have failed inside."""
        for program in self.programs:
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGINT)
        for program in self.programs:
            program.wait()
        for server in self.servers.values():
            assert "Traceback" not in server.log, server.log[-5000:]

    def start(self, name: str, settings: str, place: str) -> Server:
        folder = self.folder / name
        folder.mkdir()
        (folder / "server.yml").write_text(settings)
        command = [*tools.POLYCAST, "server.yml"]
        program = self.run(name, command, folder, place)
        server = self.servers[name] = Server(program, self.machines.networks[place], 8554, 0, folder)
        return server

    def start_node(self, name: str) -> Server:
        return self.start(name, SETTINGS.replace("{name}", name), name)

    def publish(self, place: str, url: str, form: str) -> Program:
        picture = f"testsrc2=size=160x120:rate={PICTURES_PER_SECOND}"
        encoder = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "12", "-pix_fmt", "yuv420p")
        command = tools.quick_ffmpeg(
            "-re", "-f", "lavfi", "-i", picture, *encoder, "-f", form, *self._over_tcp(url), url
        )
        return self.run(f"publisher-{place}", command, self.folder, place)

    def read(self, place: str, url: str) -> Pictures:
        command = tools.ffmpeg(*self._over_tcp(url), "-i", url, *HASHES)
        pictures = Pictures(self.run(f"reader-{place}", command, self.folder, place))
        self.stack.callback(pictures.stop)
        return pictures

    @staticmethod
    def _over_tcp(url: str) -> tuple[str, ...]:
        return OVER_TCP if url.startswith("rtsp:") else ()

    def wait_for(self, name: str, line: str, count: int = 1) -> None:
        server = self.servers[name]
        server.program.wait_until(lambda: server.log.count(line) >= count, line, PATIENCE)

    def ask(self, place: str, method: str, path: str) -> str:
        """Ask from the network of a machine, which only a thread of its own enters."""
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(ask_within, self.machines.networks[place].namespace, method, path).result()

    def wait_for_owner(self, place: str, path: str, *, but: str = "") -> None:
        """Wait until a node knows of another one than ``but`` that it publishes a path."""
        deadline = time.monotonic() + PATIENCE
        owners = {but}
        while owners in ({but}, set()):
            assert time.monotonic() < deadline, f"nobody publishes {path}"
            items = json.loads(self.ask(place, "GET", "/nodes/paths"))["items"]
            owners = {item["node"] for item in items if item["name"] == path}
            time.sleep(0.1)


def ask_within(namespace: str, method: str, path: str) -> str:
    enter(namespace)
    with urllib.request.urlopen(urllib.request.Request(API + path, method=method), timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


def report(what: str, seconds: float) -> None:
    print(f"{what}: {seconds:.1f} s")


def test_what_readers_see_when_something_fails(machines: Machines, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        nats = Nats(tmp_path, machines.networks["nats"])
        nats.start()
        stack.callback(nats.stop)
        cluster = Cluster(machines, tmp_path, stack)
        cluster.start("camera", CAMERA_SETTINGS, "nats")
        cluster.wait_for("camera", "listener opened")
        cluster.publish("nats", CAMERA, "rtsp")
        a, b, c = (cluster.start_node(name) for name in NODES)
        for name in NODES:
            cluster.wait_for(name, "connected to NATS")

        # Published at A over RTMP, read at B over RTSP and at C over HLS.
        first = cluster.publish("a", "rtmp://127.0.0.1/cam", "flv")
        cluster.wait_for("a", "is publishing to path 'cam'")
        for place in ("b", "c"):
            cluster.wait_for_owner(place, "cam")
        at_b = cluster.read("b", "rtsp://127.0.0.1:8554/cam")
        at_c = cluster.read("c", "http://127.0.0.1:8888/cam/index.m3u8")
        at_b.wait(PICTURES_PER_SECOND, "pictures at B")
        at_c.wait(PICTURES_PER_SECOND, "pictures at C")

        # The network of B is cut: its readers stay, and get pictures again when the cable is back.
        start = time.monotonic()
        with machines.cut("b"):
            at_b.program.wait_until(lambda: time.monotonic() > start + CUT_SECONDS, "end of the cut")
        mended = time.monotonic()
        report("B is cut for 5 s: pictures at B again after the cable", at_b.wait_for_one_after(mended, "pictures"))
        at_b.wait(PICTURES_PER_SECOND, "pictures at B after the cut")
        report("B is cut for 5 s: longest pause at B", at_b.longest_pause(start))
        report("B is cut for 5 s: longest pause at C", at_c.longest_pause(start))
        assert at_b.longest_pause(start) > CUT_SECONDS - 1, "the cable was not cut"
        assert at_c.longest_pause(start) < CUT_SECONDS - 1
        cluster.wait_for("b", "connected to NATS", b.log.count("the connection to NATS is lost") + 1)

        # NATS is restarted: nobody notices.
        start = time.monotonic()
        nats.stop()
        cluster.wait_for("c", "the connection to NATS is lost", 1)
        at_b.wait(PICTURES_PER_SECOND, "pictures at B without NATS")
        at_c.wait(PICTURES_PER_SECOND, "pictures at C without NATS")
        nats.start()
        for server in (a, b, c):
            away = server.log.count("the connection to NATS is lost")
            cluster.wait_for(server.folder.name, "connected to NATS", away + 1)
        report("NATS is restarted: longest pause at B", at_b.longest_pause(start))

        # A is killed, and its encoder goes to C: the readers stay.
        dead = "node 'a' does not answer any more"
        before = b.log.count(dead)
        start = time.monotonic()
        a.program.process.kill()
        first.stop()
        cluster.publish("c", "rtmp://127.0.0.1/cam", "flv")
        cluster.wait_for("c", "is publishing to path 'cam'")
        published = time.monotonic()
        report("A is killed: pictures at B after the encoder is at C", at_b.wait_for_one_after(published, "pictures"))
        at_b.wait(PICTURES_PER_SECOND, "pictures at B from C")
        at_c.wait(PICTURES_PER_SECOND, "pictures at C after A was killed")
        cluster.wait_for("b", dead, before + 1)
        report("A is killed: B knows", time.monotonic() - start)

        # C is drained: its publisher and readers stay, others are refused, and its source moves.
        cluster.wait_for_owner("b", "camera", but="a")
        of_camera = cluster.read("b", "rtsp://127.0.0.1:8554/camera")
        of_camera.wait(PICTURES_PER_SECOND, "pictures of the camera")
        start = time.monotonic()
        cluster.ask("b", "POST", "/nodes/drain/c")
        cluster.wait_for("c", "draining: no new publishers and sources")
        refused = cluster.publish("c", "rtmp://127.0.0.1/another", "flv")
        refused.wait()
        cluster.wait_for("c", "the server is going to be stopped")
        at_b.wait(PICTURES_PER_SECOND, "pictures at B from C that is draining")
        at_c.wait(PICTURES_PER_SECOND, "pictures at C that is draining")
        of_camera.wait(PICTURES_PER_SECOND, "pictures of the camera")
        report("C is drained: longest pause of the camera at B", of_camera.longest_pause(start))
        report("C is drained: longest pause at B", at_b.longest_pause(start))
        for reader in (at_b, at_c, of_camera):
            assert reader.program.process.poll() is None, reader.program.describe()
        cluster.stop()
