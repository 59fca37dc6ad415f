"""The page of the console: complete by itself, strict about scripts, and open to those who have yet to sign in."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest
from tests.control.support import Server, running

from polycast.media.codec import COMMON_NAMES
from polycast.protocols.registry import server_kinds

NAMESPACE = "http://www.w3.org/2000/svg"
"""Not an address: browsers do not load it."""
COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*$", re.DOTALL | re.MULTILINE)
CONSOLE = {"Polycast-Console": "1"}


async def files_of(server: Server) -> dict[str, str]:
    """Return the page and all that it loads, by name."""
    page = (await server.api.get("/")).text
    found = {"": page}
    waiting = re.findall(r'(?:src|href)="(static/[^"]+)"', page)
    while waiting:
        name = waiting.pop()
        if name not in found:
            response = await server.api.get(f"/{name}")
            assert response.status_code == 200, name
            assert response.headers["etag"]
            found[name] = response.text
            waiting += [f"static/{each}" for each in re.findall(r'from "\./([^"]+)"', response.text)]
    return found


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with running() as server:
        page = await server.api.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "unsafe" not in page.headers["content-security-policy"]
        files = await files_of(server)
        assert {"static/app.js", "static/stream.js", "static/base.css", "static/logo.svg"} <= files.keys()
        for name, text in files.items():
            assert not re.search(r"(https?:)?//\w", COMMENT.sub("", text.replace(NAMESPACE, ""))), name
        assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text)


async def test_files_are_sent_once_and_compressed() -> None:
    async with running() as server:
        first = await server.api.get("/static/app.js")
        assert first.headers["content-encoding"] == "gzip"
        again = await server.api.get("/static/app.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        plain = await server.api.get("/static/app.js", headers={"Accept-Encoding": "identity"})
        assert plain.text == first.text
        for name in ("none.js", "console.html", "__init__.py", "..%2fapi.py"):
            assert (await server.api.get(f"/static/{name}")).status_code == 404


async def test_the_page_names_codecs_as_the_server_does() -> None:
    async with running() as server:
        script = (await server.api.get("/static/codecs.js")).text
    table = re.search(r"const CODECS = \{(.*?)\};", script, re.DOTALL)
    assert table is not None
    assert dict(re.findall(r'(\w+): "([^"]+)"', table[1])) == COMMON_NAMES


async def test_the_page_knows_all_servers_and_where_a_browser_can_play() -> None:
    async with running() as server:
        port = server.app.servers["HLS"].ports["hlsAddress"]
        names = {kind.collection: kind.name for kind in server_kinds()}
        assert names["rtspssessions"] == "RTSPS"
        servers = await servers_of(server)
        assert {item["collection"]: name for name, item in servers.items()} == names
        assert servers["HLS"]["address"] == {"scheme": "http", "port": port, "isPage": True}
        assert servers["HLS"]["viewers"] == "hlssessions"
        assert (servers["RTMPS"]["isRunning"], servers["RTMPS"]["address"]) == (False, None)
        await server.changed("/v1/config/set", {"hlsDisable": True})
        assert (await servers_of(server))["HLS"]["address"] is None


async def servers_of(server: Server) -> dict[str, Any]:
    return {item["name"]: item for item in (await server.get("/v1/server/status"))["servers"]}


USERS = [
    {"user": "root", "pass": "secret", "permissions": [{"action": "api"}]},
    {"user": "viewer", "pass": "seen", "permissions": [{"action": "read"}]},
]


async def test_the_page_is_open_and_asks_for_credentials_itself() -> None:
    async with running(authInternalUsers=USERS) as server:

        async def ask(*auth: str, **headers: str) -> httpx2.Response:
            given: Any = {"auth": auth} if auth else {}
            return await server.api.get("/v1/config/status", headers=headers, **given)

        assert (await server.api.get("/")).status_code == 200
        assert (await server.api.get("/static/app.js")).status_code == 200
        for path in ("/docs", "/v1/server/status", "/v1/server/log", "/v1/paths/thumbnail/x", "/v3/info"):
            response = await server.api.get(path)
            assert response.status_code == 401, path
            assert response.headers["www-authenticate"]
        response = await ask(**CONSOLE)
        assert (response.status_code, response.json()) == (401, {"error": "credentials are needed"})
        assert "www-authenticate" not in response.headers, "the browser would open a window of its own"
        response = await ask("root", "wrong", **CONSOLE)
        assert (response.status_code, response.json()) == (401, {"error": "these credentials are not valid"})
        response = await ask("viewer", "seen", **CONSOLE)
        assert response.status_code == 403
        assert response.json() == {"error": "the user 'viewer' has no permission to use the API (action: api)"}
        assert (await ask("viewer", "seen")).status_code == 401, "others get the answer that they always got"
        assert (await ask("root", "secret", **CONSOLE)).status_code == 200


async def test_only_files_are_open() -> None:
    async with running(apiUser="u", apiPass="p") as server:
        for path in ("/static", "/static/../v1/config/get", "//v1/config/get", "/?/v1/config/get"):
            response = await server.api.get(path)
            assert response.status_code in (401, 404) or path.startswith("/?"), path
            assert "apiPass" not in response.text
        assert (await server.api.post("/static/app.js")).status_code == 401
        response = await server.api.get("/v1/config/get", auth=("u", "x"), headers=CONSOLE)
        assert (response.status_code, response.json()) == (401, {"error": "these credentials are not valid"})


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
async def test_open_files_are_refused_under_foreign_names(path: str) -> None:
    async with running() as server:
        assert (await server.api.get(path, headers={"Host": "evil.example"})).status_code == 403
