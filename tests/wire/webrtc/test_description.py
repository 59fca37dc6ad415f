"""Offers as browsers write them, and answers that aiortc reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from polycast.codecs import opus
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AV1, G711, G722, H264, LPCM, VP8, VP9, Codec, MPEG4Audio, Opus
from polycast.wire.sdp import parse_sdp
from polycast.wire.webrtc.candidates import Candidate, host_priority
from polycast.wire.webrtc.codecs import format_for, offered_formats, supported_formats
from polycast.wire.webrtc.description import (
    MID_EXTENSION,
    TRANSPORT_SEQUENCE_EXTENSION,
    Format,
    RemoteDescription,
    RemoteMedia,
    parse_description,
    parse_fragment,
)
from polycast.wire.webrtc.ice import Credentials
from polycast.wire.webrtc.local_description import LocalDescription, LocalMedia, Source

OFFERS = Path(__file__).parent / "offers"


def offer(name: str) -> RemoteDescription:
    """Return what a client offered: recorded from Chromium 156, Firefox 140 and libdatachannel 0.24, which OBS Studio
    uses."""
    return parse_description((OFFERS / f"{name}.sdp").read_bytes())


def medium(name: str, kind: str) -> RemoteMedia | None:
    """Return the first medium of a kind that a browser offered, unless it is rejected."""
    return next((media for media in offer(name).medias if media.kind == kind and not media.is_rejected), None)


def numbers(formats: list[Format]) -> list[int]:
    return [item.payload_type for item in formats]


def test_the_direction_of_the_session_is_that_of_its_media() -> None:
    data = (OFFERS / "chromium-view.sdp").read_bytes()
    session, separator, media = data.partition(b"m=")
    assert media.count(b"a=recvonly\n") == 2
    moved = session + b"a=recvonly\n" + separator + media.replace(b"a=recvonly\n", b"", 1)
    assert [media.direction for media in parse_description(moved).medias] == ["recvonly", "recvonly"]
    contrary = session + b"a=sendonly\n" + separator + media
    assert [media.direction for media in parse_description(contrary).medias] == ["recvonly", "recvonly"]


def test_chromium_views() -> None:
    description = offer("chromium-view")
    assert description.credentials == Credentials("OMFD", "/mWrLP/opdpqoQEvnBlzAQ0b")
    assert description.fingerprint[0] == "sha-256"
    assert description.fingerprint[1][:2] == bytes.fromhex("581e")
    assert description.setup == "actpass"
    assert description.bundled == {"0", "1"}
    assert not description.is_ice_lite
    video, audio = description.medias
    assert (video.kind, video.mid, video.direction) == ("video", "0", "recvonly")
    assert (video.receives, video.sends) == (True, False)
    assert video.extensions[TRANSPORT_SEQUENCE_EXTENSION] == 4
    assert video.extensions[MID_EXTENSION] == 9
    vp8 = video.formats[0]
    assert vp8 == Format(
        96, "VP8", 90000, None, "", frozenset({"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"}), 97
    )
    assert {item.encoding for item in video.formats} == {"VP8", "VP9", "H264", "AV1"}
    assert (audio.formats[0].encoding, audio.formats[0].clock_rate, audio.formats[0].channels) == ("opus", 48000, 2)
    assert [item.encoding for item in audio.formats] == ["opus", "G722", "PCMU", "PCMA"]


def test_chromium_publishes() -> None:
    description = offer("chromium-publish")
    audio, video = description.medias
    assert (video.sends, video.receives) == (True, False)
    assert video.ssrcs == (169956485,)
    assert video.retransmission_ssrcs == {169956485: 570356432}
    assert audio.ssrcs == (3489849770,)


def test_firefox_views_and_publishes() -> None:
    """Its fingerprint stands before the first medium, and its rtpmap lines behind all others."""
    description = offer("firefox-view")
    assert description.fingerprint[1][:2] == bytes.fromhex("5e3e")
    assert [item.encoding for item in description.medias[0].formats] == ["VP8", "VP9", "AV1"]
    assert description.medias[0].formats[0].retransmission == 124
    publisher = medium("firefox-publish", "video")
    assert publisher is not None
    assert publisher.ssrcs == (1053432321,)
    assert publisher.retransmission_ssrcs == {1053432321: 1776222755}


READERS: list[tuple[Codec, str, int | None]] = [
    (VP8(), "chromium-view", 96),
    (VP9(), "chromium-view", 98),
    (VP9(profile=2, bit_depth=10), "chromium-view", 100),
    (AV1(), "chromium-view", 45),
    (H264(sps=bytes.fromhex("6742c01f")), "chromium-view", 102),
    (H264(sps=bytes.fromhex("674d001f")), "chromium-view", 116),
    (H264(sps=bytes.fromhex("64640028")), "chromium-view", 102),
    (H264(), "chromium-view", 102),
    (Opus(), "chromium-view", 111),
    (Opus(channels=6), "chromium-view", None),
    (G722(), "chromium-view", 9),
    (G711(mu_law=True), "chromium-view", 0),
    (G711(mu_law=False), "chromium-view", 8),
    (G711(sample_rate=16000), "chromium-view", None),
    (LPCM(), "chromium-view", None),
    (MPEG4Audio(), "chromium-view", None),
    (VP8(), "firefox-view", 120),
    (H264(), "firefox-view", None),
    (AV1(), "firefox-view", 99),
    (Opus(), "firefox-view", 109),
]


@pytest.mark.parametrize(("codec", "name", "number"), READERS)
def test_format_for_a_reader(codec: Codec, name: str, number: int | None) -> None:
    media = medium(name, codec.kind.value)
    assert media is not None
    chosen = format_for(codec, media.formats)
    assert (chosen.payload_type if chosen is not None else None) == number
    if chosen is not None and codec.kind.value == "video":
        assert chosen.feedback == {"nack", "nack pli", "ccm fir"}
        assert chosen.retransmission is not None


def test_multichannel_opus_and_linear_audio_where_they_are_offered() -> None:
    multichannel = Format(112, "multiopus", 48000, 6, "channel_mapping=0,4,1,2,3,5;num_streams=4;coupled_streams=2")
    linear = Format(113, "L16", 48000, 2)
    assert format_for(Opus(channels=6), [multichannel]) == multichannel
    assert format_for(Opus(channels=4), [multichannel]) is None
    assert format_for(LPCM(), [linear]) == linear
    assert format_for(LPCM(sample_rate=44100), [linear]) is None


def test_what_is_asked_for_has_payload_types_of_its_own() -> None:
    formats = [*offered_formats("video"), *offered_formats("audio")]
    numbers = [number for item in formats for number in (item.payload_type, item.retransmission) if number is not None]
    assert len(numbers) == len(set(numbers))
    assert all(number in range(96, 128) or number in (0, 8, 9) for number in numbers)
    assert [item.encoding for item in formats[:5]] == ["AV1", "VP9", "VP8", "H265", "H264"]


@pytest.mark.parametrize("channels", range(3, 9))
def test_multichannel_opus_is_asked_for_as_encoders_make_it(channels: int) -> None:
    """Chromium sends nothing if a decoded channel of the layout is used twice or not at all."""
    asked = next(item for item in offered_formats("audio") if item.channels == channels)
    mapping = [int(number) for number in (asked.parameter("channel_mapping") or "").split(",")]
    streams, coupled = int(asked.parameter("num_streams") or 0), int(asked.parameter("coupled_streams") or 0)
    assert sorted(mapping) == list(range(streams + coupled)) == list(range(channels))
    header = opus.configuration_of(Opus(channels=channels))
    assert header.mapping == bytes((streams, coupled, *mapping))


def test_formats_that_a_publisher_may_use() -> None:
    video = medium("chromium-publish", "video")
    assert video is not None
    formats = supported_formats(video)
    assert [item.encoding for item in formats][:2] == ["VP8", "H264"]
    assert all("packetization-mode=1" in item.parameters for item in formats if item.encoding == "H264")
    assert all(item.feedback >= {"transport-cc", "nack"} for item in formats)


def answer(source: Source | None = None) -> bytes:
    video = medium("chromium-view", "video")
    assert video is not None
    chosen = format_for(H264(), video.formats)
    assert chosen is not None
    return LocalDescription(
        session_id=1,
        credentials=Credentials("ufragufrag", "password-password-password"),
        fingerprint="sha-256 " + ":".join(["AB"] * 32),
        setup="passive",
        medias=[
            LocalMedia("video", "0", "sendonly", [chosen], {MID_EXTENSION: 9}, source or Source(1, "s", "video", 2)),
            LocalMedia("audio", "1", "inactive"),
        ],
        candidates=[Candidate("192.0.2.1", 8189, priority=host_priority(0))],
    ).serialize()


def test_answer_says_what_was_agreed() -> None:
    sdp = parse_sdp(answer())
    video, audio = sdp.medias
    assert sdp.attribute("group") == "BUNDLE 0"
    assert sdp.has_attribute("ice-lite")
    assert (video.port, video.protocol, video.formats) == (9, "UDP/TLS/RTP/SAVPF", ("102", "103"))
    assert video.rtpmap(102) == "H264/90000"
    assert video.fmtp(103) == "apt=102;rtx-time=3000"
    assert video.attribute("ssrc-group") == "FID 1 2"
    assert video.attribute("candidate") == "1 1 udp 2130706431 192.0.2.1 8189 typ host"
    assert video.has_attribute("end-of-candidates")
    assert audio.port == 0


def test_our_own_description_can_be_read() -> None:
    description = parse_description(answer())
    assert description.is_ice_lite
    assert description.candidates == (Candidate("192.0.2.1", 8189, priority=host_priority(0)),)
    video, audio = description.medias
    assert video.retransmission_ssrcs == {1: 2}
    assert audio.is_rejected


def test_aiortc_reads_the_answer() -> None:
    sdp = pytest.importorskip("aiortc.sdp")
    description = sdp.SessionDescription.parse(answer().decode())
    video = description.media[0]
    assert [codec.name for codec in video.rtp.codecs] == ["H264", "rtx"]
    assert video.dtls.role == "server"
    assert video.ice_candidates[0].port == 8189
    assert video.ice.iceLite


def test_trickle_fragments() -> None:
    fragment = parse_fragment(
        b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n"
        b"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\na=end-of-candidates\r\n"
    )
    assert fragment.credentials == Credentials("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1")
    assert [candidate.port for candidate in fragment.candidates] == [61764]
    assert parse_fragment(b"m=audio 9 RTP/AVP 0\r\na=mid:0\r\n").credentials is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a=ice-pwd:/mWrLP/opdpqoQEvnBlzAQ0b", "a=x", "ICE credentials"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "fingerprint"),
        ("58:1E:", "58:1G:", "fingerprint"),
        ("a=rtcp-mux", "a=x", "rtcp-mux"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "BUNDLE"),
        ("m=", "x=", "no media"),
        ("a=mid:0", "a=ssrc:99999999999 cname:x", "SSRC"),
    ],
)
def test_offers_that_lack_something_are_refused(old: str, new: str, message: str) -> None:
    text = (OFFERS / "chromium-view.sdp").read_text().replace(old, new)
    with pytest.raises(RemoteProtocolError, match=message):
        parse_description(text.encode())


def test_feedback_of_all_formats_and_of_one() -> None:
    text = (OFFERS / "chromium-view.sdp").read_text()
    text = text.replace("a=rtcp-fb:96 goog-remb", "a=rtcp-fb:96 one").replace(
        "a=rtcp-fb:96 nack pli", "a=rtcp-fb:* All"
    )
    vp8, *others = parse_description(text.encode()).medias[0].formats
    assert {"one", "all", "nack"} <= vp8.feedback
    assert others
    assert all("all" in each.feedback and "one" not in each.feedback for each in others)


def test_many_formats_with_many_attributes_are_read_once() -> None:
    """The attributes were searched for each format: 20 KiB took 60 ms."""
    formats = range(120)
    lines = [
        "v=0",
        "a=group:BUNDLE 0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}",
        f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, formats))}",
        "a=mid:0",
        "a=rtcp-mux",
        *(f"a=rtcp-fb:* x{number}" for number in range(700)),
        *(f"a=rtpmap:{number} H264/90000" for number in formats),
    ]
    data = "\r\n".join(lines).encode()
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        description = parse_description(data)
    finally:
        sys.setprofile(None)
    assert len(description.medias[0].formats) == len(formats)
    assert all(len(each.feedback) == 700 for each in description.medias[0].formats)
    assert calls < 50 * len(lines)
