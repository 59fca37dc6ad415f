"""Pulling HLS: what FFmpeg writes, our own server, and servers that fail."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import ssl
import subprocess
import zlib
from pathlib import Path as FilePath
from typing import Any

import pytest
from tests.interop import tools
from tests.protocols.rtmp import support as rtmp
from tests.protocols.rtsp.support import running
from tests.protocols.sources.test_rtsp_source import tls_context
from tests.protocols.sources.test_supervision import Frames
from tests.protocols.sources.web import Answer, Web, web
from tests.support.listeners import serving

from polycast.hub.path import PathObserver
from polycast.media.codec import H264, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import NANOSECONDS
from polycast.media.track import Track
from polycast.protocols.hls import source_player
from polycast.protocols.hls.source_player import Player, PlayoutQueue, SourceTimeline
from polycast.protocols.hls.source_playlist import SHORTEST_RELOAD_SECONDS, PlaylistFollower, choose_variant
from polycast.wire.hls.parsed import ParsedMediaPlaylist, ParsedMultivariantPlaylist
from polycast.wire.hls.parser import parse_playlist

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}
SECRET = bytes(range(16))


def pulling(url: str, **settings: Any) -> dict[str, Any]:
    return {"cam": {"source": url, **QUICK, **settings}}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An MP4 file of 3 s, and the checksums of its packets as FFmpeg reads them."""
    tools.require("ffmpeg")
    folder = tmp_path_factory.mktemp("media")
    file = folder / "media.mp4"
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000"),
        *("-t", "3", "-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p"),
        *("-x264-params", "scenecut=0", "-c:a", "aac", str(file)),
    )
    return {"file": file, "video": checksums(file, "v"), "audio": checksums(file, "a")}


def ffmpeg(*arguments: str) -> str:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def checksums(file: FilePath, kind: str) -> list[int]:
    text = ffmpeg("-i", str(file), "-map", f"0:{kind}", "-c", "copy", "-f", "framecrc", "-")
    return [int(line.split(",")[5], 16) for line in text.splitlines() if not line.startswith("#")]


def package(media: dict[str, Any], folder: FilePath, *options: str, name: str = "stream.m3u8") -> dict[str, bytes]:
    """Return the files that FFmpeg's HLS muxer makes, by name."""
    ffmpeg(
        *("-i", str(media["file"]), "-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod"),
        *(option.format(folder=folder) for option in options),
        str(folder / name),
    )
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Play out without waiting for the time of the frames."""

    async def wait_until(player: Player, time: int) -> None:
        player._origin = player._loop.time() - time / NANOSECONDS
        await asyncio.sleep(0)

    monkeypatch.setattr(Player, "_wait_until", wait_until)


class Recorder(PathObserver):
    """Attaches a reader of frames as soon as the path is ready, before the first frame.

    It observes from the start: on a busy machine, a source may be ready before the application is."""

    def __init__(self) -> None:
        self.frames = Frames()
        self.descriptions: list[list[str]] = []

    def on_path_ready(self, path: Any) -> None:
        self.descriptions.append([str(track) for track in path.stream.descriptions])
        path.attach_reader(self.frames, path.stream)

    def checksums(self, index: int) -> list[int]:
        if not self.descriptions:
            return []
        make = checksum if self.descriptions[0][index] == "H264" else lambda frame: zlib.adler32(frame.units[0], 0)
        return [make(frame) for number, frame in self.frames.frames if number == index]


def checksum(frame: Frame) -> int:
    """The checksum of a picture as it is in MP4, where the parameter sets are in the header."""
    units = [unit for unit in frame.units if unit[0] & 0x1F not in (7, 8, 9)]
    return zlib.adler32(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units), 0)


async def pull_all(files: dict[str, bytes], name: str = "stream.m3u8") -> Recorder:
    """Pull a recording to its end and return what readers got."""
    async with web(files) as origin:
        return await pull_from(origin.url(name))


async def pull_from(url: str) -> Recorder:
    """The same from any server."""
    recorder = Recorder()
    async with running(observers=[recorder], paths=pulling(url, sourceRetryPause="10s")) as app:
        await app.log.wait("failed: ")
        assert app.log.find("failed: the stream has ended"), app.log.lines
    return recorder


def assert_same(recorder: Recorder, media: dict[str, Any], tolerance: float = 0.1) -> None:
    assert recorder.descriptions == [["H264", "MPEG4Audio"]]
    assert recorder.checksums(0) == media["video"]
    assert recorder.checksums(1) == media["audio"]
    times = [frame.dts for index, frame in recorder.frames.frames if index == 0]
    assert [two - one for one, two in itertools.pairwise(times)] == [3600] * (len(times) - 1)
    first = {
        index: frame.pts / rate
        for index, rate in ((0, 90_000), (1, 48_000))
        for number, frame in reversed(recorder.frames.frames)
        if number == index
    }
    assert abs(first[0] - first[1]) < tolerance


CONTAINERS = {
    "mpegts": (),
    "fmp4": ("-hls_segment_type", "fmp4"),
    "mpegts ranges": ("-hls_flags", "single_file"),
    "fmp4 ranges": ("-hls_segment_type", "fmp4", "-hls_flags", "single_file"),
}


@pytest.mark.parametrize("options", CONTAINERS.values(), ids=CONTAINERS)
async def test_what_ffmpeg_writes(
    options: tuple[str, ...], media: dict[str, Any], tmp_path: FilePath, at_once: None
) -> None:
    assert_same(await pull_all(package(media, tmp_path, *options)), media)


async def test_a_server_without_ranges(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path, "-hls_flags", "single_file")
    async with web(files) as origin:
        origin.knows_ranges = False
        recorder = Recorder()
        async with running(
            observers=[recorder], paths=pulling(origin.url("stream.m3u8"), sourceRetryPause="10s")
        ) as app:
            await app.log.wait("failed: the stream has ended")
    assert_same(recorder, media)


@pytest.mark.parametrize("with_vector", [False, True])
async def test_encrypted_segments(with_vector: bool, media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "secret.bin").write_bytes(SECRET)
    vector = "0123456789abcdef0123456789abcdef" if with_vector else ""
    (tmp_path / "info").write_text(f"secret.bin\n{tmp_path}/secret.bin\n{vector}\n")
    assert_same(await pull_all(package(media, tmp_path, "-hls_key_info_file", "{folder}/info")), media)


async def test_a_wrong_key_and_encryption_that_is_not_supported(
    media: dict[str, Any], tmp_path: FilePath, at_once: None
) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "secret.bin").write_bytes(SECRET)
    (tmp_path / "info").write_text(f"secret.bin\n{tmp_path}/secret.bin\n")
    files = package(media, tmp_path, "-hls_key_info_file", "{folder}/info")
    async with web(files) as origin, running(paths=pulling(origin.url("stream.m3u8"))) as app:
        origin.files["secret.bin"] = bytes(16)
        await app.log.wait("failed: a segment cannot be decrypted: wrong key")
        origin.files["secret.bin"] = bytes(15)
        await app.log.wait("failed: an encryption key has 15 bytes instead of 16")
        origin.files["stream.m3u8"] = files["stream.m3u8"].replace(b"METHOD=AES-128", b"METHOD=SAMPLE-AES")
        await app.log.wait("failed: segments are encrypted with SAMPLE-AES, which is not supported")


async def test_audio_in_a_playlist_of_its_own(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    ffmpeg(
        *("-i", str(media["file"]), "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "hls", "-hls_time", "1"),
        *("-hls_playlist_type", "vod", "-master_pl_name", "master.m3u8", "-hls_segment_type", "fmp4"),
        *("-var_stream_map", "a:0,agroup:sound,default:yes v:0,agroup:sound", str(tmp_path / "stream_%v.m3u8")),
    )
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert b"TYPE=AUDIO" in files["master.m3u8"]
    assert_same(await pull_all(files, "master.m3u8"), media)


async def test_the_best_variant_is_taken(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path)
    files["master.m3u8"] = (
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlow.m3u8\n"
        b'#EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS="dvh1.05.01"\nunknown.m3u8\n'
        b'#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.42c00d,mp4a.40.2"\nstream.m3u8\n'
    )
    assert_same(await pull_all(files, "master.m3u8"), media)


async def test_a_discontinuity(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path)
    text = files["stream.m3u8"].decode()
    body = text[text.index("#EXTINF") : text.index("#EXT-X-ENDLIST")]
    files["stream.m3u8"] = text.replace("#EXT-X-ENDLIST", f"#EXT-X-DISCONTINUITY\n{body}#EXT-X-ENDLIST").encode()
    recorder = await pull_all(files)
    assert recorder.descriptions == [["H264", "MPEG4Audio"]]
    assert recorder.checksums(0) == media["video"] * 2
    assert recorder.checksums(1) == media["audio"] * 2
    for index in (0, 1):
        times = [frame.dts for number, frame in recorder.frames.frames if number == index]
        assert times == sorted(set(times))
    video = [frame.dts for number, frame in recorder.frames.frames if number == 0]
    middle = len(media["video"])
    assert 0 < video[middle] - video[middle - 1] < 90_000


def moved(segment: bytes, seconds: float, pids: tuple[int, ...] = (256, 257)) -> bytes:
    """Return a transport stream whose PES packets are later (ISO/IEC 13818-1 section 2.4.3.7)."""
    data = bytearray(segment)
    for start in range(0, len(data), 188):
        pid = (data[start + 1] & 0x1F) << 8 | data[start + 2]
        if pid not in pids or not data[start + 1] & 0x40:
            continue
        pes = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
        assert data[pes : pes + 3] == b"\0\0\1"
        for place in range(pes + 9, pes + 9 + 5 * (data[pes + 7] >> 6).bit_count(), 5):
            value = int.from_bytes(data[place : place + 5], "big")
            time = (value >> 33 & 7) << 30 | (value >> 17 & 0x7FFF) << 15 | value >> 1 & 0x7FFF
            time = (time + round(seconds * 90_000)) & (1 << 33) - 1
            value = value >> 36 << 36 | (time >> 30) << 33 | (time >> 15 & 0x7FFF) << 17 | (time & 0x7FFF) << 1
            data[place : place + 5] = (value | 1 << 32 | 1 << 16 | 1).to_bytes(5, "big")
    return bytes(data)


@pytest.mark.parametrize("seconds", [-3600.0, -30.0, -1.2, 20.0, 9800.0])
async def test_times_that_jump_without_a_discontinuity(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, seconds: float
) -> None:
    files = {
        name: moved(data, 5000) if name.endswith("ts") else data for name, data in package(media, tmp_path).items()
    }
    files["stream1.ts"] = moved(files["stream1.ts"], seconds)
    files["stream2.ts"] = moved(files["stream2.ts"], seconds)
    recorder = await pull_all(files)
    assert recorder.checksums(0) == media["video"]
    assert recorder.checksums(1) == media["audio"]
    ends = []
    for index, rate in ((0, 90_000), (1, 48_000)):
        times = [frame.dts for number, frame in recorder.frames.frames if number == index]
        assert times == sorted(times)
        ends.append((times[-1] - times[0]) / rate)
    assert ends[0] == pytest.approx(74 * 0.04, abs=0.05)
    assert ends[1] == pytest.approx(ends[0], abs=0.1)
    assert any(frame.discontinuity for _, frame in recorder.frames.frames)


@pytest.mark.parametrize("seconds", [37_000.0, -1000.0])
async def test_tracks_with_bases_far_apart(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, seconds: float
) -> None:
    files = {
        name: moved(moved(data, 5000), seconds, (257,)) if name.endswith("ts") else data
        for name, data in package(media, tmp_path).items()
    }
    # Only the order in the file says what belongs together.
    assert_same(await pull_all(files), media, 0.3)


async def test_an_initialization_of_the_same_name_after_a_discontinuity(
    media: dict[str, Any], tmp_path: FilePath, at_once: None
) -> None:
    """An encoder that has started again writes another ``init.mp4``, perhaps with other parameter sets."""
    files = package(media, tmp_path, "-hls_segment_type", "fmp4")
    text = files["stream.m3u8"].decode()
    body = text[text.index("#EXTINF") : text.index("#EXT-X-ENDLIST")]
    files["stream.m3u8"] = text.replace("#EXT-X-ENDLIST", f"#EXT-X-DISCONTINUITY\n{body}#EXT-X-ENDLIST").encode()
    async with web(files) as origin:
        recorder = await pull_from(origin.url("stream.m3u8"))
    assert recorder.checksums(0) == media["video"] * 2
    assert [name for name in origin.requests if name == "init.mp4"] == ["init.mp4"] * 2


async def test_variables(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path)
    files["master.m3u8"] = (
        b'#EXTM3U\n#EXT-X-DEFINE:QUERYPARAM="session"\n#EXT-X-STREAM-INF:BANDWIDTH=1\nst{$session}.m3u8\n'
    )
    text = files["stream.m3u8"].replace(b"#EXTM3U\n", b'#EXTM3U\n#EXT-X-DEFINE:IMPORT="session"\n')
    files["stream.m3u8"] = text.replace(b"\nstream", b"\nst{$session}")
    assert_same(await pull_all(files, "master.m3u8?session=ream"), media)


async def test_other_codecs_after_a_discontinuity(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path)
    ffmpeg("-i", str(media["file"]), "-an", "-c", "copy", "-f", "mpegts", str(tmp_path / "silent.ts"))
    files["silent.ts"] = (tmp_path / "silent.ts").read_bytes()
    files["stream.m3u8"] = files["stream.m3u8"].replace(
        b"#EXT-X-ENDLIST", b"#EXT-X-DISCONTINUITY\n#EXTINF:3,\nsilent.ts\n#EXT-X-ENDLIST"
    )
    recorder = await pull_all(files)
    assert recorder.descriptions == [["H264", "MPEG4Audio"], ["H264"]]


async def test_packed_audio(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    ffmpeg("-i", str(media["file"]), "-vn", "-c", "copy", "-f", "adts", str(tmp_path / "sound.aac"))
    owner = b"com.apple.streaming.transportStreamTimestamp\0"
    private = b"PRIV" + len(owner + bytes(8)).to_bytes(4, "big") + b"\0\0" + owner + (90_000).to_bytes(8, "big")
    tag = b"ID3\4\0\0\0\0\0" + bytes((len(private),)) + private
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nsound.aac\n#EXT-X-ENDLIST\n"
    recorder = await pull_all({"stream.m3u8": playlist, "sound.aac": tag + (tmp_path / "sound.aac").read_bytes()})
    assert recorder.descriptions == [["MPEG4Audio"]]
    assert recorder.checksums(0) == media["audio"]


# Live


class Live:
    """A live playlist over the segments of a recording, which a test lets grow."""

    def __init__(self, origin: Web, count: int, *, target: int = 1) -> None:
        self.origin = origin
        self.first = 0
        self.count = count
        self.target = target
        self.write()

    def write(self) -> None:
        lines = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{self.target}", f"#EXT-X-MEDIA-SEQUENCE:{self.first}"]
        for number in range(self.first, self.first + self.count):
            lines += ["#EXTINF:1,", f"stream{number % 3}.ts"]
            if number % 3 == 2:
                lines.append("#EXT-X-DISCONTINUITY")
        self.origin.files["live.m3u8"] = "\n".join([*lines, ""]).encode()


async def test_a_live_playlist_is_followed(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlaylistFollower, "reload_delay", lambda *_: 0.005)
    async with web(package(media, tmp_path)) as origin:
        live = Live(origin, 5)
        recorder = Recorder()
        async with running(observers=[recorder], paths=pulling(origin.url("live.m3u8"))) as app:
            # It begins three target durations before the end, and does not read anything twice.
            await app.until(lambda: len(recorder.checksums(0)) >= 75)
            assert recorder.checksums(0) == media["video"][50:] + media["video"][:50]
            live.count += 1
            live.write()
            await app.until(lambda: len(recorder.checksums(0)) >= 100)
            live.first += 2
            live.write()
            await app.until(lambda: len(recorder.checksums(0)) >= 150)
            segments = [name for name in origin.requests if name.endswith(".ts")]
            assert segments == [f"stream{number % 3}.ts" for number in range(2, 8)], app.log.lines
            live.first = 100
            live.write()
            await app.log.wait(r"WARNING .*\[hls source\] 92 segments were missed")
            live.first = 0  # the server was started anew
            live.write()
            before = len(recorder.checksums(0))
            await app.until(lambda: len(recorder.checksums(0)) > before)


async def test_a_segment_that_has_left_the_playlist_is_skipped(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that is late goes on with what is there, without losing its readers."""
    monkeypatch.setattr(PlaylistFollower, "reload_delay", lambda *_: 0.005)
    async with web(package(media, tmp_path)) as origin:
        live = Live(origin, 3)

        def remove(path: str) -> Answer | None:
            if not path.endswith("stream1.ts") or origin.requests.count("stream1.ts") > 1:
                return None
            live.first = 2
            live.write()
            return Answer(404)

        origin.script = remove
        recorder = Recorder()
        async with running(observers=[recorder], paths=pulling(origin.url("live.m3u8"))) as app:
            await app.log.wait(r"WARNING .*\[hls source\] 1 segments were missed")
            await app.until(lambda: len(recorder.checksums(0)) >= 75)
            numbers = [media["video"].index(checksum) // 25 for checksum in recorder.checksums(0)]
            assert numbers[:75] == [0] * 25 + [2] * 25 + [0] * 25
            assert not app.log.find("failed: ")
            assert len(recorder.descriptions) == 1


async def test_a_live_playlist_that_stops(
    media: dict[str, Any], tmp_path: FilePath, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlaylistFollower, "reload_delay", lambda *_: 0.005)
    monkeypatch.setattr("polycast.protocols.hls.source.STALLED_TARGETS", 0)
    async with web(package(media, tmp_path)) as origin:
        Live(origin, 3)
        async with running(paths=pulling(origin.url("live.m3u8")), readTimeout="100ms") as app:
            await app.log.wait(r"failed: the playlist has not changed for 0\.1 s")


@pytest.mark.parametrize("variant", ["mpegts", "fmp4", "lowLatency"])
async def test_from_our_own_server(variant: str, tmp_path: FilePath, at_once: None) -> None:
    tools.make_certificate(tmp_path)
    der = ssl.PEM_cert_to_DER_cert((tmp_path / "server.crt").read_text())
    settings = {
        "hlsVariant": variant,
        "hlsSegmentDuration": "200ms",
        "hlsPartDuration": "100ms",
        "hlsEncryption": variant == "lowLatency",
        "hlsServerKey": str(tmp_path / "server.key"),
        "hlsServerCert": str(tmp_path / "server.crt"),
    }
    async with rtmp.running(hlsDisable=False, hlsAddress="127.0.0.1:0", **settings) as origin:
        publisher = await origin.publisher("live")
        port = origin.app.servers["HLS"].ports["hlsAddress"]
        url = f"http{'s' if variant == 'lowLatency' else ''}://127.0.0.1:{port}/live/index.m3u8"
        recorder = Recorder()
        async with running(
            observers=[recorder], paths=pulling(url, sourceFingerprint=hashlib.sha256(der).hexdigest())
        ) as app:
            await origin.until(lambda: bool(origin.path("live").readers))

            def numbers() -> list[int]:
                return [frame.units[-1][-1] for index, frame in recorder.frames.frames if index == 0]

            async def wait_for_room(number: int) -> None:
                """However slow the machine is, the playlist has all that was not received yet: 5 of its 7 segments."""
                await app.until(lambda: number - (numbers() or [0])[-1] <= 25)

            for number in itertools.count(1):
                if len(numbers()) > 50:
                    break
                await wait_for_room(number)
                publisher.send_frame(0, rtmp.video_frame(number, key=number % 5 == 0))
                publisher.send_frame(1, rtmp.audio_frame(number * 2))
            assert recorder.descriptions == [["H264", "MPEG4Audio"]], app.log.lines
            received = numbers()
            assert received == list(range(received[0], received[0] + len(received)))


# Failures


async def test_errors_of_the_server(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    files = package(media, tmp_path)
    async with web(files) as origin:
        origin.script = lambda path: Answer(503) if path.endswith("m3u8") else None
        async with running(paths=pulling(origin.url("stream.m3u8"))) as app:
            await app.log.wait(rf"failed: bad status code: 503 \({origin.url('stream.m3u8')}\)")
            origin.script = lambda path: Answer(404) if path.endswith("ts") else None
            await app.log.wait(r"failed: bad status code: 404 \(.*stream\d.ts\)")
            segments = [name for name in origin.requests if name.endswith(".ts")]
            assert segments == sorted(set(segments)), "a missing file is not requested again"
            origin.script = lambda _: Answer(200, b"<html></html>")
            await app.log.wait("failed: invalid playlist: a playlist does not start with #EXTM3U")
            origin.script = lambda path: Answer(200, b"\0" * 5000) if path.endswith("ts") else None
            await app.log.wait("failed: a segment cannot be read")
            evil = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
            origin.script = lambda path: Answer(200, evil)
            await app.log.wait("failed: a playlist contains an address that is not HTTP")
            origin.script = lambda _: None
            await app.log.wait("ready: 2 tracks")


@pytest.mark.parametrize("beginning", [b"G" + bytes(187), b"#EXTM3", b"\xef\xbb\xbf#EXTM"])
async def test_a_stream_without_end_is_no_playlist(beginning: bytes) -> None:
    """As FFmpeg serves MPEG-TS over HTTP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + beginning)
        await writer.drain()
        writer.write(b"0123456789")

    async with serving(serve) as port, running(paths=pulling(f"http://127.0.0.1:{port}/live.ts")) as app:
        await app.log.wait("failed: invalid playlist: a playlist does not start with #EXTM3U")


async def test_a_server_that_hangs_or_is_gone(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    async with web(package(media, tmp_path)) as origin:
        origin.hangs = asyncio.Event()
        async with running(paths=pulling(origin.url("stream.m3u8")), readTimeout="100ms") as app:
            await app.log.wait(r"failed: no answer within 0\.1 s")
            origin.hangs.set()
            await app.log.wait("ready: 2 tracks")
    async with running(paths=pulling(origin.url("stream.m3u8"))) as app:
        await app.log.wait("failed: .*onnect")


async def test_credentials_and_redirections(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    async with web(package(media, tmp_path)) as origin:
        origin.credentials = "user:p@ss"
        origin.script = lambda path: Answer(302, b"", {"Location": "/stream.m3u8"}) if path == "start" else None
        address = origin.url("start").replace("http://", "http://user:p%40ss@")
        async with running(paths=pulling(address)) as app:
            await app.log.wait("ready: 2 tracks")
        async with running(paths=pulling(origin.url("start"))) as app:
            await app.log.wait(r"failed: bad status code: 401")
            assert app.log.find("p@ss") is None
    async with web() as other, web(package(media, tmp_path)) as origin:
        # Credentials are for the server of the source's address, and for no other.
        other.credentials = "user:secret"
        playlist = origin.files["stream.m3u8"].decode().replace("stream0", other.url("stream0"))
        origin.files["stream.m3u8"] = playlist.encode()
        address = origin.url("stream.m3u8").replace("http://", "http://user:secret@")
        async with running(paths=pulling(address)) as app:
            await app.log.wait("failed: bad status code: 401")


async def test_https(media: dict[str, Any], tmp_path: FilePath, at_once: None) -> None:
    context, fingerprint = tls_context()
    async with web(package(media, tmp_path), tls=context) as origin:
        url = origin.url("stream.m3u8")
        async with running(paths=pulling(url, sourceFingerprint=fingerprint)) as app:
            await app.log.wait("ready: 2 tracks")
        async with running(paths=pulling(url, sourceFingerprint="ab" * 32)) as app:
            await app.log.wait(f"failed: .*server fingerprint do not match: expected {'ab' * 32}, got {fingerprint}")
        async with running(paths=pulling(url)) as app:
            await app.log.wait("failed: the certificate of the server is not valid: unable to get local issuer")


# The order and the time of things


async def test_frames_are_played_out_by_their_times() -> None:
    class FakeStream:
        def publish_frame(self, index: int, frame: Frame, now: float) -> None:
            written.append((now, index, frame.dts))

        def end_of_read(self) -> None: ...

    written: list[tuple[float, int, int]] = []
    loop = asyncio.get_running_loop()
    player = Player(loop, lambda *_: FakeStream())  # type: ignore[arg-type,return-value]
    video, audio = player.add_queue(only="video"), player.add_queue(only="audio")
    pictures = [(0, Frame((b"\x41",), number * 3600, number * 3600, key=True)) for number in range(10)]
    sounds = [(0, Frame((b"x",), number * 960, number * 960, key=True)) for number in range(20)]
    video.receive((Track(0, H264()),), 0, pictures)
    task = asyncio.create_task(player.run())
    audio.receive((Track(0, Opus()),), 0, sounds)
    video.finish()
    audio.finish()
    latest = 0.0  # for which the loop had no time, on a busy machine
    while not task.done():
        begin = loop.time()
        await asyncio.sleep(0.005)
        latest = max(latest, loop.time() - begin - 0.005)
    with pytest.raises(Exception, match="the stream has ended"):
        await task
    assert len(written) == 30
    seconds = [dts / (90_000 if index == 0 else 48_000) for _, index, dts in written]
    assert seconds == sorted(seconds)
    origin = written[0][0] - seconds[0]
    lateness = [moment - origin - time for (moment, _, _), time in zip(written, seconds, strict=True)]
    assert min(lateness) >= -source_player.BATCH_SECONDS - 0.002
    assert max(lateness) < 0.1 + latest


def playlist(text: str) -> ParsedMediaPlaylist:
    found = parse_playlist(("#EXTM3U\n#EXT-X-TARGETDURATION:4\n" + text).encode())
    assert isinstance(found, ParsedMediaPlaylist)
    return found


LOW_LATENCY = "#EXT-X-PART-INF:PART-TARGET=1\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=3\n"


def parts(segment: int, count: int) -> str:
    return "".join(f'#EXT-X-PART:DURATION=1,URI="{segment}.{number}"\n' for number in range(count))


def test_parts_are_taken_one_by_one_and_segments_not_again() -> None:
    follower = PlaylistFollower()
    head = LOW_LATENCY + "#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7\n"
    first = playlist(head + parts(8, 2))
    assert [piece.uri for piece in follower.update(first)] == ["7", "8.0", "8.1"]
    assert follower.reload_address("http://x/a?t=1&_HLS_msn=3", first) == "http://x/a?t=1&_HLS_msn=8&_HLS_part=2"
    assert follower.reload_delay(first, 0.5) == 0
    assert follower.update(first) == []
    assert follower.reload_delay(first, 0.5) == 1.5
    complete = playlist(head + parts(8, 4) + "#EXTINF:4,\n8\n" + parts(9, 1))
    assert [(piece.uri, piece.ends_segment) for piece in follower.update(complete)] == [
        ("8.2", False),
        ("8.3", True),
        ("9.0", False),
    ]
    assert follower.reload_address("http://x/a", complete) == "http://x/a?_HLS_msn=9&_HLS_part=1"


def test_the_rest_of_a_segment_whose_parts_have_left_the_playlist_is_in_the_whole() -> None:
    follower = PlaylistFollower()
    head = LOW_LATENCY + "#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7\n"
    follower.update(playlist(head + parts(8, 3)))
    late = playlist(head + "#EXTINF:4,\n8\n#EXTINF:4,\n9\n")
    assert [(piece.uri, piece.is_repeated) for piece in follower.update(late)] == [("8", True), ("9", False)]
    assert follower.update(late) == []


def test_a_segment_that_was_taken_in_parts_is_not_taken_again_when_they_have_left_the_playlist() -> None:
    follower = PlaylistFollower()
    head = LOW_LATENCY + "#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7\n"
    follower.update(playlist(head + parts(8, 4)))
    late = playlist(head + "#EXTINF:4.00001,\n8\n#EXTINF:4,\n9\n")
    assert [(piece.uri, piece.is_repeated) for piece in follower.update(late)] == [("9", False)]


def test_what_is_not_there_any_more_is_looked_for_in_the_next_playlist() -> None:
    follower = PlaylistFollower()
    head = LOW_LATENCY + "#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7\n"
    first = playlist(head + parts(8, 3))
    pieces = follower.update(first)
    assert [piece.uri for piece in pieces] == ["7", "8.0", "8.1", "8.2"]
    assert follower.put_back(pieces[2])
    assert follower.reload_delay(first, 0) == SHORTEST_RELOAD_SECONDS
    assert follower.reload_address("http://x/a", first) == "http://x/a?_HLS_msn=8&_HLS_part=1"
    later = playlist(head + "#EXTINF:4,\n8\n" + parts(9, 1))
    pieces = follower.update(later)
    assert [(piece.uri, piece.is_repeated) for piece in pieces] == [("8", True), ("9.0", False)]
    assert follower.put_back(pieces[0])
    pieces = follower.update(later)
    assert [(piece.uri, piece.is_repeated) for piece in pieces] == [("8", True), ("9.0", False)]
    assert not follower.put_back(pieces[0])
    gone = playlist(LOW_LATENCY + "#EXT-X-MEDIA-SEQUENCE:9\n#EXTINF:4,\n9\n")
    assert [(piece.uri, piece.is_repeated) for piece in follower.update(gone)] == [("9", True)]


def test_frames_that_were_received_in_parts_are_left_out_of_the_whole_segment() -> None:
    queue = PlayoutQueue(SourceTimeline(), lambda: None)
    tracks = (Track(0, H264()), Track(1, Opus()))
    picture = [(0, Frame((b"x",), number * 3600, number * 3600, key=number == 0)) for number in range(10)]
    sound = [(1, Frame((b"x",), number * 960, number * 960, key=True)) for number in range(20)]
    queue.receive(tracks, 0, picture[:4] + sound[:9])
    queue.receive(tracks, 0, picture + sound, is_repeated=True)
    for track, step in ((0, 3600), (1, 960)):
        times = [frame.dts for _, index, frame in queue.entries if index == track and isinstance(frame, Frame)]
        assert times == list(range(times[0], times[0] + len(times) * step, step))
        assert len(times) == (10, 20)[track]


def test_plain_playlists_are_not_asked_for_what_they_cannot() -> None:
    follower = PlaylistFollower()
    plain = playlist("#EXTINF:4,\n0\n")
    follower.update(plain)
    assert follower.reload_address("http://x/a", plain) == "http://x/a"
    assert follower.reload_delay(plain, 1.0) == 3.0
    follower.update(plain)
    assert follower.reload_delay(plain, 1.0) == 1.0


def test_gaps_are_left_out() -> None:
    text = "#EXTINF:4,\n0\n#EXT-X-GAP\n#EXTINF:4,\n1\n#EXTINF:4,\n2\n#EXT-X-ENDLIST\n"
    assert [piece.uri for piece in PlaylistFollower().update(playlist(text))] == ["0", "2"]


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ([("1", "avc1.4d401f")], "0"),
        ([("1", "avc1.4d401f"), ("2", "avc1.4d401f")], "1"),
        ([("1", "avc1.4d401f"), ("2", "xyz")], "0"),
        ([("1", "xyz"), ("2", "xyz")], "1"),
        ([("1", "avc1.4d401f"), ("2", "avc1.4d401f,mp4a.40.2,stpp.ttml.im1t"), ("3", "xyz,wvtt")], "1"),
        ([("1", "hvc1.1.6.L93.B0,mp4a.40.2"), ("2", "av01.0.04M.08,Opus"), ("3", "vp09.00.10.08,zzz")], "1"),
    ],
)
def test_choice_of_the_variant(variants: list[tuple[str, str]], expected: str) -> None:
    lines = ["#EXTM3U"]
    for number, (bandwidth, codecs) in enumerate(variants):
        lines += [f'#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS="{codecs}"', str(number)]
    found = parse_playlist("\n".join(lines).encode())
    assert isinstance(found, ParsedMultivariantPlaylist)
    assert choose_variant(found)[0].uri == expected
