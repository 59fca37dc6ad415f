"""Tracks and frames out of what a publisher sends: analysis, times, changes, codecs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.rtmp.support import (
    AAC_CONFIGURATION,
    IDR,
    PPS,
    SLICE,
    SPS,
    audio_header,
    audio_message,
    frames_of,
    raw,
    video_header,
    video_message,
)

from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, EAC3, FLAC, G711, H264, LPCM, VP8, VP9, Codec, MPEG4Audio, MPEGAudio, Opus, Speex
from polycast.wire.rtmp import demuxer as demuxer_module
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import Event, FrameReceived, TrackChanged, TrackIgnored, TracksKnown
from polycast.wire.rtmp.metadata import Metadata, parse_metadata

BOTH = Metadata(video=True, audio=True)


def demux(metadata: Metadata | None, messages: Sequence[tuple[int, bytes, int]], now: float = 0.0) -> list[Event]:
    demuxer = Demuxer()
    if metadata is not None:
        demuxer.receive_metadata(metadata, 0.0)
    return feed(demuxer, messages, now)


def feed(demuxer: Demuxer, messages: Sequence[tuple[int, bytes, int]], now: float = 0.0) -> list[Event]:
    events: list[Event] = []
    for message_type, payload, timestamp in messages:
        events += demuxer.receive(raw(message_type, payload, timestamp & 0xFFFFFFFF), now)
    return events


START = [(9, video_header(), 0), (8, audio_header(), 0)]


def started() -> Demuxer:
    demuxer = Demuxer()
    demuxer.receive_metadata(BOTH, 0.0)
    assert feed(demuxer, START) == []
    (event,) = demuxer.handle_timeout(demuxer_module.GRACE_PERIOD)
    assert event == TracksKnown(demuxer.tracks)
    return demuxer


def test_metadata_ends_the_analysis_with_the_first_frame_after_its_tracks() -> None:
    demuxer = Demuxer()
    demuxer.receive_metadata(BOTH, 0.0)
    assert feed(demuxer, START, now=3.0) == []
    events = feed(demuxer, [(9, video_message(IDR), 0)], now=3.0)
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]


def test_metadata_ends_the_analysis_soon_even_without_frames() -> None:
    demuxer = Demuxer()
    demuxer.receive_metadata(BOTH, 0.0)
    feed(demuxer, START, now=3.0)
    assert demuxer.next_timeout() == 3.0 + demuxer_module.GRACE_PERIOD
    assert demuxer.handle_timeout(3.05) == []
    (event,) = demuxer.handle_timeout(3.0 + demuxer_module.GRACE_PERIOD)
    assert event == TracksKnown(demuxer.tracks)
    assert [track.codec for track in demuxer.tracks] == [
        H264(sps=SPS, pps=PPS),
        MPEG4Audio(AAC_CONFIGURATION, 44_100, 2),
    ]
    assert demuxer.next_timeout() is None


def test_audio_alone() -> None:
    events = demux(Metadata(audio=True, video=False), [(8, audio_header(), 0), (8, audio_message(), 0)])
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]


@pytest.mark.parametrize("metadata", [None, Metadata()], ids=["no metadata", "metadata without codecs"])
def test_without_metadata_a_second_is_analysed(metadata: Metadata | None) -> None:
    demuxer = Demuxer()
    if metadata is not None:
        demuxer.receive_metadata(metadata, 0.0)
    assert demuxer.next_timeout() is None
    assert feed(demuxer, [*START, (9, video_message(IDR), 0)], now=5.0) == []
    assert demuxer.next_timeout() == 6.0
    assert demuxer.handle_timeout(5.9) == []
    events = demuxer.handle_timeout(6.0)
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]
    assert len(demuxer.tracks) == 2
    assert demuxer.next_timeout() is None


def test_a_second_of_media_time_is_enough() -> None:
    messages = [*START, *((9, video_message(IDR), time) for time in range(0, 1001, 40))]
    events = demux(None, messages)
    assert isinstance(events[0], TracksKnown)
    assert len(frames_of(events)) == 26


def test_metadata_that_announces_a_track_that_never_comes() -> None:
    demuxer = Demuxer()
    demuxer.receive_metadata(BOTH, 0.0)
    assert feed(demuxer, [START[0], (9, video_message(IDR), 0)], now=1.0) == []
    assert demuxer.next_timeout() == 1.0 + demuxer_module.ANNOUNCED_PERIOD
    events = demuxer.handle_timeout(4.0)
    assert [type(event) for event in events] == [TracksKnown, FrameReceived]
    assert len(demuxer.tracks) == 1


def test_metadata_that_names_the_wrong_codec_changes_nothing() -> None:
    metadata = parse_metadata(["onMetaData", {"videocodecid": 2.0, "audiocodecid": 2.0, "width": 1e9}])
    events = demux(metadata, [*START, (9, video_message(IDR), 0)])
    assert isinstance(events[0], TracksKnown)
    assert [str(track) for track in events[0].tracks] == ["H264", "MPEG4Audio"]


def test_nothing_usable() -> None:
    demuxer = Demuxer()
    feed(demuxer, [(9, video_message(IDR), 0)])
    with pytest.raises(RemoteProtocolError, match="no tracks found"):
        demuxer.handle_timeout(1.0)


def test_only_unsupported_codecs_are_reported_immediately() -> None:
    with pytest.raises(RemoteProtocolError, match="unsupported video codec VP6"):
        demux(Metadata(video=True, audio=False), [(9, b"\x14\x01", 0)])


def test_an_unsupported_track_is_reported_once_and_skipped() -> None:
    events = demux(BOTH, [(8, b"\x62\x01", 0), (8, b"\x62\x01", 20), START[0], (9, video_message(IDR), 0)])
    assert events[0] == TrackIgnored("audio", 0, "unsupported audio codec Nellymoser")
    assert [type(event) for event in events[1:]] == [TracksKnown, FrameReceived]


def test_a_track_that_begins_late_is_ignored_once() -> None:
    demuxer = Demuxer()
    demuxer.receive_metadata(Metadata(video=True, audio=False), 0.0)
    feed(demuxer, [START[0], (9, video_message(IDR), 0)])
    events = feed(demuxer, [START[1], (8, audio_message(), 0)])
    assert [type(event) for event in events] == [TrackIgnored]


def test_frames_before_the_sequence_header_are_skipped() -> None:
    messages = [(9, video_message(IDR), 0), (8, audio_message(), 0), *START, (9, video_message(IDR), 40)]
    assert [type(event) for event in demux(BOTH, messages)] == [TracksKnown, FrameReceived]


def test_an_empty_configuration_is_passed_over() -> None:
    messages = [(9, b"\x17\x00\x00\x00\x00", 0), (8, b"\xaf\x00", 0), *START, (9, video_message(IDR), 0)]
    assert [type(event) for event in demux(BOTH, messages)] == [TracksKnown, FrameReceived]


def test_held_frames_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demuxer_module, "MAXIMUM_ANALYSIS_SIZE", 1000)
    demuxer = Demuxer()
    events = feed(demuxer, [START[0], *((9, video_message(IDR), 0) for _ in range(30))])
    assert isinstance(events[0], TracksKnown)


def test_units_and_times() -> None:
    demuxer = started()
    messages = [
        (9, video_message(b"\x09\xf0", b"", b"\x06\x05\x01\x80", IDR, composition_time=80), 1000),
        (9, video_message(SLICE, key=False, composition_time=-40), 1040),
        (9, video_message(b"", b""), 1080),
        (9, b"\x17\x01\x00\x00\x00", 1080),
    ]
    frames = [frame for _, frame in frames_of(feed(demuxer, messages))]
    assert [(frame.units, frame.dts, frame.pts, frame.key) for frame in frames] == [
        ((b"\x06\x05\x01\x80", IDR), 90_000, 97_200, True),
        ((SLICE,), 90_000, 90_000, False),
    ]


@pytest.mark.parametrize("start", [(1 << 24) - 100, (1 << 32) - 100])
def test_times_continue_through_the_wraps(start: int) -> None:
    demuxer = started()
    messages: list[tuple[int, bytes, int]] = []
    for time in range(start, start + 400, 40):
        messages += [(9, video_message(IDR), time), (8, audio_message(), time - 5)]
    frames = frames_of(feed(demuxer, messages))
    assert [frame.dts for track, frame in frames if track == 0] == [time * 90 for time in range(start, start + 400, 40)]
    audio = [frame.dts for track, frame in frames if track == 1]
    assert audio == [round((time - 5) * 44.1) for time in range(start, start + 400, 40)]


def test_times_are_those_of_the_publisher() -> None:
    # What goes back or jumps is joined in the hub, once for all publishers.
    demuxer = started()
    times = [10_000, 10_040, 0, 40, 3_000_000, 80]
    frames = frames_of(feed(demuxer, [(9, video_message(IDR), time) for time in times]))
    assert [frame.dts // 90 for _, frame in frames] == times


@pytest.mark.parametrize("offset", [37_000_000, 3_000_000_000, (1 << 32) - 20])
def test_each_track_has_wraps_of_its_own(offset: int) -> None:
    demuxer = started()
    messages: list[tuple[int, bytes, int]] = []
    for time in range(0, 400, 40):
        messages += [(9, video_message(IDR), time), (8, audio_message(), (time + offset) & 0xFFFFFFFF)]
    frames = frames_of(feed(demuxer, messages))
    assert [frame.dts for track, frame in frames if track == 0] == [time * 90 for time in range(0, 400, 40)]
    audio = [frame.dts for track, frame in frames if track == 1]
    steps = [after - before for before, after in pairwise(audio)]
    assert steps == [pytest.approx(40 * 44.1, abs=1)] * 9
    near = offset - (1 << 32) if offset > 1 << 31 else offset
    assert audio[0] == round(near * 44.1)


def test_tracks_far_apart_do_not_end_the_analysis() -> None:
    demuxer = Demuxer()
    events = feed(demuxer, [START[0], (9, video_message(IDR), 0), START[1], (8, audio_message(), 37_000_000)])
    assert not events
    (known, *_) = demuxer.handle_timeout(demuxer_module.ANALYSIS_PERIOD)
    assert isinstance(known, TracksKnown)
    assert [str(track) for track in known.tracks] == ["H264", "MPEG4Audio"]


def test_rounded_audio_times_are_made_even() -> None:
    demuxer = started()
    times = [round(index * 1024 * 1000 / 44_100) for index in range(200)]
    frames = [frame for _, frame in frames_of(feed(demuxer, [(8, audio_message(), time) for time in times]))]
    assert [frame.dts for frame in frames] == [1024 * index for index in range(200)]
    assert {frame.duration for frame in frames} == {1024}


def test_a_gap_in_audio_stays() -> None:
    demuxer = started()
    frames = frames_of(feed(demuxer, [(8, audio_message(), time) for time in (0, 23, 500)]))
    assert [frame.dts for _, frame in frames] == [0, 1024, 22_050]


def test_audio_that_drifts_is_followed_within_a_millisecond() -> None:
    demuxer = started()
    times = [24 * index for index in range(500)]  # 3 % too slow
    frames = frames_of(feed(demuxer, [(8, audio_message(), time) for time in times]))
    for time, (_, frame) in zip(times, frames, strict=True):
        assert abs(frame.dts / 44.1 - time) <= 1.02


def test_nanoseconds_are_added() -> None:
    demuxer = Demuxer()
    demuxer.receive_metadata(Metadata(audio=True, video=False), 0.0)
    packet = b"Opus\xfc\xff\xfe"
    events = feed(
        demuxer, [(8, b"\x91" + packet, 0), (8, b"\x97\x02" + (500_000).to_bytes(3, "big") + b"\x01" + packet, 60)]
    )
    assert [frame.dts for _, frame in frames_of(events)] == [0, 2904]


def test_parameter_sets_that_change_in_a_new_sequence_header() -> None:
    demuxer = started()
    changed = video_header().replace(PPS, PPS[:-1] + b"\xc1")
    events = feed(demuxer, [(9, changed, 0), (9, video_message(IDR), 0), (9, changed, 40)])
    assert events[0] == TrackChanged(0, H264(sps=SPS, pps=PPS[:-1] + b"\xc1"))
    assert [type(event) for event in events[1:]] == [FrameReceived]


def test_parameter_sets_that_change_in_band() -> None:
    demuxer = started()
    new = PPS[:-1] + b"\xc1"
    events = feed(demuxer, [(9, video_message(SPS, new, IDR), 0), (9, video_message(SPS, new, IDR), 40)])
    assert events[0] == TrackChanged(0, H264(sps=SPS, pps=new))
    assert [type(event) for event in events[1:]] == [FrameReceived, FrameReceived]
    assert frames_of(events)[0][1].units == (SPS, new, IDR)


def test_frames_from_before_a_change_during_analysis_are_dropped() -> None:
    demuxer = Demuxer()
    new = PPS[:-1] + b"\xc1"
    feed(demuxer, [START[0], (9, video_message(IDR), 0), (9, video_message(SPS, new, IDR), 40)])
    events = demuxer.handle_timeout(10.0)
    assert isinstance(events[0], TracksKnown)
    assert events[0].tracks[0].codec == H264(sps=SPS, pps=new)
    assert [frame.dts for _, frame in frames_of(events)] == [3600]


def test_another_codec_in_mid_stream_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="changed mid-stream to MPEG2Audio"):
        feed(started(), [(8, b"\x2f\xff\xfb\x90\x64", 0)])


def test_another_sample_rate_in_mid_stream_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="from 44100 to 48000 Hz"):
        feed(started(), [(8, b"\xaf\x00\x11\x90", 0)])


def test_broken_media_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        feed(started(), [(9, b"\x17\x01\x00\x00\x00\x00\x00\x00\xff\x65", 0)])
    with pytest.raises(RemoteProtocolError):
        demux(None, [(9, b"\x17\x00\x00\x00\x00\x01\x64", 0)])


def adts(payload: bytes) -> bytes:
    size = len(payload) + 7
    return bytes((0xFF, 0xF1, 0x50, 0x80 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5 | 0x1F, 0xFC)) + payload


def test_adts_in_audio_messages() -> None:
    demuxer = Demuxer()
    feed(demuxer, [(8, b"\xaf\x01" + adts(b"\x21\x10\x04\x60") + adts(b"\x21\x10\x05"), 0)])
    events = demuxer.handle_timeout(10.0)
    assert isinstance(events[0], TracksKnown)
    codec = events[0].tracks[0].codec
    assert isinstance(codec, MPEG4Audio)
    assert (codec.sample_rate, codec.channels, codec.configuration[:2]) == (44_100, 2, AAC_CONFIGURATION)
    assert [(frame.units, frame.dts) for _, frame in frames_of(events)] == [
        ((b"\x21\x10\x04\x60",), 0),
        ((b"\x21\x10\x05",), 1024),
    ]


MP3 = bytes.fromhex("fffb9064") + bytes(413)  # 128 kbit/s, 44.1 kHz: 417 bytes
AC3_FRAME = bytes.fromhex("0b7700000c4043e1") + bytes(384 - 8)  # 96 kbit/s, 48 kHz, stereo
EAC3_FRAME = bytes.fromhex("0b77007f3480") + bytes(250)
STREAM_INFO = bytes.fromhex("100010000000000000000ac442f000000000" + "00" * 16)
FLAC_FRAME = bytes.fromhex("fff8c91800") + bytes(20)
VP8_KEY = bytes.fromhex("5000009d012a80026801") + bytes(10)

AUDIO_CODECS: list[tuple[list[bytes], Codec, list[tuple[int, int | None]]]] = [
    ([b"\x2f" + MP3 + MP3], MPEGAudio(44_100, 2, 3), [(0, 2351), (2351, 2351)]),
    ([b"\x91.mp3" + MP3], MPEGAudio(44_100, 2, 3), [(0, 2351)]),
    ([b"\x91ac-3" + AC3_FRAME + AC3_FRAME], AC3(48_000, 2), [(0, 1536), (1536, 1536)]),
    ([b"\x91ec-3" + EAC3_FRAME + EAC3_FRAME], EAC3(48_000, 2), [(0, 1536), (1536, 1536)]),
    ([b"\x90Opus" + b"OpusHead\x01\x01\x38\x01\x80\xbb\x00\x00\x00\x00\x00", b"\x91Opus\xfc\xff"], Opus(1), [(0, 960)]),
    ([b"\x90Opus", b"\x91Opus\xfc\xff"], Opus(2), [(0, 960)]),
    (
        [b"\x90fLaC" + b"fLaC\x80\x00\x00\x22" + STREAM_INFO, b"\x91fLaC" + FLAC_FRAME],
        FLAC(STREAM_INFO, 44_100, 2),
        [(0, 4096)],
    ),
    ([b"\x72" + bytes(160)], G711(False, 8000, 1), [(0, 160)]),
    ([b"\x83" + bytes(160)], G711(True, 8000, 2), [(0, 80)]),
    ([b"\x3f" + bytes(8)], LPCM(16, 44_100, 2), [(0, 2)]),
    ([b"\x34" + bytes(8)], LPCM(8, 11_025, 1), [(0, 8)]),
    ([b"\xb6" + bytes(20)], Speex(), [(0, 320)]),
    ([b"\x90mp4a" + AAC_CONFIGURATION, b"\x91mp4a!\x10"], MPEG4Audio(AAC_CONFIGURATION, 44_100, 2), [(0, 1024)]),
]


@pytest.mark.parametrize(("messages", "codec", "times"), AUDIO_CODECS)
def test_audio_codecs(messages: list[bytes], codec: Codec, times: list[tuple[int, int | None]]) -> None:
    demuxer = Demuxer()
    events = feed(demuxer, [(8, message, 0) for message in messages]) + demuxer.handle_timeout(10.0)
    assert isinstance(events[0], TracksKnown)
    assert events[0].tracks[0].codec == codec
    assert [(frame.dts, frame.duration) for _, frame in frames_of(events)] == times


def test_samples_are_turned_to_network_order() -> None:
    demuxer = Demuxer()
    events = feed(demuxer, [(8, b"\x3e\x01\x02\x03\x04\x05", 0)]) + demuxer.handle_timeout(10.0)
    assert [frame.units for _, frame in frames_of(events)] == [(b"\x02\x01\x04\x03",)]


def test_vp8_and_vp9() -> None:
    vp9_key = bytes.fromhex("824983420027f0167000") + bytes(20)  # 640x360, profile 0
    for message, codec in ((b"\x91vp08" + VP8_KEY, VP8()), (b"\x91vp09" + vp9_key, VP9(width=640, height=360))):
        events = demux(
            Metadata(video=True, audio=False), [(9, message, 0), (9, b"\xa1" + message[1:5] + b"\x01\x00", 40)]
        )
        assert isinstance(events[0], TracksKnown)
        assert type(events[0].tracks[0].codec) is type(codec)
        assert frames_of(events)[0][1].key


def test_several_tracks_keep_their_numbers_in_order() -> None:
    record = video_header()[5:]

    def many(make: Callable[[int], bytes], packet_type: int) -> bytes:
        parts = [bytes((number,)) + struct.pack(">I", len(make(number)))[1:] + make(number) for number in (3, 0)]
        return bytes((0x96, 0x10 | packet_type)) + b"avc1" + b"".join(parts)

    demuxer = Demuxer()
    demuxer.receive_metadata(Metadata(video=True, audio=True, additional=frozenset({("video", 3)})), 0.0)
    feed(demuxer, [(9, many(lambda number: record, 0), 0)])
    assert demuxer.tracks == ()
    feed(demuxer, [START[1]])
    demuxer.handle_timeout(1.0)
    assert [str(track) for track in demuxer.tracks] == ["H264", "H264", "MPEG4Audio"]
    frame = struct.pack(">I", len(IDR)) + IDR
    events = feed(demuxer, [(9, many(lambda number: frame, 3), 40)])
    assert [track for track, _ in frames_of(events)] == [1, 0]


def test_the_number_of_tracks_is_limited() -> None:
    demuxer = Demuxer()
    ignored = 0
    for number in range(256):
        payload = b"\x95\x01Opus" + bytes((number,)) + b"\xfc\xff"
        ignored += sum(isinstance(event, TrackIgnored) for event in feed(demuxer, [(8, payload, 0)]))
    demuxer.handle_timeout(10.0)
    assert len(demuxer.tracks) == demuxer_module.MAXIMUM_TRACKS
    assert ignored == demuxer_module.MAXIMUM_TRACKS


class Message(NamedTuple):
    """What makes a video message: its first two bytes, composition time, units, and the size of the whole."""

    first: int
    second: int
    composition_time: bytes
    units: list[bytes]
    length_size: int
    size: int
    step: int

    def payload(self) -> bytes:
        body = b"".join(len(unit).to_bytes(self.length_size, "big") + unit for unit in self.units)
        return (bytes((self.first, self.second)) + self.composition_time + body)[: self.size]


UNITS = st.sampled_from([IDR, SLICE, SPS, PPS, b"\x09\x30", b"", b"\x06\x05\x01\x80", SLICE * 100])
MESSAGES = st.builds(
    Message,
    first=st.sampled_from([0x17, 0x27, 0x37, 0x47, 0x57, 0x1C, 0x2C, 0x12, 0x90, 0x91]),
    second=st.sampled_from([0, 1, 1, 1, 2, 3]),
    composition_time=st.sampled_from([bytes(3), b"\0\0\x28", b"\xff\xff\xf0", b"\x80\0\0"]),
    units=st.lists(UNITS, max_size=4),
    length_size=st.sampled_from([4, 4, 4, 2]),
    size=st.sampled_from([10_000, 10_000, 10_000, 0, 1, 2, 4, 5, 6, 9, 20]),
    step=st.sampled_from([0, 33, 40, -20, 10_000]),
)


@settings(max_examples=300, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=12), start=st.sampled_from([0, 0xFFFFFFF0]))
def test_messages_with_the_usual_header_give_what_others_give(messages: list[Message], start: int) -> None:
    def results(demuxer: Demuxer) -> list[object]:
        seen: list[object] = []
        time = start
        for message in messages:
            time += message.step
            try:
                for event in feed(demuxer, [(9, message.payload(), time)]):
                    seen.append(repr(event) if isinstance(event, FrameReceived) else event)
                    if isinstance(event, FrameReceived):
                        frame = event.frame
                        seen.append((event.track, frame.units, frame.pts, frame.dts, frame.key, frame.avcc()))
            except RemoteProtocolError as error:
                seen.append(str(error))
        return seen

    plain = started()
    assert plain._usual
    plain._usual = {}
    assert results(started()) == results(plain)
