"""Delay of a browser's picture: from drawing it, in a browser or in a program that publishes over RTSP, to the moment
when Chromium shows it, over WebRTC and over Low-Latency HLS.

``python -m bench.browser_delay`` measures one way after the other and prints a table. Pictures carry the time at which
they were drawn, as in ``bench.library``; drawing page and watching page use the same clock.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.browser import PROGRAMS, Browser, Page, launch

import polycast
from bench.certificate import write_certificate
from bench.library import BITS, RATE, SMALL, SQUARE, WRAP, base_picture, draw

DURATION = 20.0  # seconds of each measurement
QUICK_DURATION = 5.0
SETTLING_SECONDS = 8.0
"""Seconds that do not count: a browser begins with a buffer that it makes smaller."""
TARGET = 150.0  # milliseconds, median, over WebRTC
PATIENCE = 60.0  # seconds for a page to begin

FLAGS = ("--autoplay-policy=no-user-gesture-required", "--disable-features=WebRtcHideLocalIpsWithMdns")

PUBLISH = f"""(() => {{
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [{SMALL[0]}, {SMALL[1]}];
  const context = canvas.getContext("2d");
  let index = 0;
  setInterval(() => {{
    context.fillStyle = "#406080";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = "#dcdc28";
    context.fillRect(index++ * 8 % (canvas.width - 64), 64, 64, 64);
    const moment = Math.floor((performance.timeOrigin + performance.now()) * 1000) % {WRAP};
    for (let bit = 0; bit < {BITS}; bit++) {{
      context.fillStyle = Math.floor(moment / 2 ** bit) % 2 ? "#ebebeb" : "#101010";
      context.fillRect(bit * {SQUARE}, 0, {SQUARE}, {SQUARE});
    }}
  }}, 1000 / {RATE});
  const stream = canvas.captureStream({RATE});
  stream.getVideoTracks()[0].contentHint = "motion";
  self.publisher = new WebRTCPublisher({{
    url: new URL("whip", location.href).href, stream, videoCodec: "h264", videoBitrate: 2000,
  }});
}})()"""
"""JavaScript: draw pictures with their time and publish them."""

WATCH = f"""(() => {{
  const video = document.querySelector("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [{BITS * SQUARE}, {SQUARE}];
  const context = canvas.getContext("2d", {{ willReadFrequently: true }});
  self.delays = [];
  const onFrame = () => {{
    const now = Math.floor((performance.timeOrigin + performance.now()) * 1000) % {WRAP};
    const scale = video.videoWidth / {SMALL[0]};
    context.drawImage(
      video, 0, 0, canvas.width * scale, canvas.height * scale, 0, 0, canvas.width, canvas.height);
    const pixels = context.getImageData(0, {SQUARE // 2}, canvas.width, 1).data;
    let moment = 0;
    for (let bit = 0; bit < {BITS}; bit++) {{
      if (pixels[4 * (bit * {SQUARE} + {SQUARE // 2}) + 1] > 127) moment += 2 ** bit;
    }}
    self.delays.push((now - moment + {WRAP}) % {WRAP} / 1000);
    video.requestVideoFrameCallback(onFrame);
  }};
  video.requestVideoFrameCallback(onFrame);
}})()"""
"""JavaScript: collect the milliseconds from drawing to showing of each picture that is shown."""


@dataclass
class Delay:
    """The result of one way, in milliseconds."""

    name: str
    target: float | None
    median: float
    p99: float
    frames: int


def publish_over_rtsp(url: str, stop: Event) -> None:
    """Publish pictures with their time over RTSP until told to stop; runs in a process of its own."""
    base = base_picture(SMALL)
    with polycast.publish(url, size=SMALL, rate=RATE) as video:
        begin = time.monotonic()
        index = 0
        while not stop.wait(max(0.0, begin + index / RATE - time.monotonic())):
            video.write(draw(base, index, time.time_ns()))
            index += 1


@contextlib.contextmanager
def rtsp_publisher(url: str) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=publish_over_rtsp, args=(url, stop))
    process.start()
    try:
        yield
    finally:
        stop.set()
        process.join()


@contextlib.asynccontextmanager
async def browser_publisher(address: str) -> AsyncIterator[None]:
    """A browser of its own, since a page that nobody sees is slowed down."""
    async with launch(*FLAGS, ignore_certificates=True) as browser:
        page = await browser.open(address)
        await page.wait_for("typeof WebRTCPublisher === 'function'")
        await page.evaluate(PUBLISH)
        yield


async def measure(browser: Browser, name: str, address: str, seconds: float, target: float | None) -> Delay:
    page: Page = await browser.open(address)
    await page.wait_for("document.querySelector('video')?.getVideoPlaybackQuality().totalVideoFrames > 0", PATIENCE)
    await page.evaluate(f"new Promise((resolve) => setTimeout(resolve, {SETTLING_SECONDS * 1000}))")
    await page.evaluate(WATCH)
    await page.evaluate(f"new Promise((resolve) => setTimeout(resolve, {seconds * 1000}))")
    delays = sorted(await page.evaluate("self.delays"))
    await page.close()
    if not delays:
        return Delay(name, target, float("nan"), float("nan"), 0)
    return Delay(name, target, statistics.median(delays), delays[int(0.99 * (len(delays) - 1))], len(delays))


async def measure_all(seconds: float, folder: Path) -> list[Delay]:
    write_certificate(folder)
    files = {
        key: str(folder / f"server.{suffix}")
        for protocol in ("hls", "webrtc")
        for key, suffix in ((f"{protocol}ServerKey", "key"), (f"{protocol}ServerCert", "crt"))
    }
    settings = {
        "rtspAddress": "127.0.0.1:0", "webrtc": True, "webrtcAddress": "127.0.0.1:0", "webrtcEncryption": True,
        "webrtcLocalUDPAddress": "127.0.0.1:0", "hls": True, "hlsAddress": "127.0.0.1:0", "hlsVariant": "lowLatency",
        "hlsEncryption": True, "hlsAlwaysRemux": True, **files,
    }  # fmt: skip
    results = []
    with polycast.Server(settings) as server:
        webrtc, hls = (f"https://127.0.0.1:{server.ports[name]}" for name in ("webrtcAddress", "hlsAddress"))
        async with (
            browser_publisher(f"{webrtc}/page/publish"),
            launch(*FLAGS, ignore_certificates=True) as browser,
        ):
            results.append(await measure(browser, "browser, WebRTC", f"{webrtc}/page/", seconds, TARGET))
            results.append(await measure(browser, "browser, Low-Latency HLS", f"{hls}/page/", seconds, None))
        with rtsp_publisher(server.url("program")):
            async with launch(*FLAGS, ignore_certificates=True) as browser:
                results.append(await measure(browser, "RTSP, WebRTC", f"{webrtc}/program/", seconds, TARGET))
                results.append(await measure(browser, "RTSP, Low-Latency HLS", f"{hls}/program/", seconds, None))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.browser_delay", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DURATION:g} s each, not {DURATION:g} s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    options = parser.parse_args()
    if not any(map(shutil.which, PROGRAMS)):
        print("Chromium is not installed: no delays in browsers")
        return 0
    seconds = QUICK_DURATION if options.quick else DURATION
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="browser-delay-") as folder:
        results = asyncio.run(measure_all(seconds, Path(folder)))
    print(f"\ndrawn to shown, {SMALL[0]}x{SMALL[1]} at {RATE} frames/s     median       p99   frames   target")
    for delay in results:
        target = f"{delay.target:5.0f} ms" if delay.target else "       -"
        print(f"{delay.name:38} {delay.median:7.1f} ms {delay.p99:6.1f} ms {delay.frames:6} {target}")
    if options.json:
        options.json.write_text(json.dumps([asdict(delay) for delay in results], indent=2))
    missed = [delay.name for delay in results if delay.target and not 0 < delay.median < delay.target]
    print("\nall targets met" if not missed else f"\ntargets missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
