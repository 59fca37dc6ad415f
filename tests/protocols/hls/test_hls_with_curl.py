"""curl as a client: versions of HTTP, reused connections, requests with bodies."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.interop import tools
from tests.protocols.hls.support import PATIENCE, Fixture, names


@pytest.mark.parametrize(
    ("arguments", "report"),
    [
        (["--http1.0"], "1.1 200 1 1.1 200 1 "),
        (["--http1.1"], "1.1 200 1 1.1 200 0 "),
        (["--http2"], "1.1 200 1 1.1 200 0 "),  # asks for an upgrade, which is ignored
        (["--http2-prior-knowledge"], "2 200 1 "),
        (["--http1.1", "-I"], "1.1 200 1 1.1 200 0 "),
        (["--http1.1", "-T", __file__, "-H", "Expect: 100-continue"], "1.1 404 1 "),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
async def test_curl(it: Fixture, arguments: list[str], report: str) -> None:
    """HTTP version, status and new connections of two requests (one, where curl 7.88 cannot reuse its connection)."""
    tools.require("curl")
    _, playlist = await it.playing("cam")
    url = f"http://127.0.0.1:{it.port}/cam/{names(playlist)[0]}"
    process = await asyncio.create_subprocess_exec(
        "curl", "-s", "-m", str(PATIENCE), *arguments, "-w", "%{stderr}%{http_version} %{http_code} %{num_connects} ",
        *(["-o", os.devnull, url] * (len(report.split()) // 3)), stdout=-1, stderr=-1,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert errors.decode() == report
