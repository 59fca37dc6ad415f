"""Media through coturn, a TURN server: of a server that its clients can only reach there."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCSessionDescription
from tests.interop import tools
from tests.protocols.webrtc.support import Fixture, receive, running
from tests.protocols.webrtc.test_media import COLOURS, Colours, colours_of, connection, prefer

from polycast.protocols.webrtc import relay_transport

SECRET = "a secret shared with coturn"


@pytest.fixture
def coturn(tmp_path: Path) -> Iterator[dict[str, int]]:
    """Yield its ports by scheme."""
    tools.require("turnserver")
    tools.make_certificate(tmp_path)
    plain, tls = tools.free_port(), tools.free_port()
    options = {
        "listening-ip": "127.0.0.1",
        "relay-ip": "127.0.0.1",
        "listening-port": plain,
        "tls-listening-port": tls,
        "cert": "server.crt",
        "pkey": "server.key",
        "realm": "example.org",
        "static-auth-secret": SECRET,
        "pidfile": "pid",
        "userdb": "users",
        "log-file": "stdout",
        "cli-port": tools.free_port(),
        "cli-password": "unused",
    }
    flags = ("--use-auth-secret", "--allow-loopback-peers", "--no-dtls", "--simple-log", "-n")
    command = ["turnserver", *flags, *(f"--{name}={value}" for name, value in options.items())]
    with tools.start("coturn", command, tmp_path) as program:
        program.wait_until(lambda: is_listening(plain) and is_listening(tls), "open port")
        yield {"turn": plain, "turns": tls}


def is_listening(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.fixture(autouse=True)
def local_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # aiortc leaves out loopback addresses, and a machine without a network has no others.
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: ["127.0.0.1"])


def own_candidates(sdp: str) -> list[list[str]]:
    return [line.split() for line in sdp.splitlines() if line.startswith("a=candidate:")]


async def exchange(fixture: Fixture, peer: RTCPeerConnection, endpoint: str) -> None:
    """Connect a client that can reach the relay only."""
    await peer.setLocalDescription(await peer.createOffer())
    response = await fixture.http.post(
        endpoint, content=peer.localDescription.sdp, headers={"Content-Type": "application/sdp"}
    )
    assert response.status_code == 201, response.text
    lines = [line for line in response.text.splitlines() if "candidate:" not in line or " typ relay " in line]
    assert own_candidates("\n".join(lines))
    await peer.setRemoteDescription(RTCSessionDescription("\r\n".join([*lines, ""]), "answer"))


def settings(url: str) -> dict[str, Any]:
    return {"webrtcICEServers2": [{"url": url, "username": "AUTH_SECRET", "password": SECRET}]}


@pytest.mark.parametrize(
    ("scheme", "query"),
    [("turn", "?transport=udp"), ("turn", "?transport=tcp"), ("turns", "")],
    ids=["UDP", "TCP", "TLS"],
)
async def test_publisher_and_viewer_over_the_relay(
    scheme: str, query: str, coturn: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    monkeypatch.setattr(relay_transport, "client_context", lambda: trusting)
    url = f"{scheme}:127.0.0.1:{coturn[scheme]}{query}"
    async with running(**settings(url)) as fixture, connection() as publisher, connection() as viewer:
        publisher.addTransceiver(Colours(), "sendonly")
        prefer(publisher, "VP8")
        await exchange(fixture, publisher, "/cam/whip")
        await fixture.until(lambda: fixture.path("cam").stream is not None)
        video = viewer.addTransceiver("video", "recvonly")
        await exchange(fixture, viewer, "/cam/whep")
        assert colours_of(await receive(video.receiver.track, 40)) == set(COLOURS)
        for session in fixture.server.items().values():
            kind, transport, host, port = session.local_candidate.split("/")
            assert (kind, transport, host) == ("relay", "udp", "127.0.0.1")
            assert int(port) not in fixture.server.ports.values()
            assert session.remote_candidate.startswith("prflx/udp/127.0.0.1/")


async def test_a_turn_server_tells_the_public_address_as_well(coturn: dict[str, int]) -> None:
    only = {"webrtcLocalUDPAddress": "", "webrtcIPsFromInterfaces": False, "webrtcAdditionalHosts": []}
    url = f"turn:127.0.0.1:{coturn['turn']}"
    async with running(**settings(url), **only) as fixture, connection() as publisher:
        await fixture.log.wait(r"relayed address 127.0.0.1:\d+")
        await fixture.log.wait(r"public address: 127.0.0.1:\d+")
        publisher.addTransceiver(Colours(), "sendonly")
        await publisher.setLocalDescription(await publisher.createOffer())
        response = await fixture.http.post(
            "/cam/whip", content=publisher.localDescription.sdp, headers={"Content-Type": "application/sdp"}
        )
        assert [words[7] for words in own_candidates(response.text)] == ["srflx", "relay"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("stun:a.example", "stun:a.example"),
        ("turn:a.example", "stun:a.example:3478"),
        ("turn:[2001:db8::1]:5?transport=udp", "stun:[2001:db8::1]:5"),
        ("turn:a.example:5?transport=tcp", ""),
        ("turns:a.example", ""),
    ],
)
def test_addresses_of_stun_servers(url: str, expected: str) -> None:
    assert relay_transport.stun_url(url) == expected


async def test_wrong_credentials_are_logged_and_disturb_nobody(coturn: dict[str, int]) -> None:
    server = {"url": f"turn:127.0.0.1:{coturn['turn']}", "username": "somebody", "password": "wrong"}
    async with running(webrtcICEServers2=[server]) as fixture, connection() as publisher:
        await fixture.log.wait(r"TURN server 'turn:127.0.0.1:\d+': wrong user or password")
        publisher.addTransceiver(Colours(), "sendonly")
        await publisher.setLocalDescription(await publisher.createOffer())
        response = await fixture.http.post(
            "/cam/whip", content=publisher.localDescription.sdp, headers={"Content-Type": "application/sdp"}
        )
        assert {words[7] for words in own_candidates(response.text)} == {"host"}


async def test_servers_for_clients_only_are_not_used(coturn: dict[str, int]) -> None:
    server = settings(f"turn:127.0.0.1:{coturn['turn']}")["webrtcICEServers2"][0]
    async with running(webrtcICEServers2=[{**server, "clientOnly": True}]) as fixture, connection() as publisher:
        publisher.addTransceiver(Colours(), "sendonly")
        await publisher.setLocalDescription(await publisher.createOffer())
        response = await fixture.http.post(
            "/cam/whip", content=publisher.localDescription.sdp, headers={"Content-Type": "application/sdp"}
        )
        assert {words[7] for words in own_candidates(response.text)} == {"host"}
        assert response.headers["Link"].startswith("<turn:127.0.0.1:")
