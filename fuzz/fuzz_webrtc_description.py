"""Offers and answers, and what WHIP clients send after them."""

from __future__ import annotations

from pathlib import Path

from polycast.errors import RemoteProtocolError
from polycast.media.codec import AV1, G711, G722, H264, H265, LPCM, VP8, VP9, Opus
from polycast.media.track import Track
from polycast.protocols.webrtc.negotiation import accept_tracks, answer_to_publisher
from polycast.protocols.webrtc.selection import choose_tracks
from polycast.wire.webrtc.description import parse_description, parse_fragment
from polycast.wire.webrtc.ice import Credentials
from polycast.wire.webrtc.local_description import LocalDescription

_OFFERS = Path(__file__).resolve().parent.parent / "tests" / "wire" / "webrtc" / "offers"

SEEDS: list[bytes] = [
    *(path.read_bytes() for path in sorted(_OFFERS.glob("*.sdp"))),
    b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
    b"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\na=end-of-candidates\r\n",
]
DICTIONARY: list[bytes] = [
    b"a=mid:",
    b"a=rtpmap:96 ",
    b"a=fmtp:96 apt=",
    b"a=ssrc-group:FID ",
    b"m=video ",
    b"a=extmap:",
]
TRACKS = [
    Track(index, codec)
    for index, codec in enumerate([AV1(), VP9(), VP8(), H265(), H264(), Opus(), G722(), G711(), LPCM()])
]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out; an answer can be written, and be read."""
    try:
        parse_fragment(data)
    except RemoteProtocolError:
        pass
    try:
        offer = parse_description(data)
    except RemoteProtocolError:
        return
    for track in TRACKS:
        try:
            choose_tracks(offer, [track])
        except RemoteProtocolError:
            continue
    try:
        received = accept_tracks(offer)
    except RemoteProtocolError:
        return
    answer = LocalDescription(
        1,
        Credentials("ufrag", "a password of twenty-two"),
        "sha-256 " + ":".join(["AB"] * 32),
        "passive",
        answer_to_publisher(offer, received),
    )
    parse_description(answer.serialize())
