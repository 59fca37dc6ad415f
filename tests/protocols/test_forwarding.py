"""Forwarding: streams reach other servers, connections come back, and nobody else notices any of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import time
from typing import Any

import httpx2
import pytest
import trustme
from tests.control.support import Server, running
from tests.protocols.sources.camera import Camera, camera
from tests.protocols.webrtc.whip_server import WhipServer
from tests.support.ports import free_port
from tests.support.rtp import key_unit, rtp

from polycast.config import from_mapping, load_bytes
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.config.forward import without_credentials
from polycast.errors import ConfigurationError
from polycast.protocols.forward_loops import path_of
from polycast.protocols.registry import protocols
from polycast.wire.rtsp.message import Request


def to(*addresses: str, **more: Any) -> dict[str, Any]:
    """Return the settings of a path that is forwarded to these addresses."""
    return {"forward": [{"dest": address, **more} for address in addresses]}


async def forwards(server: Server, path: str) -> list[dict[str, Any]]:
    """Return the destinations of a path as the API has them."""
    items: list[dict[str, Any]] = (await server.get(f"/v3/paths/forward/list?path={path}"))["items"]
    return items


async def forwarding(server: Server, path: str, *states: str) -> list[dict[str, Any]]:
    """Wait until the destinations of a path have these states, and return them."""
    found = server.app.hub.paths[path]
    await server.until(lambda: [item.state for item in server.app.forwarding.items(found)] == list(states))
    return await forwards(server, path)


async def connected(server: Server, path: str, count: int) -> None:
    """Wait until so many destinations get the packets of a path."""
    found = server.app.hub.paths[path]
    await server.until(lambda: sum(reader.is_passive for reader in found.readers) == count)


async def test_packets_reach_several_servers() -> None:
    async with camera() as one, camera() as two, running(paths={"cam": to(one.url("a"), two.url("b?c=d"))}) as server:
        assert [item["state"] for item in await forwards(server, "cam")] == ["idle", "idle"]
        publisher = await server.publisher("cam")
        for target, path in ((one, "/a"), (two, "/b?c=d")):
            request = await target.asked("RECORD")
            assert request.url.endswith(path)
        await connected(server, "cam", 2)
        publisher.send_frame(0, rtp(7, key_unit()))
        await server.until(lambda: one.frames and two.frames)
        assert [frames for channel, frames in one.frames if channel == 0] == [rtp(7, key_unit())]
        items = await forwards(server, "cam")
        assert [item["pos"] for item in items] == [1, 2]
        assert [item["protocol"] for item in items] == ["rtsp", "rtsp"]
        assert all(item["outboundBytes"] >= len(rtp(7, key_unit())) for item in items)
        assert (await server.get("/v3/paths/get/cam"))["readers"] == [], "they are no readers"
        await publisher.close()
        for target in (one, two):
            await target.asked("TEARDOWN")
        assert [item["state"] for item in await forwarding(server, "cam", "idle", "idle")] == ["idle", "idle"]


async def test_the_api() -> None:
    async with camera() as target, running(paths={"a/b": to(target.url()), "c": {}}) as server:
        listed = await server.get("/v3/paths/forward/list?path=a%2Fb")
        assert (listed["itemCount"], listed["pageCount"]) == (1, 1)
        (item,) = listed["items"]
        assert item["conf"] == {"dest": target.url(), "destFingerprint": "", "whipBearerToken": ""}
        assert list(item) == ["id", "pos", "created", "conf", "protocol", "state", "lastError", "outboundBytes"]
        assert await server.get(f"/v3/paths/forward/get?path=a/b&id={item['id']}") == item
        assert (await server.get("/v1/paths/get/a/b"))["forwards"] == [item]
        assert (await server.get("/v3/paths/forward/list?path=c"))["items"] == []
        other = "00000000-0000-4000-8000-000000000000"
        await refused(server, "list", 400, "invalid path")
        await refused(server, "list?path=none", 404, "path not found")
        await refused(server, f"get?path=c&id={other}", 404, "forward destination not found")
        await refused(server, f"get?path=none&id={other}", 404, "path not found")
        await refused(server, f"get?id={other}", 400, "invalid path")
        await refused(server, "get?path=c&id=1", 400, "invalid UUID length: 1")


async def refused(server: Server, request: str, status: int, text: str) -> None:
    response: httpx2.Response = await server.api.get(f"/v3/paths/forward/{request}")
    assert (response.status_code, response.json()) == (status, {"status": "error", "error": text})


async def test_a_server_that_is_down_is_tried_again_and_disturbs_nobody() -> None:
    port = free_port()
    target = Camera()
    async with running(paths={"cam": to(f"rtsp://127.0.0.1:{port}/x")}) as server:
        publisher, reader = await server.publisher("cam"), await server.reader("cam")
        (item,) = await forwarding(server, "cam", "error")
        assert item["lastError"] == "Connection refused"
        await target.open(port=port)
        try:
            await connected(server, "cam", 1)
            (again,) = await forwarding(server, "cam", "forwarding")
            assert (again["id"], again["lastError"]) == (item["id"], "")
            publisher.send_frame(0, rtp(1, key_unit()))
            await server.until(lambda: target.frames)
            await reader.frame()
            sent = (await forwards(server, "cam"))[0]["outboundBytes"]
            await target.close()
            await forwarding(server, "cam", "error")
            await target.open(port=port)
            await connected(server, "cam", 1)
            publisher.send_frame(0, rtp(2, key_unit()))
            await server.until(lambda: len([1 for channel, _ in target.frames if channel == 0]) == 2)
            assert (await forwards(server, "cam"))[0]["outboundBytes"] > sent, "over all connections"
        finally:
            await target.close()
        refusals = [line for line in server.log.lines if "Connection refused" in line]
        assert all("[RTSP dest 1 " in line for line in refusals)
        assert len([line for line in server.log.lines if "is publishing to path 'cam'" in line]) == 1
        await reader.sync(server.url("cam"))


async def test_the_same_failure_is_logged_once() -> None:
    attempts = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1") as target:
        port = target.sockets[0].getsockname()[1]
        async with running(paths={"cam": to(f"rtsp://127.0.0.1:{port}/x")}, readTimeout="300s") as server:
            await server.publisher("cam")
            await server.until(lambda: attempts >= 3)
            assert len([line for line in server.log.lines if line.startswith("ERROR")]) == 1
            assert len([line for line in server.log.lines if "forwarding to " in line]) == 1


async def test_a_server_that_ends_connections_at_once_is_not_asked_all_the_time() -> None:
    def end(target: Camera, request: Request) -> None:
        asyncio.get_running_loop().call_soon(target.clients[-1].transport.close)

    async with camera() as target, running(paths={"cam": to(target.url())}) as server:
        target.script["RECORD"] = end
        await server.publisher("cam")
        (forward,) = server.app.forwarding._forwards[server.app.hub.paths["cam"]]
        pauses = []
        for count in range(1, 4):
            await target.asked("RECORD", count)
            await server.until(lambda: forward.state == "error")
            failure = forward._push.failure
            assert failure is not None
            assert failure.next_attempt is not None
            pauses.append(failure.next_attempt - time.time())
        assert pauses[2] > pauses[0] * 1.5
        assert len([line for line in server.log.lines if "ERROR" in line and "RTSP dest" in line]) == 1
        assert not server.log.find("forwarding again")


async def test_what_the_address_contains() -> None:
    async with camera() as target:
        values = {"~^live/(.+)/(.+)$": to(f"rtsp://127.0.0.1:{target.port}/$G2/$G1/$MTX_PATH")}
        async with running(paths=values) as server:
            await server.publisher("live/north/door")
            assert (await target.asked("ANNOUNCE")).url == target.url("door/north/live/north/door")
            assert server.log.find(f"forwarding to '{target.url('door/north/live/north/door')}'")


async def test_destinations_that_stay_are_not_disconnected() -> None:
    async with camera() as one, camera() as two, camera() as three, contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running(paths={"cam": to(one.url(), two.url())}))
        await server.publisher("cam")
        reader = await server.reader("cam")
        await one.asked("RECORD")
        await two.asked("RECORD")
        before = await forwards(server, "cam")
        await server.changed("/v1/config/paths/edit/cam", to(three.url(), two.url(), one.url()))
        await three.asked("RECORD")
        after = await forwarding(server, "cam", "forwarding", "forwarding", "forwarding")
        assert [item["id"] for item in after][1:] == [before[1]["id"], before[0]["id"]]
        assert [item["pos"] for item in after] == [1, 2, 3]
        await server.changed("/v1/config/paths/edit/cam", to(three.url(), one.url(), destFingerprint="aa"))
        await one.asked("RECORD", 2)
        await server.changed("/v1/config/paths/edit/cam", {"forward": []})
        await three.asked("TEARDOWN", 2)
        await one.asked("TEARDOWN", 2)
        assert await forwards(server, "cam") == []
        assert (one.connections, two.connections, three.connections) == (2, 1, 2)
        await reader.sync(server.url("cam"))
        assert len([line for line in server.log.lines if "is publishing to path 'cam'" in line]) == 1


async def test_passwords_are_not_shown() -> None:
    secrets = ("pass-word", "stream-key", "to-ken", "par-am")
    addresses = [
        "rtsp://user:pass-word@127.0.0.1:1/x",
        "rtmp://user:pass-word@127.0.0.1:1/x?token=par-am#stream-key",
        "whip://127.0.0.1:1/x",
    ]
    async with running(paths={"cam": to(*addresses, whipBearerToken="to-ken")}) as server:
        await server.publisher("cam")
        items = await forwarding(server, "cam", "error", "error", "error")
        shown = str(items) + "\n".join(server.log.lines)
        assert not [secret for secret in secrets if secret in shown]
        assert [item["conf"]["dest"] for item in items] == [
            "rtsp://127.0.0.1:1/x",
            "rtmp://127.0.0.1:1/x?token=***",
            "whip://127.0.0.1:1/x",
        ]
        assert {item["conf"]["whipBearerToken"] for item in items} == {"<redacted>"}
        assert server.log.find(r"\[WHIP dest 3 [0-9a-f]{8}\] forwarding to 'whip://127.0.0.1:1/x'")
        assert not [secret for secret in secrets if secret in repr(server.app.configuration.paths["cam"].forward)]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtmp://h/app#key", "rtmp://h/app"),
        ("rtmp://a:b@h:1/app?x=y", "rtmp://h:1/app?x=y"),
        ("rtmp://a:b/c@h/app", "rtmp://a:***@h/app"),
        ("rtmp://h/a@b", "rtmp://h/a@b"),
        ("srt://h:1?streamid=publish:cam:me:secret&mode=caller", "srt://h:1?streamid=publish:cam:me:***&mode=caller"),
        ("srt://h:1?streamid=publish:cam:me:secret:a=b", "srt://h:1?streamid=publish:cam:me:***:a=b"),
        ("srt://h:1?streamid=publish%3Acam%3Ame%3Asecret", "srt://h:1?streamid=publish%3Acam%3Ame%3A***"),
        ("srt://h:1?streamid=publish:cam:a=b", "srt://h:1?streamid=publish:cam:a=b"),
        (
            "srt://h:1?streamid=%23!::m=publish,u=me,s=secret,r=cam",
            "srt://h:1?streamid=%23!::m=publish,u=me,s=***,r=cam",
        ),
        ("srt://h:1?streamid=%23%21%3A%3As%3Dsecret%2Cr%3Dcam", "srt://h:1?streamid=%23%21%3A%3As%3D***%2Cr%3Dcam"),
        ("srt://h:1?streamid=%23!::m=publish,r=s", "srt://h:1?streamid=%23!::m=publish,r=s"),
        ("srt://h:1?passphrase=secret&streamid=x", "srt://h:1?passphrase=***&streamid=x"),
        ("h", "h"),
        ("", ""),
    ],
)
def test_addresses_without_credentials(address: str, shown: str) -> None:
    assert without_credentials(address) == shown


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("rtsp://localhost:8554/a/b", "a/b"),
        ("rtmp://127.0.0.1/app#key", "app/key"),
        ("whip://[::1]:8889/a/b/whip?x=y", "a/b"),
        ("srt://127.0.0.1:8890?streamid=publish:a/b:user:pass", "a/b"),
        ("srt://127.0.0.1:8890?streamid=%23!::m=publish,r=a/b", "a/b"),
        ("srt://127.0.0.1:8890?streamid=other", ""),
        ("x", ""),
    ],
)
def test_the_path_of_an_address(address: str, path: str) -> None:
    assert path_of(address) == path


async def test_a_loop_is_told() -> None:
    paths = {"~^cam.*$": to("rtsp://localhost:1/$MTX_PATH-copy", "rtsp://other.example:1/$MTX_PATH"), "end": {}}
    async with running(paths=paths) as server:
        port = server.app.servers["RTSP"].ports["rtspAddress"]
        check = server.app.forwarding._forwarded_again
        assert check(f"rtsp://localhost:{port}/cam2") == "cam2"
        assert check(f"rtsp://127.0.0.1:{port}/end") == "", "it ends there"
        assert check(f"rtsp://127.0.0.1:{port}/unknown") == ""
        assert check(f"rtsp://192.0.2.1:{port}/cam2") == ""
        assert check("rtsp://127.0.0.1:1/cam2") == ""
        added = await server.post("/v3/config/paths/add/again", to(f"rtsp://127.0.0.1:{port}/again"))
        assert added.status_code == 200, added.text
        await server.publisher("again")
        await server.log.wait("the destination is path 'again' of this server, which is forwarded, too")


@pytest.mark.parametrize(
    ("dest", "error"),
    [
        ("", "destination is empty"),
        (
            "http://host/x",
            "unsupported scheme 'http', supported ones are ",
        ),
        ("rtmp:/host", "'rtmp:/host' is not a valid URL"),
        ("rtmp://u:secret@host:x/", "'rtmp://host:x/' is not a valid URL"),
        ("rtsp://user@host/", "username and password must be both provided"),
        ("rtmp://:pass@host/", "username and password must be both provided"),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_errors(dest: str, error: str, number: int) -> None:
    entries = [{"dest": "rtmp://host/x"}] * number + [{"dest": dest}]
    with pytest.raises(ConfigurationError) as caught:
        from_mapping({"paths": {"cam": {"forward": entries}}}, MEDIAMTX)
    text = str(caught.value)
    assert text.startswith(f"parameter paths, key cam: forward: invalid 'forward': entry {number}: {error}")
    assert "secret" not in text


def test_the_error_names_all_schemes() -> None:
    schemes = {scheme for protocol in protocols() for push in protocol.pushes for scheme in push.kind.schemes}
    with pytest.raises(ConfigurationError) as caught:
        from_mapping({"paths": {"cam": {"forward": [{"dest": "x://h/"}]}}}, MEDIAMTX)
    named = str(caught.value).partition("supported ones are ")[2]
    assert re.split(", | and ", named) == sorted(schemes)


@pytest.mark.parametrize(
    "dest",
    [
        *("rtsp://h/$MTX_PATH", "RTSPS://h/x", "rtmp://$G1:$G2/$G3", "rtmps://u:p@h/app#key", "whip://:token@h/x/whip"),
        "whips://h:8889/x/whip?a=b",
    ],
)
def test_valid_addresses(dest: str) -> None:
    path = from_mapping({"paths": {"cam": {"forward": [{"dest": dest}]}}}, MEDIAMTX).paths["cam"]
    assert [each.dest for each in path.forward] == [dest]


def test_environment_variables() -> None:
    defaults = b"pathDefaults: {forward: [{dest: rtmp://h/default}]}\n"
    file = defaults + b"paths: {cam: {forward: [{dest: rtmp://h/0}]}, other: }\n"
    variables = {
        "MTX_PATHS_CAM_FORWARD_0_DESTFINGERPRINT": "ff",
        "MTX_PATHS_CAM_FORWARD_1_DEST": "whip://h/1",
        "MTX_PATHS_CAM_FORWARD_1_WHIPBEARERTOKEN": "t",
        "MTX_PATHS_NEW_FORWARD_0_DEST": "rtmp://h/new",
        "MTX_PATHDEFAULTS_FORWARD_1_DEST": "rtmp://h/second",
        "MTX_PATHS_CAM_FORWARD_9_DEST": "rtmp://h/9",
    }
    loaded = load_bytes(file, variables, "mediamtx.yml", MEDIAMTX)
    found = {name: path.forward for name, path in loaded.configuration.paths.items()}
    assert [each.dest for each in found["cam"]] == ["rtmp://h/0", "whip://h/1"]
    assert (found["cam"][0].dest_fingerprint, found["cam"][1].whip_bearer_token) == ("ff", "t")
    assert [each.dest for each in found["other"]] == ["rtmp://h/default", "rtmp://h/second"]
    assert [each.dest for each in found["new"]] == ["rtmp://h/new", "rtmp://h/second"]
    (warning,) = loaded.warnings
    assert "MTX_PATHS_CAM_FORWARD_9_DEST is not a setting" in warning


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps"])
async def test_an_unknown_certificate_gets_nothing(scheme: str) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())).hexdigest()
    async with camera(tls=context) as target:
        address = f"{scheme}://127.0.0.1:{target.port}/x"
        entries = [
            {"dest": address},
            {"dest": address, "destFingerprint": "00" * 32},
            {"dest": address, "destFingerprint": "x"},
        ]
        async with running(paths={"cam": {"forward": entries}}) as server:
            await server.publisher("cam")
            items = await forwarding(server, "cam", "error", "error", "error")
            errors = [item["lastError"] for item in items]
            assert errors[0].startswith("the certificate of the server is not valid")
            assert errors[1] == f"server fingerprint do not match: expected {'00' * 32}, got {digest}"
            assert errors[2].startswith("'x' is not a SHA-256 fingerprint")
            assert target.requests == []
            if scheme == "rtsps":
                pinned = {"dest": address, "destFingerprint": digest}
                await server.changed("/v1/config/paths/edit/cam", {"forward": [pinned]})
                await target.asked("RECORD")


async def test_a_token_is_sent() -> None:
    async with WhipServer(status=401) as target:
        path = to(f"whip://user:pass@127.0.0.1:{target.port}/x/whip", whipBearerToken="t")
        async with running(paths={"cam": path}) as server:
            await server.publisher("cam")
            (item,) = await forwarding(server, "cam", "error")
            assert item["lastError"] == "bad status code: 401"
            assert {headers["authorization"] for _, headers in target.requests} == {"Bearer t"}


async def test_a_source_on_demand_stops_without_readers() -> None:
    async with camera() as origin, camera() as target:
        path = {
            **to(target.url("copy")),
            "source": origin.url(),
            "sourceOnDemand": True,
            "sourceOnDemandCloseAfter": "1s",
            "sourceProtocol": "tcp",
        }
        async with running(paths={"cam": path}) as server:
            client = await server.rtsp()
            assert (await client.request("DESCRIBE", server.url("cam"))).status == 200
            await origin.asked("TEARDOWN")
            reader = await server.reader("cam")
            await connected(server, "cam", 1)
            await reader.close()
            await origin.asked("TEARDOWN", 2)
            await forwarding(server, "cam", "idle")


async def test_the_next_connection_waits_for_the_end_of_the_last_one() -> None:
    async with camera() as target, running(paths={"cam": to(target.url())}) as server:
        first = await server.publisher("cam")
        await target.asked("RECORD")
        await first.close()
        second = await server.publisher("cam")
        await target.asked("RECORD", 2)
        await forwarding(server, "cam", "forwarding")
        methods = target.methods()
        assert methods.index("TEARDOWN") < len(methods) - methods[::-1].index("ANNOUNCE") - 1
        await second.close()
