"""How long a player takes to its first picture: ``python -m bench.first_picture``.

FFmpeg publishes a stream with a key frame each second. FFmpeg reads it over each protocol, from the start of the
program until the first picture is decoded, and so does the library; Chromium opens the pages of WebRTC and HLS. Players
start at all moments between two key frames.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Final

from tests.browser import launch

import polycast

TRIES: Final = 7
PUBLISH: Final = (
    "ffmpeg -v error -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=r=48000 -c:v libx264 "
    "-preset ultrafast -tune zerolatency -g 30 -pix_fmt yuv420p -c:a aac -f rtsp -rtsp_transport tcp"
)
QUICK: Final = ("-fflags", "nobuffer", "-analyzeduration", "100000", "-fpsprobesize", "0")
"""Otherwise FFmpeg looks at a stream for up to five seconds before it decodes."""
ADDRESSES: Final = {
    "RTSP over TCP": ("rtspAddress", "rtsp://127.0.0.1:{port}/cam", ("-rtsp_transport", "tcp")),
    "RTSP over UDP": ("rtspAddress", "rtsp://127.0.0.1:{port}/cam", ("-rtsp_transport", "udp")),
    "RTMP": ("rtmpAddress", "rtmp://127.0.0.1:{port}/cam", ()),
    "SRT": ("srtAddress", "srt://127.0.0.1:{port}?streamid=read:cam", ()),
    "HTTP-FLV": ("hlsAddress", "http://127.0.0.1:{port}/cam/stream.flv", ()),
    "Low-Latency HLS": ("hlsAddress", "http://127.0.0.1:{port}/cam/index.m3u8", ("-live_start_index", "-1")),
}
SETTINGS: Final = {
    "rtspAddress": "127.0.0.1:0", "rtpAddress": "127.0.0.1:0", "rtcpAddress": "127.0.0.1:0",
    "rtmpAddress": "127.0.0.1:0", "srt": True, "srtAddress": "127.0.0.1:0", "hlsAddress": "127.0.0.1:0",
    "rtmp": True, "hls": True, "hlsAlwaysRemux": True, "httpStreams": True, "webrtc": True,
    "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0",
}  # fmt: skip


@contextlib.contextmanager
def published(server: polycast.Server) -> Iterator[None]:
    """Publish the stream, and wait until it can be read."""
    process = subprocess.Popen([*PUBLISH.split(), f"{server.url()}cam"])
    try:
        with polycast.read(f"{server.url()}cam", timeout=30) as frames:
            next(frames)
        time.sleep(4)  # until HLS has some segments
        yield
    finally:
        process.kill()
        process.wait()


def with_ffmpeg(url: str, options: tuple[str, ...]) -> Callable[[], None]:
    """Return what reads one picture."""
    command = ["ffmpeg", "-v", "error", *QUICK, *options, "-i", url, "-an", "-frames:v", "1", "-f", "null", "-"]

    def read() -> None:
        subprocess.run(command, check=True, timeout=60)

    return read


def median(read: Callable[[], None]) -> float:
    """Return how many seconds it takes, started at different moments of the time between key frames."""
    times = []
    for number in range(TRIES):
        time.sleep(0.3 + number / TRIES)
        begin = time.perf_counter()
        read()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


async def with_browser(urls: dict[str, str]) -> None:
    """Print how long pages take, from their opening to the first picture."""
    async with launch() as browser:
        for name, url in urls.items():
            times = []
            for number in range(TRIES):
                await asyncio.sleep(0.3 + number / TRIES)
                begin = time.perf_counter()
                page = await browser.open(url)
                await page.wait_for("document.querySelector('video')?.currentTime > 0")
                times.append(time.perf_counter() - begin)
                await page.call("Page.navigate", url="about:blank")
            print(f"{name:24} {statistics.median(times):5.2f} s", flush=True)


def main() -> None:
    """Print a table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with polycast.Server(SETTINGS) as server, published(server):

        def library() -> None:
            with polycast.read(f"{server.url()}cam", timeout=30) as frames:
                next(frames)

        print(f"{'library, RTSP over TCP':24} {median(library):5.2f} s", flush=True)
        for name, (key, address, options) in ADDRESSES.items():
            port = server.ports[key]
            print(f"{name:24} {median(with_ffmpeg(address.format(port=port), options)):5.2f} s", flush=True)
        pages = {"WebRTC in Chromium": "webrtcAddress", "HLS in Chromium": "hlsAddress"}
        urls = {name: f"http://127.0.0.1:{server.ports[key]}/cam/" for name, key in pages.items()}
        asyncio.run(with_browser(urls))


if __name__ == "__main__":
    main()
