"""The public addresses of the socket of a source, which STUN servers tell it before the offer is sent."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net.address import plain_host
from polycast.net.udp import Address, UdpSocket
from polycast.protocols.webrtc.names import look_up
from polycast.protocols.webrtc.public_address import parse_stun_url
from polycast.wire.webrtc.stun import SocketAddress, parse_message
from polycast.wire.webrtc.stun_client import StunClient

MAXIMUM_SERVERS: Final = 4
"""STUN servers that are asked; the WHEP server chooses them."""

_LINK: Final = re.compile(r'<(stun:[^<>\s?]{1,255})(?:\?[^<>\s]*)?>\s*;[^,]*\brel="?ice-server"?', re.IGNORECASE)
"""A link of RFC 9725 section 4.6."""
_STUN_URL: Final = re.compile(r"stun:(?:\[[0-9a-f:.]+\]|[^\s\[\]:]+)(?::\d{1,5})?", re.ASCII | re.IGNORECASE)


def stun_urls(links: Iterable[str]) -> list[str]:
    """Return the URLs of the STUN servers in the Link headers of a WHEP server."""
    urls = (f"stun:{url[5:]}" for link in links for url in _LINK.findall(link) if _STUN_URL.fullmatch(url))
    return list(dict.fromkeys(urls))[:MAXIMUM_SERVERS]


async def gather(bound: socket.socket, urls: Sequence[str], timeout: float, log: Log) -> tuple[SocketAddress, ...]:
    """Return the public addresses of a UDP socket as STUN servers see it: of the first one that answers.

    Ends after ``timeout`` seconds without an answer. The socket stays open.
    """
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    client = StunClient((), loop.time(), secrets.token_bytes)

    def on_datagram(data: bytes, start: int, end: int, address: Address) -> None:
        with contextlib.suppress(RemoteProtocolError):
            source = plain_host(str(address[0])), int(address[1])
            client.receive(parse_message(data[start:end]), source, loop.time())
        if client.addresses:
            answered.set()

    udp = UdpSocket(loop, bound.dup(), on_datagram)
    try:
        async with asyncio.timeout(timeout):
            found = await asyncio.gather(*(look_up(*parse_stun_url(url), "ICE server", log) for url in urls))
            servers = [address for addresses in found for address in dict(reversed(addresses)).values()]
            client = StunClient(servers, loop.time(), secrets.token_bytes)
            while servers and not answered.is_set():
                client.handle_timeout(loop.time())
                for data, (host, port) in client.data_to_send():
                    udp.send(data, udp.address(host, port))
                due = client.next_timeout() or loop.time()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(answered.wait(), max(0.0, due - loop.time()))
    except TimeoutError:
        log.debug("no STUN server has answered within %g s", timeout)
    finally:
        udp.close()
    return client.addresses
