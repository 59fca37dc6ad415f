"""What a server's answer to SETUP means."""

from __future__ import annotations

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers import Transport
from polycast.wire.rtsp.transport_answer import free_channels, read_transport_answer

TCP = Transport("TCP", delivery="unicast", interleaved=(2, 3))
UDP = Transport(delivery="unicast", client_port=(5000, 5001))
GROUP = Transport(delivery="multicast")


@pytest.mark.parametrize(
    ("answer", "channels"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=2-3", (2, 3)),
        ('RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=1234;mode="PLAY"', (0, 1)),
        ("RTP/AVP/TCP;interleaved=6", (6, 7)),
        ("RTP/AVP/TCP;unicast", (2, 3)),  # without channels: those asked for
        ("RTP/AVP;unicast;interleaved=0-1", (0, 1)),  # without /TCP
        ("RTP/AVP/UDP;unicast;interleaved=0-1", (0, 1)),
        ("RTP/AVP;unicast", (2, 3)),
        ("RTP/AVP;unicast;client_port=5000-5001", (2, 3)),
        ("rtp/avp/tcp ; unicast ; interleaved = 4 - 5", (4, 5)),
        ("RTP/AVP/TCP;unicast;interleaved=0-1;mode=live", (0, 1)),
        ("RTP/AVP/TCP;unicast;interleaved=x;client_port=none", (2, 3)),
        ("RTP/AVP/TCP;unicast;interleaved=0-1,RTP/AVP;unicast;client_port=1-2", (0, 1)),
        ("", (2, 3)),
        ("nonsense", (2, 3)),
    ],
)
def test_interleaved(answer: str, channels: tuple[int, int]) -> None:
    meant = read_transport_answer([answer], TCP)
    assert meant.lower_transport == "TCP"
    assert meant.interleaved == channels


@pytest.mark.parametrize(
    ("answer", "server_port", "client_port"),
    [
        ("RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001", (6000, 6001), (5000, 5001)),
        ("RTP/AVP/UDP;unicast;server_port=6000", (6000, 6001), None),
        ("RTP/AVP;unicast;client_port=7000-7001;server_port=6000-6001", (6000, 6001), (7000, 7001)),
        ("RTP/AVP;server_port=6000-6001;client_port=5000-", (6000, 6001), None),
        ("RTP/AVP;unicast", None, None),
        ("RTP/AVP;unicast;interleaved=0-1;server_port=6000-6001", (6000, 6001), None),
    ],
)
def test_datagrams(answer: str, server_port: tuple[int, int] | None, client_port: tuple[int, int] | None) -> None:
    meant = read_transport_answer([answer], UDP)
    assert meant.lower_transport == "UDP"
    assert (meant.server_port, meant.client_port) == (server_port, client_port)


def test_no_header() -> None:
    for offer in (TCP, UDP, GROUP):
        assert read_transport_answer([], offer) == offer


def test_multicast() -> None:
    meant = read_transport_answer(["RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=16"], GROUP)
    assert (meant.destination, meant.port) == ("224.2.0.1", (3456, 3457))


@pytest.mark.parametrize(
    ("answer", "offer", "reason"),
    [
        ("RTP/AVP;unicast;server_port=6000-6001", TCP, "UDP although TCP"),
        ("RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457", TCP, "UDP although TCP"),
        ("RTP/AVP/TCP;unicast;interleaved=0-1", UDP, "TCP although UDP"),
        ("RTP/AVP;unicast;interleaved=0-1", UDP, "TCP although UDP"),
        ("RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457", UDP, "multicast although unicast"),
        ("RTP/AVP/TCP;unicast;interleaved=0-1", GROUP, "TCP although UDP"),
        ("RAW/RAW/UDP;unicast", UDP, "unsupported transport"),
    ],
)
def test_another_transport_than_was_asked_for(answer: str, offer: Transport, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as raised:
        read_transport_answer([answer], offer)
    assert raised.value.status == 461


def test_channels_of_another_track() -> None:
    assert free_channels((0, 1), (2, 3), set()) == (0, 1)
    assert free_channels((0, 1), (2, 3), {0, 1}) == (2, 3)
    assert free_channels((1, 2), (4, 5), {0, 1}) == (4, 5)
    assert free_channels(None, (2, 3), {0, 1}) == (2, 3)
    with pytest.raises(RemoteProtocolError, match="used twice"):
        free_channels((0, 1), (2, 3), {1, 2})
