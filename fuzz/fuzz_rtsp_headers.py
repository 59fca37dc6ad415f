"""The structured RTSP headers, and URLs: one input goes to every parser."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.authentication import ClientAuthenticator, ServerAuthenticator, basic_credentials
from polycast.wire.rtsp.headers import (
    Authorization,
    Range,
    Session,
    parse_challenges,
    parse_rtp_info,
    parse_transports,
    serialize_rtp_info,
    serialize_transports,
)
from polycast.wire.rtsp.parser import HEADER_VALUE_LIMIT
from polycast.wire.rtsp.transport_choice import Protocol, choose_transport
from polycast.wire.rtsp.url import RtspUrl, control_path, describe_path, match_record_control, setup_play_path

SEEDS: list[bytes] = [
    b'RTP/AVP;unicast;client_port=3456-3457;mode="PLAY",RTP/AVP/TCP;unicast;interleaved=0-1',
    b"RTP/AVP;multicast;destination=224.1.0.1;port=8002-8003;ttl=127;ssrc=  D93FF",
    b"12345678;timeout=60",
    b'url=rtsp://h/p/trackID=0;seq=1;rtptime=4294967295,url="rtsp://h/a,b/trackID=1";seq=2',
    b"npt=12:05:35.3-20",
    b"clock=19961108T143720.25Z-19961108T143725Z;time=19970123T143720Z",
    b"smpte-25=10:07:00-10:07:33:05.01",
    b'Digest realm="a, b", nonce="x", qop="auth,auth-int", algorithm=SHA-256, Basic realm="IPCAM"',
    b'Digest username="u", realm="IPCAM", nonce="n", uri="rtsp://h/p", response="6629fae49393a05397450978507c4ef1"',
    b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
    b"rtsp://us%20er:p%40@[::1]:8554/a/b?x=1/trackID=1",
]
DICTIONARY: list[bytes] = [b"/trackID=", b"Digest ", b"interleaved=", b'"', b"\\", b",url=", b"npt=", b"rtsp://"]


def _transports(text: str) -> None:
    transports = parse_transports(text)
    if parse_transports(serialize_transports(transports)) != transports:
        raise ValueError("Transport is read differently")
    choose_transport(transports, allowed=frozenset(Protocol), encrypted=False, record=False)


def _session(text: str) -> None:
    session = Session.parse(text)
    if Session.parse(session.serialize()) != session:
        raise ValueError("Session is read differently")


def _rtp_info(text: str) -> None:
    parse_rtp_info(serialize_rtp_info(parse_rtp_info(text)))


def _range(text: str) -> None:
    Range.parse(Range.parse(text).serialize())


def _challenges(text: str) -> None:
    for challenge in parse_challenges(text):
        challenge.serialize()
    ClientAuthenticator("u", "p").authorize([text], "PLAY", "rtsp://h/p", "c")


def _authorization(text: str) -> None:
    basic_credentials(text)
    if ServerAuthenticator("n").verify(text, "PLAY", "rtsp://h/p", "u", "a password that no seed holds"):
        raise ValueError("wrong credentials are accepted")
    Authorization.parse(text).serialize()


def _url(text: str) -> None:
    url = RtspUrl.parse(text)
    url.serialize()
    control_path(url)
    match_record_control(url, url, [text, text[:5], None])
    for function in (describe_path, setup_play_path):
        try:
            function(url)
        except RemoteProtocolError:
            pass


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out of any parser."""
    text = data[:HEADER_VALUE_LIMIT].decode("utf-8", "replace")
    for check in (_transports, _session, _rtp_info, _range, _challenges, _authorization, _url):
        try:
            check(text)
        except RemoteProtocolError:
            pass
