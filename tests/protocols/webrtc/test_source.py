"""Sources that are pulled from WHEP servers."""

from __future__ import annotations

import pytest
from tests.protocols.webrtc.support import running
from tests.protocols.webrtc.test_media import COLOURS, colours_of, connection, watch
from tests.protocols.webrtc.test_push import feeding

from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader
from polycast.media.codec import VP8, Opus
from polycast.media.track import Track


@pytest.mark.parametrize("values", [{}, {"webrtcLocalTCPAddress": "127.0.0.1:0"}], ids=["udp", "udp and tcp"])
async def test_pictures_of_another_server(values: dict[str, str]) -> None:
    async with running(**values) as origin:
        publication = origin.publish("cam", [Track(0, VP8()), Track(1, Opus())])
        source = f"whep://127.0.0.1:{origin.server.port}/cam/whep"
        async with feeding(publication):
            async with running(paths={"copy": {"source": source}}) as fixture, connection() as viewer:
                await fixture.until(lambda: fixture.path("copy").stream is not None)
                assert colours_of(await watch(fixture, viewer, "copy")) == set(COLOURS)
            await origin.until(lambda: not origin.server.sessions())
        assert publication.publisher.key_frame_requests > 0


@pytest.mark.parametrize(
    ("credentials", "path"),
    [("u:p@", {}), (":u%3Ap@", {}), ("", {"whepBearerToken": "u:p"})],
    ids=["Basic", "token", "key"],
)
async def test_credentials(credentials: str, path: dict[str, str]) -> None:
    async with running(paths={"cam": {"readUser": "u", "readPass": "p"}}) as origin:
        publication = origin.publish("cam", [Track(0, VP8())])
        source = f"whep://{credentials}127.0.0.1:{origin.server.port}/cam/whep"
        async with feeding(publication), running(paths={"copy": {"source": source, **path}}) as fixture:
            await fixture.until(lambda: fixture.path("copy").stream is not None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cam", r"bad status code: 404 \(no stream is available on path 'cam'\)"),
        ("locked", r"bad status code: 401 \(authentication error\)"),
    ],
)
async def test_why_a_source_fails(name: str, reason: str) -> None:
    async with running(paths={"cam": {}, "locked": {"readUser": "u", "readPass": "p"}}) as origin:
        source = f"whep://127.0.0.1:{origin.server.port}/{name}/whep"
        async with running(paths={"copy": {"source": source}}) as fixture:
            await fixture.log.wait(rf"failed: {reason}; next attempt in")


async def test_a_source_has_its_own_deadline_for_the_connection() -> None:
    # An address for documentation (RFC 5737), where nobody answers.
    hosts = {"webrtcIPsFromInterfaces": False, "webrtcAdditionalHosts": ["192.0.2.1"]}
    async with running(**hosts, webrtcHandshakeTimeout="1h") as origin:
        publication = origin.publish("cam", [Track(0, VP8())])
        source = f"whep://127.0.0.1:{origin.server.port}/cam/whep"
        path = {"source": source, "whepHandshakeTimeout": "100ms"}
        async with feeding(publication), running(paths={"copy": path}) as fixture:
            await fixture.log.wait("failed: deadline exceeded while waiting connection")


async def test_a_password_is_not_logged() -> None:
    async with running(paths={"copy": {"source": "whep://:a-secret-token@127.0.0.1:1/cam/whep"}}) as fixture:
        await fixture.log.wait("failed: .*; next attempt in")
        assert not any("a-secret-token" in line for line in fixture.log.lines)


SOUND_ONLY = {"alwaysAvailable": True, "alwaysAvailableTracks": [{"codec": "Opus"}]}


async def test_a_source_that_does_not_fit_what_is_always_available() -> None:
    async with running() as origin:
        publication = origin.publish("cam", [Track(0, VP8())])
        source = f"whep://127.0.0.1:{origin.server.port}/cam/whep"
        async with feeding(publication), running(paths={"copy": {"source": source, **SOUND_ONLY}}) as fixture:
            await fixture.log.wait(r"failed: wants to publish \[VP8\], but stream expects \[Opus\]; next attempt in")


async def test_readers_of_a_source_get_key_frames_when_they_need_them() -> None:
    async with running() as origin:
        publication = origin.publish("cam", [Track(0, VP8())])
        source = f"whep://127.0.0.1:{origin.server.port}/cam/whep"
        async with feeding(publication), running(paths={"copy": {"source": source}}) as fixture:
            path = fixture.path("copy")
            await fixture.until(lambda: path.stream is not None)
            before = publication.publisher.key_frame_requests
            assert path.publisher is not None
            path.publisher.request_key_frame()
            await fixture.until(lambda: publication.publisher.key_frame_requests > before)
            assert path.stream is not None
            before = publication.publisher.key_frame_requests
            path.attach_reader(Segments(), path.stream)
            await fixture.until(lambda: publication.publisher.key_frame_requests >= before + 3)


class Segments(FrameReader):
    """A reader that begins a segment each second."""

    key_frame_interval = 1.0

    def deliver_frames(self, batch: FrameBatch) -> None:
        pass

    def close_reader(self, reason: str) -> None:
        pass

    def reference(self) -> Reference:
        return Reference("test")
