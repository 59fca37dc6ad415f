"""Which offered transport a server takes."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers import parse_transports
from polycast.wire.rtsp.transport_choice import ChosenTransport, Protocol, choose_transport

ALL = frozenset(Protocol)
UDP = "RTP/AVP;unicast;client_port=5000-5001"
TCP = "RTP/AVP/TCP;unicast;interleaved=0-1"
MULTICAST = "RTP/AVP;multicast"


def choose(
    text: str,
    *,
    allowed: Collection[Protocol] = ALL,
    encrypted: bool = False,
    record: bool = False,
    tunnelled: bool = False,
    srtp: bool = False,
    security: bool | None = None,
    used: Protocol | None = None,
    channels: Collection[int] = (),
) -> ChosenTransport:
    return choose_transport(
        parse_transports(text),
        allowed=allowed,
        encrypted=encrypted,
        record=record,
        tunnelled=tunnelled,
        srtp=srtp,
        used_security=security,
        used_protocol=used,
        used_channels=channels,
    )


def test_play() -> None:
    udp = choose(UDP)
    assert (udp.protocol, udp.client_port, udp.interleaved) == (Protocol.UDP, (5000, 5001), None)
    assert choose("RTP/AVP/UDP;client_port=5000-5001").protocol is Protocol.UDP
    tcp = choose(TCP)
    assert (tcp.protocol, tcp.client_port, tcp.interleaved) == (Protocol.TCP, None, (0, 1))
    assert choose(MULTICAST).protocol is Protocol.MULTICAST
    assert choose(UDP + ";mode=PLAY").protocol is Protocol.UDP


def test_record() -> None:
    assert choose(UDP + ";mode=record", record=True).protocol is Protocol.UDP
    assert choose(TCP + ";mode=receive", record=True).protocol is Protocol.TCP


def test_the_first_acceptable_alternative_is_taken() -> None:
    offers = f"{UDP},{MULTICAST},{TCP}"
    assert choose(offers).protocol is Protocol.UDP
    assert choose(offers, allowed={Protocol.MULTICAST, Protocol.TCP}).protocol is Protocol.MULTICAST
    assert choose(offers, encrypted=True).protocol is Protocol.TCP
    assert choose(offers, used=Protocol.TCP).protocol is Protocol.TCP
    assert choose(f"RTP/SAVP;unicast;client_port=1-2,{UDP}").offer.profile == "AVP"


def test_srtp() -> None:
    secure = "RTP/SAVP;unicast;client_port=1-2"
    chosen = choose(f"{UDP},{secure}", encrypted=True, srtp=True)
    assert (chosen.protocol, chosen.is_secure, chosen.client_port) == (Protocol.UDP, True, (1, 2))
    answer = chosen.answer(ssrc=1, server_port=(3, 4), group=None).serialize()
    assert answer == "RTP/SAVP;unicast;client_port=1-2;server_port=3-4;ssrc=00000001"
    assert choose("RTP/SAVPF;multicast", encrypted=True, srtp=True).protocol is Protocol.MULTICAST
    assert choose("RTP/SAVP/TCP", encrypted=True, srtp=True, tunnelled=True, security=True).interleaved == (0, 1)
    assert not choose("RTP/AVP/TCP", encrypted=True, srtp=True).is_secure


def test_channels() -> None:
    assert choose("RTP/AVP/TCP").interleaved == (0, 1)
    assert choose("RTP/AVP/TCP", channels={0, 1}).interleaved == (2, 3)
    assert choose("RTP/AVP/TCP", channels={1, 2}).interleaved == (4, 5)
    assert choose("RTP/AVP/TCP;interleaved=254-255", channels={0, 1}).interleaved == (254, 255)
    for pair in ((1, 2), (7, 9), (9, 7), (0, 255)):
        assert choose(f"RTP/AVP/TCP;interleaved={pair[0]}-{pair[1]}").interleaved == pair


@pytest.mark.parametrize(
    ("text", "arguments", "status", "reason"),
    [
        (TCP, {"allowed": {Protocol.UDP}}, 461, "disabled"),
        (UDP, {"allowed": {Protocol.TCP}}, 461, "disabled"),
        (MULTICAST, {"allowed": {Protocol.UDP}}, 461, "disabled"),
        (UDP, {"encrypted": True}, 461, "TLS"),
        (MULTICAST, {"encrypted": True}, 461, "TLS"),
        (MULTICAST + ";mode=record", {"record": True}, 461, "multicast"),
        ("RTP/SAVP;unicast;client_port=1-2", {}, 461, "SAVP.* needs RTSPS"),
        ("RTP/SAVP;unicast;client_port=1-2", {"srtp": True}, 461, "needs RTSPS"),
        ("RTP/SAVP/TCP;unicast", {"encrypted": True}, 461, "not available"),
        ("RTP/SAVP;multicast", {"encrypted": True, "srtp": True, "allowed": {Protocol.UDP}}, 461, "use TCP"),
        ("RTP/SAVP/TCP", {"encrypted": True, "srtp": True, "security": False}, 400, "with and without SRTP"),
        (UDP, {"tunnelled": True}, 461, "can't be used in a tunnel; use TCP"),
        (MULTICAST, {"tunnelled": True}, 461, "can't be used in a tunnel; use TCP"),
        (UDP, {"record": True}, 400, "mode=record"),
        (TCP + ";mode=record", {}, 400, "mode=record"),
        (UDP, {"used": Protocol.TCP}, 400, "can't setup tracks with different protocols"),
        ("RTP/AVP;unicast", {}, 461, "client ports"),
        ("RTP/AVP;unicast;client_port=0-1", {}, 461, "client ports"),
        ("RTP/AVP;unicast;client_port=0-0", {}, 461, "client ports"),
        ("RTP/AVP/TCP;interleaved=3-3", {}, 400, "invalid interleaved"),
        (TCP, {"channels": {0, 1}}, 400, "in use"),
        (TCP, {"channels": {1}}, 400, "in use"),
        ("RTP/AVP/TCP", {"channels": set(range(256))}, 400, "in use"),
    ],
)
def test_refused(text: str, arguments: dict[str, object], status: int, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as raised:
        choose(text, **arguments)  # type: ignore[arg-type]
    assert raised.value.status == status


def test_no_offer() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        choose_transport([], allowed=ALL, encrypted=False, record=False)
    assert raised.value.status == 461
