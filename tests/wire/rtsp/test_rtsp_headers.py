"""The structured headers: text of the RFCs, clients and cameras to values and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers import (
    Authorization,
    Range,
    RTPInfo,
    Session,
    Transport,
    WWWAuthenticate,
    parse_challenges,
    parse_rtp_info,
    parse_transports,
    serialize_rtp_info,
    serialize_transports,
)
from polycast.wire.rtsp.headers.parameters import parse_parameter, quote, split_unquoted, unquote

TRANSPORTS = [
    (
        'RTP/AVP;unicast;client_port=3456-3457;mode="PLAY"',
        Transport(delivery="unicast", client_port=(3456, 3457), mode="play"),
        "RTP/AVP;unicast;client_port=3456-3457;mode=play",
    ),
    (
        "RTP/AVP/TCP;unicast;interleaved=0-1;mode=RECORD",
        Transport("TCP", delivery="unicast", interleaved=(0, 1), mode="record"),
        "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record",
    ),
    (
        "rtp/avp/udp;UNICAST;Client_Port=5000-5001;mode=receive",
        Transport(delivery="unicast", client_port=(5000, 5001), mode="record"),
        "RTP/AVP;unicast;client_port=5000-5001;mode=record",
    ),
    (
        "RTP/AVP;multicast;destination=224.1.0.1;port=8002-8003;ttl=127",
        Transport(delivery="multicast", destination="224.1.0.1", port=(8002, 8003), ttl=127),
        "RTP/AVP;multicast;destination=224.1.0.1;port=8002-8003;ttl=127",
    ),
    (
        "RTP/AVP;unicast;source=192.0.2.7;client_port=14236-14237;server_port=56002-56003;ssrc=45dcb578",
        Transport(
            delivery="unicast",
            source="192.0.2.7",
            client_port=(14236, 14237),
            server_port=(56002, 56003),
            ssrc=0x45DCB578,
        ),
        "RTP/AVP;unicast;source=192.0.2.7;client_port=14236-14237;server_port=56002-56003;ssrc=45DCB578",
    ),
    (  # Dahua pads the SSRC with spaces and leaves digits out.
        "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=     D93FF",
        Transport("TCP", delivery="unicast", interleaved=(0, 1), ssrc=0xD93FF),
        "RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=000D93FF",
    ),
    (  # One number stands for a pair; an empty source and an unreadable SSRC stand for nothing.
        "RTP/AVPF;unicast; source=; client_port=5000 ;ssrc=xyz;append;layers=2",
        Transport(profile="AVPF", delivery="unicast", client_port=(5000, 5001)),
        "RTP/AVPF;unicast;client_port=5000-5001",
    ),
    ("RTP/SAVP", Transport(profile="SAVP"), "RTP/SAVP"),
    ('RTP/AVP;destination="24.1.0.1;ttl=1"', Transport(), "RTP/AVP"),
    ('RTP/AVP;unicast;mode="PLAY,RECORD"', Transport(delivery="unicast", mode="play"), "RTP/AVP;unicast;mode=play"),
]


@pytest.mark.parametrize(("text", "transport", "canonical"), TRANSPORTS)
def test_transport(text: str, transport: Transport, canonical: str) -> None:
    assert Transport.parse(text) == transport
    assert transport.serialize() == canonical
    assert Transport.parse(canonical) == transport
    assert parse_transports(f"x-real-rdt/udp;client_port=1,{text}, {canonical}") == [transport, transport]
    assert serialize_transports([transport, transport]) == f"{canonical},{canonical}"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", 461),
        ("RAW/RAW/UDP;unicast", 461),
        ("RTP/AVP/SCTP", 461),
        ("RTP/XVP", 461),
        ("RTP", 461),
        ("RTP/AVP;client_port=a-b", 400),
        ("RTP/AVP;client_port=65536-65537", 400),
        ("RTP/AVP;client_port=65535", 400),
        ("RTP/AVP;client_port=-1-2", 400),
        ("RTP/AVP;client_port=", 400),
        ("RTP/AVP;client_port=5000-", 400),
        ("RTP/AVP/TCP;interleaved=255-256", 400),
        ("RTP/AVP;mode=sing", 400),
        (",".join(["RTP/AVP"] * 17), 400),
    ],
)
def test_invalid_transports(text: str, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_transports(text)
    assert raised.value.status == status


SESSIONS = [
    ("12345678", Session("12345678"), "12345678"),
    ("47112344;timeout=60", Session("47112344", 60), "47112344;timeout=60"),
    ("a=b$-_.+ ; Timeout = 47 ", Session("a=b$-_.+", 47), "a=b$-_.+;timeout=47"),
    ("1;timeout=soon;x", Session("1"), "1"),
]


@pytest.mark.parametrize(("text", "session", "canonical"), SESSIONS)
def test_session(text: str, session: Session, canonical: str) -> None:
    assert Session.parse(text) == session
    assert session.serialize() == canonical
    assert Session.parse(canonical) == session


@pytest.mark.parametrize("text", ["", "  ", ";timeout=60"])
def test_invalid_session(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Session.parse(text)


RTP_INFOS = [
    (  # RFC 2326 section 12.33
        "url=rtsp://foo.com/bar.avi/streamid=0;seq=45102,url=rtsp://foo.com/bar.avi/streamid=1;seq=30211",
        [RTPInfo("rtsp://foo.com/bar.avi/streamid=0", 45102), RTPInfo("rtsp://foo.com/bar.avi/streamid=1", 30211)],
    ),
    ("url=rtsp://h/p/trackID=0;seq=1;rtptime=4294967295", [RTPInfo("rtsp://h/p/trackID=0", 1, 4294967295)]),
    ('url="rtsp://h/a,b;c=d/trackID=0";seq=1;rtptime=2', [RTPInfo("rtsp://h/a,b;c=d/trackID=0", 1, 2)]),
    (
        "url=rtsp://h/a,b;c=d;seq=1;rtptime=2 , URL = trackID=2; rtptime=7; seq=3;",
        [RTPInfo("rtsp://h/a,b;c=d", 1, 2), RTPInfo("trackID=2", 3, 7)],
    ),
    ("url=trackID=1;seq=;rtptime=-5", [RTPInfo("trackID=1")]),
    ("seq=1;rtptime=2", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "entries"), RTP_INFOS)
def test_rtp_info(text: str, entries: list[RTPInfo]) -> None:
    assert parse_rtp_info(text) == entries
    assert parse_rtp_info(serialize_rtp_info(entries)) == entries


def test_rtp_info_has_a_limit() -> None:
    assert len(parse_rtp_info(",".join(["url=a;seq=1"] * 64))) == 64
    with pytest.raises(RemoteProtocolError):
        parse_rtp_info(",".join(["url=a;seq=1"] * 65))


RANGES = [
    ("npt=0-", Range("npt", 0.0), "npt=0-"),
    ("npt=0.000-", Range("npt", 0.0), "npt=0-"),
    ("npt=10.5-20", Range("npt", 10.5, 20.0), "npt=10.5-20"),
    ("NPT = 12:05:35.3 - ", Range("npt", 43535.3), "npt=43535.3-"),
    ("npt=now-", Range("npt", now=True), "npt=now-"),
    ("npt=-20", Range("npt", None, 20.0), "npt=-20"),
    ("npt=5", Range("npt", 5.0), "npt=5-"),
    # 1996-11-08 14:37:20.25 is 847463840.25 s after 1970 (RFC 2326 section 3.7 has the text).
    (
        "clock=19961108T143720.25Z-19961108T143725Z;time=19970123T143720Z",
        Range("clock", 847463840.25, 847463845.0),
        "clock=19961108T143720.25Z-19961108T143725Z",
    ),
    ("smpte=10:12:33:15-", Range("smpte", 36753.5), "smpte=10:12:33:15-"),
    ("smpte-25=00:00:01:05.50-00:01:00", Range("smpte-25", 1.22, 60.0), "smpte-25=00:00:01:05.50-00:01:00"),
    ("smpte-30-drop=10:07:00-10:07:33", Range("smpte-30-drop", 36420.0, 36453.0), "smpte-30-drop=10:07:00-10:07:33"),
]


@pytest.mark.parametrize(("text", "value", "canonical"), RANGES)
def test_range(text: str, value: Range, canonical: str) -> None:
    assert Range.parse(text) == value
    assert value.serialize() == canonical
    assert Range.parse(canonical) == value


@pytest.mark.parametrize(
    "text",
    ["", "npt", "npt=", "npt=x-", "bytes=0-5", "npt=1:2-", "clock=19961308T143720Z-", "clock=1996-", "smpte=1-",
     "npt=" + "9" * 400 + "-", "clock=00000101T000000Z-", "clock=99991231T235960Z-", "npt=\u0661-"],
)  # fmt: skip
def test_invalid_range(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        Range.parse(text)
    assert raised.value.status == 457


CHALLENGES = [
    ('Basic realm="IPCAM"', [WWWAuthenticate("Basic", "IPCAM")]),
    ('basic realm="a, b"', [WWWAuthenticate("Basic", "a, b")]),
    ('Digest realm="IPCAM", nonce="abc=="', [WWWAuthenticate("Digest", "IPCAM", "abc==")]),
    (  # RFC 7616 section 3.9.1
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
        [
            WWWAuthenticate(
                "Digest",
                "http-auth@example.org",
                "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
                algorithm="SHA-256",
                qop=("auth", "auth-int"),
            )
        ],
    ),
    ('Digest realm=cam,nonce=1f,stale="TRUE"', [WWWAuthenticate("Digest", "cam", "1f", stale=True)]),
    (  # Hikvision
        'Digest realm="IP Camera(F1234)", nonce="d2a8", stale="FALSE"',
        [WWWAuthenticate("Digest", "IP Camera(F1234)", "d2a8")],
    ),
    (
        'Negotiate, Digest realm="say \\"hi\\"", nonce="x", Basic realm="y", NTLM',
        [WWWAuthenticate("Digest", 'say "hi"', "x"), WWWAuthenticate("Basic", "y")],
    ),
    ("Digest", []),
    ("", []),
    ('Bearer realm="z"', []),
]


@pytest.mark.parametrize(("text", "challenges"), CHALLENGES)
def test_challenges(text: str, challenges: list[WWWAuthenticate]) -> None:
    assert parse_challenges(text) == challenges
    for challenge in challenges:
        assert WWWAuthenticate.parse(challenge.serialize()) == challenge


def test_challenge_text() -> None:
    assert WWWAuthenticate("Basic", "IPCAM").serialize() == 'Basic realm="IPCAM"'
    assert WWWAuthenticate("Digest", "IPCAM", "0f").serialize() == 'Digest realm="IPCAM", nonce="0f"'
    with pytest.raises(RemoteProtocolError):
        WWWAuthenticate.parse("Bearer x")
    with pytest.raises(RemoteProtocolError):
        parse_challenges(",".join(["Basic realm=x"] * 17))


AUTHORIZATIONS = [
    ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Authorization("Basic", "Aladdin", "open sesame")),  # RFC 2617 section 2
    ("Basic dXNlcjo=", Authorization("Basic", "user", "")),
    ("Basic " + "dGVzdDoxMjPCow==", Authorization("Basic", "test", "123£")),  # RFC 7617 section 2.1
    (
        'Digest username="us er", realm="IPCAM", nonce="01", uri="rtsp://h/a?x=1,2", response="f6a7"',
        Authorization("Digest", "us er", realm="IPCAM", nonce="01", uri="rtsp://h/a?x=1,2", response="f6a7"),
    ),
    (
        'digest response=f6, username=u,realm=r,nonce=n,uri=*,qop=auth,nc=00000001,cnonce="c",algorithm="SHA-256",'
        'opaque=""',
        Authorization(
            "Digest",
            "u",
            realm="r",
            nonce="n",
            uri="*",
            response="f6",
            algorithm="SHA-256",
            opaque="",
            qop="auth",
            nc="00000001",
            cnonce="c",
        ),
    ),
]


@pytest.mark.parametrize(("text", "authorization"), AUTHORIZATIONS)
def test_authorization(text: str, authorization: Authorization) -> None:
    assert Authorization.parse(text) == authorization
    assert Authorization.parse(authorization.serialize()) == authorization


@pytest.mark.parametrize(
    "text", ["", "Basic", "Basic !!!", "Basic dXNlcg==", "Bearer abc", "Digest", 'Digest username="u", realm="r"']
)
def test_invalid_authorization(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Authorization.parse(text)


@given(st.text(max_size=30))
def test_quotes(text: str) -> None:
    quoted = quote(text)
    assert unquote(quoted) == text
    assert split_unquoted(f"a={quoted},b", ",") == [f"a={quoted}".strip(), "b"]
    assert parse_parameter(f"A = {quoted}") == ("a", text)


def test_a_backslash_that_escapes_nothing_stays() -> None:
    assert unquote('"DOMAIN\\user"') == "DOMAIN\\user"


@given(st.text(max_size=200))
def test_only_remote_errors_are_raised(text: str) -> None:
    for parse in (
        Transport.parse,
        parse_transports,
        Session.parse,
        Range.parse,
        parse_rtp_info,
        parse_challenges,
        WWWAuthenticate.parse,
        Authorization.parse,
    ):
        try:
            parse(text)  # type: ignore[operator]
        except RemoteProtocolError:
            pass
