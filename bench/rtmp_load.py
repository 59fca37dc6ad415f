"""RTMP publishers and readers (Adobe RTMP 1.0)."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from bench.feed import run_feed
from bench.rtmp_media import (
    FIRST_FRAME_MILLISECONDS,
    HANDSHAKE_SIZE,
    PUBLISHER_CHUNK_SIZE,
    TYPE_COMMAND,
    TYPE_DATA,
    TYPE_SET_CHUNK_SIZE,
    TYPE_VIDEO,
    VIDEO_CHUNK_STREAM,
    RtmpFrame,
    RtmpSample,
    RtmpStream,
    chunks,
    sequence_header,
)
from bench.server import HOST
from bench.sink import Reader, run_sink

ANSWER_LIMIT = 10  # seconds until a request must be answered
CONNECT_AT_ONCE = 32  # readers; a server that does not set TCP_NODELAY takes 40 ms for each answer
RETRY_INTERVAL = 0.05  # seconds between two attempts to read a stream that is not there yet
APPLICATION = "live"
RECEIVE_SIZE = 65_536
STREAM_ID = 1
NULL = b"\x05"
END_OF_OBJECT = b"\x00\x00\x09"


class RtmpError(Exception):
    """The server refused a request."""


class RtmpConnection:
    """A client's connection, with blocking requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=ANSWER_LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        """Everything received."""
        self.sample = RtmpSample()
        self._shake()
        self._connect(port)

    def _shake(self) -> None:
        self.socket.sendall(b"\x03" + bytes(1536))
        while len(self.received) < HANDSHAKE_SIZE:
            self._receive()
        self.socket.sendall(self.received[1:1537])

    def _connect(self, port: int) -> None:
        self.send(TYPE_SET_CHUNK_SIZE, struct.pack(">I", PUBLISHER_CHUNK_SIZE), chunk_stream=2, size=4)
        values = {"app": APPLICATION, "type": "nonprivate", "tcUrl": f"rtmp://{HOST}:{port}/{APPLICATION}"}
        self.call(_string("connect") + _number(1) + _object(values))
        self.wait_for(b"NetConnection.Connect.Success")
        self.call(_string("createStream") + _number(2) + NULL)
        self.wait_for(_string("_result") + _number(2))

    def call(self, command: bytes, stream_id: int = 0) -> None:
        self.send(TYPE_COMMAND, command, chunk_stream=3, stream_id=stream_id)

    def send(
        self,
        message_type: int,
        payload: bytes,
        *,
        chunk_stream: int,
        stream_id: int = 0,
        size: int = PUBLISHER_CHUNK_SIZE,
        milliseconds: int = 0,
    ) -> None:
        self.socket.sendall(b"".join(chunks(message_type, payload, chunk_stream, stream_id, size, milliseconds)))

    def wait_for(self, text: bytes) -> None:
        while not any(text in command for command in self.sample.commands):
            if any(_string("error") in command for command in self.sample.commands):
                raise RtmpError(f"refused: {self.sample.commands[-1]!r}")
            self._receive()

    def _receive(self) -> None:
        data = self.socket.recv(RECEIVE_SIZE)
        if not data:
            raise RtmpError("the server closed the connection")
        self.received += data
        self.sample.feed(memoryview(data), time.monotonic_ns())


def publish(connection: Connection, port: int, stream_count: int) -> None:
    """Worker: one publisher per stream, each writing chunk by chunk."""
    publishers = [_connect_publisher(port, f"bench{index}") for index in range(stream_count)]
    sends = [publisher.socket.sendall for publisher in publishers]
    connection.send({})

    def send_frame(stream: int, number: int, frame: RtmpFrame) -> None:
        send = sends[stream]
        *pieces, last = frame.pieces
        for piece in pieces:
            send(piece)
        frame.stamp(number, time.monotonic_ns())
        send(last)

    run_feed(connection, stream_count, send_frame, media=RtmpStream(PUBLISHER_CHUNK_SIZE))


def read(connection: Connection, port: int, stream_count: int, reader_count: int, transport: str) -> None:
    """Worker: readers, given to the streams in turn."""
    names = [f"bench{index % stream_count}" for index in range(reader_count)]
    with ThreadPoolExecutor(CONNECT_AT_ONCE) as executor:
        readers = list(executor.map(lambda name: _connect_reader(port, name), names))
    run_sink(connection, readers)


def _connect_publisher(port: int, name: str) -> RtmpConnection:
    rtmp = RtmpConnection(port)
    rtmp.call(_string("publish") + _number(3) + NULL + _string(name) + _string("live"), STREAM_ID)
    rtmp.wait_for(b"NetStream.Publish.Start")
    metadata = {"width": 1280.0, "height": 720.0, "framerate": 30.0, "videocodecid": 7.0}
    payload = _string("@setDataFrame") + _string("onMetaData") + _object(metadata)
    rtmp.send(TYPE_DATA, payload, chunk_stream=4, stream_id=STREAM_ID)
    for moment in (0, FIRST_FRAME_MILLISECONDS):
        rtmp.send(
            TYPE_VIDEO, sequence_header(), chunk_stream=VIDEO_CHUNK_STREAM, stream_id=STREAM_ID, milliseconds=moment
        )
    rtmp.socket.setblocking(True)
    return rtmp


def _connect_reader(port: int, name: str) -> Reader:
    deadline = time.monotonic() + ANSWER_LIMIT
    while True:
        rtmp = RtmpConnection(port)
        rtmp.call(_string("play") + _number(3) + NULL + _string(name) + _number(-2000), STREAM_ID)
        try:
            rtmp.wait_for(b"NetStream.Play.Start")
        except RtmpError:  # the server takes a moment to find out what the publisher sends
            rtmp.socket.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL)
        else:
            return Reader(rtmp.socket, RtmpSample, rtmp.received)


def _string(value: str) -> bytes:
    data = value.encode()
    return b"\x02" + struct.pack(">H", len(data)) + data


def _number(value: float) -> bytes:
    return b"\x00" + struct.pack(">d", value)


def _object(values: dict[str, str] | dict[str, float]) -> bytes:
    pairs = (
        struct.pack(">H", len(name)) + name.encode() + (_string(value) if isinstance(value, str) else _number(value))
        for name, value in values.items()
    )
    return b"\x03" + b"".join(pairs) + END_OF_OBJECT
