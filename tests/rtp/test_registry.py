"""Media descriptions: which codec they mean, and what is announced."""

from __future__ import annotations

import base64
import dataclasses

import pytest

from polycast.errors import RemoteProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
    EAC3,
    FLAC,
    G711,
    G722,
    G726,
    H264,
    H265,
    KLV,
    LPCM,
    MJPEG,
    MPEGTS,
    VP8,
    VP9,
    Codec,
    Generic,
    MPEG2Video,
    MPEG4Audio,
    MPEG4Video,
    MPEGAudio,
    Opus,
    Speex,
    Vorbis,
)
from polycast.media.track import RtpFormat, Track
from polycast.rtp.payload.format_parameters import MAXIMUM_PARAMETER_SETS, decode_base64_list, encode_base64_list
from polycast.rtp.payload.registry import (
    CODECS,
    PAYLOADS,
    codec_from_sdp,
    format_parameters,
    make_depacketizer,
    make_packetizer,
    payload_of_codec,
    rtp_format_for,
)

SPS = bytes.fromhex("6742c015da0507ec0440000003004000000c83c58ba8")
PPS = bytes.fromhex("68ce3c80")
SETS = f"{base64.b64encode(SPS).decode()},{base64.b64encode(PPS).decode()}"
AAC = MPEG4Audio(configuration=b"\x11\x90", sample_rate=48_000, channels=2)

Description = tuple[str, int, str, int | None, int | None, str]

CASES: list[tuple[Description, Codec, int]] = [
    (("video", 96, "H264", 90_000, None, f"packetization-mode=1; sprop-parameter-sets={SETS}"), H264(SPS, PPS), 90_000),
    (("video", 96, "h264", 90_000, None, f"Sprop-Parameter-Sets={SETS};"), H264(SPS, PPS), 90_000),
    (("video", 96, "H264", 90_000, None, f"sprop-parameter-sets={SETS.replace('=', '')}"), H264(SPS, PPS), 90_000),
    (("video", 96, "H264", 90_000, None, ""), H264(), 90_000),
    (("video", 96, "H264", 90_000, None, "sprop-parameter-sets=!!!,Z0LA"), H264(), 90_000),
    (("video", 96, "H265", 90_000, None, "sprop-max-don-diff=6"), H265(maximum_don_difference=6), 90_000),
    (("video", 96, "AV1", 90_000, None, "profile=0"), AV1(), 90_000),
    (("video", 96, "VP8", 90_000, None, ""), VP8(), 90_000),
    (("video", 96, "VP9", 90_000, None, "profile-id=2"), VP9(profile=2), 90_000),
    (("video", 96, "VP9", 90_000, None, "profile-id=9"), VP9(), 90_000),
    (
        ("video", 96, "MP4V-ES", 90_000, None, "profile-level-id=3; config=000001B003"),
        MPEG4Video(bytes.fromhex("000001b003"), 3),
        90_000,
    ),
    (("video", 32, "", None, None, ""), MPEG2Video(), 90_000),
    (("video", 26, "", None, None, ""), MJPEG(), 90_000),
    (("video", 26, "JPEG", 90_000, None, ""), MJPEG(), 90_000),
    (("video", 33, "", None, None, ""), MPEGTS(), 90_000),
    (("audio", 96, "mpeg4-generic", 48_000, 2, "mode=AAC-hbr; config=1190"), AAC, 48_000),
    (("audio", 96, "MPEG4-GENERIC", 48_000, 2, "config=zz"), AAC, 48_000),
    (("audio", 96, "MP4A-LATM", 48_000, 2, "cpresent=0; config=400023203fc0"), AAC, 48_000),
    (
        ("video", 96, "mpeg4-generic", 90_000, None, "mode=generic"),
        Generic(encoding="mpeg4-generic", media_type="video"),
        90_000,
    ),
    (("audio", 96, "opus", 48_000, 2, "sprop-stereo=1"), Opus(channels=2), 48_000),
    (("audio", 96, "multiopus", 48_000, 6, ""), Opus(channels=6), 48_000),
    (("audio", 14, "", None, None, ""), MPEGAudio(), 90_000),
    (("audio", 96, "AC3", 44_100, None, ""), AC3(sample_rate=44_100, channels=6), 44_100),
    (("audio", 96, "eac3", 48_000, 8, ""), EAC3(channels=8), 48_000),
    (("audio", 0, "", None, None, ""), G711(mu_law=True), 8000),
    (("audio", 8, "", None, None, ""), G711(mu_law=False), 8000),
    (("audio", 96, "PCMA", 16_000, 2, ""), G711(mu_law=False, sample_rate=16_000, channels=2), 16_000),
    (("audio", 9, "", None, None, ""), G722(), 8000),
    (("audio", 96, "G726-24", 8000, None, ""), G726(bit_rate=24), 8000),
    (("audio", 96, "AAL2-G726-40", 8000, None, ""), G726(bit_rate=40, big_endian=True), 8000),
    (("audio", 10, "", None, None, ""), LPCM(16, 44_100, 2), 44_100),
    (("audio", 11, "", None, None, ""), LPCM(16, 44_100, 1), 44_100),
    (("audio", 96, "L8", 48_000, 2, ""), LPCM(8, 48_000, 2), 48_000),
    (("audio", 96, "L24", 96_000, None, ""), LPCM(24, 96_000, 1), 96_000),
    (("audio", 96, "VORBIS", 44_100, 2, "configuration=YWJj"), Vorbis(44_100, 2, b"abc"), 44_100),
    (("audio", 96, "speex", 16_000, None, "vbr=off"), Speex(16_000), 16_000),
    (("application", 96, "SMPTE336M", 90_000, None, ""), KLV(), 90_000),
    (
        ("application", 98, "vnd.onvif.metadata", 90_000, None, ""),
        Generic(encoding="vnd.onvif.metadata", media_type="application"),
        90_000,
    ),
    (("audio", 18, "", None, None, ""), Generic(encoding="G729", media_type="audio", rate=8000), 8000),
]


@pytest.mark.parametrize(("description", "codec", "clock_rate"), CASES)
def test_codec_from_sdp(description: Description, codec: Codec, clock_rate: int) -> None:
    _, payload_type, encoding, _, channels, parameters = description
    found, form = codec_from_sdp(*description)
    assert found == codec
    assert form == RtpFormat(payload_type, encoding, clock_rate, channels, parameters)
    # Every codec has a peek that takes whatever comes, and formats what its publisher wrote.
    assert payload_of_codec(found).peek_for(found)(b"", 0, 0) in (0, 1)
    make_depacketizer(Track(0, found, form))


def test_each_codec_has_a_case() -> None:
    assert {type(codec) for _, codec, _ in CASES} == {*CODECS.carried}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (("video", 96, "", None, None, ""), "unable to get clock rate: attribute 'rtpmap' not found"),
        (("video", 96, "H264", None, None, ""), "unable to get clock rate: "),
        (("video", 96, "H264", 0, None, ""), "unable to get clock rate: "),
        (("audio", 96, "L16", 48_000, 1000, ""), "invalid number of channels"),
    ],
)
def test_refused(description: Description, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message):
        codec_from_sdp(*description)


@pytest.mark.parametrize(
    ("codec", "form"),
    [
        (
            H264(SPS, PPS),
            RtpFormat(
                97, "H264", parameters=f"packetization-mode=1; sprop-parameter-sets={SETS}; profile-level-id=42C015"
            ),
        ),
        (H264(), RtpFormat(97, "H264", parameters="packetization-mode=1")),
        (
            AAC,
            RtpFormat(
                97,
                "mpeg4-generic",
                48_000,
                2,
                "profile-level-id=1; mode=AAC-hbr; sizelength=13; indexlength=3; indexdeltalength=3; config=1190",
            ),
        ),
        (Opus(), RtpFormat(97, "opus", 48_000, 2, "sprop-stereo=1")),
        (
            Opus(channels=6),
            RtpFormat(97, "multiopus", 48_000, 6, "channel_mapping=0,4,1,2,3,5; num_streams=4; coupled_streams=2"),
        ),
        (G711(mu_law=False), RtpFormat(8, "PCMA", 8000)),
        (G711(sample_rate=16_000), RtpFormat(97, "PCMU", 16_000)),
        (MJPEG(), RtpFormat(26, "JPEG")),
        (MPEGAudio(sample_rate=44_100, channels=2), RtpFormat(14, "MPA")),
        (LPCM(24, 48_000, 2), RtpFormat(97, "L24", 48_000, 2)),
        (AC3(48_000, 2), RtpFormat(97, "AC3", 48_000, 2)),
        (EAC3(48_000, 6), RtpFormat(97, "eac3", 48_000, 6)),
        (VP8(), RtpFormat(97, "VP8")),
        (FLAC(), None),
        (Generic(encoding="x"), None),
    ],
)
def test_rtp_format_for(codec: Codec, form: RtpFormat | None) -> None:
    assert rtp_format_for(codec, 97) == form
    made = make_packetizer(Track(0, codec), ssrc=1, initial_sequence=2, initial_timestamp=3)
    assert (made is None) == (form is None)
    if form is not None:
        media_type = codec.kind.value
        again, _ = codec_from_sdp(
            media_type, form.payload_type, form.encoding, form.clock_rate, form.channels, form.parameters
        )
        if not isinstance(codec, MPEGAudio):  # whose description does not tell the sample rate
            assert again == codec


def track(codec: Codec, parameters: str, encoding: str = "H264") -> Track:
    return Track(0, codec, RtpFormat(96, encoding, codec.clock_rate, None, parameters))


def test_unchanged_parameters_stay_as_the_publisher_wrote_them() -> None:
    text = f"profile-level-id=42c015;packetization-mode=1;sprop-parameter-sets={SETS.replace('=', '')}; x"
    assert format_parameters(track(H264(SPS, PPS), text)) == text


def test_new_parameter_sets_replace_the_old_ones() -> None:
    new = dataclasses.replace(H264(SPS, PPS), sps=SPS.replace(b"\x42", b"\x4d"))
    text = format_parameters(
        track(
            new,
            f"profile-level-id=42C015; packetization-mode=0; sprop-parameter-sets={SETS}; max-fps=2500",
        )
    )
    sets = f"{base64.b64encode(new.sps).decode()},{base64.b64encode(PPS).decode()}"
    assert text == (f"profile-level-id=4DC015; packetization-mode=0; sprop-parameter-sets={sets}; max-fps=2500")


def test_parameter_sets_are_added() -> None:
    text = format_parameters(track(H264(SPS, PPS), "packetization-mode=1"))
    assert text == f"packetization-mode=1; sprop-parameter-sets={SETS}; profile-level-id=42C015"
    assert format_parameters(track(H264(SPS, PPS), "")) == text
    assert format_parameters(Track(0, H264(SPS, PPS))) == text


def test_unknown_formats_are_forwarded() -> None:
    assert format_parameters(track(Generic(encoding="x"), "a=b;c", "x")) == "a=b;c"
    assert format_parameters(track(Opus(), "", "opus")) == ""


def test_latm_without_parameters_gets_none_of_the_other_format_of_aac() -> None:
    assert format_parameters(track(AAC, "", "mpeg4-generic")).endswith("indexdeltalength=3; config=1190")
    assert format_parameters(track(AAC, "", "MP4A-LATM")) == ""


def test_parameter_sets_for_readers_that_stay() -> None:
    vps, sps, pps = b"\x40\x01\x0c", b"\x42\x01\x01", b"\x44\x01\xc0"
    assert parameter_sets(H264(SPS, PPS)) == (SPS, PPS)
    assert parameter_sets(H264()) == ()
    extension, second = b"\x6d\x01", b"\x68\x52"
    several = H264(SPS, PPS, extra_parameter_sets=(second, extension))
    assert parameter_sets(several) == (SPS, extension, PPS, second)
    assert parameter_sets(H265(vps, sps, pps)) == (vps, sps, pps)
    # A packet with a decoding order number of 0 in front would confuse the order of pictures; one without is broken.
    assert parameter_sets(H265(vps, sps, pps, maximum_don_difference=2)) == ()
    assert parameter_sets(VP8()) == ()


def parameter_sets(codec: Codec) -> tuple[bytes, ...]:
    return payload_of_codec(codec).parameter_sets(codec)


def test_each_encoding_name_means_one_format() -> None:
    names = [encoding.upper() for payload in PAYLOADS for encoding in payload.encodings]
    assert len(names) == len(set(names))


def test_parameter_sets_without_end_are_left_out() -> None:
    units = [b"\x68" + number.to_bytes(2, "big") for number in range(1000)]
    text = encode_base64_list(units)
    assert decode_base64_list(text) == units[:MAXIMUM_PARAMETER_SETS]
