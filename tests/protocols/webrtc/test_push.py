"""Pushes to WHIP servers: to aiortc, and to another server of this kind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator

import pytest
from tests.protocols.webrtc.support import Fixture, Publication, receive, running
from tests.protocols.webrtc.test_media import COLOURS, colours_of, connection, encoded, nal_units, watch
from tests.protocols.webrtc.whip_server import WhipServer
from tests.support.waiting import PATIENCE

from polycast.api.remote_publishing import pusher_maker
from polycast.errors import MissingDependency, UnsupportedCodec
from polycast.hub.retry import Ended
from polycast.media.codec import H264, VP8, Codec, MPEG4Audio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.protocols.push import Push


class Pushed:
    """A push and what it has told."""

    def __init__(self, fixture: Fixture, url: str, *, retries: bool = True) -> None:
        self.connections = 0
        self.errors: list[BaseException] = []
        self._retries = retries
        log = fixture.server.log
        make = pusher_maker(url, "")
        self._push = Push(
            fixture.path("cam"),
            lambda: log,
            lambda: make(log),
            on_connected=self._on_connected,
            on_failed=self._on_failed,
        )

    async def __aenter__(self) -> Pushed:
        self._push.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._push.stop()

    def _on_connected(self) -> None:
        self.connections += 1

    def _on_failed(self, ended: Ended) -> bool:
        self.errors.append(ended.error)
        return self._retries


@contextlib.asynccontextmanager
async def feeding(publication: Publication, codec: str = "libvpx") -> AsyncIterator[None]:
    """Write pictures of all colours until the block ends."""
    pictures = encoded(codec, 30)

    async def feed() -> None:
        for number in itertools.count():
            data, key = pictures[number % len(pictures)]
            units = (data,) if codec == "libvpx" else nal_units(data)
            publication.write(0, Frame(units, 3000 * number, 3000 * number, key=key))
            await asyncio.sleep(1 / 60)

    task = asyncio.create_task(feed())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(("codec", "name"), [(VP8(), "libvpx"), (H264(), "libx264")], ids=["VP8", "H264"])
async def test_pictures_reach_aiortc(codec: Codec, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # It leaves out loopback addresses, and a machine without a network has no others.
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: ["127.0.0.1"])
    async with running() as fixture, WhipServer() as server:
        publication = fixture.publish("cam", [Track(0, codec), Track(1, Opus())])
        async with feeding(publication, name), Pushed(fixture, f"whip://127.0.0.1:{server.port}/x/whip") as pushed:
            tracks = {track.kind: track for track in [await server.tracks.get(), await server.tracks.get()]}
            assert colours_of(await receive(tracks["video"], 40)) == set(COLOURS)
            assert set(tracks) == {"audio", "video"}
        await asyncio.wait_for(server.deleted.wait(), PATIENCE)
        assert pushed.connections == 1
        assert not pushed.errors
        (offer,) = server.offers
        assert offer.count("a=sendonly\r\n") == 2
        assert "a=ice-lite" not in offer


async def test_pictures_reach_viewers_of_another_server() -> None:
    async with running() as one, running() as other, connection() as viewer:
        publication = one.publish("cam", [Track(0, VP8())])
        url = f"whip://127.0.0.1:{other.server.port}/copy/whip"
        async with feeding(publication), Pushed(one, url):
            await other.until(lambda: other.path("copy").stream is not None)
            requests = publication.publisher.key_frame_requests
            assert colours_of(await watch(other, viewer, "copy")) == set(COLOURS)
            assert publication.publisher.key_frame_requests > requests, "the viewer's wish reaches the publisher"
            readers = [reader.reference().type for reader in one.path("cam").readers]
            assert readers == ["whipPusher"]
        await other.until(lambda: all(item.state != "publish" for item in other.server.sessions().values()))
        assert not one.path("cam").readers


async def test_it_connects_again() -> None:
    async with running() as one, running() as other:
        publication = one.publish("cam", [Track(0, VP8())])
        async with (
            feeding(publication),
            Pushed(one, f"whip://127.0.0.1:{other.server.port}/copy/whip") as pushed,
        ):
            await other.until(lambda: other.path("copy").stream is not None)
            (session,) = other.server.sessions()
            other.server.kick(session)
            await other.until(lambda: pushed.connections == 2)
            assert [str(error) for error in pushed.errors] == ["peer connection closed (closed by the peer)"]
            await other.until(lambda: other.path("copy").stream is not None)


@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ("", None),
        ("user:pa%20ss@", "Basic dXNlcjpwYSBzcw=="),
        (":a%2Ftoken@", "Bearer a/token"),
        ("user@", "Basic dXNlcjo="),
    ],
)
async def test_credentials(credentials: str, expected: str | None) -> None:
    async with running() as fixture, WhipServer(status=401) as server:
        fixture.publish("cam", [Track(0, VP8())])
        url = f"whip://{credentials}127.0.0.1:{server.port}/x/whip?a=b"
        async with Pushed(fixture, url, retries=False) as pushed:
            await fixture.until(lambda: pushed.errors)
        assert str(pushed.errors[0]) == "bad status code: 401"
        ((method, headers),) = server.requests
        assert method == "POST"
        assert headers.get("authorization") == expected
        assert headers["content-type"] == "application/sdp"


async def test_a_server_with_users() -> None:
    users = {"paths": {"copy": {"publishUser": "u", "publishPass": "p"}}}
    async with running() as one, running(**users) as other:
        publication = one.publish("cam", [Track(0, VP8())])
        address = f"127.0.0.1:{other.server.port}/copy/whip"
        async with feeding(publication):
            for credentials in ("u:p@", ":u%3Ap@"):  # our servers take user and password as a bearer token, too
                async with Pushed(one, f"whip://{credentials}{address}"):
                    await other.until(lambda: other.path("copy").stream is not None)
                await other.until(lambda: not other.server.sessions())
            async with Pushed(one, f"whip://u:wrong@{address}", retries=False) as refused:
                await one.until(lambda: refused.errors)
        assert str(refused.errors[0]) == "bad status code: 401 (authentication error)"


async def test_tracks_that_webrtc_does_not_carry_are_left_out() -> None:
    async with running() as one, running() as other:
        publication = one.publish("cam", [Track(0, VP8()), Track(1, MPEG4Audio())])
        async with feeding(publication), Pushed(one, f"whip://127.0.0.1:{other.server.port}/copy/whip"):
            await one.log.wait("the track AAC is left out: WebRTC does not carry it here")
            await other.until(lambda: other.path("copy").stream is not None)


async def error_of(fixture: Fixture, url: str, tracks: list[Track]) -> BaseException:
    """Return why a push fails."""
    fixture.publish("cam", tracks)
    async with Pushed(fixture, url, retries=False) as pushed:
        await fixture.until(lambda: pushed.errors)
    return pushed.errors[0]


async def test_a_stream_without_a_supported_codec() -> None:
    async with running() as fixture:
        error = await error_of(fixture, "whip://127.0.0.1:1/x", [Track(0, MPEG4Audio())])
    assert isinstance(error, UnsupportedCodec)
    assert "H264" in str(error)


async def test_a_server_that_cannot_be_reached() -> None:
    async with running() as fixture:
        error = await error_of(fixture, "whip://127.0.0.1:1/x", [Track(0, VP8())])
    assert str(error) == "Connection refused (http://127.0.0.1:1/x)"


async def test_a_server_without_udp() -> None:
    only_tcp = {"webrtcLocalUDPAddress": "", "webrtcLocalTCPAddress": "127.0.0.1:0"}
    async with running() as one, running(**only_tcp) as other:
        error = await error_of(one, f"whip://127.0.0.1:{other.server.port}/copy/whip", [Track(0, VP8())])
    assert str(error) == "the server offers no UDP port for media"


async def test_a_server_whose_media_port_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.protocols.webrtc.push.PATIENCE", 0.5)
    # An address for documentation (RFC 5737).
    async with running() as one, running(webrtcAdditionalHosts=["192.0.2.1"], webrtcIPsFromInterfaces=False) as other:
        error = await error_of(one, f"whip://127.0.0.1:{other.server.port}/copy/whip", [Track(0, VP8())])
    assert str(error) == "the server's media port did not answer within 0.5 s"


@pytest.mark.parametrize("url", ["whip://", "whip:///path", "whip://host:99999/x", "whip://host:0/x", "whip://[::1/x"])
def test_invalid_addresses(url: str) -> None:
    with pytest.raises(ValueError, match="invalid URL: 'whip:"):
        pusher_maker(url, "")


def test_a_missing_package_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("polycast.protocols.webrtc.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "polycast.net.dtls")
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    with pytest.raises(MissingDependency, match=r"publishing to whip:// needs .*pyOpenSSL"):
        pusher_maker("whip://host/x", "")
