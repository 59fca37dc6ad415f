"""What TLS and the kernel alone cost a server of Low-Latency HLS: a bare loop that answers the same viewers.

It understands no HTTP: it tells a playlist that blocks from a part by the first bytes of the request. Each part is
announced to all viewers in one round, by one write each.
"""

import os
import select
import socket
import ssl
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.certificate import write_certificate
from bench.hls_files import BOX_SIZE, LOW_LATENCY_BITS_PER_SECOND, PLAYLIST_SIZE
from bench.hls_load import PART_SECONDS, read_viewers
from bench.media import STAMP_MAGIC
from bench.server import HOST
from bench.stamped import shake_hands

PARTS_LISTED = 10
RECEIVE_SIZE = 1 << 16
PART_SIZE = round(LOW_LATENCY_BITS_PER_SECOND / 8 * PART_SECONDS) + BOX_SIZE  # bytes

_BLOCKS = b"GET /bench0/stream.m3u8?"
_PLAYLIST = b"GET /bench0/stream.m3u8 "
_PLAYLIST_HEAD = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-MEDIA-SEQUENCE:0\n"


class Client:
    """A viewer's connection, blocking; it is only read when epoll says so."""

    __slots__ = ("_incoming", "_outgoing", "_socket", "_tls")

    def __init__(self, accepted: socket.socket, context: ssl.SSLContext) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        shake_hands(accepted, self._tls, self._incoming, self._outgoing)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes | None:
        """Return the received data; None for an incomplete record, b"" at the end."""
        data = self._socket.recv(RECEIVE_SIZE)
        if not data:
            return b""
        self._incoming.write(data)
        try:
            return self._tls.read(RECEIVE_SIZE)
        except ssl.SSLWantReadError:
            return None

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._socket.sendall(self._outgoing.read())


class BareServer:
    """All clients in one loop; its answers are those of `bench.feed.run_feed`."""

    def __init__(self, connection: Connection, clients: list[Client]) -> None:
        self._connection = connection
        self._clients = {client.fileno(): client for client in clients}
        self._waiting: list[Client] = []
        self._number = -1
        """Of the newest part that is listed."""
        self._playlist = self._part = self._next_part = b""
        self._latest = 0.0
        self._epoll = select.epoll()
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        for descriptor in self._clients:
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= due:
                self._latest = max(self._latest, now - due)
                self._announce()
                due += PART_SECONDS
            for descriptor, _ in self._epoll.poll(max(0.0, due - time.monotonic())):
                if descriptor != self._connection.fileno():
                    self._serve(self._clients[descriptor])
                elif self._connection.recv()["command"] == "stop":
                    self._connection.send(self._figures())
                    self._connection.recv()  # blocks until the process is terminated
                else:
                    self._connection.send(self._figures())

    def _announce(self) -> None:
        """List one more part. The one after it begins at this moment, which its first bytes say."""
        self._number += 1
        stamp = b"%b%016x%08x" % (STAMP_MAGIC, time.monotonic_ns(), self._number)
        self._part = self._next_part or _response(stamp + os.urandom(PART_SIZE))
        self._next_part = _response(stamp + os.urandom(PART_SIZE))
        names = [f"part{number}.mp4" for number in range(self._number + 1)][-PARTS_LISTED:]
        text = _PLAYLIST_HEAD + "".join(f'#EXT-X-PART:DURATION={PART_SECONDS},URI="{name}"\n' for name in names)
        self._playlist = _response(text.encode() + b"#" * (PLAYLIST_SIZE - len(text)))
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            client.write(self._playlist)

    def _serve(self, client: Client) -> None:
        request = client.read()
        if request is None:
            return
        if not request:
            self._epoll.unregister(client.fileno())
        elif request.startswith(_BLOCKS):
            self._waiting.append(client)
        else:
            client.write(self._playlist if request.startswith(_PLAYLIST) else self._part)

    def _figures(self) -> dict[str, Any]:
        latest, self._latest = self._latest, 0.0
        return {"frames": 1, "packets": 1, "bytes": 1, "bytes_per_second": 0, "latest_ms": latest * 1000}


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def serve(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: accept all viewers, then answer them."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        write_certificate(Path(directory))
        context.load_cert_chain(f"{directory}/server.crt", f"{directory}/server.key")
    with socket.create_server((HOST, 0), backlog=reader_count) as listener:
        connection.send({"port": listener.getsockname()[1]})
        clients = [Client(listener.accept()[0], context) for _ in range(reader_count)]
    if connection.recv()["command"] != "start":
        raise ValueError("expected start")
    connection.send({})
    BareServer(connection, clients).run()


def read(connection: Connection, port: int, reader_count: int) -> None:
    """Worker: the viewers that servers have, too."""
    read_viewers(connection, port, reader_count, encrypted=True)
