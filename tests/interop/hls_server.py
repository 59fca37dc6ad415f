"""A server with HLS, RTSP and RTMP on free ports, and publishers for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.interop import tools

VARIANTS = ("mpegts", "fmp4", "lowLatency")


@dataclass
class HlsServer:
    """A running server and its addresses."""

    program: tools.Program
    variant: str
    port: int
    rtsp_port: int
    rtmp_port: int
    folder: Path

    @property
    def base(self) -> str:
        """The address of the HLS server; lowLatency is served over HTTPS."""
        return f"{'https' if self.variant == 'lowLatency' else 'http'}://127.0.0.1:{self.port}"

    def url(self, path: str, file: str = "index.m3u8") -> str:
        return f"{self.base}/{path}/{file}"

    def publish_url(self, path: str, protocol: str) -> str:
        return f"rtsp://127.0.0.1:{self.rtsp_port}/{path}" if protocol == "rtsp" else (
            f"rtmp://127.0.0.1:{self.rtmp_port}/{path}"
        )  # fmt: skip

    @property
    def log(self) -> str:
        return self.program.output + self.program.errors

    @contextlib.contextmanager
    def publishing(self, path: str, protocol: str, *source: str | Path) -> Iterator[tools.Program]:
        """Publish with FFmpeg what ``source`` (its arguments) makes, until the block ends."""
        target = ["-f", "rtsp", "-rtsp_transport", "tcp"] if protocol == "rtsp" else ["-f", "flv"]
        command = tools.quick_ffmpeg(*source, *target, self.publish_url(path, protocol))
        before = self.log.count(f"is publishing to path '{path}'")
        with tools.start(f"publish-{protocol}", command, self.folder) as publisher:
            publisher.wait_until(
                lambda: self.log.count(f"is publishing to path '{path}'") > before, f"publisher of {path}\n{self.log}"
            )
            yield publisher


@contextlib.contextmanager
def run_hls_server(folder: Path, variant: str, settings: str = "", paths: str = "  all:\n") -> Iterator[HlsServer]:
    """Run a server whose muxers run all the time, with ``settings`` added to its configuration."""
    tools.make_certificate(folder)
    port, rtsp_port, rtmp_port = tools.free_port(), tools.free_port(), tools.free_port()
    encryption = "hlsEncryption: yes\nhlsServerKey: server.key\nhlsServerCert: server.crt\n"
    configuration = folder / "server.yml"
    configuration.write_text(
        f"rtspAddress: 127.0.0.1:{rtsp_port}\nprotocols: [tcp]\nrtmpAddress: 127.0.0.1:{rtmp_port}\n"
        f"hlsAddress: 127.0.0.1:{port}\nhlsVariant: {variant}\nhlsAlwaysRemux: yes\n"
        f"{encryption if variant == 'lowLatency' else ''}{settings}paths:\n{paths}"
    )
    environment = {"PYTHONPATH": str(tools.ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    command = [*tools.POLYCAST, configuration]
    with tools.start("server", command, folder, environment=environment) as program:
        server = HlsServer(program, variant, port, rtsp_port, rtmp_port, folder)
        program.wait_until(lambda: server.log.count("listener opened on") >= 3, "open listeners")
        yield server
        assert program.process.poll() is None, f"the server died\n{program.describe()}"
    assert "Traceback" not in server.log, server.log[-5000:]
