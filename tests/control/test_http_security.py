"""Who may call API, metrics and profiles: host names, origins, commands; and clients that ask for nothing."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.control.support import running, running_file
from tests.support.connections import open_connection
from tests.support.waiting import PATIENCE

from polycast.net.http import hosts
from polycast.net.http.hosts import is_host_allowed, is_origin_allowed
from polycast.net.http.origins import AllowedOrigins
from polycast.net.tls import CERTIFICATE_CHECK_SECONDS
from polycast.wire.http.message import Request

SERVICES = [("api", "/v1/config/get"), ("api", "/"), ("metrics", "/metrics"), ("pprof", "/debug/pprof/")]


@pytest.mark.parametrize(("service", "path"), SERVICES)
async def test_foreign_host_names_are_refused(service: str, path: str) -> None:
    """A web page whose name resolves to this machine sends its own name (DNS rebinding)."""
    async with running(pprof=True) as server:
        client = server.http(service)
        for host in ("evil.example", "evil.example:9997", "127.0.0.1.evil.example", "localhost.evil.example"):
            response = await client.get(path, headers={"Host": host})
            assert response.status_code == 403, host
            assert "allowedHosts" in response.json()["error"]
            assert host.partition(":")[0] in response.json()["error"]
        for host in ("localhost", "127.0.0.1:1", "[::1]:9997", "polycast:9998", "cam.local", socket.gethostname()):
            assert (await client.get(path, headers={"Host": host})).status_code == 200, host


async def test_a_page_that_resolves_to_this_machine_changes_nothing() -> None:
    async with running() as server:
        page = {"Host": "evil.example", "Origin": "http://evil.example", "Content-Type": "text/plain"}
        before = server.app.configuration
        response = await server.api.post("/v1/config/set", content=b'{"logLevel": "debug"}', headers=page)
        assert response.status_code == 403
        assert server.app.configuration is before


async def test_a_reverse_proxy_has_its_name_in_the_configuration() -> None:
    async with running(allowedHosts=["media.example.com", "*.example.org"]) as server:
        for host, status in (("media.example.com", 200), ("a.example.org", 200), ("example.org", 403), ("b.com", 403)):
            assert (await server.api.get("/v1/config/get", headers={"Host": host})).status_code == status, host
        await server.changed("/v1/config/set", {"allowedHosts": ["*"]})
        assert (await server.api.get("/v1/config/get", headers={"Host": "b.com"})).status_code == 200


@pytest.mark.parametrize(
    ("target", "host", "is_allowed"),
    [
        (b"/", b"evil.example", False),
        (b"/", b"EVIL.example.", False),
        (b"/", b"10.1.2.3", True),
        (b"/", b"[fe80::1]:80", True),
        (b"/", b"", True),
        (b"/", b"a.evil.localhost", True),
        (b"/", b"localhost.", True),
        (b"/", b"1.2.3.4.5", False),
        (b"/", b"2130706433.evil", False),
        (b"http://evil.example/", b"localhost", False),
        (b"HTTPS://localhost:1?a", b"evil.example", True),
        (b"/http://localhost/", b"evil.example", False),
    ],
)
def test_hosts(target: bytes, host: bytes, is_allowed: bool) -> None:
    assert is_host_allowed(Request(0, "GET", target, [(b"host", host)]), ()) is is_allowed


@pytest.mark.parametrize(
    ("origin", "allowed", "is_allowed"),
    [
        (b"", "", True),
        (b"http://localhost:9997", "", True),
        (b"https://LOCALHOST:9997", "", True),
        (b"http://localhost", "", False),
        (b"http://localhost:9998", "", False),
        (b"http://localhost:9997.evil.example", "", False),
        (b"http://evil.example/localhost:9997", "", False),
        (b"http://evil.example", "", False),
        (b"http://evil.example", "*", True),
        (b"http://good.example", "http://good.example", True),
        (b"https://good.example", "http://good.example", False),
        (b"http://good.example.evil.example", "http://good.example", False),
        (b"null", "", False),
        (b"null", "http://good.example", False),
        (b"http://[", "", False),
    ],
)
def test_origins(origin: bytes, allowed: str, is_allowed: bool) -> None:
    headers = [(b"host", b"localhost:9997"), (b"origin", origin)]
    assert (
        is_origin_allowed(Request(0, "POST", b"/", headers), AllowedOrigins((allowed,) if allowed else ()))
        is is_allowed
    )


def test_an_origin_without_a_host_to_compare_is_foreign() -> None:
    assert not is_origin_allowed(Request(0, "POST", b"/", [(b"origin", b"http://")]), AllowedOrigins(()))


def test_the_machine_has_names(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts._machine_names.cache_clear()
    monkeypatch.setattr(socket, "gethostname", lambda: "Media.Example.com")
    assert is_host_allowed(Request(0, "GET", b"/", [(b"host", b"media.example.com:80")]), ())
    hosts._machine_names.cache_clear()


@pytest.mark.parametrize(
    "origin", ["http://[", "http://[::1", "]", "\xff", "http://a:b:c", "null", "http://" + "a" * 9000]
)
async def test_junk_in_origin_is_a_foreign_origin(origin: str) -> None:
    async with running() as server:
        headers = {"Origin": origin.encode("latin-1")}
        response = await server.api.post("/v1/config/set", content=b"{}", headers=headers)
        assert response.status_code == 403, response.text


@pytest.mark.parametrize("name", ["authorization", "host", "accept", "if-none-match", "cookie", "x-forwarded-for"])
@pytest.mark.parametrize(
    "value", [b"[", b"\xff\xfe", b'"', b"Basic \xff", b"Basic =", b"bytes=9-1", b";q=x", b"," * 999]
)
async def test_junk_in_headers(name: str, value: bytes) -> None:
    async with running(pprof=True, apiUser="u", apiPass="p") as server:
        for service, path in SERVICES:
            port = server.app.control.ports[f"{service}Address"]
            reader, writer = await open_connection("127.0.0.1", port)
            host = b"" if name == "host" else b"Host: h\r\n"
            writer.write(b"GET %b HTTP/1.1\r\n%b%b: %b\r\n\r\n" % (path.encode(), host, name.encode(), value))
            status = int((await reader.readuntil(b"\r\n")).split()[1])
            assert status in (200, 400, 401, 403, 406), (service, status)
            writer.close()


COMMANDS = [
    ("set", {"runOnConnect": "touch pwned"}, "runOnConnect"),
    ("paths/add/new", {"runOnInit": "touch pwned"}, "runOnInit"),
    ("paths/edit/cam", {"runOnReady": "touch pwned"}, "runOnReady"),
    ("paths/replace", {"cam": {"runOnRead": "touch pwned"}}, "runOnRead"),
    ("paths/replace", {"~^x": {"runOnDemand": "touch pwned"}}, "runOnDemand"),
    ("set", {"apiAllowCommands": True}, "apiAllowCommands"),
]


@pytest.mark.parametrize(("path", "body", "key"), COMMANDS)
async def test_commands_need_credentials(path: str, body: dict[str, Any], key: str) -> None:
    async with running(paths={"cam": {}}) as server:
        before = server.app.configuration
        response = await server.post(f"/v1/config/{path}", body)
        assert response.status_code == 403
        assert response.json()["error"].startswith(key)
        assert "apiUser" in response.json()["error"]
        assert server.app.configuration is before
        # Credentials that anybody could set give no right.
        await server.changed("/v1/config/set", {"apiUser": "u", "apiPass": "p"})
        response = await server.api.post(f"/v1/config/{path}", json=body, auth=("u", "p"))
        assert response.status_code == 403
        changed = {"apiUser": "v", "apiPass": "w"}
        assert (await server.api.post("/v1/config/set", json=changed, auth=("u", "p"))).status_code == 200
        response = await server.api.post(f"/v1/config/{path}", json=body, auth=("v", "w"))
        assert response.status_code == 403


@pytest.mark.parametrize("settings", [{"apiUser": "u", "apiPass": "p"}, {"apiAllowCommands": True}])
async def test_commands_with_credentials(settings: dict[str, Any]) -> None:
    async with running(paths={"cam": {}}, **settings) as server:
        body = {"runOnRead": "true"}
        response = await server.api.post("/v1/config/paths/edit/cam", json=body, auth=("u", "p"))
        assert response.status_code == 200, response.text
        assert server.app.configuration.paths["cam"].run_on_read == "true"


async def test_commands_that_are_there_stay() -> None:
    async with running(paths={"cam": {"runOnRead": "true"}}) as server:
        await server.changed("/v1/config/paths/edit/cam", {"readUser": "u", "readPass": "p"})
        await server.changed("/v1/config/paths/edit/cam", {"runOnRead": ""})
        assert (await server.post("/v1/config/paths/edit/cam", {"runOnRead": "true"})).status_code == 403


@pytest.mark.parametrize("service", ["api", "metrics", "pprof"])
async def test_clients_that_ask_for_nothing_are_closed(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.net.http.server.REQUEST_TIMEOUT", 0.05)
    async with running(pprof=True) as server:
        port = server.app.control.ports[f"{service}Address"]
        silent = [await open_connection("127.0.0.1", port) for _ in range(3)]
        half = await open_connection("127.0.0.1", port)
        half[1].write(b"GET / HTTP/1.1\r\nHost: ")
        for reader, writer in silent:
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            writer.close()
        assert (await asyncio.wait_for(half[0].read(), PATIENCE)).startswith(b"HTTP/1.1 408 ")
        half[1].close()


async def test_requests_over_http_2() -> None:
    from httpx2 import AsyncClient

    async with running() as server, AsyncClient(http1=False, http2=True, trust_env=False) as client:
        url = f"http://127.0.0.1:{server.app.control.ports['apiAddress']}"
        responses = await asyncio.gather(*(client.get(f"{url}/v1/paths/list") for _ in range(20)))
        assert {(response.http_version, response.status_code) for response in responses} == {("HTTP/2", 200)}
        response = await client.post(f"{url}/v1/config/set", json={"readTimeout": "20s"})
        assert response.status_code == 200
        large = b'{"a": "' + b"b" * 900_000 + b'"}'
        response = await client.post(f"{url}/v1/config/set", content=large)
        assert response.status_code == 400
        assert "non-existent parameter" in response.json()["error"]
        async with client.stream("GET", f"{url}/v1/events") as events:
            lines = events.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            assert server.app.control._events is not None
            assert server.app.control._events._subscribers
        await client.aclose()
        await server.until(lambda: server.app.control._events and not server.app.control._events._subscribers)


async def test_a_certificate_with_another_type_of_key_is_presented(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {"apiServerKey": str(tmp_path / "key"), "apiServerCert": str(tmp_path / "cert")}

    def renew(key_type: trustme.KeyType) -> None:
        made = authority.issue_cert("127.0.0.1", key_type=key_type)
        made.private_key_pem.write_to_path(files["apiServerKey"])
        made.cert_chain_pems[0].write_to_path(files["apiServerCert"])

    def presented(port: int) -> bool:
        """Whether the certificate has an EC key."""
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE)
        return isinstance(x509.load_pem_x509_certificate(pem.encode()).public_key(), ec.EllipticCurvePublicKey)

    renew(trustme.KeyType.RSA)
    async with running(apiEncryption=True, **files) as server:
        port = server.app.control.ports["apiAddress"]
        assert not await asyncio.to_thread(presented, port)
        renew(trustme.KeyType.ECDSA)
        listener = server.app.control.services["api"].server
        now = listener.now()
        listener.now = lambda: now + CERTIFICATE_CHECK_SECONDS + 1
        listener.housekeeping.begin_round()
        await server.until(lambda: server.log.find(r"\[API\] the certificate was reloaded"))
        assert await asyncio.to_thread(presented, port)
        assert server.log.find(r"\[API\] the certificate was reloaded")


async def test_a_stranger_in_the_log_is_one_line() -> None:
    async with running() as server:
        await server.api.get("/a%0Ab\u00e9")
        assert await server.log.wait(re.escape("GET /a%0Ab"))


async def test_a_token_in_the_query_is_not_logged() -> None:
    async with running() as server:
        await server.get("/v1/config/get?jwt=S3CRET&x=1")
        assert server.log.find(r"GET /v1/config/get\?jwt=\*\*\*&x=1")
        assert not server.log.find("S3CRET")


@pytest.mark.parametrize(("service", "path"), [("api", "/docs"), *(row for row in SERVICES if row[1] != "/")])
async def test_clients_behind_a_trusted_proxy_have_their_own_address(service: str, path: str) -> None:
    permissions = [{"action": action} for action in ("api", "metrics", "pprof")]
    users = [{"user": "any", "ips": ["192.0.2.7"], "permissions": permissions}]
    trusting: dict[str, Any] = {f"{service}TrustedProxies": ["127.0.0.1"]}
    for settings, status in ((trusting, 200), ({}, 401)):
        async with running(pprof=True, authInternalUsers=users, **settings) as server:
            client = server.http(service)
            for headers in ({"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}, {"X-Real-IP": "192.0.2.7"}):
                assert (await client.get(path, headers=headers)).status_code == status
            headers = {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}
            assert (await client.get(path, headers=headers)).status_code == 401
            assert (await client.get(path)).status_code == 401
            if service == "api":
                assert bool(server.log.find(r"\[API\] \[conn 192\.0\.2\.7\] GET")) == bool(settings)


@pytest.mark.parametrize(("service", "path"), SERVICES)
async def test_origins_that_may_read_the_services(service: str, path: str) -> None:
    settings: dict[str, Any] = {
        "apiAllowOrigin": "https://a.example",
        "metricsAllowOrigins": ["https://a.example"],
        "pprofAllowOrigins": ["https://a.example"],
    }
    async with running(pprof=True, **settings) as server:
        client = server.http(service)
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", "https://a.example")):
            response = await client.get(path, headers={"Origin": origin})
            assert response.headers["Access-Control-Allow-Origin"] == allowed
    async with running(pprof=True) as server:
        response = await server.http(service).get(path, headers={"Origin": "https://a.example"})
        assert "Access-Control-Allow-Origin" not in response.headers


FILE_OF_MEDIAMTX = "rtsp: no\nrtmp: no\nsrt: no\nhls: no\nwebrtc: no\nmoq: no\napi: yes\napiAddress: 127.0.0.1:0\n"


async def test_all_sites_may_call_the_api_of_mediamtx_but_not_that_with_passwords(tmp_path: Path) -> None:
    other = {"Origin": "https://a.example"}
    file = tmp_path / "mediamtx.yml"
    async with running_file(file, FILE_OF_MEDIAMTX) as server:
        assert (await server.api.get("/v3/paths/list", headers=other)).headers["Access-Control-Allow-Origin"] == "*"
        for path in ("/v1/config/text", "/%761/config/text", "/v1/config/get", "/v1/server/log"):
            assert "Access-Control-Allow-Origin" not in (await server.api.get(path, headers=other)).headers
        assert (await server.api.post("/v1/config/replace", json={"text": ""}, headers=other)).status_code == 403
    async with running_file(file, FILE_OF_MEDIAMTX + "apiAllowOrigins: [https://a.example]\n") as server:
        response = await server.api.get("/v1/config/text", headers=other)
        assert response.headers["Access-Control-Allow-Origin"] == "https://a.example"
