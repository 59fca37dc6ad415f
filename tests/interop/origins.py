"""Real servers that hold the same two streams, for Polycast to pull from. Each is a context manager.

They serve ``h264-aac.mp4`` and ``h265-opus.mp4`` of a folder in real time, each under the name of its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import shutil
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.interop import tools

MEDIA = ("h264-aac", "h265-opus")
GSTREAMER_SERVER = Path(__file__).with_name("gstreamer_rtsp_server.py")
NGINX_RTMP_MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
NGINX_SEARCH_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"

TRANSPORTS = {"udp": ["UDP"], "multicast": ["UDP_MCAST"], "tcp": ["TCP"], "all": ["UDP", "UDP_MCAST", "TCP"]}
"""Mounts of GStreamer's server, and all that each of them agrees to."""
MULTICAST_PORTS = range(7000, 7016)
"""In a network namespace that is ours."""
GSTREAMER_BRANCHES = {
    "h264-aac": ("h264parse ! rtph264pay", "aacparse ! rtpmp4gpay"),
    "h265-opus": ("h265parse ! rtph265pay", "opusparse ! rtpopuspay"),
}

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr error;
events {{}}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{rtmp};
    application live {{ live on; hls on; hls_path {folder}/rtmp; hls_fragment 1s; hls_playlist_length 60s; }}
  }}
}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{http};
    listen 127.0.0.1:{https} ssl;
    ssl_certificate {folder}/server.crt;
    ssl_certificate_key {folder}/server.key;
    root {folder};
  }}
}}
"""

FMP4 = ("-hls_segment_type", "fmp4")
# Of a shorter list FFmpeg drops the first segments without counting on EXT-X-MEDIA-SEQUENCE, so nobody could follow it.
SINGLE_FILE = ("-hls_flags", "single_file", "-hls_list_size", "0")
KEY_INFORMATION = "key.info"
SEPARATE_AUDIO = (
    "-var_stream_map", "a:0,agroup:sound,default:yes v:0,agroup:sound", "-master_pl_name", "index.m3u8"
)  # fmt: skip
HLS_FILES = {
    "mpegts": (),
    "fmp4": FMP4,
    "ranges-mpegts": SINGLE_FILE,
    "ranges-fmp4": (*FMP4, *SINGLE_FILE),
    "encrypted": ("-hls_key_info_file", KEY_INFORMATION),
    "separate-mpegts": SEPARATE_AUDIO,
    "separate-fmp4": (*FMP4, *SEPARATE_AUDIO),
}
"""The ways of writing HLS that a source has to understand, as options of FFmpeg."""


@dataclass
class Origin:
    """A running origin."""

    ports: dict[str, int]
    """By what stands for them in the addresses of streams: ``rtsp``, ``https``."""
    fingerprint: str = ""
    """Of its certificate."""
    programs: list[tools.Program] = field(default_factory=list)
    host: str = "127.0.0.1"

    @property
    def log(self) -> str:
        return "".join(f"--- {program.name}\n{program.output}{program.errors}" for program in self.programs)


def fingerprint_of(certificate: Path) -> str:
    """Return the SHA-256 of a certificate in PEM, in hexadecimal digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def publisher(media: Path, *outputs: list[str | Path]) -> list[str | Path]:
    """Return a command that copies a file in real time to several outputs."""
    copy: list[str | Path] = ["-map", "0", "-c", "copy", "-strict", "experimental"]
    return tools.ffmpeg("-re", "-i", media, *(word for output in outputs for word in [*copy, *output]))


# On a busy machine, who reads seven segments behind has missed some.
SETTINGS = "hlsSegmentCount: 60\npaths:\n  all:\n"


@contextlib.contextmanager
def polycast(folder: Path, media: Path, net: tools.Network) -> Iterator[Origin]:
    """Polycast: three processes, one for each variant of HLS; the first of them serves RTSP and RTMP."""
    tools.make_certificate(folder)
    with contextlib.ExitStack() as stack:
        servers: dict[str, tools.Server] = {}
        for variant in ("mpegts", "fmp4", "lowLatency"):
            home = folder / variant
            home.mkdir()
            for file in ("server.crt", "server.key", "ca.crt"):
                shutil.copy(folder / file, home)
            servers[variant] = stack.enter_context(tools.run_server(home, SETTINGS, net=net, rtmp=True, hls=variant))
        for name in MEDIA:
            outputs: list[list[str | Path]] = [
                ["-f", "rtsp", "-rtsp_transport", "tcp", server.url(name)] for server in servers.values()
            ]
            publish = publisher(media / f"{name}.mp4", *outputs)
            program = stack.enter_context(tools.start(f"publish-{name}", publish, folder, net=net))
            for server in servers.values():
                server.wait_for_publisher(name, program)
        first = servers["mpegts"]
        ports = {"rtsp": first.port, "rtsps": first.tls_port, "rtmp": first.rtmp_port, "rtmps": first.rtmps_port}
        hls_ports = {variant: server.hls_port for variant, server in servers.items()}
        programs = [server.program for server in servers.values()]
        yield Origin({**ports, **hls_ports}, fingerprint_of(folder / "server.crt"), programs)


@contextlib.contextmanager
def gstreamer(folder: Path, media: Path, net: tools.Network) -> Iterator[Origin]:
    """GStreamer's RTSP server, with a mount for each transport that refuses all others.

    It binds its multicast ports for itself alone, so no reader of multicast can be on the same machine, and each track
    needs ports of its own.
    """
    tools.require_system_python("gi.repository.GstRtspServer")
    tools.make_certificate(folder)
    ports = {"rtsp": tools.free_port(), "rtsps": tools.free_port()}
    mounts = {
        f"{name}-{mount}": {"pipeline": gstreamer_pipeline(media / f"{name}.mp4", *branches), "transports": transports}
        for name, branches in GSTREAMER_BRANCHES.items()
        for mount, transports in TRANSPORTS.items()
    }
    with tools.neighbour(net) as there:
        settings = {
            "host": there.host,
            "port": ports["rtsp"],
            "tls_port": ports["rtsps"],
            "certificate": str(folder / "server.crt"),
            "key": str(folder / "server.key"),
            "mounts": mounts,
            "group": ["224.3.0.1", "224.3.0.1", MULTICAST_PORTS[0], MULTICAST_PORTS[-1]],
        }
        command = [tools.SYSTEM_PYTHON, GSTREAMER_SERVER, json.dumps(settings)]
        with tools.start("gstreamer", command, folder, net=there) as program:
            program.wait_until(lambda: "listening" in program.output, "listeners")
            yield Origin(ports, fingerprint_of(folder / "server.crt"), [program], there.host)
            assert program.process.poll() is None, program.describe()


def gstreamer_pipeline(file: Path, video: str, audio: str) -> str:
    """Return a pipeline that sends a file. Parameter sets go in front of each key frame."""
    return (
        f"filesrc location={file} ! qtdemux name=demuxer "
        f"demuxer.video_0 ! queue ! {video} config-interval=-1 name=pay0 pt=96 "
        f"demuxer.audio_0 ! queue ! {audio} name=pay1 pt=97"
    )


@contextlib.contextmanager
def ffmpeg(folder: Path, media: Path, net: tools.Network) -> Iterator[Origin]:
    """FFmpeg, one for each stream, which waits for one client. Only a current one has H265 and Opus for RTMP."""
    programs = {"h264-aac": "ffmpeg", "h265-opus": tools.current_ffmpeg()}
    with contextlib.ExitStack() as stack:
        ports: dict[str, int] = {}
        running: list[tools.Program] = []
        for name, program in programs.items():
            ports[f"rtmp-{name}"] = port = tools.free_port()
            serve = ["-f", "flv", "-listen", "1", f"rtmp://127.0.0.1:{port}/live/{name}"]
            command = [program, *publisher(media / f"{name}.mp4", serve)[1:]]
            running.append(stack.enter_context(tools.start(f"rtmp-{name}", command, folder, net=net)))
        yield Origin(ports, programs=running)


@contextlib.contextmanager
def nginx_alone(folder: Path, net: tools.Network) -> Iterator[tuple[dict[str, int], tools.Program]]:
    """nginx with its RTMP module, to which nobody publishes yet. Yields its ports and the program."""
    program = shutil.which("nginx", path=NGINX_SEARCH_PATH)
    if program is None or not NGINX_RTMP_MODULE.exists():
        tools.require("nginx with its RTMP module")
    assert program is not None
    tools.make_certificate(folder)
    ports = {name: tools.free_port() for name in ("rtmp", "http", "https")}
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, module=NGINX_RTMP_MODULE, **ports))
    command: list[str | Path] = [program, "-e", "stderr", "-p", folder, "-c", configuration]
    with tools.start("nginx", command, folder, net=net) as server:
        server.wait_until((folder / "nginx.pid").exists, "nginx")
        yield ports, server


@contextlib.contextmanager
def nginx(folder: Path, media: Path, net: tools.Network) -> Iterator[Origin]:
    """nginx with its RTMP module: it serves RTMP, the HLS files that it makes of that, and those that FFmpeg writes."""
    with contextlib.ExitStack() as stack:
        ports, server = stack.enter_context(nginx_alone(folder, net))
        rtmp: list[str | Path] = ["-f", "flv", f"rtmp://127.0.0.1:{ports['rtmp']}/live/h264-aac"]
        hevc = {"fmp4": HLS_FILES["fmp4"]}
        outputs = {
            "h264-aac": [rtmp, *hls_outputs(folder, "h264-aac")],
            "h265-opus": hls_outputs(folder, "h265-opus", hevc),
        }
        programs = [server]
        for name in MEDIA:
            publish = publisher(media / f"{name}.mp4", *outputs[name])
            programs.append(stack.enter_context(tools.start(f"publish-{name}", publish, folder, net=net)))
        awaited = 1 + len(outputs["h264-aac"])
        server.wait_until(lambda: len([*folder.glob("*/*.m3u8")]) >= awaited, "playlists")
        yield Origin(ports, fingerprint_of(folder / "server.crt"), programs)


def hls_outputs(
    folder: Path, media: str, kinds: Mapping[str, Sequence[str | Path]] = HLS_FILES
) -> list[list[str | Path]]:
    """Return outputs of FFmpeg that write HLS files; those of ``mpegts`` are in the folder ``mpegts-h264-aac``."""
    (folder / "secret.key").write_bytes(secrets.token_bytes(16))
    (folder / KEY_INFORMATION).write_text(f"../secret.key\n{folder / 'secret.key'}\n")
    outputs: list[list[str | Path]] = []
    for kind, options in kinds.items():
        home = folder / f"{kind}-{media}"
        home.mkdir()
        playlist = home / ("%v.m3u8" if "-var_stream_map" in options else "index.m3u8")
        outputs.append(["-f", "hls", "-hls_time", "1", "-hls_list_size", "60", *options, playlist])
    return outputs
