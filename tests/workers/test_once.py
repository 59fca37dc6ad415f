"""What must run once for a server runs in one of its workers: sources, and commands of paths."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.interop.tools import require
from tests.support.waiting import until
from tests.workers.support import free_ports, running
from tests.workers.test_streams import clip, publishing, read

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

__all__ = ["clip"]


async def test_sources_and_commands(tmp_path: Path, clip: tuple[Path, object]) -> None:
    require("ffmpeg")
    told = tmp_path / "told.txt"

    def command(word: str) -> str:
        return f"sh -c 'echo {word} $MTX_PATH >> {told}; sleep 600'"

    def lines() -> list[str]:
        return sorted(told.read_text().split("\n")[:-1]) if told.exists() else []

    ports = free_ports()
    paths: dict[str, dict[str, object]] = {
        "cam": {"runOnReady": command("ready"), "runOnNotReady": f"sh -c 'echo ended $MTX_PATH >> {told}'"},
        "init": {"runOnInit": command("init")},
        "other": {"runOnInit": command("init")},
        "~^copy(.)$": {
            "source": f"rtmp://127.0.0.1:{ports['rtmp']}/cam",
            "sourceOnDemand": True,
            "runOnReady": command("ready"),
        },
    }
    async with (
        running(tmp_path, ports=ports, paths=paths) as server,
        server.at(1, "rtmp") as first,
        publishing(server, clip[0], f"rtmp://127.0.0.1:{first}/cam", "-f", "flv"),
        server.at(1, "rtsp") as one,
        server.at(2, "rtsp") as other,
    ):
        await until(lambda: len(lines()) == 3, server.lines)
        received = await asyncio.gather(
            *(
                read(tmp_path, f"rtsp://127.0.0.1:{port}/copy1", 50, "-rtsp_transport", "tcp")
                for port in (one, other, one, other)
            )
        )
        assert [len(each) >= 50 for each in received] == [True] * 4
        await until(lambda: len(lines()) == 4, server.lines)
        assert lines() == ["init init", "init other", "ready cam", "ready copy1"]
        started = [line for line in server.lines if "[path copy1] [rtmp source] started" in line]
        assert len(started) == 1, server.log
        listed = (await server.get("/v3/paths/list"))["items"]
        assert {path["name"]: path["source"] and path["source"]["type"] for path in listed} == {
            "cam": "rtmpConn",
            "copy1": "rtmpSource",
            "init": None,
            "other": None,
        }
    assert lines().count("ended cam") == 1
