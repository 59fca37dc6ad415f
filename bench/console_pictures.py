"""Pictures of every page of the console, light, dark and on a phone: ``python -m bench.console_pictures <folder>``.

Starts a server with some streams that FFmpeg makes, readers, and a source that fails. Needs Chromium and FFmpeg.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.browser import Page, launch
from tests.support.waiting import until

from polycast.app import Application
from polycast.config import load
from polycast.control.console import history

STREAMS: Final = {
    "entrance": ("testsrc2=size=1280x720:rate=25", 25),
    "yard/north": ("mandelbrot=size=640x360:rate=15:maxiter=300", 30),
    "yard/south": ("life=size=320x180:rate=15:mold=10:life_color=#50d080:death_color=#103020,scale=640:360", 15),
    "studio/main": ("smptehdbars=size=1280x720:rate=30", 60),
    "drone": ("sierpinski=size=640x360:rate=25", 50),
}

CONFIGURATION: Final = """\
# The cameras of the house.
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]
rtmpAddress: 127.0.0.1:0
hlsAddress: 127.0.0.1:0
webrtc: yes
webrtcAddress: 127.0.0.1:0
webrtcLocalUDPAddress: 127.0.0.1:0
srt: no
api: yes
apiAddress: 127.0.0.1:0
apiPersist: yes
playback: yes
playbackAddress: 127.0.0.1:0
authInternalUsers:
  - user: any
    permissions: [{action: publish}, {action: read}, {action: playback}]
  - user: any
    ips: [127.0.0.1, '::1']
    permissions: [{action: api}, {action: metrics}]
  - user: viewer
    pass: sha256:bdSNCQTqZFEtCJdCVgFUOMlEs1k2F5Kfzl3bJcFvZPI=
    permissions: [{action: read, path: '~^yard/'}]
paths:
  garage:
    source: rtsp://admin:secret@127.0.0.1:1/stream1
  attic:
    source: rtsp://127.0.0.1:2/stream1
    sourceOnDemand: yes
  entrance:
    record: yes
    recordPath: recordings/%path/%Y-%m-%d_%H-%M-%S-%f
  all_others:
"""

PAGES: Final = {
    "overview": "",
    "streams": "streams",
    "stream": "streams/entrance",
    "cameras": "cameras",
    "sessions": "sessions",
    "log": "log",
    "settings": "configuration",
    "paths": "configuration/paths",
    "file": "configuration/file",
    "versions": "configuration/versions",
    "users": "users",
}

LOOKS: Final = {"light": ("light", 1360, 900), "dark": ("dark", 1360, 900), "phone": ("light", 360, 780)}


@contextlib.contextmanager
def publishers(port: int) -> Iterator[None]:
    """Publish the streams."""
    with contextlib.ExitStack() as stack:
        for name, (picture, interval) in STREAMS.items():
            url = f"rtsp://127.0.0.1:{port}/{name}"
            publish = ["-re", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
            encode = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", str(interval)]
            sound = ["-pix_fmt", "yuv420p", "-c:a", "aac", "-f", "rtsp", "-rtsp_transport", "tcp", url]
            _start(stack, [*publish, *encode, *sound])
        yield


@contextlib.contextmanager
def readers(port: int) -> Iterator[None]:
    """Read some of the streams."""
    with contextlib.ExitStack() as stack:
        for name in ("entrance", "entrance", "yard/north", "studio/main"):
            url = f"rtsp://127.0.0.1:{port}/{name}"
            _start(stack, ["-rtsp_transport", "tcp", "-i", url, "-c", "copy", "-f", "null", "-"])
        yield


def _start(stack: contextlib.ExitStack, arguments: list[str]) -> None:
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


async def show(page: Page, address: str, look: str) -> None:
    """Open a page as it looks with a theme and a size, and wait until it has loaded."""
    theme, width, height = LOOKS[look]
    await page.resize(width, height)
    await page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    await page.navigate("about:blank")
    await page.navigate(address)
    await page.wait_for("document.querySelector('#main h1')")


async def take(folder: Path, only: list[str]) -> None:
    """Write the pictures into a folder."""
    history.INTERVAL = 1.0  # type: ignore[misc]  # an hour would be too long
    log = logging.getLogger("polycast")
    log.setLevel(logging.INFO)
    log.propagate = False
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        Path("polycast.yml").write_text(CONFIGURATION)
        application = Application(load("polycast.yml", {}))
        await application.start()
        try:
            await _with_streams(application, folder, only)
        finally:
            await application.stop()
            shutil.rmtree("recordings", ignore_errors=True)


async def _with_streams(application: Application, folder: Path, only: list[str]) -> None:
    port = application.servers["RTSP"].ports["rtspAddress"]
    paths = application.hub.paths
    with publishers(port):
        for name in STREAMS:
            await until(lambda name=name: name in paths and paths[name].stream)  # type: ignore[misc]
        with readers(port):
            async with launch() as browser:
                root = f"http://127.0.0.1:{application.control.ports['apiAddress']}/"
                page = await browser.open(root)
                await page.wait_for("document.querySelector('#main h1')")
                await asyncio.sleep(20)
                for name, look in itertools.product(only or PAGES, LOOKS):
                    await show(page, f"{root}#/{PAGES[name]}", look)
                    await asyncio.sleep(4.5)
                    await _whole(page, folder / f"{name}-{look}.png")
                    print(name, look, *page.console, sep="\n  ", flush=True)
                    page.console.clear()


async def _whole(page: Page, file: Path) -> None:
    """Take a picture of the whole page, however long it is."""
    width, height = await page.evaluate("[innerWidth, Math.min(3000, document.documentElement.scrollHeight)]")
    overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if overflow > 0:
        print(f"  {file.name}: {overflow} pixels too wide")
    await page.resize(width, height)
    await page.screenshot(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("pages", nargs="*", choices=[*PAGES, []])
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(folder, arguments.pages))


if __name__ == "__main__":
    main()
