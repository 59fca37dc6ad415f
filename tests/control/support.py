"""An application with its control services in this process, and clients for them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
from tests.protocols.rtsp.support import RtspClient
from tests.support.running import Lines, application
from tests.support.waiting import PATIENCE, until

from polycast.app import Application
from polycast.config import LoadedConfiguration, from_mapping, load
from polycast.control.settings import ChangeSource

BASE: Mapping[str, Any] = {
    "rtspAddress": "127.0.0.1:0",
    "rtpAddress": "127.0.0.1:0",
    "rtcpAddress": "127.0.0.1:0",
    "rtmpAddress": "127.0.0.1:0",
    "hlsAddress": "127.0.0.1:0",
    "protocols": ["tcp"],
    "api": True,
    "apiAddress": "127.0.0.1:0",
    "metrics": True,
    "metricsAddress": "127.0.0.1:0",
    "pprofAddress": "127.0.0.1:0",
    "authenticationFailurePause": "5ms",
}

FILE_HEAD = """\
# The settings of a test.
rtspAddress: 127.0.0.1:0
protocols: [tcp]
rtmpDisable: yes
hlsDisable: yes
api: yes
apiAddress: 127.0.0.1:0
metrics: yes
metricsAddress: 127.0.0.1:0
"""


class Server:
    """A running application, with clients for its services."""

    def __init__(self, app: Application, log: Lines) -> None:
        self.app = app
        self.log = log
        self.stack = contextlib.AsyncExitStack()
        self.api = self.http("api")
        self.metrics = self.http("metrics")

    def http(self, prefix: str, **options: Any) -> httpx2.AsyncClient:
        """Return a client for one of the services; it always goes to the port that the service has now.

        It verifies nothing without ``verify`` among the options: each client would load the authorities of the system,
        which takes longer than the start of a server.
        """
        client = httpx2.AsyncClient(timeout=PATIENCE, trust_env=False, **{"verify": False, **options})

        async def aim(request: httpx2.Request) -> None:
            request.url = request.url.copy_with(port=self.app.control.ports[f"{prefix}Address"])

        client.event_hooks["request"] = [aim]
        client.base_url = httpx2.URL("http://127.0.0.1")
        self.stack.push_async_callback(client.aclose)
        return client

    async def get(self, path: str) -> Any:
        """Return the JSON that the API answers."""
        response = await self.api.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: Any = None) -> httpx2.Response:
        """Return the API's answer to a change."""
        return await self.api.post(path, json=body if body is not None else {})

    async def changed(self, path: str, body: Any = None) -> None:
        """Make a change that must work."""
        response = await self.post(path, body)
        assert response.status_code == 200, response.text
        assert response.content == b""

    async def reload(self) -> bool:
        """Read the file again at once."""
        return await self.app.settings.reload_file(ChangeSource.SIGNAL)

    @property
    def rtsp_port(self) -> int:
        return self.app.servers["RTSP"].ports["rtspAddress"]

    def url(self, path: str) -> str:
        return f"rtsp://127.0.0.1:{self.rtsp_port}/{path}"

    async def rtsp(self) -> RtspClient:
        client = await RtspClient.connect(self.rtsp_port)
        self.stack.push_async_callback(client.close)
        return client

    async def publisher(self, path: str) -> RtspClient:
        client = await self.rtsp()
        await client.publish(self.url(path))
        return client

    async def reader(self, path: str) -> RtspClient:
        client = await self.rtsp()
        await client.play(self.url(path))
        return client

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds."""
        await until(condition, self.log.lines)


@contextlib.asynccontextmanager
async def serving(loaded: LoadedConfiguration, **options: Any) -> AsyncIterator[Server]:
    """Run an application."""
    async with application(loaded, **options) as (app, lines):
        server = Server(app, lines)
        async with server.stack:
            yield server


@contextlib.asynccontextmanager
async def running(**values: Any) -> AsyncIterator[Server]:
    """Run an application with these keys over those of `BASE`."""
    configuration = from_mapping({"paths": {"all": {}}, **BASE, **values})
    async with serving(LoadedConfiguration(configuration, None, [], frozenset())) as server:
        yield server


@contextlib.asynccontextmanager
async def running_file(file: Path, text: str | None = None) -> AsyncIterator[Server]:
    """Run an application with a configuration file."""
    if text is not None:
        file.write_text(text)
    async with serving(load(str(file), {})) as server:
        yield server
