"""What reading and writing alone cost a server of many streams: a bare loop that copies what it receives.

It answers the few requests that the load generator makes, inspects nothing else, and like the server polls its
sockets every two milliseconds, so that a frame is one read.

    python -m bench.relay CONFIGURATION
"""

import re
import select
import socket
import sys
import time
from pathlib import Path

from bench.model import Subject
from bench.server import HOST

POLL_INTERVAL = 0.002  # seconds
RECEIVE_SIZE = 1 << 18

_REQUEST = re.compile(rb"(\w+) \S*?(bench\d+)\S* RTSP/1.0\r\nCSeq: (\d+)\r\n(?:.*?\r\n)?\r\n", re.DOTALL)


def subject() -> Subject:
    """The relay as one of the programs that are measured."""
    return Subject("bare relay", [sys.executable, "-m", "bench.relay", "{config}"])


class Relay:
    """All connections in one loop."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server((HOST, port), backlog=4096)
        self._epoll = select.epoll()
        self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        self._connections: dict[int, socket.socket] = {}
        self._readers: dict[bytes, socket.socket] = {}
        self._descriptions: dict[bytes, bytes] = {}
        self._paths: dict[int, bytes] = {}
        """The stream that a connection publishes."""

    def run(self) -> None:
        poll = time.monotonic()
        while True:
            rest = poll - time.monotonic()
            if self._readers and rest > 0:
                time.sleep(rest)
            poll = time.monotonic() + POLL_INTERVAL
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._receive(descriptor)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections[connection.fileno()] = connection
        self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _receive(self, descriptor: int) -> None:
        data = self._connections[descriptor].recv(RECEIVE_SIZE)
        path = self._paths.get(descriptor)
        if data and path is not None:
            reader = self._readers.get(path)
            if reader is not None:
                reader.sendall(data)
        elif data:
            self._answer(descriptor, data)
        else:
            self._epoll.unregister(descriptor)
            self._paths.pop(descriptor, None)
            self._connections.pop(descriptor).close()

    def _answer(self, descriptor: int, data: bytes) -> None:
        found = _REQUEST.match(data)
        if found is None:
            raise ValueError(f"not a request of the load generator: {data[:200]!r}")
        method, path, number = found.groups()
        headers = body = b""
        if method == b"ANNOUNCE":
            self._descriptions[path] = data[found.end() :]
        elif method == b"DESCRIBE":
            body = self._descriptions[path]
            headers = b"Content-Length: %d\r\n" % len(body)
        elif method == b"SETUP":
            headers = b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        elif method == b"RECORD":
            self._paths[descriptor] = path
        elif method == b"PLAY":
            self._readers[path] = self._connections[descriptor]
        answer = b"RTSP/1.0 200 OK\r\nCSeq: %b\r\n%b\r\n%b" % (number, headers, body)
        self._connections[descriptor].sendall(answer)


if __name__ == "__main__":
    port = re.search(r"^rtspAddress: \S+:(\d+)$", Path(sys.argv[1]).read_text(), re.MULTILINE)
    if port is None:
        sys.exit("no rtspAddress in the configuration")
    Relay(int(port[1])).run()
