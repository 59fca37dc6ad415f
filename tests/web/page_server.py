"""A small HTTP server with the pages and, below ``/live/cam/``, an HLS stream that FFmpeg makes.

It stands in for Polycast's own server, so that the pages are tested apart from it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.interop import tools
from tests.support import made

from polycast import web

DEPTH = 2
PREFIX = "/live/cam/"
EMBEDDING = "/embedding.html"
RATE = 15
MEDIA = (
    "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate={RATE}", "-f", "lavfi", "-i", "sine=sample_rate=48000",
    "-t", "20", "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", f"{RATE}",
    "-pix_fmt", "yuv420p", "-b:v", "400k", "-c:a", "aac", "-b:a", "64k",
)  # fmt: skip
TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".mp4": "video/mp4", ".m4s": "video/mp4", ".ts": "video/mp2t"}


class Site:
    """What the server answers; tests change it while it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = 0
        """Sent for everything below the stream's address instead of the files, unless 0."""
        self.problem: dict[str, Any] | None = None
        """Problem details that are sent with the status."""
        self.page_problem = ""
        """Problem details (JSON) that the page itself holds, as it does when it is refused."""
        self.playlist: bytes | None = None
        """Sent instead of the file ``index.m3u8``."""
        self.credentials = ""
        """User and password (``user:password``) without which nothing is answered, unless empty."""
        self.embedding = ""
        """A page of somebody else's, at ``EMBEDDING``."""
        self.paths: Any = []
        self.requests: list[str] = []
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, target: str) -> tuple[int, bytes, dict[str, str]]:
        """Return status, body and headers for a request."""
        path = urlsplit(target).path
        self.requests.append(target)
        if path == PREFIX and self.page_problem:
            return 403, web.page_with_problem(DEPTH, self.page_problem), {"Content-Type": "text/html"}
        if path == "/" or path == PREFIX:
            page = web.page(web.INDEX_PAGE) if path == "/" else web.page(web.PLAYER_PAGE, DEPTH)
            return self._asset(page, {"Content-Security-Policy": web.CONTENT_SECURITY_POLICY})
        if path == EMBEDDING:
            return 200, self.embedding.encode(), {"Content-Type": "text/html"}
        if path == "/_polycast/paths.json":
            return 200, json.dumps(self.paths).encode(), {"Content-Type": "application/json"}
        if path.startswith("/_polycast/"):
            asset = web.asset(path.removeprefix("/_polycast/"))
            return self._asset(asset, {}) if asset is not None else (404, b"", {})
        if not path.startswith(PREFIX):
            return 404, b"", {}
        return self._media(path.removeprefix(PREFIX))

    @staticmethod
    def _asset(asset: web.Asset, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        own = {"Content-Type": asset.content_type, "ETag": asset.etag, "Cache-Control": asset.cache_control}
        return 200, asset.gzip_body, {**own, **headers, "Content-Encoding": "gzip"}

    def _media(self, name: str) -> tuple[int, bytes, dict[str, str]]:
        if self.status and self.problem is not None:
            return self.status, json.dumps(self.problem).encode(), {"Content-Type": "application/problem+json"}
        if self.status:
            return self.status, b"", {}
        file = self.folder / name
        headers = {"Content-Type": TYPES.get(file.suffix, ""), "Cache-Control": "no-cache"}
        if name == "index.m3u8" and self.playlist is not None:
            return 200, self.playlist, headers
        try:
            return 200, file.read_bytes(), headers
        except OSError:
            return 404, b"", {}


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve a site on a free port of the loopback interface."""
    site = Site(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = "Basic " + base64.b64encode(site.credentials.encode()).decode()
            if site.credentials and self.headers.get("Authorization") != wanted:
                status, body, headers = 401, b"", {"WWW-Authenticate": 'Basic realm="test"'}
            else:
                status, body, headers = site.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the browser closes connections as it likes
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Publisher:
    """FFmpeg, making an HLS stream of a file in a folder; what it made goes when it stops, as with a real server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._media = made.by_ffmpeg(".mp4", *MEDIA)
        self._process: subprocess.Popen[bytes] | None = None
        self._runs = 0

    def start(self, *, container: str = "fmp4", audio: bool = True, video: bool = True) -> None:
        self._runs += 1
        run = f"{self._runs}"
        tracks = [*(("-map", "0:v") if video else ()), *(("-map", "0:a") if audio else ())]
        extension = "ts" if container == "mpegts" else "m4s"
        self._folder.mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            [
                *tools.quick_ffmpeg("-re", "-stream_loop", "-1", "-i", self._media, *tracks, "-c", "copy"),
                "-f", "hls", "-hls_time", "1", "-hls_list_size", "6", "-hls_segment_type", container,
                "-hls_flags", "delete_segments+program_date_time+independent_segments+omit_endlist",
                "-hls_fmp4_init_filename", f"init{run}.mp4", "-hls_segment_filename", f"{run}-%d.{extension}",
                "-master_pl_name", "index.m3u8", "stream.m3u8",
            ],
            cwd=self._folder,
        )  # fmt: skip

    def suspend(self) -> None:
        """Make no more segments, and keep what there is."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)
