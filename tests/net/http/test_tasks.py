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
from polycast.control import service
from polycast.control.service import Guard
from polycast.hub.access import AccessControl
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


async def test_checks_for_one_address_leave_places_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAXIMUM_CHECKS_OF_ADDRESS", 2, raising=False)
    release, begun = asyncio.Event(), asyncio.Semaphore(0)
    check = AccessControl.check

    async def waiting(*arguments: Any) -> str:
        begun.release()
        await release.wait()
        return await check(*arguments)

    monkeypatch.setattr(AccessControl, "check", waiting)
    users = [{"user": "admin", "pass": "secret", "permissions": [{"action": "api"}]}]
    settings = {**SETTINGS, "authInternalUsers": users, "apiTrustedProxies": ["127.0.0.1"]}
    loaded = LoadedConfiguration(from_mapping(settings), None, [], frozenset())
    client = httpx2.AsyncClient(trust_env=False, verify=False, timeout=PATIENCE, auth=("admin", "secret"))
    async with application(loaded) as (app, _), client:
        url = f"http://127.0.0.1:{app.control.ports['apiAddress']}/v1/paths/list"

        async def get(address: str) -> int:
            return (await client.get(url, headers={"X-Forwarded-For": address})).status_code

        async def held(address: str) -> asyncio.Task[int]:
            task = asyncio.create_task(get(address))
            await asyncio.wait_for(begun.acquire(), PATIENCE)
            return task

        try:
            first, second = await held("2001:db8::1"), await held("2001:db8::2")
            refused = asyncio.create_task(get("2001:db8::3"))
            started = asyncio.create_task(begun.acquire())
            await asyncio.wait({refused, started}, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            started.cancel()
            assert refused.done(), "the third check of one network was begun"
            assert await refused == 503
            other = await held("192.0.2.1")
            first.cancel()  # its place is free again once the server has noticed
            await asyncio.wait({first})
        finally:
            release.set()
        assert [await second, await other] == [200, 200]
        assert [await get("2001:db8::3") for _ in range(4)] == [200] * 4
