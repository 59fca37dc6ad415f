"""WebRTC in Chromium and Firefox: they publish and watch, near live, also over a network that loses packets."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from tests.browser import CLOCK, Browser, Page, launch
from tests.interop import tools
from tests.protocols.sources.test_supervision import Frames
from tests.protocols.webrtc.lossy_network import LossyNetwork
from tests.protocols.webrtc.support import Fixture, running
from tests.support import made
from tests.support.waiting import PATIENCE

from polycast.hub.batch import FrameBatch
from polycast.media.codec import Kind
from polycast.media.frame import Frame
from polycast.wire.webrtc.candidates import Candidate, host_priority

pytestmark = pytest.mark.interop

FULL = os.environ.get("POLYCAST_SOAK") == "full"
WATCH_SECONDS = 30 if FULL else 3
LONGEST_FREEZE_MS = 300 if FULL else 1500
"""Time for which the picture may stand still longer than the publisher's; a busy machine stands still by itself."""
LEAST_SHOWN = 1 / 3
"""Part of the pictures that came to the server meanwhile."""
RATE = 30 if FULL else 15
"""Pictures a second that FFmpeg publishes; how smoothly many are shown is judged by the long run."""

FLAGS = (
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--window-size=640,360",
)
RTSP = {"rtspDisable": False, "protocols": "tcp", "rtspAddress": "127.0.0.1:0"}
BARS = ((192, 192, 192), (192, 192, 0), (0, 192, 192), (0, 192, 0), (192, 0, 192), (192, 0, 0), (0, 0, 192))
"""Colours of the upper part of FFmpeg's ``smptebars``, from the left."""
TOLERANCE = 45

WATCH = f"""(() => new Promise((resolve) => {{
  {CLOCK}
  const video = document.querySelector("video"), canvas = document.createElement("canvas");
  const frames = () => video.getVideoPlaybackQuality().totalVideoFrames;
  const found = {{ frames: frames(), gap: 0, colours: [] }};
  let still = 0, watched = 0, shown = 0;
  const onFrame = () => {{
    still = 0;
    shown++;
    video.requestVideoFrameCallback(onFrame);
  }};
  video.requestVideoFrameCallback(onFrame);
  const stop = ticking(20, (step) => {{
    still += step;
    watched += step;
    found.gap = Math.max(found.gap, still);
    if (watched < %d) return;
    stop();
    found.frames = Math.max(frames() - found.frames, shown);  // Firefox counts none of a MediaStream
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    for (let bar = 0; bar < 7; bar++) {{
      const x = Math.floor((bar + 0.5) * canvas.width / 7);
      found.colours.push([...context.getImageData(x, Math.floor(canvas.height / 4), 1, 1).data.slice(0, 3)]);
    }}
    resolve(found);
  }});
}}))()"""


@contextlib.contextmanager
def ffmpeg(port: int, name: str, *codecs: str, sound_codec: str = "libopus", rate: int = RATE) -> Any:
    """Publish colour bars over RTSP."""
    media = made.by_ffmpeg(
        ".mkv", "-f", "lavfi", "-i", f"smptebars=size=320x180:rate={rate}",
        "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "10",
        *codecs, "-c:a", sound_codec, "-ac", "2",
    )  # fmt: skip
    command = tools.quick_ffmpeg(
        "-re", "-stream_loop", "-1", "-i", media, "-c", "copy",
        "-f", "rtsp", "-rtsp_transport", "tcp", f"rtsp://127.0.0.1:{port}/{name}",
    )  # fmt: skip
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


_X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", str(RATE))
H264 = (*_X264, "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "1M")
HIGH = (*_X264, "-preset", "veryfast", "-bf", "0", "-profile:v", "high")
H265 = (
    "-c:v", "libx265", "-preset", "ultrafast", "-g", str(2 * RATE), "-x265-params", "log-level=error", "-bf", "2",
)  # fmt: skip
VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", str(RATE), "-b:v", "1M")


async def published(fixture: Fixture, name: str) -> None:
    await fixture.until(lambda: fixture.app.hub.path(name).stream is not None)


def address(fixture: Fixture, name: str) -> str:
    return f"http://localhost:{fixture.server.port}/{name}/"


class Pictures(Frames):
    """The pictures of a stream and when they came to the server: a browser on a busy machine is judged by them, as the
    publisher has to do with the same machine."""

    def __init__(self, fixture: Fixture, name: str = "cam") -> None:
        super().__init__()
        self.moments: list[float] = []
        path = fixture.path(name)
        assert path.stream is not None
        self._video = next(track.index for track in path.stream.descriptions if track.codec.kind is Kind.VIDEO)
        path.attach_reader(self, path.stream)

    def deliver_frames(self, batch: FrameBatch) -> None:
        now = time.monotonic()
        self.moments += [now for index, entry in batch.entries if index == self._video and isinstance(entry, Frame)]

    def check(self, found: dict[str, Any], seconds: float = WATCH_SECONDS) -> None:
        """Check that the browser has shown enough of what came in the last seconds, and nearly as evenly."""
        end = time.monotonic()
        moments = [end - seconds, *(moment for moment in self.moments if moment > end - seconds), end]
        gap = 1000 * max(two - one for one, two in itertools.pairwise(moments))
        print(f"{len(moments) - 2} pictures came in {seconds:.1f} s, longest gap {gap:.0f} ms")
        assert found["frames"] > max(WATCH_SECONDS, LEAST_SHOWN * (len(moments) - 2))
        assert found["gap"] < LONGEST_FREEZE_MS + gap


async def watch(page: Page, fixture: Fixture) -> dict[str, Any]:
    """Watch the picture of the path ``cam`` for a while; return what was seen, after a check."""
    pictures = Pictures(fixture)
    await page.wait_for("document.querySelector('#player').dataset.state === 'running'")
    await page.wait_for("document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames > 0")
    begin = time.monotonic()
    found: dict[str, Any] = await page.evaluate(WATCH % (WATCH_SECONDS * 1000), seconds=WATCH_SECONDS)
    print(f"{found['frames']} frames in {WATCH_SECONDS} s, longest freeze {found['gap']:.0f} ms")
    pictures.check(found, time.monotonic() - begin)
    return found


def check_bars(found: dict[str, Any]) -> None:
    for seen, expected in zip(found["colours"], BARS, strict=True):
        assert all(abs(one - other) <= TOLERANCE for one, other in zip(seen, expected, strict=True)), found


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with launch(*FLAGS) as browser:
        yield browser


@pytest.mark.parametrize("codecs", [H264, HIGH, VP8], ids=["H264 baseline", "H264 high", "VP8"])
async def test_chromium_watches_what_ffmpeg_publishes(codecs: tuple[str, ...]) -> None:
    async with running(**RTSP) as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        with ffmpeg(port, "cam", *codecs):
            await published(fixture, "cam")
            async with chromium() as browser:
                page = await browser.open(address(fixture, "cam"))
                found = await watch(page, fixture)
    check_bars(found)


ONLY_TCP: dict[str, Any] = {"webrtcLocalUDPAddress": "", "webrtcLocalTCPAddress": "127.0.0.1:0"}


async def test_chromium_publishes_and_watches_over_tcp() -> None:
    """The server has no UDP port, as if a firewall blocked it."""
    async with running(**ONLY_TCP) as fixture, chromium() as browser:
        publisher = await browser.open(f"{address(fixture, 'cam')}publish?autostart=yes&video-width=640")
        await published(fixture, "cam")
        viewer = await browser.open(address(fixture, "cam"))
        await watch(viewer, fixture)
        candidates = [item.remote_candidate for item in fixture.server.items().values()]
        await publisher.close()
    assert [candidate.rpartition("/")[0] for candidate in candidates] == ["prflx/tcp/127.0.0.1"] * 2


async def test_chromium_prefers_udp() -> None:
    async with running(**RTSP, webrtcLocalTCPAddress="127.0.0.1:0") as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        with ffmpeg(port, "cam", *VP8):
            await published(fixture, "cam")
            async with chromium() as browser:
                await watch(await browser.open(address(fixture, "cam")), fixture)
                (item,) = fixture.server.items().values()
    assert item.remote_candidate.startswith("prflx/udp/")


HEARD = "document.querySelector('#video').srcObject.getAudioTracks().some((track) => !track.muted)"
"""A track is muted until its first packets arrive."""


@pytest.mark.parametrize("is_converted", [False, True])
async def test_chromium_hears_what_is_converted_and_else_says_why_not(is_converted: bool) -> None:
    async with running(**RTSP, webrtcTranscodeAudio=is_converted) as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        with ffmpeg(port, "cam", *H264, sound_codec="aac"):
            await published(fixture, "cam")
            async with chromium() as browser:
                page = await browser.open(address(fixture, "cam"))
                await page.wait_for("document.querySelector('#player').dataset.state === 'running'")
                if is_converted:
                    await page.wait_for(f"({HEARD})")
                    assert await page.evaluate("document.querySelector('#notice').hidden")
                else:
                    await page.wait_for("!document.querySelector('#notice').hidden")
                    notice = await page.evaluate("document.querySelector('#notice').textContent")
                    assert notice == (
                        "There is no sound, because WebRTC does not carry AAC; "
                        "webrtcTranscodeAudio: yes converts AAC to Opus."
                    )
                    assert not await page.evaluate(HEARD)


async def test_the_page_says_when_the_media_port_cannot_be_reached() -> None:
    sooner = """const later = window.setTimeout;
      window.setTimeout = (run, delay, ...rest) => later(run, delay === 12000 ? 300 : delay, ...rest);"""
    async with running(**RTSP) as fixture, launch() as browser:
        nowhere = [Candidate("192.0.2.1", 9, priority=host_priority(0))]  # of RFC 5737: nobody has it
        fixture.server.candidates = lambda: nowhere  # type: ignore[method-assign]
        with ffmpeg(fixture.app.servers["RTSP"].ports["rtspAddress"], "cam", *H264):
            await published(fixture, "cam")
            page = await browser.open("about:blank")
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=sooner)
            await page.navigate(f"http://127.0.0.1:{fixture.server.port}/cam/")
            await page.wait_for("document.getElementById('title').textContent.includes('media port cannot be reached')")


async def test_chromium_is_told_of_b_frames() -> None:
    async with running(**RTSP, webrtcReorder="refuse") as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        with ffmpeg(port, "cam", *_X264, "-preset", "veryfast", "-bf", "2"):
            await published(fixture, "cam")
            async with chromium() as browser:
                page = await browser.open(address(fixture, "cam"))
                title = "Browsers cannot show this stream over WebRTC"
                await page.wait_for(f"document.querySelector('#title').textContent === '{title}'")
                advice = await page.evaluate("document.querySelector('#advice').textContent")
                assert "B-frames" in advice
                assert "webrtcReorder: drop" in advice


@pytest.mark.parametrize(
    ("codecs", "notice"),
    [
        (
            (*_X264, "-preset", "veryfast", "-bf", "2"),
            "The picture is converted to H264 without B-frames, which browsers cannot show in WebRTC.",
        ),
        (
            H265,
            "The picture is converted from H265 to H264, because the viewer does not support H265.",
        ),
    ],
    ids=["B-frames", "H265"],
)
async def test_chromium_shows_what_is_converted(codecs: tuple[str, ...], notice: str) -> None:
    async with running(**RTSP, webrtcTranscodeVideo=True) as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        with ffmpeg(port, "cam", *codecs):
            await published(fixture, "cam")
            async with chromium() as browser:
                page = await browser.open(address(fixture, "cam"))
                await page.wait_for("!document.querySelector('#notice').hidden", 30)
                assert await page.evaluate("document.querySelector('#notice').textContent") == notice
                found = await watch(page, fixture)
    check_bars(found)


async def test_chromium_publishes_and_watches() -> None:
    async with running() as fixture, chromium() as browser:
        publisher = await browser.open(f"{address(fixture, 'cam')}publish?autostart=yes&video-width=640")
        await publisher.wait_for("document.querySelector('#status').dataset.state === 'running'")
        await published(fixture, "cam")
        viewer = await browser.open(address(fixture, "cam"))
        await watch(viewer, fixture)
        figures = await publisher.evaluate("document.querySelector('#figures').textContent")
        print(figures)
        assert "VP8" in figures


async def test_lost_data_is_sent_again() -> None:
    """5 % of all packets are lost either way, with a round trip of 60 ms."""
    async with running(**RTSP) as fixture:
        media = fixture.server.ports["webrtcLocalUDPAddress"]
        async with LossyNetwork(("127.0.0.1", media), 0.05, 0.03, seed=5) as network:
            shown = [Candidate("127.0.0.1", network.port, priority=host_priority(0))]
            fixture.server.candidates = lambda: shown  # type: ignore[method-assign]
            port = fixture.app.servers["RTSP"].ports["rtspAddress"]
            with ffmpeg(port, "cam", *H264, rate=30):
                await published(fixture, "cam")
                async with chromium() as browser:
                    page = await browser.open(address(fixture, "cam"))
                    found = await watch(page, fixture)
                    (session,) = (item for item in fixture.server.sessions().values() if item.state == "read")
            assert network.dropped > 4 * WATCH_SECONDS
    check_bars(found)
    print(f"{network.dropped} packets dropped, {session.packets_sent} sent")


FIREFOX_SETTINGS = """
user_pref("media.navigator.streams.fake", true);
user_pref("media.navigator.permission.disabled", true);
user_pref("media.autoplay.default", 0);
user_pref("media.peerconnection.ice.loopback", true);
user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("app.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("dom.ipc.processPrelaunch.enabled", false);
"""

FIREFOX_PAGE = """<!doctype html><video autoplay muted playsinline></video><script src="%sreader.js"></script><script>
const video = document.querySelector("video");
const report = (result) => fetch("/", { method: "POST", body: JSON.stringify(result) });
new WebRTCReader({
  url: "%swhep",
  onTrack: (event) => { video.srcObject = event.streams[0]; },
  onError: (text) => console.log(text),
});
video.addEventListener("playing", async () => report(await %s), { once: true });
</script>"""


class _Report(BaseHTTPRequestHandler):
    page: bytes
    asked: asyncio.Event
    is_published: Event
    result: asyncio.Future[bytes]
    loop: asyncio.AbstractEventLoop

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.loop.call_soon_threadsafe(self.asked.set)
        self.is_published.wait(PATIENCE)
        self._answer(self.page)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")
        self.loop.call_soon_threadsafe(lambda: self.result.done() or self.result.set_result(body))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


async def test_firefox_watches_what_ffmpeg_publishes(tmp_path: Path) -> None:
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if program is None:
        if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
            pytest.fail("Firefox is not installed")
        pytest.skip("Firefox is not installed")
    (tmp_path / "user.js").write_text(FIREFOX_SETTINGS)
    # Firefox makes no connections to loopback addresses.
    async with running(**RTSP, webrtcLocalUDPAddress=":0") as fixture:
        port = fixture.app.servers["RTSP"].ports["rtspAddress"]
        base = f"http://127.0.0.1:{fixture.server.port}/cam/"
        page = FIREFOX_PAGE % (base, base, WATCH % (WATCH_SECONDS * 1000))
        asked, is_published = asyncio.Event(), Event()
        loop = asyncio.get_running_loop()
        result = loop.create_future()
        handler = type("Report", (_Report,), {
            "page": page.encode(), "asked": asked, "is_published": is_published, "result": result, "loop": loop,
        })  # fmt: skip
        site = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        Thread(target=site.serve_forever, daemon=True).start()
        firefox = await asyncio.create_subprocess_exec(
            program, "--headless", "--no-remote", "--profile", str(tmp_path),
            f"http://127.0.0.1:{site.server_port}/",
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip
        try:
            await asyncio.wait_for(asked.wait(), PATIENCE)
            with ffmpeg(port, "cam", *VP8):  # no sooner: Firefox takes long to start, and pictures cost
                await published(fixture, "cam")
                pictures = Pictures(fixture)
                is_published.set()
                found = json.loads(await asyncio.wait_for(result, PATIENCE + WATCH_SECONDS))
                pictures.check(found)
        finally:
            is_published.set()
            firefox.terminate()
            await firefox.wait()
            site.shutdown()
            site.server_close()
    print(found)
    check_bars(found)
