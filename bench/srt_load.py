"""SRT publishers and readers (draft-sharabayko-srt-01).

Publishers are connections of Polycast's engine. Readers only perform the handshake with it; then they do what costs the
server something: they acknowledge what came every 10 ms, and a sample of them reads it.
"""

import secrets
import socket
import struct
import time
from functools import partial
from multiprocessing.connection import Connection as Pipe

from bench.feed import run_feed
from bench.server import HOST
from bench.sink import Acknowledger, Reader, enlarge_receive_buffer, run_sink
from bench.srt_media import TransportFrame, TransportSample, TransportStream
from polycast.wire.srt.caller import Caller, CallerOptions
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.encryption import SessionKeys
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.packet import DEFAULT_PAYLOAD, SEQUENCE_MASK, ControlType, build_control
from polycast.wire.srt.rejection import RejectedError

PASSPHRASE = "a-long-passphrase"
"""Of the readers in the scenarios with encryption."""

ANSWER_LIMIT = 10.0  # seconds until a handshake must be done
RETRY_INTERVAL = 0.05  # seconds between two attempts to read a stream that is not there yet
ANNOUNCEMENT_INTERVAL = 0.001  # seconds between two looks at whether a server has received what announces a stream
SETTLE_SECONDS = 0.01  # between two looks at publishers that have nothing to send yet
KEY_SIZE = 16
_RECEIVE_SIZE = 2048
_CONTROL = 0x80  # bit of the first byte of control packets
_RETRANSMITTED = 0x04  # bit of the fifth byte of data packets
_ROUND_TRIP = 200  # microseconds, as readers report it
_ROOM = 8192  # packets, as readers report it
_ACKNOWLEDGEMENT = struct.Struct("!IIIIIII")


class Publisher:
    """A publisher's connection."""

    def __init__(self, port: int, stream_id: str) -> None:
        self._socket, self._engine = _connect(port, stream_id, None)
        self._socket.setblocking(False)

    def send(self, payload: bytes) -> None:
        """Send transport packets, datagram by datagram."""
        now = time.monotonic()
        for datagrams in split(payload, DEFAULT_PAYLOAD):
            for data, size in self._engine.send(datagrams, now):
                for start in range(0, len(data), size):
                    self._socket.send(data[start : start + size])

    @property
    def is_acknowledged(self) -> bool:
        """Whether the server has received everything."""
        return self._engine.sender.is_idle

    def settle(self) -> None:
        """Process what the server has sent: acknowledgements and requests for lost packets."""
        now = time.monotonic()
        while True:
            try:
                received = self._socket.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            self._engine.receive_data(received, now)
        if now >= self._engine.next_timeout():
            self._engine.handle_timeout(now)
        for packet in self._engine.data_to_send():
            self._socket.send(packet)


class SrtAcknowledger(Acknowledger):
    """Tells the server what a reader has received."""

    def __init__(self, media: socket.socket, connection: Connection) -> None:
        super().__init__()
        self._send = media.send
        self._connection = connection
        self._position = 0
        self._number = 0

    def accept(self, datagram: bytearray) -> bool:
        """Do not count what is sent again: all that arrives is acknowledged, so it has been there before."""
        if datagram[0] & _CONTROL or datagram[4] & _RETRANSMITTED:
            return False
        self._position = int.from_bytes(datagram[:4], "big")
        return True

    def acknowledge(self, now: float) -> None:
        self._number += 1
        position = self._position + 1 & SEQUENCE_MASK
        body = _ACKNOWLEDGEMENT.pack(position, _ROUND_TRIP, _ROUND_TRIP // 2, _ROOM, 0, 0, 0)
        peer = self._connection.parameters.peer_id
        self._send(build_control(ControlType.ACK, self._number, self._connection.timestamp(now), peer, body))


def publish(connection: Pipe, port: int, stream_count: int) -> None:
    """Worker: one publisher per stream. ``port`` is that of RTSP; SRT has the one after it."""
    media = TransportStream()
    publishers: list[Publisher] = []
    for index in range(stream_count):
        publisher = Publisher(port + 1, f"publish:bench{index}")
        publishers.append(publisher)
        publisher.send(media.announcement)
        deadline = time.monotonic() + ANSWER_LIMIT
        while not publisher.is_acknowledged and time.monotonic() < deadline:  # the server's buffer holds only some
            time.sleep(ANNOUNCEMENT_INTERVAL)
            for each in publishers:
                each.settle()
    connection.send({})
    while not connection.poll(SETTLE_SECONDS):
        for publisher in publishers:
            publisher.settle()

    def send_frame(stream: int, number: int, frame: TransportFrame) -> None:
        publisher = publishers[stream]
        publisher.settle()
        publisher.send(frame.stamped(number, time.monotonic_ns()))

    def finish(number: int) -> None:
        """Send one more frame, without a stamp: only the start of the next frame ends one of MPEG-TS."""
        frame = media.frame(number)
        for publisher in publishers:
            publisher.send(frame.data)

    run_feed(connection, stream_count, send_frame, connection.recv(), media, finish)


def read(connection: Pipe, port: int, stream_count: int, reader_count: int, transport: str) -> None:
    """Worker: readers, given to the streams in turn. ``port`` is that of RTSP; SRT has the one after it."""
    _read(connection, port, stream_count, reader_count, "")


def read_encrypted(connection: Pipe, port: int, stream_count: int, reader_count: int, transport: str) -> None:
    """Worker: readers with a passphrase."""
    _read(connection, port, stream_count, reader_count, PASSPHRASE)


def _read(connection: Pipe, port: int, stream_count: int, reader_count: int, passphrase: str) -> None:
    keys = SessionKeys.generate(passphrase, KEY_SIZE, secrets.token_bytes) if passphrase else None
    run_sink(connection, [_reader(port + 1, f"bench{index % stream_count}", keys) for index in range(reader_count)])


def _reader(port: int, path: str, keys: SessionKeys | None) -> Reader:
    deadline = time.monotonic() + ANSWER_LIMIT
    while True:
        try:
            media, connection = _connect(port, f"read:{path}", keys)
        except RejectedError:  # the server takes a moment to find out what the publisher sends
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL)
        else:
            break
    enlarge_receive_buffer(media)
    sample = partial(TransportSample, connection.parameters.keys)
    return Reader(media, sample, acknowledger=SrtAcknowledger(media, connection))


def _connect(port: int, stream_id: str, keys: SessionKeys | None) -> tuple[socket.socket, Connection]:
    media = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    media.connect((HOST, port))
    started = time.monotonic()
    sequence = secrets.randbits(31)
    options = CallerOptions(stream_id=stream_id)
    if keys is None:
        caller = Caller(options, media.fileno(), sequence, started)
    else:
        own = ConnectionKeys(keys, secrets.token_bytes)
        caller = Caller(options, media.fileno(), sequence, started, own, keys.message, KEY_SIZE)
    while (now := time.monotonic()) < started + ANSWER_LIMIT:
        packet = caller.data_to_send(now)
        if packet is not None:
            media.send(packet)
        media.settimeout(max(0.001, caller.next_timeout() - now))
        try:
            received = media.recv(_RECEIVE_SIZE)
        except TimeoutError:
            continue
        established = caller.receive_data(received, time.monotonic())
        if established is not None:
            return media, established
    raise OSError(f"no connection for {stream_id}")
