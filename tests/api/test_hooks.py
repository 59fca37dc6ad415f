"""What the authentication function of a program is asked."""

from __future__ import annotations

import asyncio

import pytest

from polycast.api.hooks import AuthenticationRequest, Hooks
from polycast.hub.access_request import AccessRequest, Action, PlainCredentials
from polycast.log import Log


@pytest.mark.parametrize(
    ("credentials", "user", "password"),
    [
        (PlainCredentials(), "", ""),
        (PlainCredentials("u", "p"), "u", "p"),
        (PlainCredentials(token="t"), "t", ""),
    ],
)
async def test_credentials(credentials: PlainCredentials, user: str, password: str) -> None:
    asked: list[AuthenticationRequest] = []

    async def authenticate(request: AuthenticationRequest) -> bool:
        asked.append(request)
        return True

    loop = asyncio.get_running_loop()
    hooks = Hooks(loop, Log(), authenticate=authenticate, on_ready=None, on_read=None, on_close=None)
    assert await hooks.authenticate(AccessRequest(Action.READ, "cam", "x=1", "192.0.2.1", credentials))
    await hooks.close()
    assert asked == [AuthenticationRequest("read", "cam", user, password, "192.0.2.1", "x=1")]
