"""The ports of the workers."""

from __future__ import annotations

import random
import socket
import struct
import sys
from typing import Any

import pytest

from polycast.app.servers import StartError
from polycast.config import from_mapping
from polycast.config.dialects.registry import MEDIAMTX
from polycast.config.schema import Configuration
from polycast.net.listen import open_tcp_listener
from polycast.protocols.rtsp.configuration import RtspConfiguration
from polycast.protocols.srt.configuration import SrtConfiguration
from polycast.protocols.webrtc.configuration import WebRtcConfiguration
from polycast.workers.ports import Ports, for_worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")


def configuration(**values: Any) -> Configuration:
    return from_mapping({"paths": {"all_others": {}}, **values}, MEDIAMTX)


def only(**values: Any) -> Configuration:
    off = dict.fromkeys(("rtsp", "rtmp", "hls", "webrtc", "srt"), False)
    return configuration(**{**off, **values})


def test_ports_that_clients_are_told_are_those_of_the_worker() -> None:
    given = configuration(webrtcLocalTCPAddress="127.0.0.1:8189", api=True, metrics=True, playback=True)
    first, third = for_worker(given, 0), for_worker(given, 2)
    assert first[RtspConfiguration] == given[RtspConfiguration]
    rtsp, webrtc = third[RtspConfiguration], third[WebRtcConfiguration]
    assert (rtsp.rtsp_address, rtsp.rtp_address, rtsp.rtcp_address) == (":8554", ":8016", ":8017")
    assert (webrtc.webrtc_address, webrtc.webrtc_local_udp_address) == (":8889", ":8191")
    assert webrtc.webrtc_local_tcp_address == "127.0.0.1:8191"
    assert (third.api, third.metrics, third.playback) == (False, False, False)


def test_a_port_that_does_not_exist() -> None:
    given = configuration(webrtcLocalUDPAddress=":65535")
    assert for_worker(given, 0)[WebRtcConfiguration].webrtc_local_udp_address == ":65535"
    with pytest.raises(StartError, match="there is no port 65536 for one of the workers"):
        for_worker(given, 1)


async def test_two_settings_with_the_same_port() -> None:
    ports = Ports(2)
    with pytest.raises(StartError, match="port 8008 of worker 2 is also that of"):
        await ports.prepare(configuration(srtAddress=":8008"))
    ports.close()


async def test_shared_ports_are_held() -> None:
    ports = Ports(2)
    given = only(rtmp=True, rtmpAddress="127.0.0.1:0", srt=True, srtAddress="127.0.0.1:0")
    prepared = await ports.prepare(given)
    address = prepared[SrtConfiguration].srt_address
    sockets = ports.sockets("srtAddress", address)
    assert len({each.getsockname()[1] for each in sockets}) == 1
    assert f":{sockets[0].getsockname()[1]}" in str(prepared)
    # While another configuration is applied, workers ask for its sockets, and for the old ones if it fails.
    changed = await ports.prepare(only(srt=True, srtAddress="localhost:0"))
    others = ports.sockets("srtAddress", changed[SrtConfiguration].srt_address)
    assert others[0].getsockname()[1] != sockets[0].getsockname()[1]
    assert ports.sockets("srtAddress", address) is sockets
    ports.keep(only())
    assert sockets[0].fileno() == others[0].fileno() == -1
    with pytest.raises(StartError, match="no socket for"):
        ports.sockets("srtAddress", address)
    ports.close()


async def test_a_port_that_another_program_has() -> None:
    ports = Ports(2)
    for is_shared in (False, True):
        with open_tcp_listener("127.0.0.1", 0, is_shared=is_shared) as other:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(StartError, match=r"\[RTMP\] rtmpAddress: listen on .*in use"):
                await ports.prepare(only(rtmp=True, rtmpAddress=taken))
    ports.close()


async def test_datagrams_reach_the_worker_whose_number_they_carry() -> None:
    """As SRT's do: a packet has the socket id of the server at offset 12; in a handshake it is 0, and that of the
    client is at offset 40."""
    ports = Ports(3)
    given = only(srt=True, srtAddress="127.0.0.1:0")
    prepared = await ports.prepare(given)
    sockets = ports.sockets("srtAddress", prepared[SrtConfiguration].srt_address)
    address = sockets[0].getsockname()
    numbers = random.Random(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(100):
            number = numbers.randrange(1, 2**30)
            for packet in (struct.pack("!12xI", number), struct.pack("!12xI24xI", 0, number)):
                client.sendto(packet, address)
                expected = sockets[number % 3]
                expected.setblocking(True)
                expected.settimeout(30)
                assert expected.recv(100) == packet
        client.sendto(b"short", address)  # goes anywhere, and does no harm
    ports.close()
