"""What an invalid request leaves in memory: nothing, even before the garbage collector looks for cycles."""

from __future__ import annotations

import gc

import pytest
from tests.control.support import running
from tests.support.waiting import until

from polycast.errors import ConfigurationError


@pytest.mark.parametrize(
    "target", ["/v1/config/set", "/v1/config/paths/add/cam", "/v1/config/replace", "/v1/config/check"]
)
async def test_an_invalid_change_is_freed_at_once(target: str) -> None:
    async with running() as server:
        await server.post(target, {"unknown": 1})
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                response = await server.post(target, {"unknown": 1})
                assert response.status_code == 400
            # the thread that applied it may hold it for a moment
            await until(lambda: not any(isinstance(each, ConfigurationError) for each in gc.get_objects()))
        finally:
            gc.enable()
