"""Connections that are passed from one worker to another, both in this process."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from pathlib import Path

import pytest
from tests.support.waiting import PATIENCE

from polycast.log import Log
from polycast.protocols.handing_over import HandedOver
from polycast.workers import channel
from polycast.workers.neighbours import Neighbours

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


async def test_a_worker_that_is_too_busy_keeps_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one goes on with the client, which sees the end of the connection as soon as that one closes it."""
    monkeypatch.setattr(channel, "MAXIMUM_CALLS", 0)
    log = Log(logging.getLogger("test"))
    one, other = (Neighbours(number, str(tmp_path), dict, lambda _: True, log) for number in (1, 2))
    client, served = socket.socketpair()
    try:
        await one.open()
        await other.open()
        handed = HandedOver(b"", 0, 0.0, b"", None, "cam", 1)
        assert not await one.hand_over(2, "RTSP", handed, served.fileno())
        served.close()
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    finally:
        client.close()
        served.close()
        one.close()
        other.close()
