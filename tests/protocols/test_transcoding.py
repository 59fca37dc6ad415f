"""Opus, as browsers publish it, is AAC for players of RTMP and HLS that need it: once per stream, in sync."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from tests.protocols.rtmp.support import RawClient
from tests.protocols.rtsp.support import loaded
from tests.support.running import Lines, application
from tests.support.waiting import PATIENCE, until
from tests.transcode.programs import TOLERANCE, publishing, transcoder_threads, watched
from tests.transcode.sound import TONE_HERTZ, clicks, encode

from polycast.app import Application, StartError
from polycast.config import from_mapping
from polycast.errors import PolycastError
from polycast.hub.path import Publisher
from polycast.hub.stats import Reference
from polycast.hub.stream import Stream
from polycast.media.codec import (
    AC3,
    EAC3,
    FLAC,
    G711,
    G722,
    G726,
    H264,
    LPCM,
    VP8,
    Codec,
    MPEG4Audio,
    MPEGAudio,
    Opus,
    Speex,
)
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.hls.sound import is_converted
from polycast.wire.hls.options import Variant
from polycast.wire.rtmp.messages import Command

SERVERS: dict[str, Any] = {
    "protocols": ["tcp"],
    **{f"{name}Address": "127.0.0.1:0" for name in ("rtsp", "rtmp", "hls")},
    **{f"{name}Disable": False for name in ("rtsp", "rtmp", "hls")},
}
CONVERTS = {"transcodeAudio": True}
OPUS_SECOND = [data for data, _ in encode("libopus", clicks([0.5], 1.0, 48_000), 48_000)[0]]


@contextlib.asynccontextmanager
async def running(paths: dict[str, Any] = CONVERTS, **values: Any) -> AsyncIterator[tuple[Application, Lines]]:
    configuration = loaded({**SERVERS, "paths": {"all": paths}, **values})
    async with application(configuration) as (app, log):
        yield app, log


def port(app: Application, name: str) -> int:
    return app.servers[name].ports[f"{name.lower()}Address"]


class Microphone(Publisher):
    """Publishes the frames of a path, as a program does."""

    def __init__(self, app: Application, name: str, *codecs: Codec) -> None:
        self._path = app.hub.path(name)
        self._path.set_publisher(self)
        tracks = [Track(index, codec) for index, codec in enumerate(codecs)]
        self.stream: Stream = self._path.start_publishing(self, tracks, publishes_packets=False)
        self._index = next(index for index, codec in enumerate(codecs) if codec.kind == "audio")
        self._number = 0

    def close_publisher(self, reason: str) -> None:
        pass

    def reference(self) -> Reference:
        return Reference("test")

    def write(self, index: int, frame: Frame) -> None:
        self.stream.publish_frame(index, frame, asyncio.get_running_loop().time())
        self.stream.end_of_read()

    async def run(self) -> None:
        """Write Opus in real time until cancelled."""
        for number in itertools.count(self._number):
            self._number = number
            pts = 960 * number
            self.write(self._index, Frame((OPUS_SECOND[number % len(OPUS_SECOND)],), pts, pts, key=True))
            await asyncio.sleep(0.02)

    def end(self) -> None:
        self._path.remove_publisher(self, "the test is over")


@contextlib.asynccontextmanager
async def speaking(microphone: Microphone) -> AsyncIterator[None]:
    task = asyncio.create_task(microphone.run())
    try:
        yield
    finally:
        task.cancel()


@contextlib.asynccontextmanager
async def playing(app: Application, name: str, **announced: Any) -> AsyncIterator[RawClient]:
    """Play over RTMP; ``announced`` is what the client tells of itself."""
    client = await RawClient.connect(port(app, "RTMP"))
    try:
        client.send_connect("", "rtmp://127.0.0.1/", **announced)
        client.send_command(Command("createStream", 2.0, None))
        client.send_command(Command("play", 3.0, None, (name,)), stream_id=1)
        await client.receive_until(b"onStatus")
        yield client
    finally:
        await client.close()


async def test_players_get_aac_in_sync_and_made_once() -> None:
    async with running() as (app, log):
        rtmp, hls = port(app, "RTMP"), port(app, "HLS")
        async with publishing(f"rtsp://127.0.0.1:{port(app, 'RTSP')}/cam", "rtsp", "libopus"):
            await until(lambda: app.hub.path("cam").stream is not None, log.lines)
            assert transcoder_threads() == []
            hearing = asyncio.create_task(watched(f"http://127.0.0.1:{hls}/cam/index.m3u8", 4))
            await until(transcoder_threads, log.lines)
            (thread,) = transcoder_threads()
            heard = await watched(f"rtmp://127.0.0.1:{rtmp}/cam", 3)
            assert transcoder_threads() == [thread]
            results = [heard, await hearing]
        await until(lambda: not transcoder_threads(), log.lines)
        assert len([line for line in log.lines if "track 2 (Opus) is converted to AAC" in line]) == 1
    for result in results:
        print(result)
        assert result["codecs"] == ["aac", "h264"]
        assert len(result["offsets"]) >= 2
        assert max(map(abs, result["offsets"])) < TOLERANCE
        assert result["pitch"] == pytest.approx(TONE_HERTZ, abs=3)


@pytest.mark.parametrize("picture", [H264(), VP8()], ids=lambda codec: codec.name)
@pytest.mark.parametrize(
    ("announced", "sound"),
    [
        ({}, "AAC"),
        ({"audioCodecs": 4071.0}, "AAC"),
        ({"audioCodecs": 4.0}, ""),
        ({"fourCcList": ["vp08"]}, "AAC"),
        ({"fourCcList": ["vp08", "Opus"]}, "Opus"),
        ({"fourCcList": ["*"]}, "Opus"),
    ],
)
async def test_what_a_client_announced_decides(picture: Codec, announced: dict[str, Any], sound: str) -> None:
    async with running() as (app, log):
        microphone = Microphone(app, "cam", picture, Opus())
        if isinstance(picture, VP8) and "audioCodecs" in announced:
            sound = sound or "Opus"  # as without the setting: FFmpeg understands Enhanced RTMP without saying so
        async with playing(app, "cam", **announced):
            names = ", ".join(filter(None, [picture.name, sound]))
            await log.wait(rf"is reading from path 'cam', \d tracks? \({names}\)")
            assert len(transcoder_threads()) == (sound == "AAC")
        await until(lambda: not transcoder_threads(), log.lines)
        microphone.end()


@pytest.mark.parametrize("codec", [G722(), LPCM(24, 48_000, 2), FLAC()], ids=lambda codec: codec.name)
async def test_sound_that_rtmp_cannot_carry_becomes_aac(codec: Codec) -> None:
    async with running() as (app, log):
        microphone = Microphone(app, "cam", H264(), codec)
        async with playing(app, "cam"):
            await log.wait(r"is reading from path 'cam', 2 tracks \(H264, AAC\)")
        assert not log.find("is skipped")
        microphone.end()


async def test_sound_that_cannot_be_decoded_is_skipped() -> None:
    async with running() as (app, log):
        microphone = Microphone(app, "cam", H264(), G726())
        async with playing(app, "cam"):
            await log.wait(r"is reading from path 'cam', 1 track \(H264\)")
        line = await log.wait(r"track 2 \(.*\) is skipped: RTMP has no identifier")
        assert "transcodeAudio" not in line
        microphone.end()


async def test_two_players_share_an_encoder_and_the_last_ends_it() -> None:
    async with running() as (app, log):
        microphone = Microphone(app, "mic", Opus())
        async with speaking(microphone), playing(app, "mic") as first:
            sizes = len(first.received)
            await first.receive(sizes + 2_000)
            (thread,) = transcoder_threads()
            async with playing(app, "mic") as second:
                await second.receive(len(second.received) + 2_000)
                assert transcoder_threads() == [thread]
            await until(lambda: len(app.hub.path("mic").readers) == 1, log.lines)
            await first.receive(len(first.received) + 2_000)
            assert transcoder_threads() == [thread]
        await until(lambda: not transcoder_threads(), log.lines)
        microphone.end()


async def test_what_the_setting_would_do_is_told() -> None:
    async with running({}) as (app, log):
        microphone = Microphone(app, "cam", H264(), Opus())
        async with playing(app, "cam"):
            await log.wait(
                r"WARNING .*track 2 \(Opus\) is skipped: the peer did not announce Enhanced RTMP, which Opus needs; "
                r"transcodeAudio: yes converts Opus to AAC"
            )
        microphone.end()


@pytest.mark.parametrize(
    ("codec", "variants"),
    [
        (MPEG4Audio(), ""),
        (MPEGAudio(), ""),
        (Opus(), "mpegts"),
        (FLAC(), "mpegts"),
        (AC3(), "mpegts fmp4 lowLatency"),
        (EAC3(), "mpegts fmp4 lowLatency"),
        (G711(), "mpegts fmp4 lowLatency"),
        (Speex(), ""),
        (H264(), ""),
        (VP8(), ""),
    ],
    ids=lambda value: value.name if isinstance(value, Codec) else None,
)
def test_where_hls_gets_aac(codec: Codec, variants: str) -> None:
    assert [variant.value for variant in Variant if is_converted(variant, Track(0, codec))] == variants.split()


@pytest.mark.parametrize(("variant", "name"), [("mpegts", "mp4a.40.2"), ("fmp4", "opus")])
async def test_hls_of_a_microphone(variant: str, name: str) -> None:
    async with (
        running(hlsVariant=variant) as (app, log),
        httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port(app, 'HLS')}", timeout=PATIENCE, trust_env=False, verify=False
        ) as http,
    ):
        for _ in range(2):  # the publisher returns, and the muxer goes on
            microphone = Microphone(app, "mic", Opus())
            async with speaking(microphone):
                playlist = await http.get("/mic/stream.m3u8?_HLS_msn=0")
                assert playlist.status_code == 200, playlist.text
                index = await http.get("/mic/index.m3u8")
                assert f'CODECS="{name}"' in index.text
                assert len(transcoder_threads()) == (variant == "mpegts")
            microphone.end()
            await until(lambda: not transcoder_threads(), log.lines)
        assert len([line for line in log.lines if "is converting to HLS" in line]) == 2
        assert not log.find("is skipped")


async def test_what_the_setting_would_do_for_hls_is_told() -> None:
    async with running({}) as (app, log):
        microphone = Microphone(app, "cam", H264(), G711())
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port(app, 'HLS')}", trust_env=False, verify=False
        ) as http:
            request = asyncio.create_task(http.get("/cam/index.m3u8"))
            await log.wait(
                r"track 2 \(PCMU\) is skipped: HLS cannot carry it in this variant; "
                "transcodeAudio: yes converts PCMU to AAC"
            )
            request.cancel()
        microphone.end()


async def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(StartError, match="transcodeAudio needs the packages av and numpy"):
        async with running():
            pass
    async with running({}) as (app, _):
        with pytest.raises(PolycastError, match="transcodeAudio needs the packages av and numpy"):
            await app.settings.replace(from_mapping({**SERVERS, "paths": {"all": CONVERTS}}))
        assert not app.hub.path("cam").configuration.transcode_audio
