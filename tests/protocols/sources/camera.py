"""A camera that does what a test tells it: it answers RTSP requests by a script, well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import cast

from tests.protocols.rtsp.support import H264_ONLY
from tests.support.listeners import Listener
from tests.support.rtp import key_unit, rtp

from polycast.wire.rtsp.interleaved import InterleavedRun
from polycast.wire.rtsp.message import Headers, Request, Response
from polycast.wire.rtsp.parser import MessageParser

Answer = Callable[["Camera", Request], Response | None]
"""What answers a request; None takes the usual answer, and an answer with status 0 is none at all."""

SILENCE = Response(0)


class Client(asyncio.Protocol):
    """The camera's end of a connection."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.parser = MessageParser()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.camera.clients.append(self)
        self.camera.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.camera.clients.remove(self)
        self.camera.losses.append(exc)

    def data_received(self, data: bytes) -> None:
        self.parser.receive_data(data)
        while (event := self.parser.next_event()) is not None:
            if isinstance(event, Request):
                self.camera.on_request(self, event)
            elif isinstance(event, Response):
                self.camera.answers += 1
            elif isinstance(event, InterleavedRun):
                self.camera.frames += [(channel, event.data[start:end]) for channel, start, end in event.frames()]

    def send_packet(self, data: bytes, channel: int = 0) -> None:
        self.transport.write(b"$" + bytes((channel,)) + len(data).to_bytes(2, "big") + data)


class Camera:
    """The server. ``script`` maps a method to what answers it in place of the usual answer."""

    def __init__(self, description: str = H264_ONLY) -> None:
        self.description = description
        self.script: dict[str, Answer] = {}
        self.clients: list[Client] = []
        self.requests: list[Request] = []
        self.frames: list[tuple[int, bytes]] = []
        """Channel and payload of the interleaved frames that it was sent."""
        self.answers = 0
        """Answers to requests of its own."""
        self.connections = 0
        self.losses: list[Exception | None] = []
        """How connections ended: None for the orderly end."""
        self.port = 0
        self.sequence = 100
        self.base = ""
        self.udp: socket.socket | None = None
        self.udp_target: tuple[str, int] | None = None
        self._listener: Listener | None = None
        self._grown = asyncio.Event()

    async def open(self, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._listener = Listener(lambda: Client(self), port=port, tls=tls)
        self.port = self._listener.port

    async def close(self) -> None:
        """Die: the listener and all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.close(self._abort)
        if self.udp is not None:
            self.udp.close()
            self.udp = None

    def _abort(self) -> None:
        for client in self.clients:
            client.transport.abort()

    def url(self, path: str = "cam", user: str = "") -> str:
        return f"rtsp://{user}{'@' if user else ''}127.0.0.1:{self.port}/{path}"

    def payload_type(self, track: int) -> int:
        """Return the payload type that the description gives to a track."""
        types = re.findall(r"(?m)^m=\w+ \d+ \S+ (\d+)", self.description)
        return int(types[min(track, len(types) - 1)])

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    async def asked(self, method: str, count: int = 1) -> Request:
        """Wait for a request and return the last one."""
        async with asyncio.timeout(60):
            while self.methods().count(method) < count:
                self._grown.clear()
                await self._grown.wait()
        return next(request for request in reversed(self.requests) if request.method == method)

    def on_request(self, client: Client, request: Request) -> None:
        self.requests.append(request)
        self._grown.set()
        script = self.script.get(request.method)
        response = script(self, request) if script is not None else None
        if response is SILENCE:
            return
        if response is None:
            response = self._usual(request)
        if response.headers.get("CSeq") is None:
            response.headers.set("CSeq", request.cseq or "")
        client.transport.write(response.serialize())

    def _usual(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(200, Headers([("Public", "DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN")]))
        if request.method == "DESCRIBE":
            headers = Headers([("Content-Type", "application/sdp"), ("Content-Base", self.base or f"{request.url}/")])
            return Response(200, headers, self.description.encode())
        if request.method == "SETUP":
            offer = request.headers.get("Transport") or ""
            if "TCP" not in offer:
                return self._set_up_udp(offer)
            return Response(200, Headers([("Transport", offer), ("Session", "S1;timeout=60")]))
        return Response(200, Headers([("Session", "S1")]))

    def _set_up_udp(self, offer: str) -> Response:
        if self.udp is not None:
            self.udp.close()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        own = self.udp.getsockname()[1]
        client = int(offer.partition("client_port=")[2].partition("-")[0])
        self.udp_target = ("127.0.0.1", client)
        transport = f"RTP/AVP;unicast;client_port={client}-{client + 1};server_port={own}-{own + 1}"
        return Response(200, Headers([("Transport", transport), ("Session", "S1")]))

    def send_key(self, timestamp: int = 0, size: int = 100, channel: int = 0, ssrc: int = 0x1234) -> None:
        """Send one key frame to whoever plays, over TCP."""
        self.send(key_unit(size), timestamp, channel, ssrc)

    def send(self, payload: bytes, timestamp: int = 0, channel: int = 0, ssrc: int = 0x1234) -> None:
        for client in self.clients:
            number = self.payload_type(channel // 2)
            packet = rtp(self.sequence, payload, timestamp=timestamp, ssrc=ssrc, payload_type=number)
            client.send_packet(packet, channel)
        self.sequence += 1

    def send_udp(self, payload: bytes, timestamp: int = 0, sender: socket.socket | None = None) -> None:
        """Send one packet over UDP, from the port that was told or from another one."""
        udp = sender if sender is not None else self.udp
        assert udp is not None
        assert self.udp_target is not None
        udp.sendto(rtp(self.sequence, payload, timestamp=timestamp), self.udp_target)
        self.sequence += 1


@contextlib.asynccontextmanager
async def camera(description: str = H264_ONLY, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Camera]:
    found = Camera(description)
    await found.open(tls)
    try:
        yield found
    finally:
        await found.close()
