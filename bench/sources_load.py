"""An origin with many RTSP streams that others pull, which fails and returns, and counts connections."""

import asyncio
import time
from multiprocessing.connection import Connection
from typing import Any, cast

from bench.media import FRAME_INTERVAL, SyntheticStream, session_description
from bench.server import HOST

BITS_PER_SECOND = 500_000
"""Of each stream: what cameras send as their second, smaller one."""
BACKLOG = 4096


def serve(connection: Connection) -> None:
    """Worker: answers ``count``, ``die``, ``return`` and ``report``."""
    asyncio.run(_Origin(connection).run())


class _Origin:
    def __init__(self, commands: Connection) -> None:
        self._commands = commands
        self._stream = SyntheticStream(BITS_PER_SECOND)
        self.is_alive = True
        self.attempts: list[float] = []
        """When connections arrived, in monotonic seconds."""
        self.clients: set[_Client] = set()
        self.players: dict[_Client, asyncio.Transport] = {}
        self.last_play = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Client(self), HOST, 0, backlog=BACKLOG)
        loop.add_reader(self._commands.fileno(), self._on_command)
        self._commands.send({"port": server.sockets[0].getsockname()[1]})
        await self._feed()

    async def _feed(self) -> None:
        """Send each frame to all, spread over the time that the frame lasts."""
        first = time.monotonic()
        number = 0
        while True:
            data = bytes(self._stream.frame(number).whole)
            players = list(self.players.values())
            for index, transport in enumerate(players):
                deadline = first + (number + index / len(players)) * FRAME_INTERVAL
                if (wait := deadline - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                if not transport.is_closing():
                    transport.write(data)
            number += 1
            await asyncio.sleep(max(0.0, first + number * FRAME_INTERVAL - time.monotonic()))

    def _on_command(self) -> None:
        try:
            command = self._commands.recv()["command"]
        except EOFError:
            raise SystemExit from None
        answer: dict[str, Any] = {"players": len(self.players), "last_play": self.last_play}
        if command == "die":
            self.is_alive = False
            for client in list(self.clients):
                client.transport.abort()
        elif command == "return":
            self.is_alive = True
        elif command == "report":
            answer["attempts"] = self.attempts
        answer["time"] = time.monotonic()
        self._commands.send(answer)


class _Client(asyncio.Protocol):
    """One connection; reads requests and answers them, identically for all paths."""

    def __init__(self, origin: _Origin) -> None:
        self._origin = origin
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._origin.attempts.append(time.monotonic())
        if not self._origin.is_alive:
            self.transport.abort()
            return
        self._origin.clients.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._origin.clients.discard(self)
        self._origin.players.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"$"):  # a receiver report
            return
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            self._answer(head.decode())

    def _answer(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        method, url = first.split(" ")[:2]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = [f"CSeq: {headers['cseq']}", "Session: 1"]
        body = b""
        if method == "OPTIONS":
            answer.append("Public: DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
        elif method == "DESCRIBE":
            body = session_description()
            answer += [f"Content-Base: {url}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            answer.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        self.transport.write("\r\n".join(["RTSP/1.0 200 OK", *answer, "", ""]).encode() + body)
        if method == "PLAY":
            self._origin.players[self] = self.transport
            self._origin.last_play = time.monotonic()
