"""An HTTP server of files, as plain as can be, that does what a test tells it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.support.listeners import serving


@dataclass
class Answer:
    """What a request gets."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """The server: ``files`` by path; ``script`` may answer in their place."""

    files: dict[str, bytes] = field(default_factory=dict)
    script: Callable[[str], Answer | None] = lambda path: None
    credentials: str = ""
    knows_ranges: bool = True
    requests: list[str] = field(default_factory=list)
    hangs: asyncio.Event | None = None
    """While set to an event, requests wait for it."""
    port: int = 0
    scheme: str = "http"

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                target = head.split(" ")[1].removeprefix("/")
                self.requests.append(target)
                if self.hangs is not None:
                    await self.hangs.wait()
                answer = self._answer(target, head)
                lines = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {len(answer.body)}"]
                lines += [f"{name}: {value}" for name, value in answer.headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
                await writer.drain()
        writer.close()

    def _answer(self, target: str, head: str) -> Answer:
        scripted = self.script(target)
        if scripted is not None:
            return scripted
        if self.credentials:
            token = base64.b64encode(self.credentials.encode()).decode()
            if f"\r\nauthorization: basic {token}".lower() not in head.lower():
                return Answer(401)
        body = self.files.get(target.partition("?")[0])
        if body is None:
            return Answer(404)
        found = re.search(r"\r\nrange: bytes=(\d+)-(\d+)", head, re.IGNORECASE)
        if found and self.knows_ranges:
            return Answer(206, body[int(found[1]) : int(found[2]) + 1])
        return Answer(200, body)


@contextlib.asynccontextmanager
async def web(files: dict[str, bytes] | None = None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    found = Web(dict(files or {}), scheme="https" if tls is not None else "http")
    async with serving(found.serve, tls=tls) as found.port:
        yield found
