"""A WHIP server around aiortc: answers offers with a full ICE agent, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Self

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from tests.support.listeners import serving


@dataclass
class WhipServer:
    """``status`` is the answer to offers; 201 accepts them."""

    status: int = 201
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Method and headers, whose names are in lower case."""
    offers: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    peers: list[RTCPeerConnection] = field(default_factory=list)
    tracks: asyncio.Queue[MediaStreamTrack] = field(default_factory=asyncio.Queue)
    deleted: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._stack = contextlib.AsyncExitStack()
        self.port = await self._stack.enter_async_context(serving(self._serve))
        return self

    async def __aexit__(self, *_: object) -> None:
        for peer in self.peers:
            await peer.close()
        await self._stack.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method = head[0].split()[0]
                self.requests.append((method, headers))
                if method == "DELETE":
                    self.deleted.set()
                    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                else:
                    answer = await self._answer(body.decode())
                writer.write(answer)
        writer.close()

    async def _answer(self, offer: str) -> bytes:
        self.offers.append(offer)
        if self.status != 201:
            return f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode()
        peer = RTCPeerConnection()
        self.peers.append(peer)
        peer.on("track", self.tracks.put_nowait)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        body = peer.localDescription.sdp.encode()
        self.answers.append(body.decode())
        head = (
            "HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nLocation: /session/1\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body
