"""WHIP and WHEP over HTTP: statuses, headers, and what they do to sessions."""

from __future__ import annotations

import asyncio
import socket
import uuid
from pathlib import Path

import pytest
from tests.hub.support import Packets
from tests.protocols.webrtc.support import Fixture, running

from polycast.hub.access_request import AccessRequest
from polycast.hub.stats import Reference
from polycast.media.codec import H264, H265, VP8, MPEG4Audio
from polycast.media.track import Track
from polycast.net.http.request import MAXIMUM_USER_AGENT
from polycast.protocols.webrtc import names, server
from polycast.protocols.webrtc.signalling import BODY_LIMIT, read_target
from polycast.wire.webrtc.description import parse_description, parse_fragment

OFFERS = Path(__file__).parents[2] / "wire" / "webrtc" / "offers"
VIEW = (OFFERS / "chromium-view.sdp").read_bytes()
PUBLISH = (OFFERS / "chromium-publish.sdp").read_bytes()
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
DATA_CHANNEL = b"m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n"
SECOND_VIDEO = b"m=video" + PUBLISH.partition(b"m=video")[2]


async def open_session(fixture: Fixture, endpoint: str, offer: bytes) -> str:
    response = await fixture.http.post(endpoint, content=offer, headers=SDP)
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


async def test_options_tell_what_is_allowed() -> None:
    async with running() as fixture:
        response = await fixture.http.options("/cam/whep")
        assert response.status_code == 204
        assert response.headers["accept-post"] == "application/sdp"
        assert response.headers["access-control-allow-methods"] == "OPTIONS, GET, POST, PATCH, DELETE"


async def test_obs_studio_may_publish() -> None:
    """Its library's offer has no header extensions, and both media have the same port."""
    async with running() as fixture:
        offer = (OFFERS / "libdatachannel-publish.sdp").read_bytes()
        response = await fixture.http.post("/cam/whip", content=offer, headers=SDP)
        assert response.status_code == 201
        answer = parse_description(response.content)
        formats = [[(item.encoding, item.payload_type) for item in media.formats] for media in answer.medias]
        assert formats == [[("H264", 96)], [("opus", 111)]]
        assert [media.direction for media in answer.medias] == ["recvonly"] * 2
        assert answer.medias[0].formats[0].feedback >= {"nack", "nack pli"}


async def test_offers_of_one_address_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAXIMUM_UNCONNECTED_OF_ADDRESS", 3)
    monkeypatch.setattr(server, "MAXIMUM_UNCONNECTED", 5)
    async with running(webrtcTrustedProxies=["127.0.0.1"]) as fixture:

        async def offer_from(host: str) -> int:
            path = f"/cam{len(opened)}/whip"
            response = await fixture.http.post(path, content=PUBLISH, headers={**SDP, "X-Forwarded-For": host})
            opened.append(response.headers.get("ID", ""))
            return response.status_code

        opened: list[str] = []
        statuses = [await offer_from("192.0.2.1") for _ in range(4)]
        assert statuses == [201, 201, 201, 503]
        assert [await offer_from("192.0.2.2") for _ in range(2)] == [201, 201]
        assert await offer_from("192.0.2.3") == 201
        assert set(opened) - set(fixture.server.items()) == {opened[0], ""}
        await fixture.log.wait(r"closed \(too many sessions are being established\)")


async def test_offers_that_have_waited_for_a_path_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAXIMUM_UNCONNECTED_OF_ADDRESS", 3)
    paths = {"cam": {"runOnDemand": "sleep 60", "runOnDemandStartTimeout": "60s"}}
    async with running(paths=paths) as fixture:
        offers = [asyncio.ensure_future(fixture.http.post("/cam/whep", content=VIEW, headers=SDP)) for _ in range(5)]
        path = fixture.path("cam")
        await fixture.until(lambda: len(path._pending) == 5)
        fixture.publish("cam", [Track(0, VP8())])
        statuses = sorted([(await offer).status_code for offer in offers])
        assert statuses == [201, 201, 201, 503, 503]


async def test_additional_hosts_are_resolved_beside_the_loop_and_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def resolve(host: str, *_: object, **__: object) -> list[object]:
        if host == "slow.example":
            await asyncio.get_running_loop().create_future()
        if host == "wrong.example":
            raise socket.gaierror("Name or service not known")
        if host == "no..name":
            host.encode("idna")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", (host, 0))] * 2

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    monkeypatch.setattr(names, "RESOLVE_SECONDS", 0.01)
    hosts = ["slow.example", "wrong.example", "no..name", "192.0.2.9", "192.0.2.8"]
    async with running(webrtcAdditionalHosts=hosts, webrtcIPsFromInterfaces=False) as fixture:
        assert [candidate.address for candidate in fixture.server.candidates()] == ["192.0.2.9", "192.0.2.8"]
        failed = "webrtcAdditionalHosts: '{}' cannot be resolved: {}"
        assert fixture.log.find(failed.format("slow.example", "no answer within 0.01 s"))
        assert fixture.log.find(failed.format("wrong.example", "Name or service not known"))
        assert fixture.log.find(failed.format("no..name", rf"\[Errno {socket.EAI_NONAME}\] not a valid name"))


async def test_preflight_needs_no_credentials() -> None:
    async with running(paths={"cam": {"readUser": "u", "readPass": "p"}}) as fixture:
        response = await fixture.http.options("/cam/whep", headers={"Access-Control-Request-Method": "POST"})
        assert response.status_code == 204
        assert (await fixture.http.options("/cam/whep")).status_code == 401


async def test_a_viewer_is_answered() -> None:
    async with running() as fixture:
        fixture.publish("cam", [Track(0, H264())])
        response = await fixture.http.post("/cam/whep?token=x", content=VIEW, headers=SDP)
        assert response.status_code == 201
        assert response.headers["content-type"] == "application/sdp"
        assert response.headers["etag"] == "*"
        assert response.headers["accept-patch"] == "application/trickle-ice-sdpfrag"
        location = response.headers["location"]
        assert location.startswith("/cam/whep/")
        assert location.endswith("?token=x")
        ((session, item),) = fixture.server.sessions().items()
        assert (session, item.state, item.path) == (response.headers["id"], "read", "cam")
        answer = parse_description(response.content)
        assert answer.is_ice_lite
        assert answer.setup == "passive"
        assert [(media.kind, media.direction) for media in answer.medias] == [
            ("video", "sendonly"),
            ("audio", "inactive"),
        ]
        assert [candidate.address for candidate in answer.candidates] == ["127.0.0.1"]


async def test_a_publisher_is_answered_and_the_path_is_taken() -> None:
    async with running(paths={"all": {"disablePublisherOverride": True}}) as fixture:
        await open_session(fixture, "/cam/whip", PUBLISH)
        second = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
        assert second.status_code == 400
        assert second.json()["error"] == "someone is already publishing to path 'cam'"


async def test_a_publisher_uses_the_codec_that_it_likes_best() -> None:
    async with running() as fixture:
        response = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
        audio, video = parse_description(response.content).medias
        assert [item.encoding for item in video.formats] == ["VP8"]
        assert video.formats[0].retransmission == 97
        assert audio.formats[0].parameter("stereo") == "1"


REFUSALS = [
    ("/cam/whep", VIEW, SDP, 404, "no stream is available on path 'cam'"),
    ("/lazy/whep", VIEW, SDP, 404, "no stream is available on path 'lazy' (its source has timed out)"),
    ("/cam/whep", VIEW, {}, 400, "invalid Content-Type"),
    ("/cam/whep", b"junk", SDP, 400, "invalid session description"),
    ("/cam/whep", b" " * (BODY_LIMIT + 1), SDP, 413, f"the offer is larger than {BODY_LIMIT} bytes"),
    ("/aac/whep", VIEW, SDP, 400, "the stream doesn't contain any supported codec"),
    ("/h265/whep", VIEW, SDP, 400, "codecs not supported by client: H265"),
    ("/cam/whip", VIEW, SDP, 406, "no valid tracks found"),
    ("/cam/whip", PUBLISH + DATA_CHANNEL, SDP, 406, "unsupported media 'application'"),
    ("/cam/whip", PUBLISH + SECOND_VIDEO, SDP, 406, "only a single video and a single audio track"),
    ("/other/whep", VIEW, SDP, 404, "path 'other' is not configured"),
    ("/pulled/whip", PUBLISH, SDP, 400, "since 'source' is not 'publisher'"),
]


@pytest.mark.parametrize(("endpoint", "offer", "headers", "status", "text"), REFUSALS)
async def test_refusals(endpoint: str, offer: bytes, headers: dict[str, str], status: int, text: str) -> None:
    dead = {"source": "rtsp://127.0.0.1:1/x", "sourceOnDemand": True, "sourceOnDemandStartTimeout": "100ms"}
    paths = {"cam": {}, "aac": {}, "h265": {}, "pulled": dead, "lazy": dead}
    async with running(paths=paths) as fixture:
        fixture.publish("aac", [Track(0, MPEG4Audio())])
        fixture.publish("h265", [Track(0, H265())])
        response = await fixture.http.post(endpoint, content=offer, headers=headers)
        assert response.status_code == status, response.text
        assert text in response.json()["error"]
        assert not fixture.server.sessions()


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("/other/whep", "request for path 'other' refused: path 'other' is not configured"),
        ("/locked/whep", "request for path 'locked' refused: authentication is needed"),
        ("/aac/whep", "offer for path 'aac' refused: the stream doesn't contain any supported codec"),
    ],
)
async def test_a_refusal_is_logged_once(endpoint: str, line: str) -> None:
    async with running(paths={"aac": {}, "locked": {"readUser": "u", "readPass": "p"}}) as fixture:
        fixture.publish("aac", [Track(0, MPEG4Audio())])
        for _ in range(3):
            assert (await fixture.http.post(endpoint, content=VIEW, headers=SDP)).status_code >= 400
        (found,) = [told for told in fixture.log.lines if "refused" in told]
        assert found.startswith(f"INFO [WebRTC] [conn 127.0.0.1] {line}")


async def test_a_viewer_is_told_why_the_source_fails() -> None:
    # Nothing listens on port 1.
    async with running(paths={"cam": {"source": "rtsp://127.0.0.1:1/x"}}) as fixture:
        await fixture.until(lambda: fixture.path("cam").source_failure is not None)
        response = await fixture.http.post("/cam/whep", content=VIEW, headers=SDP)
        assert response.status_code == 404
        error = response.json()["error"]
        assert error.startswith("no stream is available on path 'cam' (its source failed: ")
        assert "refused" in error


async def test_other_methods_are_not_allowed() -> None:
    async with running() as fixture:
        for method in ("GET", "HEAD", "PUT"):
            assert (await fixture.http.request(method, "/cam/whep")).status_code == 405
        assert (await fixture.http.delete("/cam/whep")).status_code == 405


@pytest.mark.parametrize(
    "credentials",
    [{"auth": ("u", "p")}, {"headers": {"Authorization": "Bearer u:p"}}, {"params": {"user": "u", "pass": "p"}}],
)
async def test_credentials(credentials: dict[str, object]) -> None:
    async with running(paths={"cam": {"publishUser": "u", "publishPass": "p"}}) as fixture:
        refused = await fixture.http.post("/cam/whip", content=PUBLISH, headers=SDP)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic realm=")
        arguments = {**credentials, "headers": {**SDP, **credentials.get("headers", {})}}  # type: ignore[dict-item]
        accepted = await fixture.http.post("/cam/whip", content=PUBLISH, **arguments)  # type: ignore[arg-type]
        assert accepted.status_code == 201
        assert [item.user for item in fixture.server.sessions().values()] == ["u"]


async def test_who_decides_is_told_the_beginning_of_a_long_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as fixture:
        asked: list[AccessRequest] = []
        authorize = fixture.app.hub.authorize

        async def check(request: AccessRequest) -> str:
            asked.append(request)
            return await authorize(request)

        monkeypatch.setattr(fixture.app.hub, "authorize", check)
        await fixture.http.post("/cam/whip", content=PUBLISH, headers={**SDP, "User-Agent": "x" * 10_000})
        assert [request.user_agent for request in asked] == ["x" * MAXIMUM_USER_AGENT]


@pytest.mark.parametrize("query", ["&".join(["a=b"] * 100), "%ff=%fe", "user=%00&pass=%0a", "&&;&=="])
@pytest.mark.parametrize("name", ["Authorization", "If-Match", "Content-Type", "Origin", "Accept", "X-Forwarded-For"])
async def test_junk_in_queries_and_headers(query: str, name: str) -> None:
    async with running(paths={"cam": {"publishUser": "u", "publishPass": "p"}}) as fixture:
        for junk in (b"\xff", b"Bearer \xff:", b"Basic ==", b"[", b";;;", b"http://[", b'"'):
            for target in ("/cam/whip", "/cam/whep", "/cam/", "/cam/publish"):
                for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS"):
                    headers = {name: junk}
                    response = await fixture.http.request(method, f"{target}?{query}", content=b"x", headers=headers)
                    assert response.status_code < 500, (method, target, junk)


async def test_protected_paths_are_used_under_names_of_the_server() -> None:
    """Else a web page whose name resolves to this machine could use them through a browser (DNS rebinding)."""
    locked = {"publishUser": "u", "publishPass": "p", "readIPs": ["127.0.0.1"]}
    async with running(paths={"cam": locked, "open": {}}, allowedHosts=["media.example.com"]) as fixture:
        foreign = {**SDP, "Host": "evil.example"}
        for target in ("/cam/whip", "/cam/whep"):
            refused = await fixture.http.post(target, content=PUBLISH, headers=foreign, auth=("u", "p"))
            assert refused.status_code == 403
            assert "allowedHosts" in refused.json()["error"]
        assert (await fixture.http.post("/open/whip", content=PUBLISH, headers=foreign)).status_code == 201
        own = {**SDP, "Host": "media.example.com"}
        accepted = await fixture.http.post("/cam/whip", content=PUBLISH, headers=own, auth=("u", "p"))
        assert accepted.status_code == 201


async def test_a_session_can_be_deleted_by_anyone_who_knows_its_address() -> None:
    async with running() as fixture:
        location = await open_session(fixture, "/cam/whip", PUBLISH)
        assert (await fixture.http.get(location)).status_code == 404
        assert (await fixture.http.delete(location.rpartition("/")[0] + "/junk")).status_code == 400
        assert (await fixture.http.delete(f"/cam/whip/{uuid.uuid4()}")).status_code == 404
        response = await fixture.http.delete(location)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
        assert not fixture.server.sessions()
        assert (await fixture.http.delete(location)).status_code == 404


async def test_candidates_are_taken_and_ice_is_restarted() -> None:
    async with running() as fixture:
        location = await open_session(fixture, "/cam/whip", PUBLISH)
        ufrag = parse_description(PUBLISH).credentials
        same = f"a=ice-ufrag:{ufrag.ufrag}\r\na=ice-pwd:{ufrag.password}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        assert (await fixture.http.patch(location, content=same, headers=FRAGMENT)).status_code == 204
        assert (await fixture.http.patch(location, content=same, headers=SDP)).status_code == 400
        too_large = await fixture.http.patch(location, content=b" " * (BODY_LIMIT + 1), headers=FRAGMENT)
        assert too_large.status_code == 413
        assert too_large.json()["error"] == f"the fragment is larger than {BODY_LIMIT} bytes"
        other = "a=ice-ufrag:other\r\na=ice-pwd:another-password-of-24-chr\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        restarted = await fixture.http.patch(location, content=other, headers=FRAGMENT)
        assert restarted.status_code == 200
        fragment = parse_fragment(restarted.content)
        assert fragment.credentials is not None
        assert restarted.headers["etag"] == f'"{fragment.credentials.ufrag}"'
        assert fragment.candidates
        of_media = restarted.text.partition("m=")[2]
        assert f"a=ice-ufrag:{fragment.credentials.ufrag}\r\na=ice-pwd:{fragment.credentials.password}" in of_media


async def test_a_session_that_never_connects_ends() -> None:
    async with running(webrtcHandshakeTimeout="100ms") as fixture:
        await open_session(fixture, "/cam/whip", PUBLISH)
        await fixture.until(lambda: not fixture.server.sessions())
        assert "cam" not in fixture.app.hub.paths, "nothing is left of the path"
        assert any("deadline exceeded while waiting connection" in line for line in fixture.log.lines)


async def test_kick() -> None:
    async with running() as fixture:
        await open_session(fixture, "/cam/whip", PUBLISH)
        (session,) = fixture.server.sessions()
        assert fixture.server.kick(session)
        assert not fixture.server.kick(session)
        assert not fixture.server.sessions()


async def test_pages_and_scripts() -> None:
    async with running(paths={"cam": {"publishUser": "u", "publishPass": "p"}}) as fixture:
        moved = await fixture.http.get("/cam?muted=no", follow_redirects=False)
        assert (moved.status_code, moved.headers["location"]) == (302, "./cam/?muted=no")
        page = await fixture.http.get("/cam/")
        assert page.status_code == 200
        assert "watch.js" in page.text
        assert (await fixture.http.get("/cam/publish")).status_code == 401
        assert "publish.js" in (await fixture.http.get("/cam/publish", auth=("u", "p"))).text
        assert "class WebRTCReader" in (await fixture.http.get("/cam/reader.js")).text
        assert "class WebRTCPublisher" in (await fixture.http.get("/cam/publisher.js")).text
        assert (await fixture.http.get("/favicon.ico")).status_code == 404
        assert (await fixture.http.get("/")).status_code == 404
        asset = page.text.partition('src="../')[2].partition('"')[0]
        assert (await fixture.http.get(f"/{asset}")).status_code == 200


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"/a/b/whep", ("a/b", "whep", "", "")),
        (b"/a/whip/secret?x=1", ("a", "whip", "secret", "x=1")),
        (b"/a/publish", ("a", "publish", "", "")),
        (b"/a%20b/", ("a b", "", "", "")),
        (b"/whep/whep", ("whep", "whep", "", "")),
        (b"/", ("", "", "", "")),
    ],
)
def test_targets(target: bytes, parts: tuple[str, str, str, str]) -> None:
    found = read_target(target)
    assert (found.path, found.last, found.secret, found.query) == parts


class Viewer(Packets):
    """A client's reader."""

    def reference(self) -> Reference:
        return Reference("test", "1")


async def test_more_viewers_than_allowed_are_refused() -> None:
    async with running(paths={"cam": {"maxReaders": 1}}) as fixture:
        publication = fixture.publish("cam", [Track(0, VP8())])
        fixture.path("cam").attach_reader(Viewer(), publication.stream)
        response = await fixture.http.post("/cam/whep", content=VIEW, headers=SDP)
        assert response.status_code == 400
        assert "maximum reader count reached: path 'cam' allows 1" in response.json()["error"]
        assert not fixture.server.sessions()
