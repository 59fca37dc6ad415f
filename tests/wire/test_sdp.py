"""Session descriptions: those of the RFCs, of FFmpeg and GStreamer, and the odd ones of cameras."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.rtsp.cases import FFMPEG_SDP

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.wire.sdp import MediaDescription, SessionDescription, parse_sdp


@dataclass(frozen=True)
class Case:
    """A description and what it means."""

    name: str
    data: bytes
    session: SessionDescription
    canonical: bool = False
    """Whether we would write these very bytes."""


H264 = MediaDescription("video", 0, "RTP/AVP", ("96",), attributes=(("rtpmap", "96 H264/90000"), ("control", "1")))
H264_TEXT = b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:1\r\n"

CASES = [
    Case(
        "FFmpeg publishing H264 and AAC",
        FFMPEG_SDP,
        SessionDescription(
            "- 0 0 IN IP4 127.0.0.1",
            "No Name",
            "IN IP4 127.0.0.1",
            ("0 0",),
            (("tool", "libavformat LIBAVFORMAT_VERSION"),),
            (
                MediaDescription(
                    "video",
                    0,
                    "RTP/AVP",
                    ("96",),
                    attributes=(
                        ("rtpmap", "96 H264/90000"),
                        (
                            "fmtp",
                            "96 packetization-mode=1; sprop-parameter-sets=Z/QACpGbKFCPxOAiAAADAAIAAAMAFB4kSyw=,"
                            "aOvjxEhE; profile-level-id=F4000A",
                        ),
                        ("control", "streamid=0"),
                    ),
                ),
                MediaDescription(
                    "audio",
                    0,
                    "RTP/AVP",
                    ("97",),
                    bandwidth=("AS:69",),
                    attributes=(
                        ("rtpmap", "97 MPEG4-GENERIC/44100/1"),
                        (
                            "fmtp",
                            "97 profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; "
                            "config=120856E500",
                        ),
                        ("control", "streamid=1"),
                    ),
                ),
            ),
        ),
        canonical=True,
    ),
    Case(
        "RFC 8866 section 5",
        b"v=0\r\no=jdoe 3724394400 3724394405 IN IP4 198.51.100.1\r\ns=Call to John Smith\r\ni=SDP Offer #1\r\n"
        b"u=http://www.jdoe.example.com/home.html\r\ne=Jane Doe <jane@jdoe.example.com>\r\np=+1 617 555-6011\r\n"
        b"c=IN IP4 198.51.100.1\r\nt=0 0\r\nm=audio 49170 RTP/AVP 0\r\nm=audio 49180 RTP/AVP 0\r\n"
        b"m=video 51372 RTP/AVP 99\r\nc=IN IP6 2001:db8::2\r\na=rtpmap:99 h263-1998/90000\r\n",
        SessionDescription(
            "jdoe 3724394400 3724394405 IN IP4 198.51.100.1",
            "Call to John Smith",
            "IN IP4 198.51.100.1",
            ("0 0",),
            (),
            (
                MediaDescription("audio", 49170, "RTP/AVP", ("0",)),
                MediaDescription("audio", 49180, "RTP/AVP", ("0",)),
                MediaDescription(
                    "video",
                    51372,
                    "RTP/AVP",
                    ("99",),
                    "IN IP6 2001:db8::2",
                    attributes=(("rtpmap", "99 h263-1998/90000"),),
                ),
            ),
            information="SDP Offer #1",
        ),
    ),
    Case("nothing but the medium", H264_TEXT, SessionDescription(medias=(H264,))),
    Case(
        "carriage returns alone",
        b"v=0\rs=x\rm=video 0 RTP/AVP 96\ra=rtpmap:96 H264/90000\ra=control:1\r",
        SessionDescription(name="x", medias=(H264,)),
    ),
    Case(
        "line feeds alone, empty lines, spaces, byte order mark and zero at the end",
        b"\xef\xbb\xbfv=0\n\n s = x \n\nm=video  0  RTP/AVP 96 \na=rtpmap: 96 H264/90000\na=control:1 \n\0",
        SessionDescription(name="x", medias=(H264,)),
    ),
    Case(
        "session lines behind the media and in another order",
        H264_TEXT + b"s=late\r\nt=0 0\r\no=- 1 1 IN IP4 0.0.0.0\r\nv=0\r\n",
        SessionDescription("- 1 1 IN IP4 0.0.0.0", "late", None, ("0 0",), (), (H264,)),
    ),
    Case(
        "empty name, origin with spaces and unreadable time, as recorders send",
        b"v=0\r\no=My Camera Name 1 2 IN IP4\r\ns=\r\nt=now\r\nr=1\r\nz=2\r\nk=prompt\r\n" + H264_TEXT,
        SessionDescription("My Camera Name 1 2 IN IP4", None, None, ("now",), (), (H264,)),
    ),
    Case(
        "unknown lines and lines that are none",
        b"v=0\r\ns=x\r\nwhatever\r\n=\r\nxy=1\r\n?=1\r\n" + H264_TEXT + b"y=1\r\nf=v/1/96\r\n",
        SessionDescription(name="x", medias=(H264,)),
    ),
    Case(
        "name in Latin-1",
        b"v=0\r\ns=K\xfcche\r\n" + H264_TEXT,
        SessionDescription(name="Küche", medias=(H264,)),
    ),
    Case(
        "two port pairs, no formats, a port that is no number, media without a port",
        b"v=0\r\ns=x\r\nm=audio 5000/2 RTP/AVP 0 8 101\r\nm=application 0 RTP/AVP\r\nm=text x RTP/AVP 98\r\nm=odd\r\n",
        SessionDescription(
            name="x",
            medias=(
                MediaDescription("audio", 5000, "RTP/AVP", ("0", "8", "101")),
                MediaDescription("application", 0, "RTP/AVP"),
                MediaDescription("text", 0, "RTP/AVP", ("98",)),
                MediaDescription("odd"),
            ),
        ),
    ),
    Case(
        "TP-Link's format with slashes",
        b"v=0\r\ns=x\r\nm=application/TP-LINK 0 RTP/AVP smart/1/90000\r\na=rtpmap:95 TP-LINK/90000\r\n",
        SessionDescription(
            name="x",
            medias=(
                MediaDescription(
                    "application/TP-LINK",
                    0,
                    "RTP/AVP",
                    ("smart/1/90000",),
                    attributes=(("rtpmap", "95 TP-LINK/90000"),),
                ),
            ),
        ),
    ),
    Case(
        "attributes of every form, at session level too",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nb=AS:500\r\nt=0 0\r\na=control:*\r\na=recvonly\r\na=empty:\r\n"
        b"m=video 0 RTP/AVP 96\r\ni=Front\r\nc=IN IP4 224.1.0.0/127\r\nb=AS:1\r\nb=TIAS:2\r\n"
        b"a=x-dimensions:1920,1080\r\n",
        SessionDescription(
            "- 0 0 IN IP4 127.0.0.1",
            "x",
            None,
            ("0 0",),
            (("control", "*"), ("recvonly", None), ("empty", "")),
            (
                MediaDescription(
                    "video",
                    0,
                    "RTP/AVP",
                    ("96",),
                    "IN IP4 224.1.0.0/127",
                    ("AS:1", "TIAS:2"),
                    (("x-dimensions", "1920,1080"),),
                    "Front",
                ),
            ),
            ("AS:500",),
        ),
        canonical=True,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_parse(case: Case) -> None:
    assert parse_sdp(case.data) == case.session


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_round_trip(case: Case) -> None:
    written = case.session.serialize()
    again = parse_sdp(written)
    assert again.medias == case.session.medias
    assert again.attributes == case.session.attributes
    assert again.serialize() == written
    if case.canonical:
        assert written == case.data


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_cut_gives_the_media_before_it(case: Case) -> None:
    for end in range(12, len(case.data)):
        cut = case.data[:end]
        if cut.rstrip().endswith(b"m="):
            with pytest.raises(RemoteProtocolError):
                parse_sdp(cut)
        else:
            medias = parse_sdp(cut).medias
            assert medias[:-1] == case.session.medias[: len(medias)][:-1]


def test_mandatory_lines_are_written() -> None:
    assert SessionDescription().serialize() == b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"


def test_attributes() -> None:
    session = parse_sdp(
        b"s=x\na=control:rtsp://h/p\na=recvonly\nm=video 0 RTP/AVP 96 97\na=rtpmap:97\tH265/90000\n"
        b"a=rtpmap:96 H264/90000\na=fmtp:96 a=1; b=2\na=fmtp:97\na=sendonly\na=rtpmap\na=control:t=1\n"
    )
    [video] = session.medias
    assert session.control == "rtsp://h/p"
    assert session.attribute("recvonly") is None
    assert session.has_attribute("recvonly")
    assert not session.has_attribute("sendonly")
    assert video.control == "t=1"
    assert video.rtpmap(96) == "H264/90000"
    assert video.rtpmap("97") == "H265/90000"
    assert video.rtpmap(98) is None
    assert video.fmtp(96) == "a=1; b=2"
    assert video.fmtp(97) == ""
    assert video.fmtp(9) is None
    assert video.has_attribute("sendonly")
    assert not video.has_attribute("recvonly")
    assert video.attribute("nothing") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"<html><body>Not here</body></html>",
        b"v=0\r\nm=\r\n",
        b"s=" + b"x" * (128 * 1024),
        b"v=0\r\n" + b"m=video 0 RTP/AVP 96\r\n" * 65,
        b"v=0\r\n" + b"a=x\r\n" * 1001,
        b"v=0\r\n" + b"\r\n" * 4001,
        b"m=video 0 RTP/AVP" + b" 1" * 129,
    ],
    ids=lambda data: f"{data[:20]!r}",
)
def test_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_sdp(data)
    assert raised.value.status == 400


def test_at_the_limits() -> None:
    assert len(parse_sdp(b"m=video 0 RTP/AVP 96\r\n" * 64).medias) == 64
    assert len(parse_sdp(b"v=0\r\n" + b"a=x\r\n" * 1000).attributes) == 1000
    assert len(parse_sdp(b"m=video 0 RTP/AVP" + b" 1" * 128).medias[0].formats) == 128


@pytest.mark.parametrize(
    "session",
    [
        SessionDescription(name="a\r\nm=video 0 RTP/AVP 96"),
        SessionDescription(attributes=(("control", "x\ny"),)),
        SessionDescription(medias=(MediaDescription("video\r"),)),
    ],
)
def test_no_line_can_be_smuggled(session: SessionDescription) -> None:
    with pytest.raises(LocalProtocolError):
        session.serialize()


@given(st.binary(max_size=200) | st.text("vosimctab=: \r\n0/", max_size=200).map(str.encode))
def test_what_is_read_can_be_written(data: bytes) -> None:
    try:
        session = parse_sdp(data)
    except RemoteProtocolError:
        return
    written = session.serialize()
    assert parse_sdp(written).serialize() == written


def test_the_attributes_of_many_formats_are_read_once() -> None:
    lines = [f"a=rtpmap:{number % 128} X{number}/90000" for number in range(900)]
    [media] = parse_sdp("\r\n".join(["v=0", "m=video 0 RTP/AVP 0", *lines]).encode()).medias
    assert media.format_attributes("rtpmap") == {str(number): f"X{number}/90000" for number in range(128)}
    assert media.format_attributes("fmtp") == {}
