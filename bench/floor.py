"""What the kernel alone costs: bare loops that send the same frames to the same number of sockets."""

import secrets
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from itertools import groupby
from multiprocessing.connection import Connection

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.feed import Media, run_feed
from bench.media import RTP_HEADER_SIZE, Frame, SyntheticStream
from bench.rtmp_media import SERVER_CHUNK_SIZE, RtmpFrame, RtmpSample, RtmpStream
from bench.samples import DatagramSample, InterleavedSample, SampleResult
from bench.server import HOST, bind_udp_pairs
from bench.sink import Acknowledger, Reader, datagram_reader, enlarge_receive_buffer, run_sink
from polycast.net.datagram_batches import DatagramBatches

_TAG_SIZE = 16  # bytes that AES-GCM adds to a packet (RFC 7714)
_UDP_SEGMENT = 103
_MAXIMUM_SEGMENTS = 64  # UDP_MAX_SEGMENTS of the kernel
_ACKNOWLEDGEMENT = bytes((0x80, 2)) + bytes(42)  # as long as those of SRT
_ANSWER = bytes(20)
_MAXIMUM_DATAGRAM = 64_000  # bytes of one segmented send, below the limit of IPv4


def send_tcp(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: one `send` of the whole frame per socket."""
    _run_tcp(connection, stream_count, reader_count, SyntheticStream())


def _run_tcp(connection: Connection, stream_count: int, reader_count: int, media: Media) -> None:
    with socket.create_server((HOST, 0), backlog=reader_count) as listener:
        connection.send({"port": listener.getsockname()[1]})
        clients = [listener.accept()[0] for _ in range(reader_count)]
    for client in clients:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sends = [[client.send for client in clients[stream::stream_count]] for stream in range(stream_count)]

    def send_frame(stream: int, number: int, frame: Frame | RtmpFrame) -> None:
        frame.stamp(number, time.monotonic_ns())
        whole = frame.whole
        size = frame.size
        for send in sends[stream]:
            if send(whole) != size:
                raise OSError("a socket took only a part of a frame")

    run_feed(connection, stream_count, send_frame, media=media)


def send_rtmp(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: one `send` of the whole RTMP message per socket."""
    _run_tcp(connection, stream_count, reader_count, RtmpStream(SERVER_CHUNK_SIZE))


def send_udp(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: one `sendto` per packet and destination."""
    _run_udp(connection, stream_count, reader_count, _send_plain)


def send_udp_segmented(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: one `sendmsg` with UDP_SEGMENT per run of packets of the same size, and destination."""
    _run_udp(connection, stream_count, reader_count, _send_segmented)


def send_srtp(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: AES-128-GCM of each packet for each destination into one buffer, and one segmented send of that."""
    _run_udp(connection, stream_count, reader_count, partial(_send_encrypted, _Keys()))


def _key_of(port: int) -> bytes:
    """The key of the reader at a port, which both sides know without a handshake."""
    return port.to_bytes(16, "big")


class _Keys(dict[tuple[str, int], AESGCM]):
    """Ciphers by the address of the reader."""

    def __missing__(self, address: tuple[str, int]) -> AESGCM:
        cipher = self[address] = AESGCM(_key_of(address[1]))
        return cipher


def send_counter_mode(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: AES-128 in counter mode of each packet for each destination into one buffer, and one segmented send of
    that."""
    _run_udp(connection, stream_count, reader_count, _make_counter_mode(reader_count))


def _make_counter_mode(reader_count: int) -> "SendToAll":
    ciphers = [
        Cipher(algorithms.AES(secrets.token_bytes(16)), modes.CTR(bytes(16))).encryptor() for _ in range(reader_count)
    ]
    return partial(_send_in_counter_mode, ciphers)


def send_acknowledged(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: `send_udp_segmented`, and an answer to each acknowledgement of a reader."""
    _run_udp(connection, stream_count, reader_count, _send_segmented, is_acknowledged=True)


def send_counter_mode_acknowledged(connection: Connection, stream_count: int, reader_count: int) -> None:
    """Worker: `send_counter_mode`, and an answer to each acknowledgement of a reader."""
    _run_udp(connection, stream_count, reader_count, _make_counter_mode(reader_count), is_acknowledged=True)


def read_tcp(connection: Connection, port: int, reader_count: int) -> None:
    """Worker: plain connections that only read."""
    run_sink(
        connection, [Reader(socket.create_connection((HOST, port)), InterleavedSample) for _ in range(reader_count)]
    )


def read_rtmp(connection: Connection, port: int, reader_count: int) -> None:
    """Worker: plain connections that only read."""

    def make_sample() -> RtmpSample:
        return RtmpSample(skip=0, chunk_size=SERVER_CHUNK_SIZE)

    run_sink(connection, [Reader(socket.create_connection((HOST, port)), make_sample) for _ in range(reader_count)])


class _EncryptedSample:
    """Packets of `send_srtp`, decrypted."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._packets = DatagramSample()

    @property
    def result(self) -> SampleResult:
        return self._packets.result

    def feed(self, data: memoryview, arrival_ns: int) -> None:
        if not data:
            return
        header = bytes(data[:RTP_HEADER_SIZE])
        payload = self._cipher.decrypt(header, data[RTP_HEADER_SIZE:], header)
        self._packets.feed(memoryview(header + payload), arrival_ns)


def read_srtp(connection: Connection, reader_count: int) -> None:
    """Worker: plain sockets, a sample of which decrypts what `send_srtp` sends."""
    readers = []
    for media, _control in bind_udp_pairs(reader_count):
        enlarge_receive_buffer(media)
        readers.append(Reader(media, partial(_EncryptedSample, _key_of(media.getsockname()[1]))))
    run_sink(connection, readers)


def read_unreadable(connection: Connection, reader_count: int) -> None:
    """Worker: plain sockets whose packets nobody can read."""
    readers = []
    for media, _control in bind_udp_pairs(reader_count):
        enlarge_receive_buffer(media)
        readers.append(Reader(media, None))
    run_sink(connection, readers)


def read_udp(connection: Connection, reader_count: int) -> None:
    """Worker: plain sockets that only read."""
    run_sink(connection, [datagram_reader(media) for media, _control in bind_udp_pairs(reader_count)])


class BareAcknowledger(Acknowledger):
    """Acknowledges with a datagram as long as one of SRT."""

    def __init__(self, media: socket.socket) -> None:
        super().__init__()
        self._send = media.send

    def accept(self, datagram: bytearray) -> bool:
        return datagram[0] != 0

    def acknowledge(self, now: float) -> None:
        self._send(_ACKNOWLEDGEMENT)


def read_acknowledging(connection: Connection, port: int, reader_count: int) -> None:
    """Worker: plain sockets that acknowledge what they read."""
    readers = []
    for media, _control in bind_udp_pairs(reader_count):
        media.connect((HOST, port))
        reader = datagram_reader(media)
        reader.acknowledger = BareAcknowledger(media)
        readers.append(reader)
    run_sink(connection, readers)


def read_acknowledging_blindly(connection: Connection, port: int, reader_count: int) -> None:
    """Worker: the same with packets that nobody can read."""
    readers = []
    for media, _control in bind_udp_pairs(reader_count):
        media.connect((HOST, port))
        enlarge_receive_buffer(media)
        readers.append(Reader(media, None, acknowledger=BareAcknowledger(media)))
    run_sink(connection, readers)


SendToAll = Callable[[socket.socket, list[tuple[str, int]], Frame], None]


def _run_udp(
    connection: Connection,
    stream_count: int,
    reader_count: int,
    send_to_all: SendToAll,
    *,
    is_acknowledged: bool = False,
) -> None:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind((HOST, 0))
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    connection.send({"port": sender.getsockname()[1]})
    start = connection.recv()
    destinations = [(HOST, port) for port in start["ports"][:reader_count]]
    groups = [destinations[stream::stream_count] for stream in range(stream_count)]

    def send_frame(stream: int, number: int, frame: Frame) -> None:
        frame.stamp(number, time.monotonic_ns())
        send_to_all(sender, groups[stream], frame)

    rest = partial(_answer, sender, DatagramBatches()) if is_acknowledged else time.sleep
    run_feed(connection, stream_count, send_frame, start, rest=rest)


def _answer(sender: socket.socket, batches: DatagramBatches, seconds: float) -> None:
    """Answer acknowledgements for some seconds."""
    end = time.monotonic() + seconds
    readable = select.poll()
    readable.register(sender.fileno(), select.POLLIN)
    while (left := end - time.monotonic()) > 0 and readable.poll(left * 1000):
        received = batches.receive(sender.fileno())
        batches.send(sender.fileno(), [(_ANSWER, address) for _, _, address in received])


def _send_plain(sender: socket.socket, destinations: list[tuple[str, int]], frame: Frame) -> None:
    sendto = sender.sendto
    for destination in destinations:
        for packet in frame.datagrams:
            sendto(packet, destination)


def _send_segmented(sender: socket.socket, destinations: list[tuple[str, int]], frame: Frame) -> None:
    runs = [
        ([b"".join(run)], [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(run[0])))])
        for run in _runs_of_equal_size(frame.datagrams)
    ]
    sendmsg = sender.sendmsg
    for destination in destinations:
        for data, ancillary in runs:
            sendmsg(data, ancillary, 0, destination)


def _send_encrypted(keys: _Keys, sender: socket.socket, destinations: list[tuple[str, int]], frame: Frame) -> None:
    runs = []
    for run in _runs_of_equal_size(frame.datagrams):
        buffer = memoryview(bytearray(sum(map(len, run)) + len(run) * _TAG_SIZE))
        places = []
        start = 0
        for packet in run:
            end = start + len(packet) + _TAG_SIZE
            buffer[start : start + RTP_HEADER_SIZE] = packet[:RTP_HEADER_SIZE]
            payload = bytes(packet[RTP_HEADER_SIZE:])
            places.append((bytes(packet[:RTP_HEADER_SIZE]), payload, buffer[start + RTP_HEADER_SIZE : end]))
            start = end
        ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(run[0]) + _TAG_SIZE))]
        runs.append((places, [buffer], ancillary))
    sendmsg = sender.sendmsg
    for destination in destinations:
        encrypt_into = keys[destination].encrypt_into
        for places, data, ancillary in runs:
            for header, payload, place in places:
                encrypt_into(header, payload, header, place)
            sendmsg(data, ancillary, 0, destination)


def _send_in_counter_mode(
    ciphers: list[CipherContext], sender: socket.socket, destinations: list[tuple[str, int]], frame: Frame
) -> None:
    runs = []
    for run in _runs_of_equal_size(frame.datagrams):
        buffer = memoryview(bytearray(b"".join(run)))
        places = []
        start = 0
        for number, packet in enumerate(run):
            end = start + len(packet)
            places.append((number.to_bytes(16, "big"), packet[RTP_HEADER_SIZE:], buffer[start + RTP_HEADER_SIZE : end]))
            start = end
        runs.append((places, [buffer], [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("H", len(run[0])))]))
    sendmsg = sender.sendmsg
    for cipher, destination in zip(ciphers, destinations, strict=False):
        reset_nonce, update_into = cipher.reset_nonce, cipher.update_into
        for places, data, ancillary in runs:
            for nonce, payload, place in places:
                reset_nonce(nonce)
                update_into(payload, place)
            sendmsg(data, ancillary, 0, destination)


def _runs_of_equal_size(packets: list[memoryview]) -> list[list[memoryview]]:
    runs: list[list[memoryview]] = []
    for size, group in groupby(packets, key=len):
        equal = list(group)
        length = min(_MAXIMUM_SEGMENTS, _MAXIMUM_DATAGRAM // size)
        runs += [equal[start : start + length] for start in range(0, len(equal), length)]
    joined: list[list[memoryview]] = []
    for run in runs:  # the last segment of a send may be shorter than the others
        if joined and len(run) == 1 and _takes_shorter_end(joined[-1], run[0]):
            joined[-1].append(run[0])
        else:
            joined.append(run)
    return joined


def _takes_shorter_end(run: list[memoryview], packet: memoryview) -> bool:
    size = len(run[0])
    return (
        len(packet) < len(run[-1]) == size
        and len(run) < _MAXIMUM_SEGMENTS
        and size * len(run) + len(packet) <= _MAXIMUM_DATAGRAM
    )
