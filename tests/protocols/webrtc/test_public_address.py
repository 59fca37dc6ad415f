"""The server's public address, told by a STUN server (aioice's messages)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aioice import stun
from tests.protocols.webrtc.support import Fixture, running
from tests.protocols.webrtc.test_push import feeding
from tests.protocols.webrtc.test_signalling import PUBLISH, SDP
from tests.support.waiting import PATIENCE

from polycast.config import update
from polycast.log import Log
from polycast.media.codec import VP8
from polycast.media.track import Track
from polycast.net.listen import open_udp_socket
from polycast.protocols.webrtc.gathering import gather, stun_urls
from polycast.protocols.webrtc.public_address import parse_stun_url
from polycast.protocols.webrtc.signalling_client import SignallingClient

PUBLIC = "203.0.113.5"


class StunServer(asyncio.DatagramProtocol):
    """Answers with a public address, as one behind whose router the client is."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self.requests = 0
        self.is_held = False
        """Whether answers are kept until `release`."""
        self.held: list[tuple[bytes, tuple[str, int]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.requests += 1
        if self.is_held:
            self.held.append((data, address))
            return
        request = stun.parse_message(data)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, transaction_id=request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = self._address
        self.transport.sendto(bytes(answer), address)

    def release(self) -> None:
        self.is_held = False
        for data, address in self.held:
            self.datagram_received(data, address)


@contextlib.asynccontextmanager
async def stun_server(address: tuple[str, int]) -> AsyncIterator[tuple[StunServer, str]]:
    """Yield a server and its URL."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: StunServer(address), local_addr=("127.0.0.1", 0))
    try:
        yield server, f"stun:127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


async def candidates(fixture: Fixture) -> list[list[str]]:
    """Return the words of the candidates that a client is offered."""
    response = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
    assert response.status_code == 201
    return [line.split() for line in response.text.splitlines() if line.startswith("a=candidate:")]


async def test_the_public_address_is_offered() -> None:
    async with stun_server((PUBLIC, 4000)) as (_, url), running(webrtcICEServers2=[{"url": url}]) as fixture:
        await fixture.log.wait(r"INFO \[WebRTC\] public address: 203.0.113.5:4000")
        host, mapped, forwarded = await candidates(fixture)
        port = str(fixture.server.ports["webrtcLocalUDPAddress"])
        assert host[4:8] == ["127.0.0.1", port, "typ", "host"]
        assert mapped[4:] == [PUBLIC, "4000", "typ", "srflx", "raddr", "0.0.0.0", "rport", "0"]
        assert forwarded[4:8] == [PUBLIC, port, "typ", "srflx"]
        assert int(host[3]) > int(mapped[3]) > int(forwarded[3])


async def test_without_an_address_the_port_is_any() -> None:
    nowhere = {"webrtcLocalUDPAddress": "", "webrtcIPsFromInterfaces": False, "webrtcAdditionalHosts": []}
    async with stun_server((PUBLIC, 4000)) as (_, url), running(webrtcICEServers2=[{"url": url}], **nowhere) as fixture:
        await fixture.log.wait(r"INFO \[WebRTC\] public address: 203.0.113.5:4000")
        mapped, forwarded = await candidates(fixture)
        assert mapped[4:8] == [PUBLIC, "4000", "typ", "srflx"]
        assert forwarded[4:6] == [PUBLIC, str(fixture.server.ports["webrtcLocalUDPAddress"])]


async def test_the_first_clients_wait_for_the_public_address() -> None:
    async with stun_server((PUBLIC, 4000)) as (server, url):
        server.is_held = True
        async with running(webrtcICEServers2=[{"url": url}], webrtcSTUNGatherTimeout="60s") as fixture:
            offering = asyncio.create_task(candidates(fixture))
            await fixture.until(lambda: server.held)
            assert not offering.done()
            server.release()
            assert [words[7] for words in await offering] == ["host", "srflx", "srflx"]


@pytest.mark.parametrize("timeout", ["0s", "50ms"])
async def test_clients_do_not_wait_for_silent_servers(timeout: str) -> None:
    async with stun_server((PUBLIC, 4000)) as (server, url):
        server.is_held = True
        async with running(webrtcICEServers2=[{"url": url}], webrtcSTUNGatherTimeout=timeout) as fixture:
            assert [words[7] for words in await candidates(fixture)] == ["host"]


async def test_an_address_that_is_offered_anyway_is_not_offered_twice() -> None:
    async with running() as probe:
        port = probe.server.ports["webrtcLocalUDPAddress"]
    address = f"127.0.0.1:{port}"
    async with (
        stun_server(("127.0.0.1", port)) as (_, url),
        running(webrtcICEServers2=[{"url": url}], webrtcLocalUDPAddress=address) as fixture,
    ):
        await fixture.log.wait(f"public address: {address}")
        assert len(await candidates(fixture)) == 1


async def test_servers_for_clients_are_not_asked() -> None:
    async with stun_server((PUBLIC, 1)) as (server, url), stun_server((PUBLIC, 2)) as (other, other_url):
        only = {"url": url, "clientOnly": True}
        async with running(webrtcICEServers2=[only, {"url": other_url}]) as fixture:
            await fixture.log.wait("public address: 203.0.113.5:2")
            assert not server.requests
            # A change takes effect at once.
            fixture.server.apply(update(fixture.server.configuration, {"webrtcICEServers2": [{"url": url}]}))
            await fixture.log.wait("public address: 203.0.113.5:1")
            assert other.requests == 1
            fixture.server.apply(update(fixture.server.configuration, {"webrtcICEServers2": []}))
            assert len(await candidates(fixture)) == 1


async def test_servers_that_do_not_answer_delay_only_the_first_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    look_up = loop.getaddrinfo

    async def slow(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == "slow.invalid":
            await asyncio.sleep(3600)
        return await look_up(host, *arguments, **options)

    monkeypatch.setattr(loop, "getaddrinfo", slow)
    servers = [{"url": "stun:127.0.0.1:9"}, {"url": "stun:slow.invalid"}]
    began = time.monotonic()
    async with running(webrtcICEServers2=servers, webrtcSTUNGatherTimeout="1s") as fixture:
        for _ in range(5):
            assert len(await candidates(fixture)) == 1
    assert time.monotonic() - began < 5


async def test_a_name_that_does_not_exist_is_a_warning() -> None:
    async with running(webrtcICEServers2=[{"url": "stun:nothing.invalid"}]) as fixture:
        await fixture.log.wait("WARNING .* webrtcICEServers2: 'nothing.invalid' cannot be resolved")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stun:host", ("host", 3478)),
        ("stun:host:1", ("host", 1)),
        ("stun:[2001:db8::1]", ("2001:db8::1", 3478)),
        ("stun:[2001:db8::1]:5", ("2001:db8::1", 5)),
    ],
)
def test_addresses(url: str, expected: tuple[str, int]) -> None:
    assert parse_stun_url(url) == expected


@pytest.mark.parametrize("timeout", ["5s", "0s"])
async def test_a_source_asks_the_servers_of_its_server(timeout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offers: list[bytes] = []
    send = SignallingClient.offer

    async def recorded(client: SignallingClient, sdp: bytes) -> bytes:
        offers.append(sdp)
        return await send(client, sdp)

    monkeypatch.setattr(SignallingClient, "offer", recorded)
    async with stun_server((PUBLIC, 4000)) as (server, url):
        only = {"url": url, "clientOnly": True}
        async with running(webrtcICEServers2=[only]) as origin:
            publication = origin.publish("cam", [Track(0, VP8())])
            source = f"whep://127.0.0.1:{origin.server.port}/cam/whep"
            path = {"source": source, "whepSTUNGatherTimeout": timeout}
            async with feeding(publication), running(paths={"copy": path}) as fixture:
                await fixture.until(lambda: fixture.path("copy").stream is not None)
        assert (f"{PUBLIC} 4000 typ srflx".encode() in offers[0]) == (timeout != "0s")
        assert bool(server.requests) == (timeout != "0s")


async def test_a_source_does_not_wait_long_for_silent_servers() -> None:
    async with stun_server((PUBLIC, 4000)) as (server, url):
        server.is_held = True
        with open_udp_socket("", 0) as bound:
            assert await gather(bound, [url], 0.05, Log()) == ()
            assert server.held
            server.release()
            assert await gather(bound, [url], PATIENCE, Log()) == ((PUBLIC, 4000),)


@pytest.mark.parametrize(
    ("links", "urls"),
    [
        (['<stun:stun.example.net>; rel="ice-server"'], ["stun:stun.example.net"]),
        (['<STUN:192.0.2.1:3478>; rel=ice-server, <turn:t.example>; rel="ice-server"'], ["stun:192.0.2.1:3478"]),
        (['<stun:[2001:db8::1]:1>; rel="ice-server"'] * 2, ["stun:[2001:db8::1]:1"]),
        (['<stun:a>; rel="other"', "stun:b", '<stun:c:d>; rel="ice-server"', '<stun:>; rel="ice-server"'], []),
        ([f'<stun:{number}>; rel="ice-server"' for number in range(9)], [f"stun:{number}" for number in range(4)]),
    ],
)
def test_links_of_a_server(links: list[str], urls: list[str]) -> None:
    assert stun_urls(links) == urls
