"""What the services answer under ``mediamtx.yml`` beyond the fields of API v3: texts, headers, and what is shown."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.control.support import Server, running_file
from tests.support.waiting import PATIENCE

HEAD = """\
rtspAddress: 127.0.0.1:0
rtspTransports: [tcp]
rtmp: no
hls: no
webrtc: no
srt: no
moq: no
api: yes
apiAddress: 127.0.0.1:0
metrics: yes
metricsAddress: 127.0.0.1:0
pprof: yes
pprofAddress: 127.0.0.1:0
paths:
  all_others:
"""


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Server]:
    async with running_file(tmp_path / "mediamtx.yml", HEAD) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "route", "body"),
    [
        ("PATCH", "config/global/patch", {"test": "a"}),
        ("PATCH", "config/pathdefaults/patch", {"test": "a"}),
        ("POST", "config/paths/add/my/path", {"test": "a"}),
        ("PATCH", "config/paths/patch/all_others", {"test": "a"}),
        ("POST", "config/paths/replace/my/path", {"test": "a"}),
    ],
)
async def test_the_text_about_a_setting_that_does_not_exist(it: Server, method: str, route: str, body: object) -> None:
    response = await it.api.request(method, f"/v3/{route}", json=body)
    assert response.status_code == 400
    assert response.json() == {"status": "error", "error": 'json: unknown field "test"'}


async def test_other_errors_say_where_they_are(it: Server) -> None:
    response = await it.api.patch("/v3/config/global/patch", json={"readTimeout": "0s"})
    assert response.json()["error"] == "readTimeout: 'readTimeout' must be greater than zero"


@pytest.mark.parametrize(
    ("service", "methods", "headers"),
    [
        ("api", "OPTIONS, GET, POST, PATCH, DELETE", "Authorization, Content-Type"),
        ("metrics", "OPTIONS, GET", "Authorization"),
        ("pprof", "OPTIONS, GET", "Authorization"),
    ],
)
async def test_what_web_pages_may_send(it: Server, service: str, methods: str, headers: str) -> None:
    client = it.http(service)
    response = await client.options("/", headers={"Access-Control-Request-Method": "GET"})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["access-control-allow-methods"] == methods
    assert response.headers["access-control-allow-headers"] == headers


async def test_a_web_page_may_replace_all_paths(it: Server) -> None:
    response = await it.api.options("/", headers={"Access-Control-Request-Method": "PUT"})
    assert "PUT" in response.headers["access-control-allow-methods"].split(", ")


@pytest.mark.parametrize("service", ["api", "metrics", "pprof"])
async def test_missing_and_wrong_credentials(tmp_path: Path, service: str) -> None:
    users = "authInternalUsers:\n- user: me\n  pass: word\n  permissions: [{action: api}, {action: metrics}]\n"
    pages = {"api": "/v3/info", "metrics": "/metrics", "pprof": "/debug/pprof/heap"}
    async with running_file(tmp_path / "mediamtx.yml", HEAD + users) as server:
        client = server.http(service)
        missing = await client.get(pages[service])
        wrong = await client.get(pages[service], auth=("me", "other"))
        for response in (missing, wrong):
            assert response.status_code == 401
            assert response.json() == {"status": "error", "error": "authentication error"}
        assert missing.headers["www-authenticate"] == 'Basic realm="mediamtx"'
        assert "www-authenticate" not in wrong.headers


async def test_queries_are_shown_as_they_are(it: Server) -> None:
    """Programs for MediaMTX find sessions by the tokens in them; the other API still hides these."""
    client = await it.rtsp()
    await client.publish(it.url("live?token=abc&key=val"))
    (session,) = (await it.get("/v3/rtspsessions/list"))["items"]
    assert session["query"] == "token=abc&key=val"
    assert (await it.get(f"/v3/rtspsessions/get/{session['id']}"))["query"] == "token=abc&key=val"
    assert "abc" not in (await it.api.get("/v1/rtspsessions/list")).text


async def test_settings_are_also_shown_under_the_former_names_by_which_they_were_set(it: Server) -> None:
    assert {"protocols", "readBufferCount"}.isdisjoint(await it.get("/v3/config/global/get"))
    change = {"rtmpDisable": True, "readTimeout": "7s", "protocols": ["tcp"], "readBufferCount": 4096}
    assert (await it.api.patch("/v3/config/global/patch", json=change)).json() == {"status": "ok"}
    shown = await it.get("/v3/config/global/get")
    assert {key: shown[key] for key in change} == change
    assert (shown["rtmp"], shown["rtspTransports"], shown["writeQueueSize"]) == (False, ["tcp"], 4096)
    path = {"disablePublisherOverride": True, "runOnReady": "program"}
    await it.api.post("/v3/config/paths/add/cam", json={"disablePublisherOverride": True})
    await it.api.patch("/v3/config/paths/patch/cam", json={"maxReaders": 3})
    added = await it.get("/v3/config/paths/get/cam")
    assert (added["disablePublisherOverride"], added["overridePublisher"], added["maxReaders"]) == (True, False, 3)
    await it.api.post("/v3/config/paths/replace/cam", json={"maxReaders": 3})
    assert path.keys().isdisjoint(await it.get("/v3/config/paths/get/cam"))


@pytest.mark.parametrize("name", ["all_others", "all"])
async def test_the_entry_for_all_paths_has_the_name_of_the_file(tmp_path: Path, name: str) -> None:
    async with running_file(tmp_path / "mediamtx.yml", HEAD.replace("all_others", name)) as server:
        await server.publisher("live")
        assert (await server.get("/v3/paths/get/live"))["confName"] == name
        assert [path["name"] for path in (await server.get("/v3/config/paths/list"))["items"]] == [name]
        await server.api.delete(f"/v3/config/paths/delete/{name}")
        await server.api.post("/v3/config/paths/add/all", json={})
        assert [path["name"] for path in (await server.get("/v3/config/paths/list"))["items"]] == ["all"]


async def test_a_large_page_may_be_asked_for(it: Server) -> None:
    assert (await it.get("/v3/config/paths/list?itemsPerPage=1000000000"))["itemCount"] == 1
    refused = await it.api.get("/v3/config/paths/list?itemsPerPage=3000000000")
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        'strconv.ParseUint: parsing "3000000000": value out of range',
    )


# Pages and playlists

PAGES = """\
rtsp: no
rtmp: no
srt: no
moq: no
hlsAddress: 127.0.0.1:0
hlsAllowOrigins: ['*']
webrtcAddress: 127.0.0.1:0
webrtcLocalUDPAddress: 127.0.0.1:0
webrtcAllowOrigins: ['*']
authenticationFailurePause: 1ms
paths:
  cam:
  double/slash:
"""
USERS = "authInternalUsers:\n- user: me\n  pass: word\n  permissions: [{action: publish}, {action: read}]\n"


@contextlib.asynccontextmanager
async def pages(tmp_path: Path, server_name: str, settings: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    """Run a server, and return a client for one of its HTTP listeners."""
    async with running_file(tmp_path / "mediamtx.yml", PAGES + settings) as server:
        port = server.app.servers[server_name].ports[f"{server_name.lower()}Address"]
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False, verify=False
        ) as client:
            yield client


@pytest.mark.parametrize("server", ["HLS", "WebRTC"])
async def test_the_address_of_a_stream_leads_to_its_folder(tmp_path: Path, server: str) -> None:
    async with pages(tmp_path, server) as client:
        for address, location in (
            ("/cam?a=b", "/cam/?a=b"),
            ("//double/slash", "/double/slash/"),
            ("//evil.example", "/evil.example/"),
            ("/%5Cevil.example", "/evil.example/"),
            ("/x%0d%0aset-cookie:a", "/x%0D%0Aset-cookie%3Aa/"),
        ):
            response = await client.get(client.base_url.copy_with(raw_path=address.encode()))
            assert (response.status_code, response.headers["location"]) == (302, location), address
        proxied = await client.get("/cam", headers={"X-Forwarded-For": "192.0.2.1"})
        assert not proxied.headers["location"].startswith("/"), "a proxy may serve this server in a folder"


@pytest.mark.parametrize("server", ["HLS", "WebRTC"])
async def test_pages_of_streams_that_do_not_exist(tmp_path: Path, server: str) -> None:
    async with pages(tmp_path, server) as client:
        assert (await client.get("/cam/")).status_code == 200
        other = await client.get("/other/")
        assert other.status_code == 500
        assert other.json() == {"status": "error", "error": "path 'other' is not configured"}


@pytest.mark.parametrize(
    ("server", "route"), [("HLS", "/cam/"), ("HLS", "/cam/index.m3u8?cookieCheck=1"), ("WebRTC", "/cam/publish")]
)
async def test_who_may_not_see_a_page(tmp_path: Path, server: str, route: str) -> None:
    async with pages(tmp_path, server, USERS) as client:
        missing, wrong = await client.get(route), await client.get(route, auth=("me", "other"))
        for response in (missing, wrong):
            assert response.status_code == 401
            assert response.json() == {"status": "error", "error": "authentication error"}
        assert missing.headers["www-authenticate"] == 'Basic realm="mediamtx"'
        assert "www-authenticate" not in wrong.headers


async def test_playlists_of_hls(tmp_path: Path) -> None:
    async with pages(tmp_path, "HLS", USERS) as client:
        checked = await client.get("/cam/index.m3u8?jwt=token")
        assert (checked.status_code, checked.headers["location"]) == (302, "/cam/index.m3u8?cookieCheck=1&jwt=token")
        absent = await client.get("/cam/index.m3u8?cookieCheck=1", auth=("me", "word"))
        assert absent.status_code == 404
        assert absent.json() == {"status": "error", "error": "no one is publishing to path 'cam'"}


@pytest.mark.parametrize(
    ("server", "methods", "headers"),
    [
        ("HLS", "OPTIONS, GET", "Authorization, Range"),
        ("WebRTC", "OPTIONS, GET, POST, PATCH, DELETE", "Authorization, Content-Type, If-Match"),
    ],
)
async def test_what_other_web_sites_may_send(tmp_path: Path, server: str, methods: str, headers: str) -> None:
    async with pages(tmp_path, server) as client:
        response = await client.options("/", headers={"Access-Control-Request-Method": "GET"})
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["access-control-allow-origin"] == "*"
        assert response.headers["access-control-allow-methods"] == methods
        assert response.headers["access-control-allow-headers"] == headers


async def test_addresses_of_users_are_shown_as_networks(it: Server) -> None:
    users = (await it.get("/v3/config/global/get"))["authInternalUsers"]
    assert [user["ips"] for user in users] == [[], ["127.0.0.1/32", "::1/128"]]
