"""Looks up names that are in the settings of WebRTC."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from polycast.log import Log
from polycast.net.names import looking_up
from polycast.wire.webrtc.stun import SocketAddress

RESOLVE_SECONDS: Final = 5.0
"""Seconds to look up one name."""


async def look_up(host: str, port: int | None, key: str, log: Log) -> list[tuple[socket.AddressFamily, SocketAddress]]:
    """Return the addresses of a host with their families, in the order of the system; without ``port``, with port 0.

    If there are none, a warning names ``key``, the setting.
    """
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            with looking_up():
                infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        reason = f"no answer within {RESOLVE_SECONDS:g} s" if isinstance(error, TimeoutError) else error
        log.warning("%s: '%s' cannot be resolved: %s", key, host, reason)
        return []
    return [(family, (str(address[0]), int(address[1]))) for family, _, _, _, address in infos]
