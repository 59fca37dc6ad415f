"""The requests that VLC makes (its live555 module, version 2016.11.28, as in VLC 3), byte for byte where it matters.

Debian's VLC has no RTSP module, so this stands in for it: VLC announces its ports with ``client_port`` for multicast
too, asks for multicast only when the session description names a multicast address (hence ``?vlcmulticast``), sets up
each track below Content-Base, and keeps the session alive with GET_PARAMETER.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator

import pytest
from tests.interop import tools
from tests.interop.rtsp_client import RtspClient, key_frame, publish
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.interop

USER_AGENT = "LibVLC/3.0.18 (LIVE555 Streaming Media v2016.11.28)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tools.Server]:
    with tools.run_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def publisher(server: tools.Server, request: pytest.FixtureRequest) -> Iterator[tuple[str, RtspClient]]:
    url = server.url("vlc")
    with RtspClient(server.port) as client:
        publish(client, url)
        yield url, client
        client.request("TEARDOWN", url)


def send(client: RtspClient, frames: int = 5) -> None:
    for index in range(frames):
        for packet in key_frame(100 + 3 * index, 3000 * index):
            client.send_frame(0, packet)


def describe(client: RtspClient, url: str) -> tuple[str, str]:
    """Return the description and the base of the tracks' addresses."""
    assert "DESCRIBE" in client.request("OPTIONS", url).headers["public"]
    # With several workers, another one may have the stream since a millisecond.
    deadline = time.monotonic() + PATIENCE
    while (response := client.request("DESCRIBE", url, {"Accept": "application/sdp"})).status == 404:
        assert time.monotonic() < deadline, f"{url} is not published"
    assert response.status == 200
    return response.body.decode(), response.headers["content-base"]


def track_url(description: str, base: str) -> str:
    """Resolve the control attribute of the first track as live555 does: below the base, with one slash between."""
    control = re.findall(r"^a=control:(.*?)\r?$", description, re.MULTILINE)[-1]
    if control.startswith("rtsp"):
        return str(control)
    return base + ("" if base.endswith("/") else "/") + control


def test_tcp(server: tools.Server, publisher: tuple[str, RtspClient]) -> None:
    url, sender = publisher
    with RtspClient(server.port, user_agent=USER_AGENT) as client:
        description, base = describe(client, url)
        setup = client.request(
            "SETUP", track_url(description, base), {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1"}
        )
        assert setup.status == 200
        assert "interleaved=0-1" in setup.headers["transport"]
        assert client.request("PLAY", base, {"Range": "npt=0.000-"}).status == 200
        send(sender)
        channel, packet = client.read_frame()
        assert channel == 0
        assert packet[1] & 0x7F == 96
        assert client.request("GET_PARAMETER", base).status == 200
        assert client.request("TEARDOWN", base).status == 200


def test_udp(server: tools.Server, publisher: tuple[str, RtspClient]) -> None:
    url, sender = publisher
    port = tools.free_port()
    with (
        RtspClient(server.port, user_agent=USER_AGENT) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(PATIENCE)
        description, base = describe(client, url)
        transport = f"RTP/AVP;unicast;client_port={port}-{port + 1}"
        setup = client.request("SETUP", track_url(description, base), {"Transport": transport})
        assert setup.status == 200
        # live555 takes the address of the connection and these ports as the sender it expects.
        ports = re.search(r"server_port=(\d+)-(\d+)", setup.headers["transport"])
        assert ports is not None
        assert client.request("PLAY", base, {"Range": "npt=0.000-"}).status == 200
        send(sender)
        _, address = receiver.recvfrom(2048)
        assert address == ("127.0.0.1", int(ports[1]))
        assert client.request("TEARDOWN", base).status == 200


def test_multicast(server: tools.Server, publisher: tuple[str, RtspClient]) -> None:
    url, _ = publisher
    with RtspClient(server.port, user_agent=USER_AGENT) as client:
        description, base = describe(client, f"{url}?vlcmulticast")
        connection = re.search(r"^c=IN IP4 (\d+)\.", description, re.MULTILINE)
        assert connection is not None
        assert 224 <= int(connection[1]) <= 239
        transport = "RTP/AVP;multicast;client_port=50000-50001"
        setup = client.request("SETUP", track_url(description, base), {"Transport": transport})
        assert setup.status == 200
        for part in ("multicast", "destination=224.1.", "port=", "ttl="):
            assert part in setup.headers["transport"]
        assert client.request("PLAY", base, {"Range": "npt=0.000-"}).status == 200
        assert client.request("TEARDOWN", base).status == 200
