"""API v3: the names, forms and texts of MediaMTX v1.20, as far as programs depend on them."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from tests.control.support import Server, running, running_file
from tests.support.rtp import key_unit, rtp

from polycast.config import to_jsonable
from polycast.config.dialects.registry import MEDIAMTX
from polycast.control.ids import universal_id
from polycast.control.v3.tracks import LABELS, describe_track
from polycast.media.codec import CODEC_TYPES, H264, MPEG4Audio, Opus
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import ClientConnection, Mode
from polycast.wire.rtmp.events import RequestAccepted


@pytest.fixture
async def it() -> AsyncIterator[Server]:
    async with running(paths={"cam": {}, "b/c": {"publishUser": "u", "publishPass": "p"}, "all": {}}) as server:
        yield server


async def refused(response: httpx2.Response, status: int, text: str) -> None:
    assert response.status_code == status, response.text
    assert response.json() == {"status": "error", "error": text}


async def test_info(it: Server) -> None:
    info = await it.get("/v3/info")
    assert info["version"].startswith("v")
    assert datetime.fromisoformat(info["started"]).tzinfo is not None


async def test_keys_are_fetched_again(monkeypatch: pytest.MonkeyPatch, it: Server) -> None:
    calls: list[str] = []

    async def refresh() -> None:
        calls.append("fetched")

    monkeypatch.setattr(it.app.hub.access, "refresh_keys", refresh)
    assert (await it.api.post("/v3/auth/jwks/refresh")).json() == {"status": "ok"}
    assert calls == ["fetched"]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v3/none"), ("GET", "/v3/srtconns/list"), ("POST", "/v3/info"), ("GET", "/v3/")]
)
async def test_routes_that_do_not_exist(it: Server, method: str, path: str) -> None:
    response = await it.api.request(method, path)
    assert (response.status_code, response.text) == (404, "404 page not found")


# Configuration


async def test_global_settings_have_the_canonical_names(it: Server) -> None:
    settings = await it.get("/v3/config/global/get")
    assert settings["rtspTransports"] == ["tcp"]
    assert settings["readTimeout"] == "10s"
    assert {"paths", "pathDefaults", "rtspDisable", "protocols"}.isdisjoint(settings)


async def test_patching_global_settings(it: Server) -> None:
    response = await it.api.patch("/v3/config/global/patch", json={"readTimeout": "7s", "logLevel": None})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert (await it.get("/v3/config/global/get"))["readTimeout"] == "7s"
    assert (await it.get("/v1/config/get"))["readTimeout"] == "7s"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"nothing": 1}', "non-existent parameter: 'nothing'"),
        (b'{"readTimeout": "soon"}', "readTimeout"),
        (b"[]", "invalid JSON: the body must be an object"),
        (b"{", "invalid JSON"),
    ],
)
async def test_wrong_settings_change_nothing(it: Server, body: bytes, text: str) -> None:
    before = await it.get("/v3/config/global/get")
    response = await it.api.patch("/v3/config/global/patch", content=body)
    assert response.status_code == 400
    assert text in response.json()["error"]
    assert await it.get("/v3/config/global/get") == before


async def test_paths_are_added_changed_replaced_and_deleted(it: Server) -> None:
    settings = {"source": "rtsp://host/a", "sourceOnDemand": True, "maxReaders": 3}
    assert (await it.api.post("/v3/config/paths/add/new/one", json=settings)).json() == {"status": "ok"}
    added = await it.get("/v3/config/paths/get/new/one")
    assert {key: added[key] for key in settings} == settings
    assert (added["name"], added["overridePublisher"]) == ("new/one", True)
    await refused(await it.api.post("/v3/config/paths/add/new/one", json={}), 400, "path already exists")
    await it.api.patch("/v3/config/paths/patch/new/one", json={"maxReaders": 4})
    patched = await it.get("/v3/config/paths/get/new/one")
    assert (patched["source"], patched["maxReaders"]) == ("rtsp://host/a", 4)
    await it.api.post("/v3/config/paths/replace/new/one", json={"maxReaders": 5})
    replaced = await it.get("/v3/config/paths/get/new/one")
    assert (replaced["source"], replaced["maxReaders"]) == ("publisher", 5)
    await it.api.post("/v3/config/paths/replace/another", json={})
    assert (await it.get("/v3/config/paths/get/another"))["source"] == "publisher"
    assert (await it.api.delete("/v3/config/paths/delete/new/one")).json() == {"status": "ok"}
    await refused(await it.api.delete("/v3/config/paths/delete/new/one"), 404, "path not found")
    await refused(await it.api.patch("/v3/config/paths/patch/new/one", json={}), 404, "path not found")
    await refused(await it.api.get("/v3/config/paths/get/new/one"), 404, "path configuration not found")


async def test_hidden_passwords_stay_when_they_are_sent_back(it: Server) -> None:
    shown = await it.get("/v3/config/paths/get/b/c")
    assert shown["publishPass"] == "<redacted>"
    for method, path in (("PATCH", "/v3/config/paths/patch/b/c"), ("POST", "/v3/config/paths/replace/b/c")):
        response = await it.api.request(method, path, json={**shown, "maxReaders": 2})
        assert response.status_code == 200, response.text
        assert it.app.configuration.paths["b/c"].publish_pass == "p"
        assert it.app.configuration.paths["b/c"].max_readers == 2


async def test_hidden_passwords_of_users() -> None:
    anyone = {"user": "any", "permissions": [{"action": "api"}, {"action": "read"}]}
    users = [anyone, {"user": "u", "pass": "p", "permissions": [{"action": "publish"}]}]
    async with running(authInternalUsers=users) as it:
        shown = (await it.get("/v3/config/global/get"))["authInternalUsers"]
        assert [user.get("pass") for user in shown] in ([None, "<redacted>"], ["", "<redacted>"])
        response = await it.api.patch("/v3/config/global/patch", json={"authInternalUsers": shown})
        assert response.status_code == 200, response.text
        assert [each["pass"] for each in to_jsonable(it.app.configuration, MEDIAMTX)["authInternalUsers"]] == ["", "p"]


async def test_defaults_of_paths(tmp_path: Path) -> None:
    file = tmp_path / "mediamtx.yml"
    file.write_text(
        "rtspAddress: 127.0.0.1:0\nrtspTransports: [tcp]\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\nmoq: no\n"
        "api: yes\napiAddress: 127.0.0.1:0\nmetricsAddress: 127.0.0.1:0\n# Kept.\napiPersist: yes\n"
        "metrics: yes\npathDefaults:\n  maxReaders: 2\npaths:\n  a:\n  b:\n    maxReaders: 7\n"
    )
    async with running_file(file) as it:
        assert (await it.get("/v3/config/pathdefaults/get"))["maxReaders"] == 2
        response = await it.api.patch("/v3/config/pathdefaults/patch", json={"maxReaders": 5})
        assert response.status_code == 200, response.text
        listed = (await it.get("/v3/config/paths/list"))["items"]
        assert {path["name"]: path["maxReaders"] for path in listed} == {"a": 5, "b": 7}
        await it.api.post("/v3/config/paths/replace/b", json={"runOnDemandCloseAfter": "3s"})
    text = file.read_text()
    assert "# Kept." in text
    written = yaml.safe_load(text)
    assert written["pathDefaults"] == {"maxReaders": 5}
    assert written["paths"] == {"a": None, "b": {"runOnDemandCloseAfter": "3s"}}


# Lists


async def test_pages(it: Server) -> None:
    first = await it.get("/v3/config/paths/list?itemsPerPage=2")
    assert (first["itemCount"], first["pageCount"]) == (3, 2)
    assert [path["name"] for path in first["items"]] == ["all", "b/c"]
    second = await it.get("/v3/config/paths/list?itemsPerPage=2&page=1")
    assert [path["name"] for path in second["items"]] == ["cam"]
    assert (await it.get("/v3/config/paths/list?page=9"))["items"] == []
    assert await it.get("/v3/rtspsessions/list") == {"itemCount": 0, "pageCount": 0, "items": []}
    await refused(await it.api.get("/v3/paths/list?itemsPerPage=0"), 400, "invalid items per page")
    text = 'strconv.ParseUint: parsing "x": invalid syntax'
    await refused(await it.api.get("/v3/paths/list?page=x"), 400, text)


PATH_FIELDS = {
    *("name", "confName", "source", "ready", "readyTime", "available", "availableTime", "online", "onlineTime"),
    *("tracks", "tracks2", "readers", "inboundBytes", "outboundBytes", "inboundFramesInError"),
    *("bytesReceived", "bytesSent"),
}


async def test_live_paths(it: Server) -> None:
    idle = await it.get("/v3/paths/get/cam")
    assert set(idle) == PATH_FIELDS
    assert (idle["source"], idle["ready"], idle["readyTime"], idle["tracks2"], idle["readers"]) == (
        *(None, False, None, [], []),
    )
    await refused(await it.api.get("/v3/paths/get/other"), 404, "path not found")
    publisher = await it.publisher("live")
    await it.reader("live")
    packet = rtp(1, key_unit())
    publisher.send(b"$\x00" + len(packet).to_bytes(2, "big") + packet)
    await it.until(lambda: it.app.hub.path("live").stream.bytes_received)  # type: ignore[union-attr]
    shown = await it.get("/v3/paths/get/live")
    assert (shown["confName"], shown["ready"], shown["online"], shown["tracks"]) == ("all", True, True, ["H264"])
    assert shown["tracks2"][0]["codecProps"]["profile"] == "Baseline"
    assert shown["inboundBytes"] == len(packet)
    assert shown["source"]["type"] == shown["readers"][0]["type"] == "rtspSession"
    sessions = (await it.get("/v3/rtspsessions/list"))["items"]
    assert {session["id"] for session in sessions} == {shown["source"]["id"], shown["readers"][0]["id"]}
    names = [path["name"] for path in (await it.get("/v3/paths/list"))["items"]]
    assert names == ["b/c", "cam", "live"]


async def test_passwords_of_rtmp_clients_are_not_shown(it: Server) -> None:
    """They are in the query of the URL."""
    query = "user=me&pass=word&token=abc&who=me"
    address = parse_url(f"rtmp://127.0.0.1/live/x?{query}")
    engine = ClientConnection(address, Mode.PUBLISH, 0.0, seed=bytes(3072))
    port = it.app.servers["RTMP"].ports["rtmpAddress"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    happened: list[Any] = []
    while not any(isinstance(event, RequestAccepted) for event in happened):
        writer.write(engine.data_to_send())
        happened += engine.receive_data(await reader.read(65536), 0.0)
    for version in ("v1", "v3"):
        text = (await it.api.get(f"/{version}/rtmpconns/list")).text
        assert "user=me&pass=***&token=***&who=me" in text
        assert "word" not in text
    writer.close()


SESSION_FIELDS = {
    *("id", "created", "remoteAddr", "state", "path", "query", "user", "userAgent", "transport", "profile", "conns"),
    *("inboundBytes", "inboundRTPPackets", "inboundRTPPacketsLost", "inboundRTPPacketsInError"),
    *("inboundRTPPacketsJitter", "inboundRTCPPackets", "inboundRTCPPacketsInError", "outboundBytes"),
    *("outboundRTPPackets", "outboundRTPPacketsReportedLost", "outboundRTPPacketsDiscarded", "outboundRTCPPackets"),
    *("bytesReceived", "bytesSent", "rtpPacketsReceived", "rtpPacketsSent", "rtpPacketsLost", "rtpPacketsInError"),
    *("rtpPacketsJitter", "rtcpPacketsReceived", "rtcpPacketsSent", "rtcpPacketsInError"),
}


async def test_sessions_and_connections(it: Server) -> None:
    client = await it.rtsp()
    await client.publish(it.url("live?who=me&pass=word"))
    (session,) = (await it.get("/v3/rtspsessions/list"))["items"]
    assert set(session) == SESSION_FIELDS
    assert uuid.UUID(session["id"])
    assert (session["state"], session["path"], session["query"]) == ("publish", "live", "who=me&pass=***")
    assert (session["transport"], session["profile"], session["remoteAddr"]) == ("TCP", "AVP", client.address)
    (connection,) = (await it.get("/v3/rtspconns/list"))["items"]
    assert (connection["session"], connection["tunnel"]) == (session["id"], "none")
    assert session["conns"] == [connection["id"]]
    assert connection["inboundBytes"] > 100
    assert connection["outboundBytes"] > 100
    assert await it.get(f"/v3/rtspsessions/get/{session['id']}") == session
    assert (await it.get(f"/v3/rtspconns/get/{connection['id']}"))["id"] == connection["id"]
    await refused(await it.api.get(f"/v3/rtspsessions/get/{uuid.uuid4()}"), 404, "session not found")
    await refused(await it.api.get(f"/v3/rtspconns/get/{uuid.uuid4()}"), 404, "connection not found")
    await refused(await it.api.get("/v3/rtspsessions/get/12"), 400, "invalid UUID length: 2")
    assert (await it.api.post(f"/v3/rtspconns/kick/{connection['id']}")).status_code == 404
    response = await it.api.post(f"/v3/rtspsessions/kick/{session['id']}")
    assert response.json() == {"status": "ok"}
    assert await client.ended()
    assert (await it.get("/v3/rtspsessions/list"))["items"] == []
    await refused(await it.api.post(f"/v3/rtspsessions/kick/{session['id']}"), 404, "session not found")


@pytest.mark.parametrize("collection", ["rtmpconns", "hlsmuxers"])
async def test_lists_of_other_servers(it: Server, collection: str) -> None:
    assert (await it.get(f"/v3/{collection}/list"))["items"] == []


async def test_an_hls_muxer(it: Server) -> None:
    await it.publisher("live")
    port = it.app.servers["HLS"].ports["hlsAddress"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        asking = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/live/index.m3u8"))
        await it.until(lambda: it.app.servers["HLS"].items())
        (muxer,) = (await it.get("/v3/hlsmuxers/list"))["items"]
        asking.cancel()
    assert set(muxer) == {
        *("path", "created", "lastRequest", "outboundBytes", "outboundFramesDiscarded", "bytesSent"),
    }
    for key in ("created", "lastRequest"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", muxer[key]), key
    assert await it.get("/v3/hlsmuxers/get/live") | {"lastRequest": ""} == muxer | {"lastRequest": ""}
    await refused(await it.api.get("/v3/hlsmuxers/get/other"), 404, "muxer not found")


async def test_a_setting_that_has_no_effect_is_refused(it: Server) -> None:
    response = await it.api.patch("/v3/config/paths/patch/cam", json={"record": True})
    reason = "this version does not support it: nothing is recorded"
    await refused(response, 400, f"parameter paths, key cam: non-existent parameter: 'record' ({reason})")


async def test_commands_need_credentials_or_permission(it: Server) -> None:
    response = await it.api.patch("/v3/config/paths/patch/cam", json={"runOnAvailable": "touch /tmp/x"})
    assert response.status_code == 403
    assert response.json()["error"].startswith("runOnAvailable runs a program")


# Tracks


def test_every_codec_has_a_label() -> None:
    assert set(LABELS) == {codec.name for codec in CODEC_TYPES}


SPS = bytes.fromhex("6742c00dda0507ec0440000003004000000f03c50aa8")


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (H264(SPS), {"width": 320, "height": 240, "profile": "Baseline", "level": "1.3"}),
        (H264(), {"width": 0, "height": 0, "profile": "", "level": ""}),
        (Opus(6), {"channelCount": 6}),
        (MPEG4Audio(b"", 44_100, 2), {"sampleRate": 44_100, "channelCount": 2}),
    ],
)
def test_properties_of_codecs(codec: Any, expected: Mapping[str, Any]) -> None:
    assert describe_track(codec)["codecProps"] == expected


def test_ids_are_uuids_and_stay_the_same() -> None:
    own = str(uuid.uuid4())
    assert universal_id(own) == own
    assert universal_id("") == ""
    assert universal_id("123456789") == universal_id("123456789") != universal_id("123456788")
    assert uuid.UUID(universal_id("123456789"))
