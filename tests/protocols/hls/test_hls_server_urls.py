"""Addresses: redirects, pages, what they load, the list of paths, other methods and what is no address."""

from __future__ import annotations

import asyncio

import pytest
from tests.protocols.hls.support import Fixture, running

from polycast import web
from polycast.config import replace


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/cam", "cam/"),
        ("/cam?user=a&token=x%20y", "cam/?user=a&token=x%20y"),  # D20
        ("/yard/cam%201?t", "cam%201/?t"),
        ("/a%3Ab", "a%3Ab/"),
        ("/a%0d%0aset-cookie:x", "a%0D%0Aset-cookie%3Ax/"),
    ],
)
async def test_a_path_without_its_slash_is_redirected(it: Fixture, target: str, location: str) -> None:
    response = await it.get(target, 301)
    assert response.headers["location"] == location  # relative: it holds behind a proxy that adds a folder
    assert "set-cookie" not in response.headers


async def test_pages_and_what_they_load(it: Fixture) -> None:
    for path, depth in (("/cam/", 1), ("/yard/cam/", 2)):
        it.publish(path.strip("/"))
        page = await it.get(path)
        assert page.text.encode() == web.page(web.PLAYER_PAGE, depth).body
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == web.CONTENT_SECURITY_POLICY
        assert page.headers["cache-control"] == "no-cache"
        assert page.headers["content-encoding"] == "gzip"
        assert (await it.get(path, 304, if_none_match=page.headers["etag"])).content == b""
    for name, cache in ((f"{web.version()}/hls.min.js", "immutable"), ("hls.min.js", "no-cache")):
        script = await it.get(f"/_polycast/{name}")
        found = web.asset("hls.min.js")
        assert found is not None
        assert script.content == found.body
        assert script.headers["etag"].startswith('W/"')
        assert cache in script.headers["cache-control"]
        plain = await it.get(f"/_polycast/{name}", accept_encoding="identity")
        assert "content-encoding" not in plain.headers
        assert plain.content == found.body


async def test_the_list_of_paths_is_off_by_default(it: Fixture) -> None:
    it.publish("cam")
    page = await it.get("/", 404)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.content == web.page(web.START_PAGE).body
    assert "hlsIndex: yes" in page.text
    await it.get("/_polycast/paths.json", 404)


async def test_the_list_of_paths() -> None:
    paths = {"open": {}, "locked": {"readUser": "u", "readPass": "p"}, "near": {"readIPs": ["10.0.0.0/8"]}, "idle": {}}
    async with running(hlsIndex=True, paths=paths) as it:
        for name in ("open", "locked", "near"):
            it.publish(name)
        page = await it.get("/")
        assert page.text.encode() == web.page(web.INDEX_PAGE).body
        (listed,) = (await it.get("/_polycast/paths.json")).json()
        assert listed["name"] == "open"
        assert listed["tracks"] == ["H264", "AAC"]
        assert listed["unsupported"] == []
        assert listed["readers"] == 0
        assert listed["ready_since"] > 1_600_000_000


async def test_other_methods(it: Fixture) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert (await it.client.request(method, "/cam/stream.m3u8")).status_code == 404
    answer = await it.client.options("/cam/stream.m3u8", headers={"Access-Control-Request-Headers": "Range, X-A"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"
    assert answer.headers["access-control-allow-headers"] == "Range, X-A"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-credentials"] == "true"


async def test_the_allowed_origin_can_be_changed_while_it_runs() -> None:
    async with running(hlsAllowOrigin="https://one.example") as it:
        await it.playing("cam")
        first = await it.get("/cam/stream.m3u8")
        assert first.headers["access-control-allow-origin"] == "https://one.example"
        changed = replace(it.app.configuration, hls_allow_origins=("https://two.example",))
        await it.app.reload(changed)
        for target in ("/cam/stream.m3u8", "/cam/", "/nothing/stream.m3u8"):
            answer = await it.client.get(target)
            assert answer.headers["access-control-allow-origin"] == "https://two.example"


async def test_one_of_several_origins_is_the_one_that_asks() -> None:
    origins = ("https://one.example", "https://*.two.example")
    async with running(hlsAllowOrigin="https://one.example") as it:
        await it.playing("cam")
        await it.app.reload(replace(it.app.configuration, hls_allow_origins=origins))
        for origin in ("https://one.example", "https://a.two.example", "https://evil.example", ""):
            for target in ("/cam/stream.m3u8", "/cam/", "/nothing/stream.m3u8"):
                answer = await it.client.get(target, headers={"origin": origin} if origin else {})
                expected = None if "evil" in origin or not origin else origin
                assert answer.headers.get("access-control-allow-origin") == expected
                assert "Origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/favicon.ico", 404),
        ("/_polycast/../../etc/passwd", 404),
        ("/_polycast/%2e%2e/server.py", 404),
        ("/_polycast/x/y/player.js", 404),
        ("/_polycast/", 404),
        ("/../etc/passwd.ts", 404),
        ("/cam/../../../secret.mp4", 404),
        ("/cam/%2e%2e%2f%2e%2e%2fsecret.mp4", 404),
        ("/cam//stream.m3u8", 404),
        ("//stream.m3u8", 301),
        ("/stream.m3u8", 301),
        ("/cam/%00.mp4", 404),
        ("/cam/%ff.mp4", 404),
        ("/ca%20m%3f/stream.m3u8", 404),
        (f"/{'a' * 3000}/stream.m3u8", 404),
        (f"/{'a/' * 1000}stream.m3u8", 404),
        ("/cam/unknown.ts", 404),
    ],
)
async def test_what_is_no_address(it: Fixture, target: str, status: int) -> None:
    reader, writer = await connect(it)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert int(answer.split(b" ")[1]) == status, answer[:300]
    assert not it.app.hub.paths, "a request that comes to nothing leaves nothing"


async def connect(it: Fixture) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", it.port)
