"""The way of RTP packets through the server, without sockets: microseconds of CPU for a frame from read to write.

``python -m bench.ingest`` lets a publisher's connection receive frames of 12 packets, one read each, and a reader over
TCP get them on the same channel. Transports are empty; everything between them is the server's. The best of several
rounds is shown, so that what else the machine does hardly counts.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from polycast.app import Application
from polycast.config import LoadedConfiguration, from_mapping
from polycast.log import Log
from polycast.protocols.rtsp.connection import Connection
from polycast.protocols.rtsp.server import RtspServer

FRAMES = 500
"""Frames of one round."""
PACKETS = 12
"""Packets of a frame."""
SIZE = 1400
"""Bytes of a packet; the last one of a frame is smaller."""
CHANNEL = 0
DESCRIPTION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=bench\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:trackID=0\r\n"
)


class EmptyTransport(asyncio.Transport):
    """Takes everything at once and keeps the last thing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 40_000), "sockname": ("127.0.0.1", 8554)})
        self.last = b""
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.last = cast("bytes", data)
        self.size += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False


class Client:
    """An RTSP client in this process."""

    def __init__(self, server: RtspServer) -> None:
        self.transport = EmptyTransport()
        self.connection = cast("Connection", server.make_connection())
        self.connection.connection_made(self.transport)
        self._count = 0
        self._session = ""

    async def request(self, method: str, url: str, *headers: str, body: str = "") -> None:
        """Send a request and wait for its answer."""
        self._count += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._count}", *headers]
        if self._session:
            lines.append(f"Session: {self._session}")
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.transport.last = b""
        self.connection.data_received(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        while not self.transport.last:  # noqa: ASYNC110
            await asyncio.sleep(0)
        answer = self.transport.last.decode()
        if not answer.startswith("RTSP/1.0 200"):
            raise RuntimeError(answer)
        for line in answer.split("\r\n"):
            if line.lower().startswith("session:"):
                self._session = line.partition(":")[2].partition(";")[0].strip()


def packets_of(number: int, first_bytes: bytes = b"\x80") -> list[bytes]:
    """Return the packets of a picture in fragments (RFC 6184 section 5.8)."""
    sequence = number * PACKETS
    packets: list[bytes] = []
    for index in range(PACKETS):
        last = index == PACKETS - 1
        extension = b"\xbe\xde\x00\x00" if first_bytes == b"\x90" else b""
        header = struct.pack(
            ">cBHII", first_bytes, 96 | last << 7, (sequence + index) & 0xFFFF, number * 3000 & 0xFFFFFFFF, 7
        )
        fragment = bytes((0x5C, 0x01 | (not index) << 7 | last << 6, 0x9A))
        size = SIZE - len(header) - len(extension) - len(fragment) - (300 if last else 0)
        packets.append(header + extension + fragment + bytes(size))
    return packets


def interleaved(packets: Sequence[bytes]) -> bytes:
    """Return packets as interleaved frames (RFC 2326 section 10.12)."""
    return b"".join(struct.pack(">cBH", b"$", CHANNEL, len(packet)) + packet for packet in packets)


def one_size(number: int) -> bytes:
    """All packets have one size, but the last one."""
    return interleaved(packets_of(number))


def many_sizes(number: int) -> bytes:
    """No packet has the size of the one before."""
    return interleaved([packet[: len(packet) - 7 * index] for index, packet in enumerate(packets_of(number))])


def with_extension(number: int) -> bytes:
    """All packets have a header extension, so each is parsed."""
    return interleaved(packets_of(number, b"\x90"))


def single_reads(number: int) -> list[bytes]:
    """Each packet is a read of its own."""
    return [interleaved([packet]) for packet in packets_of(number)]


def split_reads(number: int) -> list[bytes]:
    """Each frame comes in two reads, the first of which ends within a packet."""
    data = interleaved(packets_of(number))
    return [data[:9000], data[9000:]]


def measure(connection: Connection, reads: Sequence[bytes]) -> float:
    """Return CPU seconds that a connection takes for these reads."""
    receive: Callable[[bytes], None] = connection.data_received
    connection.weight = 1 << 40  # nobody else needs a share of this loop
    began = time.process_time()
    for data in reads:
        receive(data)
    return time.process_time() - began


async def run(rounds: int) -> dict[str, float]:
    """Return microseconds per frame, by kind of read."""
    settings: dict[str, Any] = {
        "paths": {"all": {}},
        "rtspAddress": "127.0.0.1:0",
        "protocols": ["tcp"],
        "rtmpDisable": True,
        "hlsDisable": True,
    }
    loaded = LoadedConfiguration(from_mapping(settings), None, [], frozenset())
    app = Application(loaded, log=Log(logging.Logger("bench", logging.ERROR)))
    await app.start()
    try:
        return await _measure_all(app, rounds)
    finally:
        await app.stop()


async def _measure_all(app: Application, rounds: int) -> dict[str, float]:
    server = app.servers["RTSP"]
    assert isinstance(server, RtspServer)
    url = "rtsp://127.0.0.1:8554/bench"
    transport = f"Transport: RTP/AVP/TCP;unicast;interleaved={CHANNEL}-{CHANNEL + 1}"
    publisher, reader = Client(server), Client(server)
    await publisher.request("ANNOUNCE", url, body=DESCRIPTION)
    await publisher.request("SETUP", f"{url}/trackID=0", f"{transport};mode=record")
    await publisher.request("RECORD", url)
    await reader.request("SETUP", f"{url}/trackID=0", transport)
    await reader.request("PLAY", url)
    kinds: dict[str, list[bytes]] = {
        "one size": [one_size(number) for number in range(FRAMES)],
        "many sizes": [many_sizes(number) for number in range(FRAMES)],
        "header extensions": [with_extension(number) for number in range(FRAMES)],
        "two frames a read": [one_size(number) + one_size(number + 1) for number in range(0, FRAMES, 2)],
        "two reads a frame": [read for number in range(FRAMES) for read in split_reads(number)],
        "single reads": [read for number in range(FRAMES) for read in single_reads(number)],
    }
    best = dict.fromkeys(kinds, float("inf"))
    for _ in range(rounds):
        for name, reads in kinds.items():
            before = reader.transport.size
            best[name] = min(best[name], measure(publisher.connection, reads) / FRAMES * 1e6)
            if reader.transport.size - before != sum(map(len, reads)):
                raise RuntimeError(f"{name}: the reader did not get everything")
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    for name, microseconds in asyncio.run(run(arguments.rounds)).items():
        print(f"{name:20}{microseconds:8.2f} us")


if __name__ == "__main__":
    main()
