"""The search for cameras through the API, with a stand-in for a camera."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.control.support import running
from tests.support.camera import StandInCamera

from polycast.control.console.cameras import MAXIMUM_HOSTS, CameraItem

STREAMS = {"P1": "rtsp://127.0.0.1:1/1", "P2": "rtsp://127.0.0.1:1/2"}


async def test_the_streams_of_cameras_at_addresses() -> None:
    with StandInCamera(STREAMS) as camera:
        body = {"hosts": [f"127.0.0.1:{camera.probe_port}"], "user": "me", "password": "se!cret"}
        async with running() as server:
            response = await server.http("api").post("/v1/cameras/find", json=body)
            assert response.status_code == 200
            source = f"onvif://me:se%21cret@127.0.0.1:{camera.port}/?profile="
            assert response.json() == {
                "items": [
                    {
                        "address": f"127.0.0.1:{camera.port}",
                        "name": "Front Door Stand-In",
                        "error": "",
                        "streams": [
                            {"path": "front-door", "description": "main: H264 320x240, PTZ", "source": f"{source}P1"},
                            {
                                "path": "front-door-sub-stream",
                                "description": "sub stream: no video",
                                "source": f"{source}P2",
                            },
                        ],
                    }
                ]
            }
            refused = await server.http("api").post("/v1/cameras/find", json={**body, "password": "wrong"})
            (found,) = refused.json()["items"]
            assert "refuses the user or the password" in found["error"]
            assert found["streams"] == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"hosts": "192.0.2.1"}, "hosts: a list of at most 64 addresses is needed"),
        ({"hosts": [""]}, "hosts: a list of at most 64 addresses is needed"),
        ({"hosts": ["a"] * (MAXIMUM_HOSTS + 1)}, "hosts: a list of at most 64 addresses is needed"),
        ({"hosts": ["a\nb"]}, "hosts: a list of at most 64 addresses is needed"),
        ({"hosts": ["::1:x:y"]}, "'::1:x:y' is not a host: "),
        ({"user": 5}, "user: a text of at most 255 characters is needed"),
        ({"password": "x" * 256}, "password: a text of at most 255 characters is needed"),
    ],
)
async def test_wrong_searches(body: dict[str, Any], error: str) -> None:
    async with running() as server:
        response = await server.http("api").post("/v1/cameras/find", json=body)
        assert response.status_code == 400
        assert response.json()["error"].startswith(error)


async def test_one_search_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def find_cameras(hosts: Sequence[str], user: str, password: str) -> list[CameraItem]:
        begun.set()
        await may_end.wait()
        return []

    async with running() as server:
        monkeypatch.setattr(server.app, "find_cameras", find_cameras)
        client = server.http("api")
        first = asyncio.ensure_future(client.post("/v1/cameras/find", json={}))
        await begun.wait()
        assert (await client.post("/v1/cameras/find", json={})).status_code == 409
        may_end.set()
        assert (await first).json() == {"items": []}
        assert (await client.post("/v1/cameras/find", json={})).status_code == 200
