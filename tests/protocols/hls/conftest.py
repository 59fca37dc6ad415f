"""The server that most HLS tests use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.protocols.hls.support import Fixture, running


@pytest.fixture
async def it() -> AsyncIterator[Fixture]:
    """A server on which every path may be published and read."""
    async with running() as fixture:
        yield fixture
