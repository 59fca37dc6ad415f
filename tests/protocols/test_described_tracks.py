"""Session descriptions of careless devices: which track they describe."""

from __future__ import annotations

import pytest

from polycast.media.codec import G711, H264, H265, VP8, Codec, Generic, MPEG4Audio
from polycast.protocols.described_tracks import track_of
from polycast.rtp.payload.format_parameters import normalized
from polycast.wire.sdp import parse_sdp

SPS = bytes.fromhex("67420029e2901407b602dc04040690789115")
PPS = bytes.fromhex("68ce3c80")
AAC = "a=rtpmap:97 MPEG4-GENERIC/44100/2"
STEREO = MPEG4Audio(bytes.fromhex("1210"), 44_100, 2)


def described(*lines: str) -> tuple[Codec, int | None]:
    """Return the codec and the payload type of the only medium."""
    description = parse_sdp("\r\n".join(("v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0", *lines, "")).encode())
    track = track_of(0, description.medias[0])
    return track.codec, track.rtp.payload_type if track.rtp is not None else None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["m=AUDIO 0 RTP/AVP 97", AAC, "a=fmtp:97 mode=AAC-hbr; config=1210"], (STEREO, 97)),
        (["m=Video 0 RTP/AVP 96", "a=rtpmap:96 H264"], (H264(), 96)),
        (
            [
                "m=video 0 RTP/AVP 96",
                "a=rtpmap:96 H264/90000",
                "a=fmtp:96 packetization-mode=1;",
                "a=fmtp:96 sprop-parameter-sets=Z0IAKeKQFAe2AtwEBAaQeJEV,aM48gA==",
            ],
            (H264(sps=SPS, pps=PPS), 96),
        ),
        (["m=audio 0 RTP/AVP 97", AAC, 'a=fmtp:97 config="1210"; mode="AAC-hbr"'], (STEREO, 97)),
        (["m=audio 0 RTP/AVP 97", AAC, "a=fmtp:97 config=1210; mode=AAC_hbr"], (STEREO, 97)),
        (["m=audio 0 RTP/AVP 97", AAC, "a=fmtp:97 config=1210; mode=generic"], (STEREO, 97)),
        (
            ["m=audio 0 RTP/AVP 97", "a=rtpmap:97 mpeg4-generic/8000", "a=fmtp:97 config=4590; mode=generic"],
            (Generic("mpeg4-generic", "audio", 8000), 97),
        ),
        (["m=audio 0 RTP/AVP 97", AAC, "a=fmtp:97 mode=CELP-cbr"], (Generic("MPEG4-GENERIC", "audio", 44_100), 97)),
        (
            [
                "m=video 0 RTP/AVP 96",
                "a=rtpmap:96 H264/90000",
                "a=fmtp:96 sprop-parameter-sets=AAAAAWdCACnikBQHtgLcBAQGkHiRFQ==,AAABaM48gA==",
            ],
            (H264(sps=SPS, pps=PPS), 96),
        ),
        (
            ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H265/90000", "a=fmtp:96 sprop-pps=AAAAAUQBwXK0YkA="],
            (H265(pps=bytes.fromhex("4401c172b46240")), 96),
        ),
        (
            ["m=video 0 RTP/AVP 97 96", "a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=rtpmap:96 VP8/90000"],
            (VP8(), 96),
        ),
        (["m=audio 0 RTP/AVP 101 0", "a=rtpmap:101 telephone-event/8000"], (G711(mu_law=True), 0)),
        (["m=audio 0 RTP/AVP 13 8"], (G711(mu_law=False), 8)),
        (
            ["m=audio 0 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"],
            (Generic("telephone-event", "audio", 8000), 101),
        ),
    ],
    ids=[
        "capital-audio",
        "capital-video",
        "two-fmtp-lines",
        "quotes",
        "underscore",
        "generic-mode",
        "generic-mode-celp",
        "another-mode",
        "start-codes",
        "start-code-h265",
        "retransmission-first",
        "tones-first",
        "comfort-noise-first",
        "only-tones",
    ],
)
def test_what_devices_describe(lines: list[str], expected: tuple[Codec, int]) -> None:
    assert described(*lines) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('config="1210";mode="AAC-hbr"', "config=1210;mode=AAC-hbr"),
        (
            'sprop-parameter-sets="AAAAAWdCACnikBQHtgLcBAQGkHiRFQ==,AAABaM48gA==";packetization-mode=1',
            "sprop-parameter-sets=Z0IAKeKQFAe2AtwEBAaQeJEV,aM48gA==;packetization-mode=1",
        ),
        ("packetization-mode=1; sprop-parameter-sets=aM48gA==", "packetization-mode=1; sprop-parameter-sets=aM48gA=="),
        ('a="";b="', 'a=;b="'),
    ],
)
def test_what_readers_are_told(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_readers_are_told_without_quotes() -> None:
    lines = ("m=audio 0 RTP/AVP 97", AAC, 'a=fmtp:97 config="1210"; mode="AAC-hbr"; sizelength="13"')
    description = parse_sdp("\r\n".join(("v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0", *lines, "")).encode())
    track = track_of(0, description.medias[0])
    assert track.rtp is not None
    assert '"' not in track.rtp.parameters
    assert "sizelength=13" in track.rtp.parameters
