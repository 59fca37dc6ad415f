"""nginx with files of the sizes that the HLS server has in memory, to be measured alongside it."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from bench.certificate import write_certificate
from bench.media import BITS_PER_SECOND, FRAMES_PER_SECOND, SyntheticStream
from bench.model import Setup, Subject
from bench.nginx import SEARCH_PATH, pid_file

LOW_LATENCY_BITS_PER_SECOND = 1_000_000
FRAMES_PER_PART = 6  # of 200 ms
BOX_SIZE = 250  # bytes of a fragment beside its frames
PLAYLIST_SIZE = 3000  # bytes of a Low-Latency playlist with seven segments
PLAIN_PLAYLIST_SIZE = 1000

_CONFIGURATION = """\
daemon off;
master_process off;
pid {pid};
error_log stderr error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  open_file_cache max=100;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  types {{ application/vnd.apple.mpegurl m3u8; video/mp4 mp4; }}
  server {{
    listen 127.0.0.1:{port};
    listen 127.0.0.1:{hls_port} {tls};
    root {folder};
    add_header Cache-Control no-cache;
    add_header Access-Control-Allow-Origin *;
    {certificate}
  }}
}}
"""


def find_low_latency() -> Subject | None:
    """nginx with parts, over HTTPS; None if it is not installed."""
    return _find(encrypted=True)


def find_plain() -> Subject | None:
    """nginx with segments, over HTTP; None if it is not installed."""
    return _find(encrypted=False)


def _find(*, encrypted: bool) -> Subject | None:
    program = shutil.which("nginx", path=SEARCH_PATH)
    if program is None:
        return None

    def configure(setup: Setup) -> str:
        folder = _make_files(encrypted)
        names = f"ssl_certificate {folder}/server.crt; ssl_certificate_key {folder}/server.key;" if encrypted else ""
        return _CONFIGURATION.format(
            folder=folder,
            port=setup.port,
            pid=pid_file(setup.port),
            hls_port=setup.second_port,
            tls="ssl" if encrypted else "",
            certificate=names,
        )

    return Subject("nginx, files", [program, "-e", "stderr", "-c", "{config}"], configure)


@cache
def _make_files(low_latency: bool) -> Path:
    """Make a playlist that lists the files of ten seconds; players that find no blocking reload ask by the clock."""
    folder = Path(tempfile.mkdtemp(prefix="bench-files-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if low_latency:
        write_certificate(folder)
    media = SyntheticStream(LOW_LATENCY_BITS_PER_SECOND if low_latency else BITS_PER_SECOND)
    step = FRAMES_PER_PART if low_latency else FRAMES_PER_SECOND
    stream = folder / "bench0"
    stream.mkdir()
    lines = ["#EXTM3U", "#EXT-X-VERSION:9", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:7"]
    for index in range(10 * FRAMES_PER_SECOND // step):
        size = sum(media.frame(number).size for number in range(index * step, (index + 1) * step)) + BOX_SIZE
        name = f"file{index}.mp4"
        (stream / name).write_bytes(os.urandom(size))
        lines += ["#EXTINF:1,", name] if not low_latency else [f'#EXT-X-PART:DURATION=0.2,URI="{name}"']
    text = "\n".join(lines).encode() + b"\n"
    text += b"#" * ((PLAYLIST_SIZE if low_latency else PLAIN_PLAYLIST_SIZE) - len(text))
    (stream / "stream.m3u8").write_bytes(text)
    return folder
