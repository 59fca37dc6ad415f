"""Players that are not ours, as other people's web sites use them: hls.js, video.js and Shaka, from npm, on a plain
page of another origin that only asks them to play."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.browser import CLOCK
from tests.interop import tools

NPM_SECONDS = 120
CACHE = Path(os.environ.get("POLYCAST_NPM_CACHE", Path(tempfile.gettempdir()) / "polycast-npm"))

# What the documentation of each player tells to write; hls.js leaves what is fatal to the page.
_START_HLS = """
const hls = self.hls = new Hls(%(options)s);
hls.on(Hls.Events.ERROR, (_, data) => {
  self.troubles.push(`${data.details} ${data.fatal ? "fatal" : ""} ${data.response?.code ?? ""}`);
  if (data.fatal && data.type === Hls.ErrorTypes.NETWORK_ERROR) {
    setTimeout(() => hls.levels?.length ? hls.startLoad() : hls.loadSource(%(address)s), 500);
  } else if (data.fatal) {
    hls.recoverMediaError();
  }
});
hls.loadSource(%(address)s);
hls.attachMedia(video);
"""
_START_VIDEOJS = """
const player = self.player = videojs(video, { liveui: true, ...%(options)s });
player.on("error", () => self.troubles.push(player.error()?.message));
player.src({ src: %(address)s, type: "application/x-mpegURL" });
self.video = player.el().querySelector("video");
player.play();
"""
_START_SHAKA = """
shaka.polyfill.installAll();
const player = self.player = new shaka.Player();
const load = async () => {
  for (;;) {
    try {
      await player.load(%(address)s);
      break;
    } catch (error) {
      self.troubles.push(`load: ${error.code ?? error.stack}`);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
};
player.addEventListener("error", ({ detail }) => {
  self.troubles.push(`${detail.code ?? detail.stack}`);
  // Not an error of the stream, but an exception of its own (5.2 iterates over an empty segment index): it does not go
  // on by itself.
  if (detail.code === undefined) load();
});
(async () => {
  await player.attach(video);
  player.configure(%(options)s);
  await load();
})();
"""
_START_DASH = """
const player = dashjs.MediaPlayer().create();
player.on("error", ({ error }) => self.troubles.push(`${error.code} ${error.message}`));
player.updateSettings(%(options)s);
player.initialize(video, %(address)s, true);
"""
_PAGE = """<!doctype html>
<title>%(name)s</title>
<video id="video" muted autoplay playsinline width="320" height="180"></video>
<script>
self.troubles = [];
self.video = document.getElementById("video");
</script>
<script src="%(script)s"></script>
<script>
%(start)s
</script>
"""

WATCH = f"""(() => {{
  {CLOCK}
  const found = self.found = {{ stalls: [], longest: 0 }};
  let last = -1, still = 0;
  ticking(20, (step) => {{
    const time = self.video.currentTime;
    if (time === last) {{
      still += step;
    }} else {{
      if (still > 250) {{
        found.stalls.push(Math.round(still));
      }}
      still = 0;
    }}
    last = time;
    found.longest = Math.max(found.longest, still);
    found.still = still;
  }});
}})()"""
"""Notes for how many milliseconds the picture stood still."""


@dataclass(frozen=True)
class Player:
    """A player in one version."""

    package: str
    version: str
    script: str
    """The file in the package."""
    start: str

    def __str__(self) -> str:
        return f"{self.package}-{self.version}"


HLS_JS = [
    Player("hls.js", version, "dist/hls.min.js", _START_HLS)
    for version in ("1.4.14", "1.5.20", "1.6.15", "1.7.0", "latest")
]
VIDEO_JS = Player("video.js", "8", "dist/video.min.js", _START_VIDEOJS)
SHAKA = [
    Player("shaka-player", "4", "dist/shaka-player.compiled.js", _START_SHAKA),
    Player("shaka-player", "latest", "dist/shaka-player.compiled.js", _START_SHAKA),
]
PLAYERS = [*HLS_JS, VIDEO_JS, *SHAKA]
DASH_JS = Player("dashjs", "4", "dist/dash.all.min.js", _START_DASH)


def download(player: Player) -> Path:
    """Return the player's script, fetched with npm where it is not in the cache; skip the test when that cannot be."""
    folder = CACHE / f"{player.package}-{player.version}"
    script = folder / player.script
    if script.exists():
        return script
    tools.require("npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        command = ["npm", "pack", "--silent", f"{player.package}@{player.version}"]
        try:
            found = subprocess.run(command, cwd=scratch, capture_output=True, timeout=NPM_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            found = None
        if found is None or found.returncode:
            message = f"npm cannot fetch {player.package}@{player.version}"
            if os.environ.get("POLYCAST_REQUIRE_TOOLS"):
                pytest.fail(message)
            pytest.skip(message)
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            archive.extractall(scratch, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another test was faster
            (Path(scratch) / "package").rename(folder)
    return script


@dataclass
class Site:
    """Somebody's web site."""

    folder: Path
    port: int

    def page(self, player: Player, address: str, options: str = "{}") -> str:
        """Write a page that plays ``address``; return its own address. ``options`` is JavaScript."""
        script = download(player)
        shutil.copy(script, self.folder / f"{player}.js")
        start = player.start % {"options": options, "address": json.dumps(address)}
        name = f"{player}-{len(list(self.folder.iterdir()))}.html"
        (self.folder / name).write_text(_PAGE % {"name": player, "script": f"{player}.js", "start": start})
        return f"http://localhost:{self.port}/{name}"

    def wall(self, pages: Sequence[str]) -> str:
        """Write a page that shows others side by side, as a browser suspends what is in the background."""
        frames = "".join(f'<iframe src="{page}" width="340" height="220"></iframe>' for page in pages)
        (self.folder / "wall.html").write_text(f"<!doctype html>{frames}")
        return f"http://localhost:{self.port}/wall.html"


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def web_site(folder: Path) -> Iterator[Site]:
    """Serve pages from a folder below ``folder``, on another origin than the stream's."""
    pages = folder / "site"
    pages.mkdir()
    server = ThreadingHTTPServer(("localhost", 0), partial(_Handler, directory=str(pages)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Site(pages, server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
