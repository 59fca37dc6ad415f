"""Short streams made by FFmpeg, which the parsers are compared against. Each is made once per test session."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

VIDEO_SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1")
AUDIO_SOURCE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=0.5")


@dataclass(frozen=True)
class Media:
    """A file that FFmpeg wrote."""

    path: Path

    @cached_property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @cached_property
    def stream(self) -> dict[str, Any]:
        """What ffprobe says about its first stream."""
        return dict(self._probe("-show_streams")["streams"][0])

    @cached_property
    def packets(self) -> list[dict[str, Any]]:
        return list(self._probe("-show_packets")["packets"])

    def packet_data(self) -> list[bytes]:
        """The payload of each packet, in file order."""
        data = self.data
        return [data[int(p["pos"]) : int(p["pos"]) + int(p["size"])] for p in self.packets]

    def box(self, name: bytes) -> bytes:
        """The payload of the first MP4 box with this name."""
        position = self.data.index(name)
        size = int.from_bytes(self.data[position - 4 : position], "big")
        return self.data[position + 4 : position - 4 + size]

    def _probe(self, what: str) -> dict[str, Any]:
        command = ["ffprobe", "-v", "error", what, "-of", "json", str(self.path)]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


Encode = Callable[..., Media]


@pytest.fixture(scope="session")
def encoders() -> str:
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        return ""
    return subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="session")
def encode(encoders: str, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """Return ``encode(encoder, extension, *arguments, source=...)``; it skips the test where FFmpeg has no encoder."""
    folder = tmp_path_factory.mktemp("media")
    made: dict[tuple[str, ...], Media] = {}

    def run(encoder: str, extension: str, *arguments: str, source: tuple[str, ...] | None = None) -> Media:
        if f" {encoder} " not in encoders:
            pytest.skip(f"FFmpeg has no {encoder}")
        audio = encoder in {"aac", "libopus", "libmp3lame", "mp2", "ac3", "flac"}
        source = source or (AUDIO_SOURCE if audio else VIDEO_SOURCE)
        key = (encoder, extension, *arguments, *source)
        if key not in made:
            path = folder / f"{len(made)}.{extension}"
            codec = ("-c:a" if audio else "-c:v", encoder)
            subprocess.run(
                ["ffmpeg", "-v", "error", "-threads", "1", *source, *codec, *arguments, str(path)], check=True
            )
            made[key] = Media(path)
        return made[key]

    return run
