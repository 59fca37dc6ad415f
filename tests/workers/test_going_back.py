"""The live playlist over recorded files (hlsDVR): one playlist, whichever worker a request reaches."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.workers.support import running
from tests.workers.test_streams import clip, publishing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

__all__ = ["clip"]

CONNECTIONS = 12
"""So many end at one worker out of two with a probability of one in 2,000."""


def load(url: str) -> bytes:
    """Load a file over a connection of its own."""
    with urllib.request.urlopen(url, timeout=30) as response:
        body: bytes = response.read()
        return body


async def test_one_playlist_for_all_workers(tmp_path: Path, clip: tuple[Path, object]) -> None:
    path = {
        "record": True,
        "recordPath": str(tmp_path / "recordings/%path/%s-%f"),
        "recordPartDuration": "200ms",
        "hlsDVR": "5m",
    }
    async with (
        running(tmp_path, paths={"all_others": path}) as server,
        server.at(2, "rtmp") as second,
        publishing(server, clip[0], f"rtmp://127.0.0.1:{second}/cam", "-f", "flv"),
    ):
        base = f"http://127.0.0.1:{server.ports['hls']}/cam/"
        playlists = [(await asyncio.to_thread(load, base + "dvr.m3u8")).decode() for _ in range(CONNECTIONS)]
        numbers = [int(re.findall("#EXT-X-MEDIA-SEQUENCE:(.*)", text)[0]) for text in playlists]
        assert len(set(numbers)) == 1, "of one playlist"
        names = [re.findall(r"^dvr-.*m4s$", text, re.MULTILINE) for text in playlists]
        for before, after in itertools.pairwise(names):
            assert after[: len(before)] == before
        bodies = {await asyncio.to_thread(load, base + names[0][0]) for _ in range(CONNECTIONS)}
        assert len(bodies) == 1
        assert b"moof" in bodies.pop()[:200]
        assert len(await server.pids()) == 2
