"""RTSP publishers and readers (RFC 2326), over TCP (interleaved) and UDP."""

import socket
import time
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from bench.feed import run_feed
from bench.media import Frame, session_description
from bench.samples import InterleavedSample
from bench.server import HOST, bind_udp_pairs
from bench.sink import Reader, datagram_reader, run_sink

ANSWER_LIMIT = 10  # seconds until a request must be answered
RECEIVE_SIZE = 65_536


class RtspError(Exception):
    """The server refused a request."""


@dataclass
class Answer:
    headers: dict[str, str]
    body: bytes


class RtspConnection:
    """A client's connection, with blocking requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=ANSWER_LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.session = ""
        self.received = b""
        """Bytes received after the last response."""
        self._sequence_number = 0

    def request(self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        self.send_request(method, url, headers, body)
        return self._read_answer(method)

    def send_request(self, method: str, url: str, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        self._sequence_number += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence_number}"]
        if self.session:
            lines.append(f"Session: {self.session}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def _read_answer(self, method: str) -> Answer:
        head, self.received = self._read_head()
        status_line, *header_lines = head.decode().split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in header_lines)
        }
        if status_line.split(" ")[1] != "200":
            raise RtspError(f"{method}: {status_line}")
        length = int(headers.get("content-length", 0))
        while len(self.received) < length:
            self.received += self._receive()
        body, self.received = self.received[:length], self.received[length:]
        if "session" in headers:
            self.session = headers["session"].split(";")[0]
        return Answer(headers, body)

    def _read_head(self) -> tuple[bytes, bytes]:
        data = self.received
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, rest = data.partition(b"\r\n\r\n")
        return head, rest

    def _receive(self) -> bytes:
        data = self.socket.recv(RECEIVE_SIZE)
        if not data:
            raise RtspError("the server closed the connection")
        return data


def publish(connection: Connection, port: int, stream_count: int) -> None:
    """Worker: one publisher per stream, each writing packet by packet."""
    publishers = [connect_publisher(port, _path(index)) for index in range(stream_count)]
    sends = [publisher.socket.send for publisher in publishers]
    connection.send({})

    def send_frame(stream: int, number: int, frame: Frame) -> None:
        send = sends[stream]
        *packets, last = frame.interleaved
        for packet in packets:
            send(packet)
        frame.stamp(number, time.monotonic_ns())
        send(last)

    run_feed(connection, stream_count, send_frame)


def read(connection: Connection, port: int, stream_count: int, reader_count: int, transport: str) -> None:
    """Worker: readers, given to the streams in turn."""
    paths = [_path(index % stream_count) for index in range(reader_count)]
    if transport == "tcp":
        readers = [_connect_tcp_reader(port, path) for path in paths]
    else:
        pairs = bind_udp_pairs(reader_count)
        readers = [
            _connect_udp_reader(port, path, media, control) for path, (media, control) in zip(paths, pairs, strict=True)
        ]
    run_sink(connection, readers)


def _path(index: int) -> str:
    return f"bench{index}"


def connect_publisher(port: int, path: str) -> RtspConnection:
    url = f"rtsp://{HOST}:{port}/{path}"
    rtsp = RtspConnection(port)
    rtsp.request("OPTIONS", url)
    rtsp.request("ANNOUNCE", url, {"Content-Type": "application/sdp"}, session_description())
    rtsp.request("SETUP", f"{url}/trackID=0", {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"})
    rtsp.request("RECORD", url)
    rtsp.socket.setblocking(True)
    return rtsp


def _connect_tcp_reader(port: int, path: str) -> Reader:
    rtsp, url = _set_up_reader(port, path, "RTP/AVP/TCP;unicast;interleaved=0-1")
    rtsp.request("PLAY", url)
    return Reader(rtsp.socket, InterleavedSample, rtsp.received)


def _connect_udp_reader(port: int, path: str, media: socket.socket, control: socket.socket) -> Reader:
    first = media.getsockname()[1]
    reader = datagram_reader(media)
    rtsp, url = _set_up_reader(port, path, f"RTP/AVP;unicast;client_port={first}-{first + 1}")
    rtsp.request("PLAY", url)
    rtsp.socket.setblocking(False)
    reader.keepalive = partial(_keep_alive, rtsp, url)
    reader.keep_open = [rtsp.socket, control]
    return reader


def _set_up_reader(port: int, path: str, transport: str) -> tuple[RtspConnection, str]:
    url = f"rtsp://{HOST}:{port}/{path}"
    rtsp = RtspConnection(port)
    rtsp.request("OPTIONS", url)
    answer = rtsp.request("DESCRIBE", url, {"Accept": "application/sdp"})
    base = answer.headers.get("content-base", url + "/")
    control = [line[10:] for line in answer.body.decode().splitlines() if line.startswith("a=control:")][-1]
    track_url = control if control.startswith("rtsp://") else base.rstrip("/") + "/" + control
    rtsp.request("SETUP", track_url, {"Transport": transport})
    return rtsp, base


def _keep_alive(rtsp: RtspConnection, url: str) -> None:
    """Discard the previous answer and ask again; a session over UDP ends after a minute of silence."""
    try:
        rtsp.socket.recv(RECEIVE_SIZE)
    except BlockingIOError:
        pass
    rtsp.send_request("GET_PARAMETER", url)
