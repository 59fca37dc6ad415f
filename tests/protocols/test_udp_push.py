"""Streams are forwarded as MPEG-TS and RTP over UDP."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from tests.control.support import Server, running
from tests.protocols.hls.support import FramePublisher
from tests.support.ports import free_port
from tests.support.rtp import key_unit, rtp
from tests.wire.mpegts.test_mpegts_pacer import clocks

from polycast.config import from_mapping
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.errors import ConfigurationError
from polycast.hub.batch import FrameBatch
from polycast.hub.stats import Reference
from polycast.hub.stream import FrameReader
from polycast.media.frame import Frame
from polycast.protocols.udp.destination import SendingAddress, parse_destination

_SO_TIMESTAMPNS = 35  # of Linux


class Frames(FrameReader):
    """Collects the frames of a stream."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, Frame]] = []

    def deliver_frames(self, batch: FrameBatch) -> None:
        self.frames += [(index, entry) for index, entry in batch.entries if isinstance(entry, Frame)]

    def close_reader(self, reason: str) -> None:
        pass

    def reference(self) -> Reference:
        return Reference("test")


@contextlib.contextmanager
def receiver() -> Iterator[tuple[socket.socket, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound, bound.getsockname()[1]


async def publish_in_real_time(publisher: FramePublisher, seconds: int) -> None:
    """Publish frames at their times."""
    loop, published = asyncio.get_running_loop(), asyncio.Event()
    begin = loop.time()
    for index, frame in publisher.frames(seconds, size=12_000):
        published.clear()
        loop.call_at(begin + frame.dts / (90_000 if index == 0 else 48_000), published.set)
        await published.wait()
        publisher.write([(index, frame)])


async def test_what_is_sent_as_mpegts_is_what_was_published() -> None:
    port = free_port()
    paths = {
        "cam": {"forward": [{"dest": f"udp+mpegts://127.0.0.1:{port}"}]},
        "copy": {"source": f"udp+mpegts://127.0.0.1:{port}"},
    }
    async with running(paths=paths) as server:
        publisher = FramePublisher(server.app.hub.path("cam"))
        await forwarding(server, "cam")
        publisher.play(1, size=100)
        copy, frames = server.app.hub.paths["copy"], Frames()
        await server.until(lambda: copy.stream is not None)
        assert copy.stream is not None
        copy.attach_reader(frames, copy.stream)
        sent = list(publisher.frames(1, size=3000))
        publisher.write(sent)
        publisher.play(1, size=100)

        def payloads(found: list[tuple[int, Frame]], track: int) -> list[bytes]:
            return [frame.units[-1] for index, frame in found if index == track]

        await server.until(lambda: payloads(sent, 0)[-1] in payloads(frames.frames, 0))
        received = payloads(frames.frames, 0)
        begin = received.index(payloads(sent, 0)[0])
        # The made-up picture number 1 contains a start code.
        assert received[begin + 2 : begin + 30] == payloads(sent, 0)[2:]
        assert set(payloads(sent, 1)) <= set(payloads(frames.frames, 1))
        (item,) = (await server.get("/v3/paths/forward/list?path=cam"))["items"]
        assert (item["protocol"], item["state"]) == ("udp+mpegts", "forwarding")
        assert item["outboundBytes"] > 90_000


@pytest.mark.skipif(sys.platform != "linux", reason="the times of arrival are those of Linux")
async def test_the_clock_of_what_arrives_is_exact() -> None:
    """Times of arrival are those of the kernel, so a receiver that is late does not count."""
    with receiver() as (bound, port):
        bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        arrived: list[tuple[float, bytes]] = []

        def receive() -> None:
            while True:
                try:
                    data, ancillary, _, _ = bound.recvmsg(2048, 128)
                except BlockingIOError:
                    return
                seconds, nanoseconds = struct.unpack_from("qq", ancillary[0][2])
                arrived.append((seconds + nanoseconds / 1e9, data))

        async with running(paths={"cam": {"forward": [{"dest": f"udp+mpegts://127.0.0.1:{port}"}]}}) as server:
            publisher = FramePublisher(server.app.hub.path("cam"))
            await forwarding(server, "cam")
            asyncio.get_running_loop().add_reader(bound, receive)
            await publish_in_real_time(publisher, 2)
            await server.until(lambda: len(clocks(arrived)) >= 58)
            asyncio.get_running_loop().remove_reader(bound)
    assert {len(data) for _, data in arrived} <= {188 * count for count in range(1, 8)}
    offsets = sorted(time - clock for time, clock, _ in clocks(arrived))
    # On a busy machine, the process may be interrupted between reading the clock and sending.
    middle = offsets[len(offsets) // 2]
    assert sum(abs(offset - middle) < 0.001 for offset in offsets) >= 0.8 * len(offsets)


async def forwarding(server: Server, path: str) -> None:
    found = server.app.hub.paths[path]
    await server.until(lambda: any(reader.is_passive for reader in found.readers))


async def test_packets_are_sent_as_they_are_with_a_description() -> None:
    with receiver() as (bound, port):
        paths = {"cam": {"forward": [{"dest": f"udp+rtp://127.0.0.1:{port}"}]}}
        async with running(paths=paths) as server:
            publisher = await server.publisher("cam")
            await forwarding(server, "cam")
            publisher.send_frame(0, rtp(7, key_unit()))
            async with asyncio.timeout(60):
                assert await asyncio.get_running_loop().sock_recv(bound, 2000) == rtp(7, key_unit())
            log = "\n".join(server.log.lines)
            described = re.search(r"receivers need this description:\n(.*?)\n\d{4}/", log + "\n2000/", re.DOTALL)
            assert described is not None
            assert f"m=video {port} RTP/AVP 96" in described[1]
            assert "c=IN IP4 127.0.0.1" in described[1]
            assert "a=control" not in described[1]
    # It is what a path that receives it needs.
    port = free_port()
    paths = {
        "cam": {"forward": [{"dest": f"udp+rtp://127.0.0.1:{port}"}]},
        "copy": {"source": f"udp+rtp://127.0.0.1:{port}", "rtpSDP": described[1]},
    }
    async with running(paths=paths) as server:
        publisher = await server.publisher("cam")
        await forwarding(server, "cam")
        copy = server.app.hub.paths["copy"]
        number = 0
        while copy.stream is None:
            publisher.send_frame(0, rtp(number, key_unit()))
            number += 1
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("udp+mpegts://host:1234", SendingAddress("host", 1234)),
        ("udp+mpegts://239.0.0.1:1?pkt_size=1128&ttl=3&interface=eth0", SendingAddress("239.0.0.1", 1, 6, 3, "eth0")),
        ("udp+rtp://[ff15::1%eth1]:5004/", SendingAddress("ff15::1", 5004, interface="eth1")),
        ("udp+mpegts://host:1?pkt_size=188&other=1", SendingAddress("host", 1, 1)),
    ],
)  # fmt: skip
def test_addresses(url: str, expected: SendingAddress) -> None:
    assert parse_destination(url) == expected


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("udp+mpegts://host", "'udp+mpegts://host' is not a valid URL (write udp+mpegts://host:port)"),
        ("udp+rtp://:5000", "'udp+rtp://:5000' is not a valid URL (write udp+rtp://host:port)"),
        ("udp+rtp://host:x", "'udp+rtp://host:x' is not a valid URL (write udp+rtp://host:port)"),
        ("udp+rtp://host:1/path", "'udp+rtp://host:1/path' is not a valid URL (write udp+rtp://host:port)"),
        ("udp+mpegts://host:1?pkt_size=100", "the parameter 'pkt_size' must be a number from 188 to 1472"),
        ("udp+mpegts://host:1?ttl=x", "the parameter 'ttl' must be a number from 0 to 255"),
    ],
)
def test_invalid_addresses(url: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match="^" + re.escape(error) + "$"):
        parse_destination(url)


def test_it_is_a_destination() -> None:
    for url in ("udp+mpegts://host:1234", "udp+rtp://239.0.0.1:5004"):
        path = from_mapping({"paths": {"cam": {"forward": [{"dest": url}]}}}, MEDIAMTX).paths["cam"]
        assert [each.dest for each in path.forward] == [url]
