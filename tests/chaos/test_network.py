"""The network between a camera and the server: it loses, doubles and reorders packets; its cable is pulled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.support import QUICK, pulling
from tests.protocols.sources.camera import camera
from tests.protocols.sources.test_supervision import Frames
from tests.support.rtp import rtp

FRAMES = 600
PACKETS_PER_FRAME = 3
LOSS, DOUBLING, SWAPPING = 0.05, 0.03, 0.03
SEED = 5


def fragments(number: int) -> list[bytes]:
    """A key frame in fragments (RFC 6184 section 5.8), each with the number of the frame."""
    body = struct.pack("!I", number) + b"\x77" * 60
    ends = [0x80 | 5, 5, 0x40 | 5]
    return [bytes((0x7C, end)) + bytes((0x88,)) + body for end in ends]


def through_the_network(packets: list[bytes]) -> list[bytes]:
    """Return what arrives of the packets, by a pattern that is always the same."""
    chance = random.Random(SEED)
    arrived = [packet for packet in packets if chance.random() >= LOSS]
    for index in range(len(arrived) - 1):
        if chance.random() < SWAPPING:
            arrived[index : index + 2] = arrived[index + 1], arrived[index]
    doubled: list[bytes] = []
    for packet in arrived:
        doubled += [packet, packet] if chance.random() < DOUBLING else [packet]
    return doubled


async def test_packets_are_lost_doubled_and_reordered() -> None:
    sent = [
        rtp(number * PACKETS_PER_FRAME + index, payload, timestamp=3600 * number, marker=index == PACKETS_PER_FRAME - 1)
        for number in range(FRAMES)
        for index, payload in enumerate(fragments(number))
    ]
    arriving = through_the_network(sent)
    # The ends are whole, so that what is lost between them can be counted.
    arriving = [*sent[:PACKETS_PER_FRAME], *(p for p in arriving if p not in sent[:3] + sent[-3:]), *sent[-3:]]
    survivors = [packet for packet in sent if packet in set(arriving)]
    lost = len(sent) - len(survivors)
    assert lost > 50

    settings = {"sourceProtocol": "udp", **QUICK}
    async with camera() as cam, pulling({"cam": {"source": cam.url(), **settings}}, readTimeout="10s") as app:
        path = app.path("cam")
        await app.until(lambda: path.stream is not None)
        stream = path.stream
        assert stream is not None
        reader = await app.rtsp()
        await reader.play(app.rtsp_url("cam"))
        frames = Frames()
        path.attach_reader(frames, stream)
        assert cam.udp is not None
        assert cam.udp_target is not None
        for index, packet in enumerate(arriving):
            cam.udp.sendto(packet, cam.udp_target)
            if index % 20 == 0:
                await asyncio.sleep(0.005)  # not more at once than a socket's buffer takes
        # RTSP readers get what came, in order and once.
        assert await reader.packets(len(survivors)) == survivors
        await app.until(lambda: stream.tracks[0].counters.lost == lost)
        # The others get whole frames, each that came whole: no half pictures.
        whole = [
            number
            for number in range(FRAMES)
            if all(packet in set(survivors) for packet in sent[3 * number : 3 * number + 3])
        ]
        await app.until(lambda: len(frames.frames) >= len(whole) - 1)
        assert {len(frame.units[-1]) for _, frame in frames.frames} == {1 + 3 * 65}
        received = [struct.unpack_from("!I", frame.units[-1], 2)[0] for _, frame in frames.frames]
        assert received == whole[: len(received)]
        assert path.stream is stream
        assert not frames.closed


# The cable


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[str, str, str]]:
    """Two network namespaces with a cable between them: the near one, the far one, and the far end of the cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("network namespaces need root and iproute2")
    near, far = f"polycast-near-{os.getpid()}", f"polycast-far-{os.getpid()}"

    def ip(*arguments: str) -> bool:
        return subprocess.run(["ip", *arguments], capture_output=True, check=False).returncode == 0

    try:
        if not (ip("netns", "add", near) and ip("netns", "add", far)):
            pytest.skip("network namespaces cannot be made here")
        if not ip("link", "add", "near0", "netns", near, "type", "veth", "peer", "name", "far0", "netns", far):
            pytest.skip("virtual cables (veth) cannot be made here")
        for name, interface, address in ((near, "near0", "198.18.0.1/30"), (far, "far0", "198.18.0.2/30")):
            assert ip("-n", name, "address", "add", address, "dev", interface)
            assert ip("-n", name, "link", "set", interface, "up")
            assert ip("-n", name, "link", "set", "lo", "up")
        yield near, far, "far0"
    finally:
        ip("netns", "delete", near)
        ip("netns", "delete", far)


def test_the_cable_is_pulled() -> None:
    script = Path(__file__).with_name("cable_check.py")
    with two_networks() as (near, far, interface):
        command = ["nsenter", f"--net=/run/netns/{near}", sys.executable, str(script), far, interface, "198.18.0.2"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "passed\n"
