"""A media file that FFmpeg wrote, and what FFmpeg says about it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any


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
        return dict(self._probed["streams"][0])

    @cached_property
    def packets(self) -> list[dict[str, Any]]:
        return list(self._probed["packets"])

    def packet_data(self) -> list[bytes]:
        """The payload of each packet, in file order."""
        data = self.data
        return [data[int(p["pos"]) : int(p["pos"]) + int(p["size"])] for p in self.packets]

    def box(self, name: bytes) -> bytes:
        """The payload of the first MP4 box with this name."""
        position = self.data.index(name)
        size = int.from_bytes(self.data[position - 4 : position], "big")
        return self.data[position + 4 : position - 4 + size]

    @cached_property
    def _probed(self) -> dict[str, Any]:
        command = ["ffprobe", "-v", "error", "-show_streams", "-show_packets", "-of", "json", str(self.path)]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


Encode = Callable[..., Media]


def check_times(found: list[int | None], pts: list[int]) -> None:
    """Check what holds for every list of decoding times: they never decrease and never lie after ``pts``."""
    given = [(dts, shown) for dts, shown in zip(found, pts, strict=True) if dts is not None]
    assert all(dts <= shown for dts, shown in given)
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(given))
