"""A FastAPI application with an embedded server: live statistics, snapshots and previews over HTTP, streams over RTSP.

    pip install fastapi uvicorn
    uvicorn fastapi_application:app

Publish something to rtsp://localhost:8554/cam and open http://localhost:8000/, which shows it as Motion JPEG, and with
WebRTC where the extra `webrtc` is installed. http://localhost:8000/streams and http://localhost:8000/snapshot/cam are
for programs.
"""

from __future__ import annotations

import asyncio
import html
import importlib.util
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

import polycast

HAS_WEBRTC = all(importlib.util.find_spec(name) for name in ("OpenSSL", "cryptography", "ifaddr"))

configuration: dict[str, object] = {"rtspAddress": os.environ.get("RTSP_ADDRESS", ":8554")}
if HAS_WEBRTC:
    configuration |= {
        "webrtc": True,
        "webrtcAddress": os.environ.get("WEBRTC_ADDRESS", ":8889"),
        "webrtcLocalUDPAddress": os.environ.get("WEBRTC_UDP_ADDRESS", ":8189"),
    }

server = polycast.Server(configuration)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the server in the event loop of the application, as long as the application runs."""
    async with server:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def index(request: Request) -> HTMLResponse:
    """Show everything that is published."""
    parts = ["<!doctype html><title>Streams</title>"]
    for name, stream in server.statistics().streams.items():
        if not stream.ready:
            continue
        title = html.escape(name)
        parts.append(f"<h2>{title}</h2><img src='/preview/{title}' alt='{title}' width=480>")
        if HAS_WEBRTC:
            page = server.url(name, host=request.url.hostname or "localhost", protocol="WebRTC")
            parts.append(f"<iframe src='{html.escape(page)}' title='{title}' width=480 height=270></iframe>")
    return HTMLResponse("\n".join(parts))


@app.get("/streams")
async def streams() -> dict[str, dict[str, object]]:
    """List what is published now."""
    return {
        name: {
            "tracks": [str(track) for track in stream.tracks],
            "readers": len(stream.readers),
            "kilobits_per_second": round(stream.bit_rate / 1000),
        }
        for name, stream in server.statistics().streams.items()
        if stream.ready
    }


@app.get("/snapshot/{name:path}")
async def snapshot(name: str) -> Response:
    """Return the next picture of a stream as JPEG."""
    async with server.read(name, reconnect=False, timeout=5) as reader:
        try:
            frame = await reader.read_async()
        except polycast.NotFound as error:
            raise HTTPException(404, str(error)) from error
    if frame is None:
        raise HTTPException(404, "the stream has ended")
    jpeg = await asyncio.to_thread(frame.jpeg)
    return Response(jpeg, media_type="image/jpeg")


@app.get("/preview/{name:path}")
async def preview(name: str) -> StreamingResponse:
    """Send pictures as Motion JPEG, which <img> shows; a slow viewer gets fewer."""
    stream = server.statistics().streams.get(name)
    if stream is None or not stream.ready:
        raise HTTPException(404, f"there is no stream '{name}'")
    return PreviewResponse(jpegs(name), media_type="multipart/x-mixed-replace; boundary=picture")


class PreviewResponse(StreamingResponse):
    """Ends the iteration as soon as the client is gone, not when the garbage collector comes by."""

    def __init__(self, parts: AsyncGenerator[bytes, None], media_type: str) -> None:
        super().__init__(parts, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._parts):
            await super().__call__(scope, receive, send)


async def jpegs(name: str) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a Motion JPEG response, until the stream ends."""
    pictures = previews.get(name)
    if pictures is None or pictures.reader.closed:
        pictures = previews[name] = Pictures(name)
    pictures.viewers += 1
    try:
        while (part := await pictures.next_part()) is not None:
            yield part
    finally:
        pictures.viewers -= 1
        if not pictures.viewers:
            pictures.reader.close()
            if previews.get(name) is pictures:
                del previews[name]


class Pictures:
    """The pictures of one stream as parts of a Motion JPEG response, each encoded once for all that watch."""

    def __init__(self, name: str) -> None:
        self.reader = server.read(name, reconnect=False)
        self.viewers = 0
        self._next: asyncio.Task[bytes | None] | None = None

    async def next_part(self) -> bytes | None:
        """Wait for the next picture, together with the others that wait for it; return None at the end."""
        if self._next is None or (self._next.done() and self._next.result() is not None):
            self._next = asyncio.create_task(self._make_part())
        return await asyncio.shield(self._next)  # a viewer that goes must not take it away from the others

    async def _make_part(self) -> bytes | None:
        try:
            frame = await self.reader.read_async()
        except polycast.PolycastError:
            return None
        if frame is None:
            return None
        jpeg = await asyncio.to_thread(frame.jpeg)
        head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"


previews: dict[str, Pictures] = {}
"""What is being watched, by the names of the streams."""
