"""HLS viewers: playlists that block and parts (Low-Latency HLS over HTTPS), or playlists by the clock and segments.

Delays are those of blocked playlists: from when the publisher sends the frame that completes a part (the
first frame after it) until the kernel has the playlist that lists it ready for a viewer.
"""

import functools
import gzip
import heapq
import re
import select
import socket
import ssl
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from bench.feed import run_feed
from bench.hls_files import LOW_LATENCY_BITS_PER_SECOND
from bench.media import BITS_PER_SECOND, STAMP_MAGIC, STAMP_SIZE, Frame, SyntheticStream, read_stamp
from bench.rtsp_load import RtspError, connect_publisher
from bench.server import HOST
from bench.stamped import StampedSocket

SAMPLE_COUNT = 100  # viewers whose delays count; all of them read the same parts
PART_SECONDS = 0.2
SEGMENT_SECONDS = 1.0
DRAIN_SECONDS = 0.5
RECEIVE_SIZE = 1 << 18
HANDSHAKE_LIMIT = 20.0  # seconds

_GZIP = b"\x1f\x8b"
_PART = re.compile(rb'^#EXT-X-PART:.*URI="([^"]+)"', re.MULTILINE)
_SEGMENT = re.compile(rb"^#EXTINF:.*\n(\S+)", re.MULTILINE)
_SEQUENCE = re.compile(rb"#EXT-X-MEDIA-SEQUENCE:(\d+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_REQUEST = "GET /bench0/{} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"


def publish_low_latency(connection: Connection, port: int, stream_count: int) -> None:
    """Worker: one publisher with RTSP."""
    _publish(connection, port, LOW_LATENCY_BITS_PER_SECOND)


def publish_plain(connection: Connection, port: int, stream_count: int) -> None:
    """Worker: one publisher with RTSP."""
    _publish(connection, port, BITS_PER_SECOND)


def _publish(connection: Connection, port: int, bits_per_second: int) -> None:
    try:
        publisher = connect_publisher(port, "bench0").socket
    except RtspError:  # a server of files
        publisher = None
    connection.send({})

    def send_frame(stream: int, number: int, frame: Frame) -> None:
        if publisher is not None:
            frame.stamp(number, time.monotonic_ns())
            publisher.sendall(frame.whole)

    run_feed(connection, 1, send_frame, media=SyntheticStream(bits_per_second))


def read_low_latency(connection: Connection, port: int, stream_count: int, count: int, transport: str) -> None:
    """Worker: viewers over HTTPS, each on one connection."""
    read_viewers(connection, port + 1, count, encrypted=True)


def read_plain(connection: Connection, port: int, stream_count: int, count: int, transport: str) -> None:
    """Worker: viewers over HTTP, each on one connection."""
    read_viewers(connection, port + 1, count, encrypted=False)


class Playlist:
    """A parsed playlist, cached for all viewers that receive the same one."""

    def __init__(self, body: bytes) -> None:
        if body.startswith(_GZIP):
            body = gzip.decompress(body)
        segments = _SEGMENT.findall(body)
        sequence = _SEQUENCE.search(body)
        first = int(sequence[1]) if sequence is not None else 0
        parts = [match.decode() for match in _PART.findall(body)]
        end = body.rfind(b"#EXTINF")
        open_parts = len(_PART.findall(body, max(end, 0)))
        self.blocks = b"CAN-BLOCK-RELOAD=YES" in body
        self.files = parts or [name.decode() for name in segments]
        self.interval = PART_SECONDS if parts else SEGMENT_SECONDS
        self.reload = f"stream.m3u8?_HLS_msn={first + len(segments)}&_HLS_part={open_parts}"
        self.newest_name = self.files[-1] if self.files else ""


@functools.lru_cache(maxsize=256)
def _request(name: str) -> bytes:
    return _REQUEST.format(name).encode()


class Viewer:
    """One connection and the state of its viewer."""

    __slots__ = (
        "awaited", "awaits_playlist", "due", "index", "last", "length", "pending", "playlist", "sampled", "socket",
    )  # fmt: skip

    def __init__(self, connected: socket.socket | StampedSocket, index: int, *, sampled: bool) -> None:
        self.socket = connected
        self.index = index
        self.sampled = sampled
        self.pending = bytearray()
        self.awaited = 0
        """Bytes of the answer's head and body; 0 while the head is not complete."""
        self.length = 0
        self.awaits_playlist = True
        self.playlist: Playlist | None = None
        self.last = ""
        """The file that was fetched last."""
        self.due = 0.0

    def request(self, name: str) -> bytes:
        """Return the request for a file."""
        return _request(name)


class Audience:
    """All viewers, served from one loop; its answers are those of `bench.sink.Sink`."""

    def __init__(self, connection: Connection, viewers: list[Viewer]) -> None:
        self._connection = connection
        self._viewers = {viewer.socket.fileno(): viewer for viewer in viewers}
        self._playlists: dict[bytes, Playlist] = {}
        self._timers: list[tuple[float, int]] = []
        self._bytes = 0
        self._requests = 0
        self._failures = 0
        self._arrivals: list[tuple[str, int]] = []
        """Name of the newest part and when a playlist came that lists it first for a viewer."""
        self._first_stamps: dict[str, int] = {}
        self._order: dict[str, str] = {}
        """The part after each part."""
        self._epoll = select.epoll()
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        for descriptor in self._viewers:
            self._epoll.register(descriptor, select.EPOLLIN)

    def run(self) -> None:
        """Watch until the command "finish"."""
        for viewer in self._viewers.values():
            viewer.socket.send(viewer.request("stream.m3u8"))
        closed = 0
        while True:
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else 1.0
            for descriptor, _ in self._epoll.poll(min(timeout, 1.0)):
                if descriptor == self._connection.fileno():
                    command = self._connection.recv()
                    if command["command"] == "finish":
                        self._connection.send(self._results(command["from_ns"], command["to_ns"], closed))
                        return
                    self._connection.send({"bytes": self._bytes, "requests": self._requests})
                elif not self._serve(self._viewers[descriptor]):
                    self._epoll.unregister(descriptor)
                    closed += 1
            self._run_timers()

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            viewer = self._viewers[heapq.heappop(self._timers)[1]]
            self._ask(viewer, "stream.m3u8", is_playlist=True)

    def _serve(self, viewer: Viewer) -> bool:
        """Receive data; False when the connection has ended."""
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
            if viewer.awaited and not viewer.sampled and not viewer.awaits_playlist:
                viewer.length += len(data)  # only counted
            else:
                viewer.pending += data
                viewer.length = len(viewer.pending)
                if not viewer.awaited and not self._read_head(viewer):
                    continue
            if viewer.length >= viewer.awaited:
                pending, viewer.pending = viewer.pending, bytearray()
                viewer.awaited = viewer.length = 0
                self._answered(viewer, pending)

    def _read_head(self, viewer: Viewer) -> bool:
        end = viewer.pending.find(b"\r\n\r\n")
        if end < 0:
            return False
        found = _LENGTH.search(viewer.pending, 0, end)
        viewer.awaited = end + 4 + (int(found[1]) if found is not None else 0)
        if not viewer.pending.startswith(b"HTTP/1.1 200"):
            self._failures += 1
        return True

    def _answered(self, viewer: Viewer, pending: bytearray) -> None:
        """Take an answer: its body, perhaps with a head."""
        self._requests += 1
        if not viewer.awaits_playlist:
            if viewer.sampled:
                self._read_stamp(viewer.last, pending)
            self._reload(viewer)
            return
        end = pending.find(b"\r\n\r\n")
        body = bytes(pending[end + 4 :] if end >= 0 else pending)
        playlist = self._playlists.get(body)
        if playlist is None:
            if len(self._playlists) > 64:
                self._playlists.clear()
            playlist = self._playlists[body] = Playlist(body)
            for one, other in zip(playlist.files, playlist.files[1:], strict=False):
                self._order[one] = other
        viewer.playlist = playlist
        if not playlist.blocks:
            self._ask_by_the_clock(viewer, playlist)
        elif playlist.newest_name == viewer.last or not playlist.files:
            self._reload(viewer)
        else:
            if isinstance(viewer.socket, StampedSocket) and viewer.last:
                self._arrivals.append((playlist.newest_name, viewer.socket.arrival))
            viewer.last = playlist.newest_name
            self._ask(viewer, playlist.newest_name, is_playlist=False)

    def _ask_by_the_clock(self, viewer: Viewer, playlist: Playlist) -> None:
        """A server whose playlist does not grow: the files in turn; else the newest one, when it is new."""
        static = len(playlist.files) >= 10
        if viewer.due == 0.0:
            viewer.due = time.monotonic() + playlist.interval * viewer.index / len(self._viewers)
        viewer.due += playlist.interval
        if static:
            name = playlist.files[(viewer.index + round(viewer.due / playlist.interval)) % len(playlist.files)]
        elif playlist.newest_name != viewer.last:
            name = playlist.newest_name
        else:
            self._reload(viewer)
            return
        viewer.last = name
        self._ask(viewer, name, is_playlist=False)

    def _reload(self, viewer: Viewer) -> None:
        playlist = viewer.playlist
        if playlist is not None and playlist.blocks:
            self._ask(viewer, playlist.reload, is_playlist=True)
        else:
            heapq.heappush(self._timers, (viewer.due, viewer.socket.fileno()))

    def _ask(self, viewer: Viewer, name: str, *, is_playlist: bool) -> None:
        viewer.awaits_playlist = is_playlist
        try:
            viewer.socket.send(viewer.request(name))
        except OSError:
            self._failures += 1

    def _read_stamp(self, name: str, data: bytearray) -> None:
        """Note when the first frame of a part was sent."""
        if name in self._first_stamps:
            return
        place = data.find(STAMP_MAGIC)
        stamp = read_stamp(bytes(data[place : place + STAMP_SIZE])) if place >= 0 else None
        if stamp is not None:
            self._first_stamps[name] = stamp[0]

    def _results(self, from_ns: int, to_ns: int, closed: int) -> dict[str, Any]:
        delays = []
        for name, arrival in self._arrivals:
            ready = self._first_stamps.get(self._order.get(name, ""))
            if ready is not None and from_ns <= ready < to_ns:
                delays.append(arrival - ready)
        return {"readers": [], "delays_ns": sorted(delays), "closed": closed, "failures": self._failures}


def read_viewers(connection: Connection, port: int, count: int, *, encrypted: bool) -> None:
    """Connect all viewers, and run them until the process is terminated."""
    context = None
    if encrypted:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    viewers = [
        Viewer(connected, index, sampled=sampled) for connected, index, sampled in connect_viewers(port, count, context)
    ]
    connection.send({"ports": []})
    Audience(connection, viewers).run()
    connection.poll(None)  # keep the connections open until the process is terminated


def connect_viewers(
    port: int, count: int, context: ssl.SSLContext | None
) -> Iterator[tuple[socket.socket | StampedSocket, int, bool]]:
    """Connect viewers; yield the connection of each, its index, and whether its delays count."""
    step = max(1, count // SAMPLE_COUNT)
    for index in range(count):
        sampled = index % step == 0
        yield _connect(port, context, sampled=sampled), index, sampled


def _connect(port: int, context: ssl.SSLContext | None, *, sampled: bool) -> socket.socket | StampedSocket:
    connected = socket.create_connection((HOST, port), timeout=HANDSHAKE_LIMIT)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sampled:
        return StampedSocket(connected, context)
    if context is not None:
        connected = context.wrap_socket(connected)
    connected.setblocking(False)
    return connected
