"""Helpers to run the server and real media programs against it, with time limits and their output kept."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.ports import free_media_port
from tests.support.ports import free_port as free_port
from tests.support.preloaded import Process, start_server
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent.parent

POLYCAST = (sys.executable, "-m", "polycast")
"""The server's command; `start` has it started by `tests.support.preloaded`."""

SYSTEM_PYTHON = "/usr/bin/python3"
"""Debian's packages with GStreamer's bindings are for the system's Python."""

START_SECONDS = 2 * PATIENCE
RUN_SECONDS = 2 * PATIENCE
"""A program that should end by itself and has not by then hangs."""
STOP_SECONDS = 15.0
POLL_SECONDS = 0.02
SLOWEST_POLL_SECONDS = 0.1
POLLS_PER_WAIT = 20
"""Who has waited for long may wait a little longer: to look 50 times a second costs a processor's time."""


def require(program: str) -> None:
    """Skip the test when ``program`` is not installed; where every tool must be there (CI), fail."""
    if shutil.which(program) is None:
        _miss(f"{program} is not installed")


def _miss(message: str) -> None:
    if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
        pytest.fail(message)
    pytest.skip(message)


def require_system_python(*modules: str) -> None:
    """Skip or fail as `require` does, where the system's own Python has not these modules."""
    code = "; ".join(f"import {module}" for module in modules)
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", code], capture_output=True, check=False).returncode == 0
    except OSError:
        found = False
    if not found:
        _miss(f"{SYSTEM_PYTHON} has no {' and '.join(modules)}")


def current_ffmpeg() -> str:
    """Return a current FFmpeg, which speaks Enhanced RTMP: of the package ``imageio-ffmpeg``, or the one named by
    ``POLYCAST_CURRENT_FFMPEG``; skip the test when there is none."""
    path = os.environ.get("POLYCAST_CURRENT_FFMPEG")
    if path is None and importlib.util.find_spec("imageio_ffmpeg") is not None:
        path = str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    if path is None:
        require("the program of the package imageio-ffmpeg")
    assert path is not None
    return path


@dataclass(frozen=True)
class Network:
    """Where programs run: a namespace with multicast on its loopback interface, or the machine's own network."""

    namespace: str = ""
    host: str = "127.0.0.1"
    """Address at which programs of a `neighbour` reach it."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """What begins the command line of a program that is to run there."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}") if self.namespace else ()

    @property
    def has_multicast(self) -> bool:
        """Whether multicast reaches from one program to another."""
        return bool(self.namespace)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a network namespace (root only), so that multicast works and ports are ours; else use the machine's."""
    name = f"polycast-test-{os.getpid()}"
    ip = shutil.which("ip")
    if os.geteuid() != 0 or ip is None or shutil.which("nsenter") is None:
        yield Network()
        return
    if Path("/run/netns", name).exists():  # of a process that was killed, and had our number
        subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)
    if subprocess.run([ip, "netns", "add", name], capture_output=True, check=False).returncode != 0:
        yield Network()
        return
    try:
        for command in (
            ["link", "set", "lo", "up", "multicast", "on"],
            ["route", "add", "224.0.0.0/4", "dev", "lo", "src", "127.0.0.1"],
        ):
            subprocess.run([ip, "-n", name, *command], capture_output=True, check=True)
        yield Network(name)
    finally:
        subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)


@contextlib.contextmanager
def neighbour(net: Network) -> Iterator[Network]:
    """Make another namespace, connected with ``net`` by a cable on which multicast works; ``net`` where it is none."""
    if not net.namespace:
        yield net
        return
    name, ours, theirs = f"{net.namespace}-2", "198.51.100.1", "198.51.100.2"
    try:
        for command in (
            ["netns", "add", name],
            ["-n", net.namespace, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", name],
            ["-n", net.namespace, "address", "add", f"{ours}/24", "dev", "cable"],
            ["-n", name, "address", "add", f"{theirs}/24", "dev", "cable"],
            ["-n", net.namespace, "link", "set", "cable", "up"],
            ["-n", name, "link", "set", "cable", "up"],
            ["-n", name, "link", "set", "lo", "up"],
            ["-n", name, "route", "add", "224.0.0.0/4", "dev", "cable"],
        ):
            subprocess.run(["ip", *command], capture_output=True, check=True)
        yield Network(name, theirs)
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@dataclass
class Program:
    """A running program; its standard output and error go to files."""

    name: str
    process: subprocess.Popen[bytes] | Process
    output_file: Path
    error_file: Path

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.output_file.read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self.error_file.read_text(errors="replace")

    def describe(self) -> str:
        """Return the command line, the exit status and the end of the output, for a failure message."""
        return (
            f"{self.name}: {' '.join(map(str, self.process.args))}\n"  # type: ignore[arg-type]
            f"exit status {self.process.poll()}\n--- output\n{self.output[-3000:]}\n--- errors\n{self.errors[-3000:]}"
        )

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Wait until ``condition`` holds; fail when the program ends or the time runs out first."""
        start = time.monotonic()
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"{self.name} ended before {what}\n{self.describe()}")
            waited = time.monotonic() - start
            if waited > seconds:
                pytest.fail(f"{self.name}: no {what} within {seconds} s\n{self.describe()}")
            time.sleep(min(max(POLL_SECONDS, waited / POLLS_PER_WAIT), SLOWEST_POLL_SECONDS))

    def wait(self, seconds: float = RUN_SECONDS) -> bool:
        """Wait for the end; return whether it came in time."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, signals: Sequence[int] = (signal.SIGINT, signal.SIGKILL)) -> None:
        """End the program, politely first."""
        for number in signals:
            if self.process.poll() is not None:
                return
            self.process.send_signal(number)
            if self.wait(STOP_SECONDS):
                return


_count = 0


@contextlib.contextmanager
def start(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    net: Network = Network(),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """Run a program for the length of the block; output goes to files in ``folder``."""
    global _count
    _count += 1
    output, errors = folder / f"{_count:03}-{name}.out", folder / f"{_count:03}-{name}.err"
    arguments = [str(each) for each in command]
    env = {**os.environ, **(environment or {})}
    process: subprocess.Popen[bytes] | Process
    with output.open("wb") as output_file, errors.open("wb") as error_file:
        if tuple(arguments[:3]) == POLYCAST:
            process = start_server(
                arguments[3:], stdout=output_file, stderr=error_file, cwd=folder, env=env, namespace=net.namespace
            )
        else:
            process = subprocess.Popen(
                [*net.prefix, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output_file,
                stderr=error_file,
                cwd=folder,
                env=env,
            )
    program = Program(name, process, output, errors)
    try:
        yield program
    finally:
        program.stop()


def run(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    seconds: float = RUN_SECONDS,
    net: Network = Network(),
) -> Program:
    """Run a program to its end; one that takes longer than ``seconds`` is killed, so its exit status is not 0."""
    with start(name, command, folder, net=net) as program:
        if not program.wait(seconds):
            program.process.kill()
            program.process.wait()
    return program


@dataclass
class Server:
    """A running server and its addresses."""

    program: Program
    net: Network
    port: int
    tls_port: int
    folder: Path
    rtmp_port: int = 0
    rtmps_port: int = 0
    """0 where RTMP is off, as is `rtmp_port`."""
    hls_port: int = 0
    """0 where HLS is off."""

    def url(self, path: str, *, tls: bool = False, user: str = "") -> str:
        """Return the RTSP address of ``path``, with ``user`` (``name:password``) where one is given."""
        scheme, port = ("rtsps", self.tls_port) if tls else ("rtsp", self.port)
        return f"{scheme}://{user}{'@' if user else ''}127.0.0.1:{port}/{path}"

    def rtmp_url(self, path: str, *, tls: bool = False) -> str:
        """Return the RTMP address of ``path``."""
        return f"rtmps://127.0.0.1:{self.rtmps_port}/{path}" if tls else f"rtmp://127.0.0.1:{self.rtmp_port}/{path}"

    @property
    def trust(self) -> dict[str, str]:
        """Environment of programs that shall trust the server's certificate."""
        return {"SSL_CERT_FILE": str(self.folder / "ca.crt")}

    @property
    def log(self) -> str:
        """Everything that the server has printed."""
        return self.program.output + self.program.errors

    def wait_for_publisher(self, path: str, publisher: Program) -> None:
        """Wait until the log says that ``path`` is being published."""
        line = f"is publishing to path '{path}'"
        publisher.wait_until(lambda: line in self.log, f"log line of the server: {line}\n{self.log[-2000:]}")


def make_certificate(folder: Path) -> None:
    """Write ``server.key`` and ``server.crt`` for 127.0.0.1, and ``ca.crt``, which vouches for them."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.crt")
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")


WORKERS = int(os.environ.get("POLYCAST_INTEROP_WORKERS", "1"))
"""Of each server: with more than one, most readers are at another worker than the publisher."""

DIALECTS = ("rtsp-simple-server", "mediamtx")
"""The servers whose configuration `run_server` can write."""


def dialect_of(name: str) -> str:
    """Return the dialect in which something with this name is tested: always the same one, of half of them."""
    return DIALECTS[zlib.crc32(name.encode()) % len(DIALECTS)]


_RENAMED = {
    "encryption": "rtspEncryption",
    "rtmpDisable: yes": "rtmp: no",
    "hlsDisable: yes": "hls: no",
    "  all:": "  all_others:",
}
"""What MediaMTX calls settings that `run_server` writes."""


def _in_words_of_mediamtx(configuration: str) -> str:
    for old, new in _RENAMED.items():
        configuration = re.sub(rf"^{old}(?=:|$)", new, configuration, flags=re.MULTILINE)
    srtp, multicast = free_media_port(WORKERS), free_port()
    more = {
        **dict.fromkeys(("webrtc", "srt", "moq"), "no"),
        "srtpAddress": f'":{srtp}"',
        "srtcpAddress": f'":{srtp + 1}"',
        "multicastSRTPPort": multicast,
        "multicastSRTCPPort": multicast + 1,
    }
    return configuration + "".join(
        f"\n{key}: {value}" for key, value in more.items() if f"\n{key}:" not in configuration
    )


@contextlib.contextmanager
def run_server(
    folder: Path,
    settings: str = "paths:\n  all:\n",
    *,
    net: Network = Network(),
    command: Sequence[str | Path] = POLYCAST,
    rtmp: bool = False,
    hls: str = "",
    dialect: str = DIALECTS[0],
) -> Iterator[Server]:
    """Run the server on free ports, RTSP and RTSPS (and RTMP and RTMPS when ``rtmp``), until the block ends.

    ``hls`` is the variant of HLS that it serves from the start; lowLatency is served over HTTPS.

    ``settings`` is the rest of the configuration (YAML); ``{port}`` in it stands for the RTSP port. ``dialect`` is the
    one of the file; the settings that are written here, and the path ``all``, are translated.

    It listens on all addresses of the namespace, or on 127.0.0.1 where there is none.
    """
    if not (folder / "server.crt").exists():
        make_certificate(folder)
    port, tls_port, rtp = free_port(), free_port(), free_media_port(WORKERS)
    rtmp_port, rtmps_port = (free_port(), free_port()) if rtmp else (0, 0)
    multicast_rtp = free_port()
    host = "" if net.prefix else "127.0.0.1"
    rtmp_settings = "rtmpDisable: yes\n"
    if rtmp:
        rtmp_settings = (
            f'rtmpAddress: "{host}:{rtmp_port}"\nrtmpsAddress: "{host}:{rtmps_port}"\nrtmpEncryption: "optional"\n'
            "rtmpServerKey: server.key\nrtmpServerCert: server.crt\n"
        )
    hls_port = free_port() if hls else 0
    hls_settings = "hlsDisable: yes\n"
    if hls:
        hls_settings = f'hlsAddress: "{host}:{hls_port}"\nhlsVariant: {hls}\nhlsAlwaysRemux: yes\n'
    if hls == "lowLatency":
        hls_settings += "hlsEncryption: yes\nhlsServerKey: server.key\nhlsServerCert: server.crt\n"
    configuration = folder / f"{dialect}.yml"
    text = (
        f'rtspAddress: "{host}:{port}"\nrtspsAddress: "{host}:{tls_port}"\nencryption: "optional"\n'
        f'rtpAddress: "{host}:{rtp}"\nrtcpAddress: "{host}:{rtp + 1}"\n'
        f"multicastRTPPort: {multicast_rtp}\nmulticastRTCPPort: {multicast_rtp + 1}\n"
        f"{rtmp_settings}{hls_settings}{settings.replace('{port}', str(port))}"
    )
    if WORKERS > 1:
        # With a command for each connection, clients stay at the worker that has accepted them: streams are copied.
        text = f'workers: {WORKERS}\nrunOnDisconnect: "true"\n{text}'
    configuration.write_text(_in_words_of_mediamtx(text) if dialect == "mediamtx" else text)
    environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    with start("server", [*command, configuration], folder, net=net, environment=environment) as program:
        server = Server(program, net, port, tls_port, folder, rtmp_port, rtmps_port, hls_port)
        listeners = ((4 if rtmp else 2) + bool(hls)) * WORKERS
        program.wait_until(lambda: server.log.count("listener opened on") >= listeners, "open listeners")
        yield server
        assert program.process.poll() is None, f"the server died\n{program.describe()}"
    assert "Traceback" not in server.log, server.log[-5000:]


def ffmpeg(*arguments: str | Path) -> list[str | Path]:
    """Return an FFmpeg command line."""
    return ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "warning", "-y", *arguments]


@functools.cache
def quick_program() -> str:
    """Return the FFmpeg that starts fastest.

    That of the package ``imageio-ffmpeg``, linked statically, takes 15 ms of a processor, Debian's, with its 200
    libraries, 80 ms.
    """
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return "ffmpeg"
    return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())


def quick_ffmpeg(*arguments: str | Path) -> list[str | Path]:
    """Return a command line of `quick_program`, for what a test needs FFmpeg for without being about FFmpeg: files are
    made and looked at, a path gets a publisher."""
    return [quick_program(), *ffmpeg(*arguments)[1:]]


def gstreamer(*pipeline: str | Path) -> list[str | Path]:
    """Return a GStreamer command line."""
    return ["gst-launch-1.0", "-e", "-q", *pipeline]


LONGEST_GROUP = 15
"""Pictures from one key frame to the next in what is published for `h264_to_file`."""


def h264_to_file(output: Path, pictures: int) -> list[str | Path]:
    """Return GStreamer's elements that write at least so many pictures of H264 from a key frame on, and end;
    `count_pictures` decodes them.

    GStreamer's decoder would load all libraries of Debian's FFmpeg, for 80 ms of a processor.
    """
    return ["h264parse", "!", "video/x-h264,stream-format=byte-stream,alignment=au", "!", "identity",
            f"eos-after={pictures + LONGEST_GROUP + 1}", "!", "filesink", f"location={output}"]  # fmt: skip


def count_pictures(file: Path, folder: Path) -> int:
    """Return how many pictures FFmpeg decodes from a file, which need not be there."""
    if not file.exists():
        return 0
    hashes = folder / f"{file.name}-pictures.md5"
    run("count", quick_ffmpeg("-i", file, "-map", "0:v", "-f", "framemd5", hashes), folder)
    return len(read_framemd5(hashes.read_text())) if hashes.exists() else 0


def rtspsrc(url: str, protocols: str) -> list[str]:
    """Return GStreamer's element that reads from ``url`` over RTSP."""
    # It would interrupt its own TEARDOWN after 0.1 s, and call that a failure: here it may take 20 s (in nanoseconds).
    return ["rtspsrc", f"location={url}", f"protocols={protocols}", "teardown-timeout=20000000000"]


def has_interrupted_its_pause(program: Program) -> bool:
    """Whether GStreamer says that it failed although it had all that it wanted: if it is about to close the connection
    before it has sent its own PAUSE, it interrupts that, and calls it a failure."""
    return "gst_rtspsrc_pause ()" in program.errors and any(
        text in program.errors for text in ("Received end-of-file", "Could not send message")
    )


VLC_ENVIRONMENT = {"HOME": "/tmp", "SUDO_UID": "65534", "SUDO_GID": "65534"}


def vlc(*arguments: str | Path) -> list[str | Path]:
    """Return a VLC command line. VLC refuses to be root; its wrapper becomes the user ``SUDO_UID``."""
    program: list[str | Path] = ["vlc"]
    if os.geteuid() == 0:
        program = ["env", *(f"{name}={value}" for name, value in VLC_ENVIRONMENT.items()), "vlc-wrapper"]
    return [*program, "-I", "dummy", "--no-dbus", *arguments]


def vlc_has_rtsp(folder: Path) -> bool:
    """Return whether this VLC can read RTSP: that needs its live555 module, which Debian leaves out since 2021."""
    listing = run("vlc-list", vlc("--list"), folder)
    return "live555" in listing.output + listing.errors


@dataclass(frozen=True)
class HashedPacket:
    """One line of FFmpeg's ``framemd5`` format; times in seconds."""

    stream: int
    pts: float
    size: int
    digest: str
    dts: float = 0.0


def read_framemd5(text: str) -> list[HashedPacket]:
    """Parse the output of ``-f framemd5``; an unfinished last line is left out."""
    time_bases: dict[int, float] = {}
    packets = []
    for line in text.splitlines(keepends=True):
        if line.startswith("#tb "):
            stream, _, ratio = line[4:].partition(":")
            numerator, _, denominator = ratio.strip().partition("/")
            time_bases[int(stream)] = int(numerator) / int(denominator)
        elif line.endswith("\n") and not line.startswith("#"):
            fields = [part.strip() for part in line.split(",")]
            stream_index = int(fields[0])
            packets.append(
                HashedPacket(
                    stream_index,
                    int(fields[2]) * time_bases[stream_index],
                    int(fields[4]),
                    fields[5],
                    int(fields[1]) * time_bases[stream_index],
                )
            )
    return packets


SETTLING_PACKETS = 10
"""FFmpeg has no time for the frames of the first RTP packet and guesses; AAC has several frames in one."""


def compare_packets(
    published: Sequence[HashedPacket], received: Sequence[HashedPacket], *, least: int, tolerance: float = 0.001
) -> None:
    """Assert that what was received is a run of what was published: the same packets, the same steps in time.

    Both are aligned at the first packet received that was published; what precedes it (a reader may come in the middle
    of a frame) is at most 3 packets. Times are compared after `SETTLING_PACKETS`; ``tolerance`` is in seconds, for the
    rounding of clock rates.
    """
    digests = [packet.digest for packet in published]
    skipped = next((index for index, packet in enumerate(received) if packet.digest in set(digests)), None)
    assert skipped is not None, f"none of {len(received)} packets received is among the {len(published)} published"
    assert skipped <= 3, f"{skipped} packets came that nobody published"
    run_received = received[skipped:]
    assert len(run_received) >= least, f"only {len(run_received)} packets"
    starts = [index for index, digest in enumerate(digests) if digest == run_received[0].digest]
    lengths = {start: common_length(digests[start:], [packet.digest for packet in run_received]) for start in starts}
    best = max(lengths, key=lambda start: lengths[start])
    equal = lengths[best]
    available = min(len(run_received), len(digests) - best)
    assert equal == available, (
        f"packet {equal} of {available} differs: published {published[best + equal]}, received {run_received[equal]}"
    )
    assert equal >= least, f"only {equal} packets in common"
    first = SETTLING_PACKETS
    for index in range(first, equal):
        step_published = published[best + index].pts - published[best + first].pts
        step_received = run_received[index].pts - run_received[first].pts
        assert abs(step_published - step_received) <= tolerance, (
            f"packet {index} comes {step_received:.4f} s after packet {first}, published {step_published:.4f} s"
        )


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many elements two sequences have in common from their start."""
    return next((index for index, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))  # noqa: B905
