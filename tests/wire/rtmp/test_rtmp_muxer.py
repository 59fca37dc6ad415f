"""Messages for readers: their bytes, that they stand alone, and that the demuxer reads them back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.wire.rtmp.support import (
    AAC_CONFIGURATION,
    AUDIO,
    IDR,
    PPS,
    SLICE,
    SPS,
    VIDEO,
    audio_header,
    frames_of,
    length_prefixed,
    video_header,
)

from polycast.errors import LocalProtocolError
from polycast.media.codec import (
    AC3,
    AV1,
    EAC3,
    FLAC,
    G711,
    H264,
    H265,
    LPCM,
    VP8,
    VP9,
    Codec,
    Generic,
    MPEG4Audio,
    MPEGAudio,
    Opus,
    Speex,
)
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.chunks import ChunkReader, RawMessage
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import TracksKnown
from polycast.wire.rtmp.flv import parse_audio, parse_video
from polycast.wire.rtmp.flv_file import FlvMuxer
from polycast.wire.rtmp.muxer import Muxer, sequence_header
from polycast.wire.rtmp.supported import NOTHING_TO_CARRY, obstacle, select_tracks

VP8_KEY = bytes.fromhex("5000009d012a80026801") + bytes(10)
VP9_KEY = bytes.fromhex("824983420027f0167000") + bytes(20)
MP3 = bytes.fromhex("fffb9064") + bytes(413)
AC3_FRAME = bytes.fromhex("0b7700000c4043e1") + bytes(384 - 8)
EAC3_FRAME = bytes.fromhex("0b77007f3480") + bytes(250)
STREAM_INFO = bytes.fromhex("100010000000000000000ac442f000000000" + "00" * 16)
FLAC_FRAME = bytes.fromhex("fff8c91800") + bytes(20)


def messages(data: bytes, chunk_size: int = 65_536) -> list[RawMessage]:
    reader = ChunkReader()
    reader.chunk_size = chunk_size
    return reader.receive(data)


def audio_frame(data: bytes, time: int = 0) -> Frame:
    return Frame((data,), time, time, key=True)


def test_h264_and_aac() -> None:
    muxer = Muxer([VIDEO, AUDIO])
    metadata, video, audio = messages(muxer.initial(77))
    assert (metadata.type, metadata.timestamp, metadata.stream_id) == (18, 0, 1)
    assert (video.type, video.timestamp, video.payload) == (9, 77, video_header())
    assert (audio.type, audio.timestamp, audio.payload) == (8, 77, audio_header())
    frames = [
        muxer.message(0, Frame((SPS, PPS, IDR), 90_000 + 7200, 90_000, key=True)),
        muxer.message(0, Frame((SLICE,), 93_600, 93_600, key=False)),
        muxer.message(1, audio_frame(b"\x21\x10", 44_100)),
    ]
    assert [(item.type, item.timestamp, item.payload) for frame in frames for item in messages(frame)] == [
        (9, 1000, b"\x17\x01\x00\x00\x50" + length_prefixed(SPS, PPS, IDR)),
        (9, 1040, b"\x27\x01\x00\x00\x00" + length_prefixed(SLICE)),
        (8, 1000, b"\xaf\x01\x21\x10"),
    ]


def test_frames_in_files_are_tags() -> None:
    """FLV 10.1 annex E.4.1: type, size, time, extended time, stream id 0, body; then the size of all this."""
    muxer = FlvMuxer([VIDEO])
    body = b"\x27\x01\x00\x00\x00" + length_prefixed(SLICE)
    head = bytes([9]) + len(body).to_bytes(3, "big") + (1040).to_bytes(3, "big") + bytes(4)
    tag = muxer.message(0, Frame((SLICE,), 93_600, 93_600, key=False))
    assert tag == head + body + (11 + len(body)).to_bytes(4, "big")


@pytest.mark.parametrize(
    "milliseconds", [(1 << 24) - 2, (1 << 24) - 1, 1 << 24, (1 << 32) - 1, 1 << 32, (1 << 32) + 40]
)
@pytest.mark.parametrize("size", [10, 200_000])
def test_timestamps_over_the_wraps(milliseconds: int, size: int) -> None:
    muxer = Muxer([VIDEO])
    (message,) = messages(
        muxer.message(0, Frame((bytes([0x65]) * size,), milliseconds * 90, milliseconds * 90, key=True))
    )
    assert message.timestamp == milliseconds & 0xFFFFFFFF
    assert len(message.payload) == size + 9


def test_a_timeline_that_starts_before_zero_is_shifted() -> None:
    muxer = Muxer([VIDEO, AUDIO])
    assert [muxer.timestamp(0, Frame((IDR,), time, time, key=True)) for time in (-9000, 0, -9900)] == [0, 100, 0]
    assert Muxer([VIDEO], origin=500).timestamp(0, Frame((IDR,), 90_000, 90_000, key=True)) == 500


def test_changed_parameters_come_in_a_new_sequence_header() -> None:
    muxer = Muxer([VIDEO, AUDIO])
    changed = replace(VIDEO, codec=H264(sps=SPS, pps=PPS + b"\x80"))
    (message,) = messages(muxer.update(changed, 40))
    assert (message.type, message.timestamp) == (9, 40)
    assert message.payload == sequence_header(changed.codec)
    assert PPS + b"\x80" in message.payload
    assert muxer.tracks == (changed, AUDIO)


# Codec, unit of one frame, header of a key frame's message, header of the sequence header's message.
ENHANCED: list[tuple[Codec, bytes, bytes, bytes | None]] = [
    (VP8(), VP8_KEY, b"\x91vp08", None),
    (VP9(width=640, height=360), VP9_KEY, b"\x91vp09", b"\x90vp09"),
    (Opus(2), b"\xfc\xff", b"\x91Opus", b"\x90OpusOpusHead"),
    (FLAC(STREAM_INFO, 44_100, 2), FLAC_FRAME, b"\x91fLaC", b"\x90fLaCfLaC\x80\x00\x00\x22" + STREAM_INFO),
    (AC3(48_000, 2), AC3_FRAME, b"\x91ac-3", None),
    (EAC3(48_000, 2), EAC3_FRAME, b"\x91ec-3", None),
    (MPEGAudio(44_100, 2), MP3, b"\x2f", None),
    (G711(True), b"\xff" * 8, b"\x82", None),
    (G711(False, channels=2), b"\xd5" * 8, b"\x73", None),
    (LPCM(8, 22_050, 1), b"\x80" * 8, b"\x38", None),
    (Speex(), b"\x01" * 8, b"\xb2", None),
]


@pytest.mark.parametrize(("codec", "unit", "header", "configuration"), ENHANCED)
def test_codecs(codec: Codec, unit: bytes, header: bytes, configuration: bytes | None) -> None:
    muxer = Muxer([Track(0, codec)])
    first = messages(muxer.initial())[1:]
    assert [item.payload[: len(configuration or b"")] for item in first] == ([configuration] if configuration else [])
    (message,) = messages(muxer.message(0, audio_frame(unit)))
    assert message.payload == header + unit
    demuxer = Demuxer()
    events = [event for item in (*first, message) for event in demuxer.receive(item, 0.0)] + demuxer.handle_timeout(9.0)
    assert isinstance(events[0], TracksKnown)
    assert events[0].tracks[0].codec == codec
    assert [frame.units for _, frame in frames_of(events)] == [(unit,)]


def test_h265_says_the_composition_time_only_where_there_is_one() -> None:
    codec = H265(
        vps=bytes.fromhex("40010c01ffff016000000300900000030000030078959809"),
        sps=bytes.fromhex("420101016000000300900000030000030078a00280802d165959a4932b9a02000003000200000300321000"),
        pps=bytes.fromhex("4401c172b46240"),
    )
    muxer = Muxer([Track(0, codec)])
    unit = bytes.fromhex("26010102")
    (plain,) = messages(muxer.message(0, Frame((unit,), 0, 0, key=True)))
    (shifted,) = messages(muxer.message(0, Frame((unit,), 3600, 0, key=False)))
    assert plain.payload == b"\x93hvc1" + length_prefixed(unit)
    assert shifted.payload == b"\xa1hvc1\x00\x00\x28" + length_prefixed(unit)
    header = messages(muxer.initial())[1].payload
    assert header.startswith(b"\x90hvc1\x01")
    assert codec.vps in header


def test_av1_obus_get_their_sizes() -> None:
    muxer = Muxer([Track(0, AV1())])
    (message,) = messages(muxer.message(0, Frame((b"\x30\x01\x02",), 0, 0, key=False)))
    assert message.payload == b"\xa1av01\x32\x02\x01\x02"


def test_samples_are_turned_to_little_endian() -> None:
    muxer = Muxer([Track(0, LPCM(16, 44_100, 2))])
    (message,) = messages(muxer.message(0, audio_frame(b"\x01\x02\x03\x04")))
    assert message.payload == b"\x3f\x02\x01\x04\x03"


def test_further_tracks_of_a_kind_go_with_a_number() -> None:
    tracks = [VIDEO, AUDIO, replace(VIDEO, index=2), replace(AUDIO, index=3)]
    muxer = Muxer(tracks)
    payloads = [item.payload for item in messages(muxer.initial())[1:]]
    assert payloads[2].startswith(b"\x96\x00avc1\x01\x01\x64")
    assert payloads[3] == b"\x95\x00mp4a\x01" + AAC_CONFIGURATION
    (video,) = messages(muxer.message(2, Frame((IDR,), 3600, 0, key=True)))
    (audio,) = messages(muxer.message(3, audio_frame(b"\x21")))
    assert video.payload == b"\x96\x01avc1\x01\x00\x00\x28" + length_prefixed(IDR)
    assert audio.payload == b"\x95\x01mp4a\x01\x21"
    assert [(part.track_id, part.composition_time) for part in parse_video(video.payload)] == [(1, 40)]
    assert [part.track_id for part in parse_audio(audio.payload)] == [1]
    only_first = messages(muxer.initial(0, [VIDEO, AUDIO]))
    assert len(only_first) == 3


def test_what_rtmp_does_not_carry() -> None:
    track = Track(3, LPCM(24, 48_000, 2))
    with pytest.raises(LocalProtocolError, match=r"can't write track 3 \(LPCM\)"):
        Muxer([track])
    with pytest.raises(LocalProtocolError):
        Muxer([VIDEO]).message(1, audio_frame(b""))
    assert obstacle(Generic()) is not None
    assert obstacle(MPEGAudio(44_100, 2, 2)) is not None
    assert obstacle(G711(sample_rate=16_000)) is not None


def test_selection_for_a_reader() -> None:
    second = Track(2, AV1())
    opus = Track(3, Opus())
    data = Track(4, Generic())
    tracks = [VIDEO, AUDIO, second, opus, data]
    plain = select_tracks(tracks)
    assert plain.tracks == (VIDEO, AUDIO)
    assert [(track.index, reason) for track, reason in plain.skipped] == [
        (2, "the peer takes one video track only"),
        (3, "the peer takes one audio track only"),
        (4, "RTMP has no identifier for this codec"),
    ]
    assert select_tracks(tracks, multitrack=True).tracks == (VIDEO, AUDIO, second, opus)
    assert select_tracks([second, opus], four_ccs=frozenset({"av01"})).tracks == (second,)
    assert select_tracks([second, opus], four_ccs=frozenset({"*"})).tracks == (second, opus)
    assert select_tracks([VIDEO], four_ccs=frozenset({"av01"})).tracks == (VIDEO,)
    assert select_tracks([data]).tracks == ()
    assert "the stream doesn't contain an H264 track or an AAC track" in NOTHING_TO_CARRY


def test_one_message_serves_all_readers() -> None:
    """A reader that begins later reads the same bytes, because no message depends on the one before it."""
    muxer = Muxer([VIDEO])
    stream = [muxer.message(0, Frame((IDR * 3000,), time * 3600, time * 3600, key=True)) for time in range(4)]
    early, late = ChunkReader(), ChunkReader()
    early.chunk_size = late.chunk_size = 65_536
    assert len(early.receive(b"".join(stream))) == 4
    assert [item.timestamp for item in late.receive(b"".join(stream[2:]))] == [80, 120]


def test_sequence_header_needs_parameter_sets() -> None:
    with pytest.raises(LocalProtocolError):
        sequence_header(H264())
    assert sequence_header(MPEG4Audio(AAC_CONFIGURATION)) == audio_header()
    assert sequence_header(AV1()) is None


OPUS = Track(1, Opus())
MP3 = Track(1, MPEGAudio(44_100, 2, 3))
H265_VIDEO = Track(0, H265())


@pytest.mark.parametrize(
    ("tracks", "announced", "chosen"),
    [
        # FFmpeg 5.1 says nothing and fails at the first enhanced message; FFmpeg 6.1 and later say as little.
        ((VIDEO, OPUS), {}, (VIDEO,)),
        ((OPUS, Track(2, VIDEO.codec)), {}, (Track(2, VIDEO.codec),)),
        ((H265_VIDEO, OPUS), {}, (H265_VIDEO, OPUS)),
        ((H265_VIDEO, AUDIO), {}, (H265_VIDEO, AUDIO)),
        ((OPUS,), {}, (OPUS,)),
        # The first audio track that fits, not the first of all.
        ((VIDEO, OPUS, Track(2, AUDIO.codec)), {}, (VIDEO, Track(2, AUDIO.codec))),
        # Enhanced RTMP v1 names video codecs only, v2 all of them.
        ((VIDEO, OPUS), {"four_ccs": frozenset({"av01", "hvc1"})}, (VIDEO,)),
        ((VIDEO, OPUS), {"four_ccs": frozenset({"Opus"})}, (VIDEO, OPUS)),
        ((VIDEO, OPUS), {"four_ccs": frozenset("*")}, (VIDEO, OPUS)),
        ((H265_VIDEO, AUDIO), {"four_ccs": frozenset({"av01"})}, (AUDIO,)),
        # The bits of audioCodecs: MP3 is 4, A-law 0x80, mu-law 0x100, AAC 0x400.
        ((VIDEO, MP3), {"sound_formats": 0xFE7}, (VIDEO, MP3)),
        ((VIDEO, MP3), {"sound_formats": 0x400}, (VIDEO,)),
        ((VIDEO, AUDIO), {"sound_formats": 0x400}, (VIDEO, AUDIO)),
        ((Track(0, G711(mu_law=False)),), {"sound_formats": 0x80}, (Track(0, G711(mu_law=False)),)),
        ((VIDEO, Track(1, G711(mu_law=True))), {"sound_formats": 0x80}, (VIDEO,)),
    ],
)
def test_what_a_reader_announced_decides_track_by_track(
    tracks: tuple[Track, ...], announced: dict[str, Any], chosen: tuple[Track, ...]
) -> None:
    selection = select_tracks(tracks, **announced)
    assert selection.tracks == chosen
    assert {track for track, _ in selection.skipped} == set(tracks) - set(chosen)
    assert all("the peer did not announce" in reason for _, reason in selection.skipped)
