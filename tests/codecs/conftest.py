"""Short streams made by FFmpeg, which the parsers are compared against. Each is made once per test session."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.codecs.media import Encode, Media
from tests.interop.tools import quick_program

VIDEO_SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1")
AUDIO_SOURCE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=0.5")


@pytest.fixture(scope="session")
def encoders() -> str:
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        return ""
    command = [quick_program(), "-hide_banner", "-encoders"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.fixture(scope="session")
def encode(encoders: str, tmp_path_factory: pytest.TempPathFactory) -> Encode:
    """Return ``encode(encoder, extension, *arguments, source=...)``; it skips the test where FFmpeg has no encoder."""
    folder = tmp_path_factory.mktemp("media")
    made: dict[tuple[str, ...], Media] = {}

    def run(encoder: str, extension: str, *arguments: str, source: tuple[str, ...] | None = None) -> Media:
        if f" {encoder} " not in encoders:
            pytest.skip(f"FFmpeg has no {encoder}")
        audio = encoder in {"aac", "libopus", "libmp3lame", "mp2", "ac3", "eac3", "flac"}
        source = source or (AUDIO_SOURCE if audio else VIDEO_SOURCE)
        key = (encoder, extension, *arguments, *source)
        if key not in made:
            path = folder / f"{len(made)}.{extension}"
            codec = ("-c:a" if audio else "-c:v", encoder)
            command = [quick_program(), "-v", "error", "-y", "-threads", "1", *source, *codec, *arguments, str(path)]
            subprocess.run(command, check=True)
            made[key] = Media(path)
        return made[key]

    return run
