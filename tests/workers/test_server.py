"""A server with two workers: its processes, its configuration, its API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.ports import free_media_port
from tests.support.preloaded import PROGRAM
from tests.support.waiting import PATIENCE
from tests.workers.support import command, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


async def wait_for_end(*pids: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while any(map(is_alive, pids)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_processes(tmp_path: Path) -> None:
    """These are started as users start them, not forked."""
    async with running(tmp_path, forks_workers=False) as server:
        pids = await server.pids()
        assert sorted(pids) == [1, 2]
        assert server.process.pid not in pids.values()
        assert all("-m polycast.workers.worker" in command_line(pid) for pid in pids.values())
        # A signal that a terminal or a service manager sends to all of them ends none by itself.
        for pid in pids.values():
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        spare = await server.spare()
        start = len(server.lines)
        os.kill(pids[1], signal.SIGKILL)
        await server.wait(r"\[worker 1\] ended unexpectedly \(status -9\)", start)
        await server.wait(r"\[worker 1\] replaced", start)
        after = await server.pids()
        assert after[2] == pids[2]
        assert after[1] == spare  # it had done its imports
        next_spare = await server.spare()
        assert next_spare != spare
    await wait_for_end(*after.values(), next_spare)
    assert all(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (INF|WAR|ERR) \S", line) for line in server.lines), server.log


async def test_nothing_is_left_of_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        pids, spare = (await server.pids()).values(), await server.spare()
        assert all(PROGRAM.name in command_line(pid) for pid in (*pids, spare)), "they are forked"
        server.process.kill()
        await wait_for_end(*pids, spare)


async def test_a_port_in_use_is_reported_once(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        second = tmp_path / "second"
        second.mkdir()
        (second / "polycast.yml").write_text(json.dumps({**server.values, "api": False, "metrics": False}))
        status, text = await asyncio.to_thread(command, second)
        assert status == 1
        assert text.count("ERR") == 1, text
        assert f"[RTSP] rtspAddress: listen on 127.0.0.1:{server.ports['rtsp']}" in text


async def test_a_configuration_is_applied_in_all_workers_or_in_none(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        await server.post("/v3/config/paths/add/cam", {"maxReaders": 7})
        await server.until("/v3/paths/list", lambda paths: [path["name"] for path in paths["items"]] == ["cam"])
        start = len(server.lines)
        await server.post("/v3/config/global/patch", {"readTimeout": "21s"}, "PATCH")
        # What only some workers could do: the ports of the second one are taken.
        taken = free_media_port(2)
        with socket.socket(type=socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", taken + 8))
            change = {"rtpAddress": f"127.0.0.1:{taken}", "rtcpAddress": f"127.0.0.1:{taken + 1}"}
            with pytest.raises(Exception, match="409"):
                await server.post("/v3/config/global/patch", change, "PATCH")
        got = await server.get("/v3/config/global/get")
        assert (got["readTimeout"], got["rtpAddress"]) == ("21s", server.values["rtpAddress"])
        await server.wait(r"the configuration was not changed: \[RTSP\] rtpAddress: listen on", start)
        # The lines of a worker may come later than those of the supervisor.
        await server.wait(rf"\[worker 1\] \[RTSP\] listener opened .*:{server.ports['rtp']} \(UDP/RTP\)", start)
        reopened = [line for line in server.lines if "[worker 1] [RTSP] listener opened" in line]
        assert f":{server.ports['rtp']} (UDP/RTP)" in reopened[-1]
        # A port that all workers share: they get sockets of the new one.
        await server.post("/v3/config/global/patch", {"srtAddress": "127.0.0.1:0"}, "PATCH")
        opened = [await server.wait(rf"\[worker {n}\] \[SRT\] listener opened on \S+:(\d+)", start) for n in (1, 2)]
        assert opened[0][1] == opened[1][1] != str(server.ports["srt"])
        values: dict[str, Any] = {**server.values, "rtmp": False}
        server.file.write_text(json.dumps(values))
        for number in (1, 2):
            await server.wait(rf"\[worker {number}\] \[RTMP\] listener closed", start)


async def test_several_workers_that_are_too_many_or_not_possible(tmp_path: Path) -> None:
    for text, error in (("workers: 0", "'0' is neither a number from 1 to 256 nor auto"), ("workers: 257", "'257' is")):
        (tmp_path / "polycast.yml").write_text(f"{text}\npaths: {{all_others: }}\n")
        status, output = await asyncio.to_thread(command, tmp_path, "--check")
        assert status == 1
        assert error in output
