"""Low-Latency HLS viewers over HTTP/2, which is what browsers use for it: requests as Chromium compresses them.

Names and values that stay the same are put into the connection's table by the first request and named by their index
afterwards; ``:path`` is new each time and sent with Huffman code, without indexing.
"""

import functools
import socket
import ssl
from multiprocessing.connection import Connection

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from bench.hls_load import RECEIVE_SIZE, Audience, Viewer, connect_viewers
from bench.stamped import StampedSocket

_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_HEADER_SIZE = 9
_WINDOW = 1 << 30
_STATUS_200 = 0x88  # the static table's entry

_GET_HTTPS = b"\x82\x87"
"""``:method`` and ``:scheme``, entries of the static table (RFC 7541 appendix A)."""
_STATIC_NAMES = {b":authority": 1, b"accept": 19, b"accept-encoding": 16, b"accept-language": 17, b"referer": 51,
                 b"user-agent": 58}  # fmt: skip
_FIELDS = (
    (b":authority", b"media.example.com:8888"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"),
    (b"accept", b"*/*"),
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-mode", b"cors"),
    (b"sec-fetch-dest", b"empty"),
    (b"referer", b"https://media.example.com:8888/bench0/"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"accept-language", b"en-US,en;q=0.9"),
    (b"priority", b"u=1, i"),
)  # fmt: skip
_FIRST_DYNAMIC = 62
"""Index of the newest entry of the table (RFC 7541 section 2.3.3)."""

_huffman = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def read_low_latency(connection: Connection, port: int, stream_count: int, count: int, transport: str) -> None:
    """Worker: viewers over HTTPS with HTTP/2, each on one connection."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    viewers: list[Viewer] = [
        Http2Viewer(connected, index, sampled=sampled)
        for connected, index, sampled in connect_viewers(port + 1, count, context)
    ]
    connection.send({"ports": []})
    Http2Audience(connection, viewers).run()
    connection.poll(None)  # keep the connections open until the process is terminated


class Http2Viewer(Viewer):
    """One connection and the state of its viewer."""

    __slots__ = ("body", "buffer", "received", "stream")

    def __init__(self, connected: socket.socket | StampedSocket, index: int, *, sampled: bool) -> None:
        super().__init__(connected, index, sampled=sampled)
        self.stream = -1
        self.buffer = b""
        self.body = bytearray()
        self.received = 0
        """Bytes of DATA since the connection's window was opened last."""

    def request(self, name: str) -> bytes:
        self.stream += 2
        start = b""
        if self.stream == 1:
            window = (4).to_bytes(2, "big") + _WINDOW.to_bytes(4, "big")
            start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, window) + _open_window()
        return start + _frame(_HEADERS, _END_HEADERS | _END_STREAM, self.stream, _block(name, self.stream == 1))


class Http2Audience(Audience):
    """All viewers, served from one loop."""

    def _serve(self, viewer: Viewer) -> bool:
        assert isinstance(viewer, Http2Viewer)
        while True:
            try:
                data = viewer.socket.recv(RECEIVE_SIZE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return True
            except OSError:
                return False
            if not data:
                return False
            self._bytes += len(data)
            self._take_frames(viewer, viewer.buffer + data if viewer.buffer else data)

    def _take_frames(self, viewer: Http2Viewer, data: bytes) -> None:
        position, size = 0, len(data)
        while size - position >= _HEADER_SIZE:
            length = int.from_bytes(data[position : position + 3], "big")
            kind, flags = data[position + 3], data[position + 4]
            start = position + _HEADER_SIZE
            if start + length > size:
                break
            position = start + length
            if kind == _DATA:
                viewer.received += length
                if viewer.sampled or viewer.awaits_playlist:
                    viewer.body += data[start:position]
                if flags & _END_STREAM:
                    body, viewer.body = viewer.body, bytearray()
                    self._answered(viewer, body)
            elif kind == _HEADERS:
                if data[start] != _STATUS_200:
                    self._failures += 1
                if flags & _END_STREAM:
                    self._answered(viewer, bytearray())
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                viewer.socket.send(_frame(kind, _ACK, 0, data[start:position] if kind == _PING else b""))
        viewer.buffer = data[position:]
        if viewer.received > _WINDOW // 2:
            viewer.received = 0
            viewer.socket.send(_open_window())


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _open_window() -> bytes:
    return _frame(_WINDOW_UPDATE, 0, 0, (_WINDOW // 2).to_bytes(4, "big"))


@functools.lru_cache(maxsize=256)
def _block(name: str, is_first: bool) -> bytes:
    path = b"\x04" + _string(f"/bench0/{name}".encode())
    if is_first:
        return _GET_HTTPS + path + b"".join(_indexed_from_now_on(*field) for field in _FIELDS)
    return _GET_HTTPS + path + bytes(0x80 | (_FIRST_DYNAMIC + index) for index in reversed(range(len(_FIELDS))))


def _indexed_from_now_on(name: bytes, value: bytes) -> bytes:
    """Return a literal with incremental indexing (RFC 7541 section 6.2.1)."""
    index = _STATIC_NAMES.get(name)
    return (bytes((0x40 | index,)) if index is not None else b"\x40" + _string(name)) + _string(value)


def _string(text: bytes) -> bytes:
    coded: bytes = _huffman.encode(text)
    size = len(coded)
    return (bytes((0x80 | size,)) if size < 127 else bytes((0xFF, size - 127))) + coded
