"""Where the commands of the documents run as they are written: a network and names of its own, with a server."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from tests.documents.stand_in import STAND_INS
from tests.interop.tools import Network, network, require

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds that a server may take to start."""

NAMES = ("camera", "server", "nvr", "stream.example.com", "example.com")
"""Names in the documents that stand for this machine."""
ADDRESSES = ("192.0.2.1", "192.0.2.10", "192.0.2.11", "192.0.2.15")
"""Addresses in the documents that stand for this machine."""

CONFIGURATIONS = ("my.yml", "polycast.yml", "config/polycast.yml", "mediamtx.yml")
"""Configurations in the documents that the reader has already."""

SERVER = """
logLevel: info
api: yes
metrics: yes
pprof: yes
playback: yes
rtspEncryption: optional
rtspServerKey: server.key
rtspServerCert: server.crt
rtmpEncryption: optional
rtmpServerKey: server.key
rtmpServerCert: server.crt
srt: yes
webrtc: yes
httpStreams: yes
dash: yes
paths:
  all_others:
"""
PUBLISHER = "ffmpeg -v error -re -stream_loop -1 -i file.mp4 -c copy -f rtsp rtsp://127.0.0.1:$RTSP_PORT/$RTSP_PATH"
"""What a path without a publisher of its own shows while somebody reads it."""


class Laboratory:
    """A folder with the files that the documents name, and a network in which their ports are free."""

    def __init__(self, folder: Path, net: Network) -> None:
        self.folder = folder
        self.work = folder / "work"
        self._net = net
        self._server: subprocess.Popen[bytes] | None = None
        self._settings = ""
        self._environment = {
            **os.environ,
            "LABORATORY": str(folder),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.work),
            "TZ": "UTC",
            "SDL_VIDEODRIVER": "dummy",
            "SDL_AUDIODRIVER": "dummy",
        }
        for name in ("MPLBACKEND", "DISPLAY"):
            self._environment.pop(name, None)

    def prepare(self) -> None:
        """Make programs, names and files."""
        for name in ("bin", "real", "work", "work/config", "work/.venv/bin"):
            (self.folder / name).mkdir(parents=True)
        for name in STAND_INS:
            self._script("bin", name, f"{Path(__file__).with_name('stand_in.py')} {name}", "-IS")
        self._script("real", "polycast", "polycast", "-m")
        for name in ("python", "python3"):
            self._script("bin", name, "")
        (self.work / ".venv/bin/activate").touch()
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ("localhost", *NAMES))
        (self.folder / "hosts").write_text(hosts)
        self._make(
            "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -keyout server.key -out server.crt "
            "-addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        )
        self._make(
            "ffmpeg -v error -f lavfi -i testsrc2=size=320x240:rate=30 -f lavfi -i sine=r=48000 -t 4 -c:v libx264 "
            "-preset ultrafast -tune zerolatency -g 15 -pix_fmt yuv420p -c:a aac file.mp4"
        )
        for name in ("video.mp4", "in.mp4"):
            shutil.copy(self.work / "file.mp4", self.work / name)
        self._record()

    def _record(self) -> None:
        """Make the recording that the documents ask for."""
        folder = self.folder / "recordings" / "mystream"
        folder.mkdir(parents=True)
        self._make(
            "ffmpeg -v error -f lavfi -i color=size=64x64:rate=1 -t 7200 -c:v libx264 -preset ultrafast -g 10 -bf 0 "
            f"-movflags +frag_keyframe+empty_moov+default_base_moof {folder / '2024-01-14_16-00-00-000000.mp4'}"
        )

    def _script(self, folder: str, name: str, words: str, options: str = "") -> None:
        file = self.folder / folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {options} {words} "$@"\n')
        file.chmod(0o755)

    def _make(self, command: str) -> None:
        subprocess.run(command.split(), cwd=self.work, check=True, capture_output=True, timeout=PATIENCE)

    def command(self, *words: str | Path) -> list[str | Path]:
        """Return the command line of a program that runs there."""
        own_names = f'mount --bind {self.folder / "hosts"} /etc/hosts && exec env "$@"'
        return [*self._net.prefix, "unshare", "--mount", "sh", "-c", own_names, "sh", *words]

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program there."""
        return subprocess.Popen(self.command(*words), cwd=self.work, env=self._environment, **options)

    def serve(self, settings: str = "") -> None:
        """Have a server with settings beside those of all; one that runs with them already goes on."""
        if self._server is not None and settings == self._settings:
            return
        self.stop()
        yaml = YAML(typ="safe")
        record_path = f"{self.folder}/recordings/%path/%Y-%m-%d_%H-%M-%S-%f"
        merged = {
            **yaml.load(SERVER),
            "pathDefaults": {"recordPath": record_path, "recordDeleteAfter": "0s"},
            **(yaml.load(settings) or {}),
        }
        for path in merged["paths"]:
            entry = dict(merged["paths"][path] or {})
            if "source" not in entry and not any(key.startswith("runOn") for key in entry):
                entry["runOnDemand"] = PUBLISHER
            merged["paths"][path] = entry
        with (self.folder / "server.yml").open("w") as file:
            yaml.dump(merged, file)
        log = self.folder / "server.log"
        with log.open("wb") as output:
            self._server = self.start(
                f"PATH={os.environ['PATH']}", sys.executable, "-m", "polycast", self.folder / "server.yml",
                stdout=output, stderr=output,
            )  # fmt: skip
        self._settings = settings
        end = time.monotonic() + PATIENCE
        while "[API] listener opened" not in (text := log.read_text()):
            assert self._server.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait(PATIENCE)
            self._server = None
            text = (self.folder / "server.log").read_text()
            assert "Traceback" not in text, text

    def run(self, commands: str) -> None:
        """Run commands in a shell, as far as one after the other succeeds; then end what they have left running."""
        logs = [self.folder / name for name in ("programs.log", "held")]
        for file in logs:
            file.unlink(missing_ok=True)
        files = {self.work / name for name in CONFIGURATIONS if re.search(rf"(?<![\w./]){re.escape(name)}", commands)}
        for file in files:
            file.write_text("api: yes\npaths:\n  all_others:\n")
        try:
            shell = self.start(
                "bash", "-eo", "pipefail", "-c", commands,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            output, _ = shell.communicate(timeout=3 * PATIENCE)
        finally:
            if logs[1].exists():
                self._end([int(pid) for pid in logs[1].read_text().split()])
            for file in files:
                file.unlink(missing_ok=True)
        background = logs[0].read_text(errors="replace") if logs[0].exists() else ""
        assert shell.returncode == 0, f"{commands}\n{output.decode(errors='replace')}\n{background[-4000:]}"
        assert "Traceback" not in background, background

    @contextlib.contextmanager
    def program(self, text: str, printed: str) -> Iterator[str]:
        """Run a program in Python until the block ends, which begins with the first line that contains ``printed``."""
        file = self.work / "program.py"
        file.write_text(text)
        words = (f"PATH={os.environ['PATH']}", sys.executable, file)
        process = self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        try:
            output = []
            for line in process.stdout:
                output.append(line.decode())
                if printed in output[-1]:
                    break
            else:
                raise AssertionError(f"{printed!r} was not printed\n{''.join(output)}")
            yield output[-1]
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def _end(processes: list[int]) -> None:
        """End what goes on in the background; the programs are not our children."""
        end = time.monotonic() + PATIENCE
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
                while time.monotonic() < end and "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
                    os.kill(pid, 0)
                    time.sleep(0.02)


@contextlib.contextmanager
def laboratory(folder: Path) -> Iterator[Laboratory]:
    """Make a laboratory; it needs the rights of root."""
    import pytest

    for program in ("unshare", "nsenter", "ffmpeg", "openssl"):
        require(program)
    with network() as net:
        if not net.namespace:
            pytest.skip("ports and names of one's own need the rights of root")
        for address in ADDRESSES:
            subprocess.run(["ip", "-n", net.namespace, "address", "add", f"{address}/24", "dev", "lo"], check=True)
        made = Laboratory(folder, net)
        made.prepare()
        try:
            yield made
        finally:
            made.stop()
            shutil.rmtree(folder, ignore_errors=True)
