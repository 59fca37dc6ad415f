"""Requests that servers answer in tasks: one client that sends many at once shares the loop with others."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx2
import pytest
from tests.support.running import application
from tests.support.waiting import PATIENCE

from polycast.config import LoadedConfiguration, from_mapping
from polycast.control.service import Guard
from polycast.protocols.hls.handler import TASKS_PER_TURN, RequestHandler
from polycast.protocols.webrtc.signalling import SignallingHandler

SETTINGS = {
    "rtspDisable": True, "rtmpDisable": True, "hlsAddress": "127.0.0.1:0", "webrtc": True,
    "webrtcAddress": "127.0.0.1:0", "webrtcLocalUDPAddress": "127.0.0.1:0", "api": True, "apiAddress": "127.0.0.1:0",
    "authMethod": "internal", "authInternalUsers": [{"user": "admin", "pass": "secret"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "owner", "method", "target", "most"),
    [
        ("hlsAddress", RequestHandler, "_page", "/cam/", TASKS_PER_TURN),
        ("hlsAddress", RequestHandler, "_file", "/cam/index.m3u8", TASKS_PER_TURN),
        ("webrtcAddress", SignallingHandler, "_answer", "/cam/", 1),
        ("apiAddress", Guard, "_check", "/v1/paths/list", 1),
    ],
)
async def test_few_requests_start_per_turn_of_the_loop(
    address: str, owner: type, method: str, target: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = 0
    begun: list[int] = []
    original = getattr(owner, method)

    async def counted(*arguments: Any, **options: Any) -> Any:
        begun.append(turn)
        return await original(*arguments, **options)

    def count() -> None:
        nonlocal turn
        turn += 1
        asyncio.get_running_loop().call_soon(count)

    monkeypatch.setattr(owner, method, counted)
    loaded = LoadedConfiguration(from_mapping(SETTINGS), None, [], frozenset())
    client = httpx2.AsyncClient(http1=False, http2=True, trust_env=False, verify=False, timeout=PATIENCE)
    async with application(loaded) as (app, _), client:
        ports = {**app.control.ports}
        for server in app.servers.values():
            ports.update(server.ports)
        url = f"http://127.0.0.1:{ports[address]}{target}"
        await client.get(url)
        begun.clear()
        count()
        await asyncio.gather(*(client.get(url) for _ in range(20)))
    assert len(begun) == 20
    assert max(Counter(begun).values()) <= most
