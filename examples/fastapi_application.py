"""A FastAPI application with an embedded server: live statistics and snapshots over HTTP, streams over RTSP.

    pip install fastapi uvicorn
    uvicorn fastapi_application:app

Publish something to rtsp://localhost:8554/cam and open http://localhost:8000/streams and
http://localhost:8000/snapshot/cam.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Response

import polycast

server = polycast.Server({"rtspAddress": os.environ.get("RTSP_ADDRESS", ":8554")})


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Run the server in the event loop of the application, as long as the application runs."""
    async with server:
        yield


app = FastAPI(lifespan=lifespan)


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
