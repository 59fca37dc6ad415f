"""MPEG-TS that programs send to the server: over UDP, by multicast, and through a Unix socket."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import pytest
from tests.control.support import Server, running
from tests.interop import tools
from tests.protocols.sources.test_supervision import Frames
from tests.protocols.srt.support import TRACKS, audio_frame, video_frame
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

import polycast
from polycast.config import from_mapping
from polycast.errors import ConfigurationError
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.net import multicast
from polycast.protocols.udp import input as input_module
from polycast.wire.mpegts.muxer import Muxer

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}
GROUP = "239.255.88.7"
GROUP6 = "ff11::8:7"


class Sender:
    """Sends a transport stream in datagrams."""

    def __init__(self, host: str, port: int, local: str = "") -> None:
        is_ipv6 = ":" in host
        self._socket = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        if is_ipv6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("lo"))
        elif host == GROUP:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(local or "127.0.0.1"))
        if local:
            self._socket.bind((local, 0))
        self._target = (host, port)
        self._muxer = Muxer(TRACKS)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes, size: int = 1316) -> None:
        for start in range(0, len(data), size):
            self._socket.sendto(data[start : start + size], self._target)

    def media(self, first: int, count: int) -> bytes:
        """Return some frames, the first one a key frame."""
        parts = [self._muxer.tables()]
        for number in range(first, first + count):
            for index, frame in ((0, video_frame(number, key=number == first)), (1, audio_frame(number))):
                when = rescale(frame.pts, TRACKS[index].clock_rate, 90_000)
                parts.append(self._muxer.write_frame(index, frame, when, when))
        return b"".join(parts)


def serving(source: str, **values: Any) -> Any:
    settings = values.pop("path", {})
    return running(paths={"cam": {"source": source, **QUICK, **settings}}, **values)


def counters(app: Server) -> Any:
    source = app.app.hub.paths["cam"].source
    assert source is not None
    return source.counters  # type: ignore[attr-defined]


async def opened(app: Server, port: int) -> None:
    """Wait until a UDP port is open on any address."""
    shown = f":{port:04X} "
    await app.until(lambda: any(shown in FilePath(f"/proc/self/net/{name}").read_text() for name in ("udp", "udp6")))


async def ready(app: Server, send: Callable[[], None]) -> Any:
    """Send until the path has a stream."""
    path = app.app.hub.paths["cam"]
    while path.stream is None:
        assert not app.log.find("internal error")
        send()
        await asyncio.sleep(0.01)
    return path


async def check_frames(app: Server, sender: Sender, size: int = 1316) -> None:
    """Assert that frames arrive as they were sent."""
    path = await ready(app, lambda: sender.send(sender.media(0, 3)))
    frames = Frames()
    path.attach_reader(frames, path.stream)
    sender.send(sender.media(100, 12), size)

    def sent() -> list[Frame]:
        found = [frame for index, frame in frames.frames if index == 0]
        first = next((place for place, frame in enumerate(found) if frame.units[-1][-3:-1] == b"\0\x64"), None)
        return [] if first is None else found[first:]

    await app.until(lambda: len(sent()) >= 10)
    expected = [video_frame(number, key=number == 100) for number in range(100, 110)]
    assert [frame.units[-1] for frame in sent()[:10]] == [frame.units[-1] for frame in expected]
    assert [frame.key for frame in sent()[:10]] == [True] + [False] * 9
    times = [frame.dts for frame in sent()[:10]]
    assert [time - times[0] for time in times] == [3600 * number for number in range(10)]


@pytest.mark.parametrize("scheme", ["udp+mpegts", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", ""])
async def test_frames_arrive_as_they_were_sent(scheme: str, host: str) -> None:
    port = free_port()
    async with serving(f"{scheme}://{host}:{port}") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port) as sender:
            await check_frames(app, sender)
        assert app.log.find(r"\[mpegts source\] ready: 2 tracks \(H264, AAC\)")
        assert (await app.get("/v3/paths/get/cam"))["source"] == {"type": "mpegtsSource", "id": ""}
        assert counters(app).bytes_received > 1316
        assert counters(app).packets_received > 1


@pytest.mark.parametrize("size", [100, 188, 1000, 9000])
async def test_transport_packets_may_be_split_over_datagrams(size: int) -> None:
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port) as sender:
            await check_frames(app, sender, size)


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
async def test_only_the_configured_sender_is_accepted(host: str) -> None:
    port = free_port()
    async with serving(f"udp+mpegts://{host}:{port}?source=127.0.0.2") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port, "127.0.0.3") as other, Sender("127.0.0.1", port, "127.0.0.2") as sender:
            other.send(other.media(0, 50))
            await ready(app, lambda: sender.send(b"\x47" + bytes(187) + sender.media(0, 3)))
            received = counters(app).packets_received
            other.send(b"foreign" * 100)
            await check_frames(app, sender)
            assert app.app.hub.paths["cam"].stream is not None
            assert counters(app).packets_received > received
            assert counters(app).packets_invalid == 0


@pytest.mark.parametrize("group", [GROUP, f"[{GROUP6}]"])
async def test_multicast(group: str) -> None:
    port = free_port()
    async with serving(f"udp+mpegts://{group}:{port}?interface=lo") as app:
        await opened(app, port)
        with Sender(group.strip("[]"), port) as sender:
            try:
                sender.send(b"x")
            except OSError as error:
                pytest.skip(f"this machine has no such multicast: {error}")
            await check_frames(app, sender)


async def test_source_specific_multicast() -> None:
    port = free_port()
    async with serving(f"udp+mpegts://{GROUP}:{port}?interface=lo&source=127.0.0.2") as app:
        await opened(app, port)
        # The membership itself names the source: include 1, exclude 0 (proc(5), /proc/net/mcfilter).
        lines = [line.split() for line in FilePath("/proc/self/net/mcfilter").read_text().splitlines()]
        assert [line[3:] for line in lines if line[2] == "0xefff5807"] == [["0x7f000002", "1", "0"]]
        with Sender(GROUP, port, "127.0.0.3") as other, Sender(GROUP, port, "127.0.0.2") as sender:
            other.send(other.media(0, 50))
            await check_frames(app, sender)
            received = counters(app).packets_received
            other.send(other.media(0, 50))
            sender.send(sender.media(200, 1), 100_000 // 188 * 188)
            await app.until(lambda: counters(app).packets_received > received)
            assert counters(app).packets_received == received + 1


async def test_two_paths_may_receive_the_same_group() -> None:
    port = free_port()
    source = f"udp+mpegts://{GROUP}:{port}?interface=lo"
    paths = {name: {"source": source, **QUICK} for name in ("cam", "other")}
    async with running(paths=paths) as app:
        await opened(app, port)
        with Sender(GROUP, port) as sender:
            await ready(app, lambda: sender.send(sender.media(0, 3)))
            await app.until(lambda: app.app.hub.paths["other"].stream is not None)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("?interface=nothing0", "there is no network interface 'nothing0'"),
        ("?interface=lo&source=::1", "the source ::1 is of another version of IP"),
    ],
)
async def test_a_group_that_cannot_be_joined(query: str, error: str) -> None:
    async with serving(f"udp+mpegts://{GROUP}:{free_port()}{query}") as app:
        await app.log.wait(f"failed: .*{error}")


async def test_a_group_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(19, "No such device")

    monkeypatch.setattr(multicast, "_join", fail)
    async with serving(f"udp+mpegts://{GROUP}:{free_port()}") as app:
        await app.log.wait(
            f"failed: the multicast group {GROUP} cannot be joined: No such device; name the network interface with "
        )


async def test_a_port_that_is_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        async with serving(f"udp+mpegts://127.0.0.1:{taken.getsockname()[1]}") as app:
            await app.log.wait("failed: listen on 127.0.0.1:.*the port is in use by another program")


async def test_a_host_that_does_not_exist() -> None:
    async with serving(f"udp+mpegts://a..b:{free_port()}") as app:
        await app.log.wait("failed: 'a..b' is no host: ")


async def test_a_silent_sender_ends_the_attempt() -> None:
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}", readTimeout="1s") as app:
        await app.log.wait(r"\[mpegts source\] .*failed: no data received for 1 s")
        with Sender("127.0.0.1", port) as sender:
            for _ in range(2):
                await ready(app, lambda: sender.send(sender.media(0, 3)))
                await app.until(lambda: app.app.hub.paths["cam"].stream is None)


async def test_no_supported_track(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.protocols.transport_ingest.ANALYSIS_SECONDS", 0.2)
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port) as sender:
            while not app.log.find("failed: the stream doesn't contain any supported codec"):
                sender.send((b"\x47\x1f\xff\x10" + bytes(184)) * 7)
                await asyncio.sleep(0.01)


async def test_hostile_datagrams() -> None:
    """Garbage of all sizes is skipped, and what follows is received."""
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port) as sender:
            await ready(app, lambda: sender.send(sender.media(0, 3)))
            for size in (0, 1, 187, 188, 1316, 65_507):
                sender._socket.sendto(b"", sender._target)
                sender._socket.sendto(bytes(range(256)) * (size // 256) + b"\x47" * (size % 256), sender._target)
            sender.send(sender.media(50, 50))
            await check_frames(app, sender)


async def test_losses_are_those_of_the_path() -> None:
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}") as app:
        await opened(app, port)
        with Sender("127.0.0.1", port) as sender:
            path = await ready(app, lambda: sender.send(sender.media(0, 3)))
            assert (await app.get("/v1/paths/get/cam"))["packetsLost"] == 0
            whole = sender.media(100, 12)
            # The first packets are those of the tables; the picture after the key frame is in one packet.
            starts = range(0, len(whole), 188)
            pids = [(whole[start + 1] & 0x1F) << 8 | whole[start + 2] for start in starts]
            lost = [start for start, pid in zip(starts, pids, strict=True) if pid == pids[2]][3]
            sender.send(whole[:lost] + whole[lost + 188 :])
            await app.until(lambda: path.stream.tracks[0].counters.lost)
        shown = await app.get("/v1/paths/get/cam")
        assert shown["packetsLost"] == 1
        assert [track["packetsLost"] for track in shown["trackDetails"]] == [1, 0]


async def test_on_demand() -> None:
    port = free_port()
    settings = {"sourceOnDemand": True, "sourceOnDemandCloseAfter": "50ms", "sourceOnDemandStartTimeout": "30s"}
    async with serving(f"udp+mpegts://127.0.0.1:{port}", path=settings) as app:
        assert app.log.find("mpegts source") is None
        with Sender("127.0.0.1", port) as sender:
            reading = asyncio.create_task(app.reader("cam"))
            await app.until(lambda: "cam" in app.app.hub.paths and app.app.hub.paths["cam"].source is not None)
            await ready(app, lambda: sender.send(sender.media(0, 3)))
            client = await reading
            await client.close()
            await app.log.wait(r"\[mpegts source\] stopped")


# Unix sockets


async def connect(path: FilePath) -> socket.socket:
    """Return a connection to a Unix socket, when somebody listens."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            await asyncio.sleep(0.005)
        else:
            return connection


@pytest.fixture
def unix(tmp_path: FilePath) -> FilePath:
    return tmp_path / "in.sock"


async def test_a_unix_socket(unix: FilePath) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(unix))  # as an earlier run leaves it
    left.close()
    async with serving(f"unix+mpegts://{unix}") as app:
        for _ in range(2):  # after one program, another one may come
            with Sender("127.0.0.1", 9) as sender, await connect(unix) as connection:
                connection.sendall(sender.media(0, 20))
                path = app.app.hub.paths["cam"]
                await app.until(lambda path=path: path.stream is not None)
                assert path.stream is not None
                frames = Frames()
                path.attach_reader(frames, path.stream)
                await app.until(lambda: not unix.exists())  # nobody else can connect
                connection.sendall(sender.media(100, 12))
            await app.until(lambda path=path: path.stream is None)
            # The last frame, whose end nothing shows but that of the connection, is not lost.
            units = [frame.units[-1] for index, frame in frames.frames if index == 0]
            assert units[-12:] == [video_frame(number, key=number == 100).units[-1] for number in range(100, 112)]
        assert app.log.find(r"\[mpegts source\] .*failed: the sender has closed the connection")
    assert not unix.exists()


def test_a_unix_socket_with_the_loop_of_the_server(unix: FilePath) -> None:
    uvloop = pytest.importorskip("uvloop")
    uvloop.run(test_a_unix_socket(unix))


async def test_a_unix_socket_in_the_working_directory(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with serving("unix+mpegts://Here.sock") as app:
        with Sender("127.0.0.1", 9) as sender, await connect(tmp_path / "Here.sock") as connection:
            connection.sendall(sender.media(0, 20))
            await app.until(lambda: app.app.hub.paths["cam"].stream is not None)


async def test_nobody_connects(unix: FilePath) -> None:
    async with serving(f"unix+mpegts://{unix}", readTimeout="100ms") as app:
        await app.log.wait(f"failed: no program has connected to {unix} within 0.1 s")
        await app.until(lambda: not unix.exists())


async def test_other_files_are_not_replaced(unix: FilePath) -> None:
    unix.write_text("precious")
    async with serving(f"unix+mpegts://{unix}") as app:
        await app.log.wait(f"failed: {unix} exists, and is not a socket")
    assert unix.read_text() == "precious"


async def test_a_folder_that_does_not_exist(tmp_path: FilePath) -> None:
    async with serving(f"unix+mpegts://{tmp_path}/none/x.sock") as app:
        await app.log.wait(f"failed: listen on {tmp_path}/none/x.sock: No such file or directory")


# Configuration


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("udp+mpegts://host", r"'udp\+mpegts://host' is missing the port"),
        ("udp+mpegts://host:70000", "is not a valid URL"),
        ("udp+mpegts://user:secret@host:5000", r"'udp\+mpegts://user:\*\*\*@host:5000' is not a valid URL"),
        ("udp+mpegts://:5000?source=camera", "invalid source IP: 'camera'"),
        ("udp+mpegts://:5000?program=first", "the parameter 'program' must be a number from 0 to 65535"),
        ("unix+mpegts://", "has no file name of a Unix socket"),
        ("unix+mpegts://folder/name", "has no file name of a Unix socket"),
    ],
)
def test_invalid_addresses(source: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        from_mapping({"paths": {"cam": {"source": source}}})


@pytest.mark.parametrize(("own", "size"), [({"mpegtsUDPReadBufferSize": "8K"}, 8192), ({}, 16384)])
async def test_the_buffer(own: dict[str, str], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    open_socket = input_module.open_udp_socket

    def open_and_note(host: str, port: int, receive_buffer_size: int = 0) -> socket.socket:
        sizes.append(receive_buffer_size)
        return open_socket(host, port, receive_buffer_size)

    monkeypatch.setattr(input_module, "open_udp_socket", open_and_note)
    port = free_port()
    async with serving(f"udp+mpegts://127.0.0.1:{port}", path=own, udpReadBufferSize="16K") as app:
        await opened(app, port)
        assert sizes[-1] == size


def test_the_library_reads() -> None:
    port = free_port()
    done = threading.Event()

    def send() -> None:
        with Sender("127.0.0.1", port) as sender:
            for number in itertools.count(0, 3):
                if done.wait(0.02):
                    break
                sender.send(sender.media(number, 3))

    sending = threading.Thread(target=send)
    sending.start()
    try:
        with polycast.read(f"udp+mpegts://127.0.0.1:{port}", decode=False, timeout=PATIENCE) as reader:
            assert next(iter(reader)).track.codec.name == "H264"
    finally:
        done.set()
        sending.join()


# Programs


@dataclass(frozen=True)
class Media:
    """A file, and its frames as FFmpeg extracts them."""

    file: FilePath
    pictures: list[bytes]
    """The coded slices, in order."""
    sounds: list[bytes]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    tools.require("ffmpeg")
    folder = tmp_path_factory.mktemp("media")
    file, video, audio = folder / "media.ts", folder / "video.h264", folder / "audio.aac"
    for command in (
        tools.ffmpeg("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=60", "-f", "lavfi", "-i",
                     "aevalsrc=0.3*sin(2*PI*t*(300+100*t)):duration=60", "-c:v", "libx264", "-preset", "ultrafast",
                     "-g", "12", "-bf", "2", "-c:a", "aac", "-f", "mpegts", file),
        tools.ffmpeg("-i", file, "-map", "0:v", "-c", "copy", "-f", "h264", video),
        tools.ffmpeg("-i", file, "-map", "0:a", "-c", "copy", "-f", "adts", audio),
    ):  # fmt: skip
        made = tools.run("make-media", command, folder)
        assert made.process.returncode == 0, made.describe()
    return Media(file, slices(nal_units(video.read_bytes())), adts_frames(audio.read_bytes()))


def nal_units(data: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream (Rec. ITU-T H.264 section B.1)."""
    return [unit for part in data.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]


def slices(units: Iterable[bytes]) -> list[bytes]:
    """Return the coded slices among NAL units of H264: containers add, move and repeat the others."""
    return [bytes(unit) for unit in units if unit[0] & 0x1F in (1, 5)]


def adts_frames(data: bytes) -> list[bytes]:
    """Return the frames without their headers of seven bytes (ISO/IEC 13818-7 section 6.2)."""
    found = []
    while data:
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        found.append(data[7:size])
        data = data[size:]
    return found


def check_run(sent: list[bytes], received: list[bytes]) -> None:
    """Assert that frames are those that were sent, in their order and without a gap."""
    first = sent.index(received[0])
    assert received == sent[first : first + len(received)]


SENDERS = ("ffmpeg", "gstreamer", "ffmpeg-multicast", "ffmpeg-unix")


def send_command(name: str, media: Media, port: int, unix: FilePath) -> list[str | FilePath]:
    """Return a command that sends the file at its own pace."""
    if name == "gstreamer":
        reading = ("filesrc", f"location={media.file}", "!", "tsparse", "set-timestamps=true", "alignment=7", "!")
        return tools.gstreamer(*reading, "udpsink", "host=127.0.0.1", f"port={port}", "sync=true")
    target = {
        "ffmpeg": f"udp://127.0.0.1:{port}?pkt_size=1316",
        "ffmpeg-multicast": f"udp://{GROUP}:{port}?pkt_size=1316&localaddr=127.0.0.1",
        "ffmpeg-unix": f"unix:{unix}",
    }[name]
    return tools.ffmpeg("-re", "-i", media.file, "-c", "copy", "-f", "mpegts", target)


@pytest.mark.interop
@pytest.mark.parametrize("name", SENDERS)
async def test_programs(name: str, media: Media, tmp_path: FilePath, unix: FilePath) -> None:
    if name == "gstreamer":
        tools.require("gst-launch-1.0")
    port = free_port()
    source = {
        "ffmpeg-multicast": f"udp+mpegts://{GROUP}:{port}?interface=lo",
        "ffmpeg-unix": f"unix+mpegts://{unix}",
    }.get(name, f"udp+mpegts://127.0.0.1:{port}")
    async with serving(source) as app:
        if name == "ffmpeg-unix":
            await app.until(unix.exists)
        else:
            await opened(app, port)
        with tools.start("sender", send_command(name, media, port, unix), tmp_path):
            path = app.app.hub.paths["cam"]
            await app.until(lambda: path.stream is not None)
            assert path.stream is not None
            frames = Frames()
            path.attach_reader(frames, path.stream)
            await app.until(lambda: min(sum(each == index for each, _ in frames.frames) for index in (0, 1)) >= 50)
            check_run(
                media.pictures, slices(unit for index, each in frames.frames if index == 0 for unit in each.units)
            )
            check_run(media.sounds, [each.units[0] for index, each in frames.frames if index == 1])
            assert counters(app).packets_lost == counters(app).packets_invalid == 0
