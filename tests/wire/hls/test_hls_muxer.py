"""The muxer as its users see it: names, blocking requests, changes of parameters, limits, memory."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.wire.hls.checker import Checker, parse
from tests.wire.hls.streams import (
    AUDIO,
    OPUS,
    OTHER_PPS,
    OTHER_SPS,
    PPS,
    SPS,
    START,
    VIDEO,
    audio,
    feed,
    merge,
    options,
    regular,
    request,
    text,
    track,
    video,
)

from polycast.errors import LocalProtocolError
from polycast.media.codec import AC3, H264, KLV, VP8, MPEG4Audio, MPEGAudio
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import Track
from polycast.wire.hls.directives import NO_DIRECTIVES
from polycast.wire.hls.muxer import Muxer, select_tracks
from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import Refusal, Resource, WaitFor

RATES = {0: 90_000, 1: 48_000, 2: 48_000}
BOTH = [track(0, VIDEO), track(1, AUDIO)]
LOW_LATENCY = Variant.LOW_LATENCY


def low_latency(seconds: float = 4.0, **fields: int | float) -> Muxer:
    """A video of 30 frames per second with a key frame each second."""
    muxer = Muxer(LOW_LATENCY, [track(0, VIDEO)], options(**fields))
    feed(muxer, video(0, regular(seconds)))
    return muxer


def test_entry_playlists_of_mpegts_are_those_of_the_reference() -> None:
    muxer = Muxer(Variant.MPEGTS, BOTH, options())
    # the reference answers for the index before any segment exists
    index = text(muxer, "index.m3u8").splitlines()
    assert index[:4] == ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-INDEPENDENT-SEGMENTS", ""]
    assert index[4].startswith("#EXT-X-STREAM-INF:BANDWIDTH=200000,")
    assert 'CODECS="avc1.42c028,mp4a.40.2"' in index[4]
    assert index[5:] == ["stream.m3u8"]
    assert isinstance(request(muxer, "stream.m3u8"), WaitFor)
    times = [(0, True), (90_000 * 4, True), (90_000 * 4 + 1, False), (90_000 * 6, True), (90_000 * 6 + 1, False)]
    feed(muxer, merge(RATES, video(0, times), audio(1, 6.1)), RATES)
    assert re.fullmatch(
        r"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-ALLOW-CACHE:NO\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n\n"
        r"#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20\.000Z\n#EXTINF:4,\nt1_stream_seg0\.ts\n"
        r"#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:24\.000Z\n#EXTINF:2,\nt1_stream_seg1\.ts\n",
        text(muxer),
    )


@pytest.mark.parametrize(("variant", "seconds", "answered"), [
    (Variant.MPEGTS, [0.5], False), (Variant.MPEGTS, [1], True), (Variant.MPEGTS, [1, 1], True),
    (Variant.FMP4, [1], False), (Variant.FMP4, [1, 1], True), (Variant.FMP4, [12], True),
    (Variant.LOW_LATENCY, [1], False), (Variant.LOW_LATENCY, [1, 0.3], True),
])  # fmt: skip
def test_a_player_gets_enough_to_start_on(variant: Variant, seconds: list[float], answered: bool) -> None:
    muxer = Muxer(variant, [track(0, VIDEO)], options())
    times, start = [], 0
    for duration in seconds:
        times += regular(duration, gop=10_000, start=start)
        start += round(duration * 90_000)
    times += [(start, seconds[-1] >= 1), (start + 3000, False)]
    feed(muxer, video(0, times))
    assert isinstance(request(muxer, "stream.m3u8"), Resource) is answered


@pytest.mark.parametrize("variant", [Variant.FMP4, Variant.LOW_LATENCY])
def test_a_player_starts_with_one_segment_if_the_stream_pauses(variant: Variant) -> None:
    muxer = Muxer(variant, [track(0, VIDEO)], options())
    feed(muxer, video(0, [(0, True), (90_000, True)]))
    assert isinstance(request(muxer, "stream.m3u8"), WaitFor)
    assert not muxer.notice_pause(muxer.last_frame_time + 0.4)
    assert isinstance(request(muxer, "stream.m3u8"), WaitFor)
    assert muxer.notice_pause(muxer.last_frame_time + 1.1)
    assert not muxer.notice_pause(muxer.last_frame_time + 2)
    playlist = text(muxer)
    assert playlist.count("#EXTINF:") == 1
    feed(muxer, video(0, [(180_000, True), (183_000, False)]))
    assert text(muxer).count("#EXTINF:") == 2


def test_real_bandwidth_picture_size_and_frame_rate() -> None:
    muxer = Muxer(Variant.FMP4, [track(0, VIDEO)], options())
    feed(muxer, video(0, regular(5, rate=25, gop=25), size=10_000))
    line = text(muxer, "index.m3u8").splitlines()[4]
    found = dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line.partition(":")[2]))
    sizes = [
        len(answer.body) * 8
        for name in re.findall(r"\S+\.mp4\n", text(muxer))
        if isinstance(answer := muxer.lookup(name.strip()), Resource)
    ]
    assert int(found["BANDWIDTH"]) == max(sizes) > 25 * 10_000 * 8
    assert int(found["AVERAGE-BANDWIDTH"]) == pytest.approx(sum(sizes) / len(sizes), abs=1)
    assert found["RESOLUTION"] == "1920x1080"
    assert found["FRAME-RATE"] == "25.000"


def test_audio_tracks_are_renditions() -> None:
    tracks = [track(0, VIDEO), track(1, AUDIO, language="en", title='The "first"'), track(2, OPUS, language="de")]
    muxer = Muxer(Variant.FMP4, tracks, options())
    feed(muxer, merge(RATES, video(0, regular(6)), audio(1, 6), audio(2, 6, samples=960)), RATES)
    lines = text(muxer, "index.m3u8").splitlines()
    media = [line for line in lines if line.startswith("#EXT-X-MEDIA:")]
    assert media == [
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="The \'first\'",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,'
        'CHANNELS="2",URI="audio1.m3u8"',
        '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="de",LANGUAGE="de",DEFAULT=NO,AUTOSELECT=YES,'
        'CHANNELS="2",URI="audio2.m3u8"',
    ]
    assert 'CODECS="avc1.42c028,mp4a.40.2,opus"' in lines[-2]
    assert 'AUDIO="audio"' in lines[-2]
    main, first = parse(text(muxer)), parse(text(muxer, "audio1.m3u8"))
    assert main.target == first.target
    # segments of the renditions end at the same times, as near as their frames let them
    for ours, theirs in zip(main.segments, first.segments, strict=False):
        assert ours.date is not None
        assert theirs.date is not None
        assert abs((ours.date - theirs.date).total_seconds()) < 0.03


def test_names_of_renditions_are_unique_as_they_are_written() -> None:
    titles = ["\n", "a (4)", "a", "a\x01", '"', "'", "\x7f"]
    tracks = [
        track(0, VIDEO),
        *(track(index, AUDIO, title=title, language="\n") for index, title in enumerate(titles, 1)),
    ]
    muxer = Muxer(Variant.FMP4, tracks, options())
    sound = [audio(index, 6) for index in range(1, len(tracks))]
    rates = {0: 90_000} | dict.fromkeys(range(1, len(tracks)), 48_000)
    feed(muxer, merge(rates, video(0, regular(6)), *sound), rates)
    written = text(muxer, "index.m3u8")
    assert "LANGUAGE" not in written
    names = re.findall(r',NAME="([^"]*)"', written)
    assert names == ["Audio 1", "a (4)", "a", "a (4) (4)", "'", "' (6)", "Audio 7"]


@pytest.mark.parametrize("count", [7, 8, 10, 15])
def test_sequence_numbers_are_those_that_players_wait_for(count: int) -> None:
    """D14: with another number of segments than 7, the reference waits for the wrong part."""
    muxer = low_latency(6, segment_count=count)
    playlist = parse(text(muxer))
    number = playlist.segments[-1].sequence
    assert f"seg{number}.mp4" in playlist.segments[-1].uri
    assert isinstance(request(muxer, "stream.m3u8", f"_HLS_msn={number}"), Resource)
    assert isinstance(request(muxer, "stream.m3u8", f"_HLS_msn={number + 1}"), WaitFor)
    parts = len(playlist.open.parts)
    assert isinstance(request(muxer, "stream.m3u8", f"_HLS_msn={number + 1}&_HLS_part={parts - 1}"), Resource)
    assert isinstance(request(muxer, "stream.m3u8", f"_HLS_msn={number + 1}&_HLS_part={parts}"), WaitFor)


def test_a_blocked_playlist_has_what_was_asked_for() -> None:
    muxer = low_latency(4)
    sequence = parse(text(muxer)).segments[-1].sequence + 2
    later = [timed for timed in video(0, regular(8)) if timed[1].dts >= 4 * 90_000]
    for wanted in range(sequence, sequence + 3):
        for part in range(5):
            query = f"_HLS_msn={wanted}&_HLS_part={part}"
            while isinstance(request(muxer, "stream.m3u8", query), WaitFor):
                published = False
                while not published:
                    index, frame = later.pop(0)
                    published = muxer.write_frame(index, frame, 0.0, START)
            playlist = parse(text(muxer, query=query))
            if playlist.open.parts and playlist.segments[-1].sequence == wanted - 1:
                assert len(playlist.open.parts) == part + 1
            else:
                assert playlist.segments[-1].sequence == wanted


def test_a_hinted_part_is_served_under_its_name() -> None:
    """D2: the reference answers 404 for the part that its preload hint names."""
    muxer = low_latency(4)
    hints = 0
    for index, frame in [timed for timed in video(0, regular(10)) if timed[1].dts >= 4 * 90_000]:
        hint = parse(text(muxer)).hint
        assert hint is not None
        assert isinstance(muxer.lookup(hint), WaitFor)
        if muxer.write_frame(index, frame, 0.0, START):
            assert isinstance(muxer.lookup(hint), Resource)
            hints += 1
    assert hints >= 29


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_HLS_part=1", 400),
        ("_HLS_msn=-1", 400),
        ("_HLS_msn=x", 400),
        ("_HLS_msn=", 400),
        ("_HLS_msn=1e3", 400),
        ("_HLS_msn=9999999999999999999999999", 400),
        ("_HLS_msn=10&_HLS_part=99999999", 400),
        ("_HLS_msn=12", 400),
        ("_HLS_msn=\u0663", 400),
        ("&".join(f"_HLS_x{number}=1" for number in range(1000)), 400),
        ("_HLS_msn=0", 200),
        ("_HLS_msn=9&_HLS_part=700", 200),
        ("_HLS_skip=YES", 200),
        ("_HLS_skip=maybe&token=a%20b", 200),
        ("token=x", 200),
    ],
)
def test_statuses_of_directives(query: str, status: int) -> None:
    muxer = low_latency(3.5)  # segments 7 to 9, and parts of 10
    answer = request(muxer, "stream.m3u8", query)
    assert (answer.status if isinstance(answer, Refusal) else 200) == status
    assert isinstance(answer, Refusal | Resource)


def test_a_part_beyond_its_segment_is_the_first_of_the_next() -> None:
    muxer = low_latency(3.0)
    feed(muxer, [timed for timed in video(0, regular(3.1)) if timed[1].dts >= 270_000])
    playlist = parse(text(muxer))
    assert not playlist.open.parts
    query = f"_HLS_msn={playlist.segments[-1].sequence}&_HLS_part={len(playlist.segments[-1].parts)}"
    assert isinstance(request(muxer, "stream.m3u8", query), WaitFor)
    feed(muxer, [timed for timed in video(0, regular(3.4)) if timed[1].dts >= 279_000])
    assert len(parse(text(muxer, query=query)).open.parts) == 1


def test_other_names() -> None:
    muxer = low_latency()
    for name in ("", "x.mp4", "audio1.m3u8", "../stream.m3u8", "STREAM.M3U8", "t1_stream_seg6.mp4"):
        answer = request(muxer, name)
        assert isinstance(answer, Refusal), name
        assert answer.status == 404


def filled_up(muxer: Muxer) -> str:
    """Return the playlist of a player that does not begin with a short one."""
    answer = muxer.playlist(directives=NO_DIRECTIVES._replace(gaps=True))
    assert isinstance(answer, Resource)
    return answer.body.decode()


def test_gaps_are_for_players_that_need_them() -> None:
    """hls.js 1.7 does not get over EXT-X-GAP at the beginning of a stream."""
    muxer = Muxer(LOW_LATENCY, [track(0, VIDEO)], options())
    feed(muxer, video(0, regular(1.1)))
    assert isinstance(request(muxer, "stream.m3u8"), WaitFor), "no part stands behind the first segment yet"
    playlist = parse(filled_up(muxer))
    assert [segment.gap for segment in playlist.segments] == [True] * 6 + [False]
    assert playlist.segments[-1].sequence == playlist.media_sequence + 6 == 7
    feed(muxer, (timed for timed in video(0, regular(20)) if timed[1].dts >= 99_000))
    assert "gap.mp4" not in filled_up(muxer)


@pytest.mark.parametrize("seconds", [1.5, 2.5, 6.5, 7.5, 9.5])
def test_gaps_end_one_by_one(seconds: float) -> None:
    muxer = low_latency(seconds)
    plain, full = parse(text(muxer)), parse(filled_up(muxer))
    assert "gap.mp4" not in text(muxer)
    assert len(full.segments) == 7
    real = [segment.uri for segment in full.segments if not segment.gap]
    assert real == [segment.uri for segment in plain.segments]
    assert full.segments[-1].sequence == plain.segments[-1].sequence


def test_the_first_segment_goes_without_parts() -> None:
    """hls.js 1.7 loads the parts of the first segment of a playlist again and again."""
    muxer = low_latency(1.5)
    playlist = parse(text(muxer))
    assert not playlist.segments[0].parts
    assert playlist.open.parts
    assert parse(filled_up(muxer)).segments[-1].parts


def test_the_file_of_the_gaps_is_there() -> None:
    # VLC 3 does not know EXT-X-GAP.
    gap = low_latency(4).lookup("gap.mp4")
    assert isinstance(gap, Resource)
    assert gap.body == b"\0\0\0\x14stypmsdh\0\0\0\0msdh"
    assert low_latency(20).lookup("gap.mp4") is None


def test_names_differ_between_muxers() -> None:
    """D13, and no name comes back after a restart: the caller gives every muxer another prefix."""
    names = []
    for prefix in ("a1", "a2"):
        muxer = Muxer(Variant.MPEGTS, [track(0, VIDEO)], replace(options(), prefix=prefix, segment_duration=0.2))
        feed(muxer, video(0, regular(2, gop=6)))
        names += [segment.uri for segment in parse(text(muxer)).segments]
    assert len(names) >= 14
    assert len(set(names)) == len(names)


def test_files_say_whether_they_may_be_cached() -> None:
    muxer = low_latency()
    playlist = request(muxer, "stream.m3u8")
    assert isinstance(playlist, Resource)
    assert not playlist.immutable
    assert playlist.content_type == "application/vnd.apple.mpegurl"
    listed = parse(playlist.body.decode())
    for name in (listed.segments[-1].uri, listed.open.parts[0].uri, listed.segments[-1].initialization or ""):
        found = muxer.lookup(name)
        assert isinstance(found, Resource)
        assert found.immutable
        assert found.content_type == "video/mp4"


def test_a_playlist_is_built_once_for_all_viewers() -> None:
    muxer = low_latency()
    first = request(muxer, "stream.m3u8")
    assert request(muxer, "stream.m3u8", "token=1") is first
    assert request(muxer, "stream.m3u8", "_HLS_msn=8&_HLS_part=0") is first


@pytest.mark.parametrize("variant", Variant)
def test_new_parameter_sets_are_a_discontinuity(variant: Variant) -> None:
    muxer = Muxer(variant, BOTH, options())
    checker = Checker(lambda name: _size(muxer, name), low_latency=variant is LOW_LATENCY)
    frames = merge(
        RATES,
        video(0, regular(3.5)),
        video(0, regular(4, start=315_000), sps=OTHER_SPS, pps=OTHER_PPS),
        audio(1, 7.5),
    )
    for index, frame in frames:
        seconds = frame.dts / RATES[index]
        if muxer.write_frame(index, frame, seconds, WallTime(START + int(seconds * 1e9))):
            answer = request(muxer, "stream.m3u8")
            if isinstance(answer, Resource):
                checker.check(answer.body.decode())
    playlist = parse(text(muxer))
    changed = [segment for segment in playlist.segments if segment.discontinuity]
    assert len(changed) == 1
    # the segment before it ends early, at the key frame with the new parameter sets
    before = playlist.segments[playlist.segments.index(changed[0]) - 1]
    assert before.duration == pytest.approx(0.5)
    if variant is not Variant.MPEGTS:
        assert before.initialization != changed[0].initialization
        old, new = muxer.lookup(before.initialization or ""), muxer.lookup(changed[0].initialization or "")
        assert isinstance(old, Resource)
        assert isinstance(new, Resource)
        assert SPS in old.body
        assert OTHER_SPS in new.body
        assert OTHER_SPS not in old.body
    assert 'CODECS="avc1.640028,mp4a.40.2"' in text(muxer, "index.m3u8")


def test_discontinuities_are_counted_when_they_leave() -> None:
    muxer = Muxer(Variant.FMP4, [track(0, VIDEO)], options(segment_count=3))
    sets = [(SPS, PPS), (OTHER_SPS, OTHER_PPS)] * 5
    for number, (sps, pps) in enumerate(sets):
        feed(muxer, video(0, regular(1, start=number * 90_000), sps=sps, pps=pps))
    playlist = parse(text(muxer))
    assert all(segment.discontinuity for segment in playlist.segments)
    assert playlist.discontinuity_sequence == playlist.media_sequence - 1 == 5


def test_an_audio_rendition_and_the_video_agree_on_discontinuities() -> None:
    tracks = [track(0, VIDEO), track(1, AUDIO), track(2, AUDIO)]
    muxer = Muxer(Variant.FMP4, tracks, options(segment_count=30))
    mono = MPEG4Audio(bytes.fromhex("1188"), 48_000, 1)
    for index, frame in merge(RATES, video(0, regular(12)), audio(1, 12), audio(2, 12)):
        if index == 1 and frame.dts == 1024 * 200:
            muxer.update_track(track(1, mono))
        muxer.write_frame(index, frame, 0.0, START)
    found = {name: parse(text(muxer, name)).segments for name in ("stream.m3u8", "audio1.m3u8", "audio2.m3u8")}
    counts = {name: sum(segment.discontinuity for segment in segments) for name, segments in found.items()}
    assert counts == {"stream.m3u8": 1, "audio1.m3u8": 1, "audio2.m3u8": 1}


@pytest.mark.parametrize("variant", Variant)
def test_a_segment_that_reaches_its_maximum_ends_early(variant: Variant) -> None:
    """The reference destroys the muxer."""
    muxer = Muxer(variant, [track(0, VIDEO)], options(segment_maximum_size=100_000))
    frames = list(video(0, [(time, time == 0) for time, _ in regular(40)], size=1000))
    feed(muxer, frames)
    playlist = parse(text(muxer))
    assert muxer.counters.ended_early >= 10
    assert muxer.counters.dropped == 0
    for segment in playlist.segments:
        if not segment.gap:
            assert (_size(muxer, segment.uri) or 0) <= 115_000
    assert "#EXT-X-INDEPENDENT-SEGMENTS" not in text(muxer, "index.m3u8")


def test_a_frame_larger_than_a_segment_is_dropped() -> None:
    muxer = Muxer(Variant.MPEGTS, [track(0, VIDEO)], options(segment_maximum_size=50_000))
    frames = list(video(0, regular(6)))
    large = frames[65][1]
    frames[65] = (0, Frame((b"\x41" + bytes(60_000),), large.pts, large.dts, key=False))
    feed(muxer, frames)
    assert muxer.counters.dropped == 90 - 65  # it, and all up to the next key frame
    assert len(parse(text(muxer)).segments) == 5


def test_a_publisher_without_further_key_frames() -> None:
    muxer = Muxer(Variant.FMP4, [track(0, VIDEO)], options())
    feed(muxer, video(0, [(time, time == 0) for time, _ in regular(200, rate=10)]))
    assert [segment.duration for segment in parse(text(muxer)).segments] == pytest.approx([60, 60, 60], abs=0.2)


@pytest.mark.parametrize("variant", Variant)
def test_audio_that_falls_silent_for_minutes(variant: Variant) -> None:
    muxer = Muxer(variant, BOTH, options())
    frames = merge(RATES, video(0, regular(200)), audio(1, 5), audio(1, 10, start=48_000 * 180))
    feed(muxer, frames, RATES)
    assert muxer.counters.out_of_sync == 0
    playlist = parse(text(muxer))
    assert all(segment.duration == pytest.approx(1) for segment in playlist.segments)


@pytest.mark.parametrize("variant", Variant)
def test_rare_sound_is_in_the_segment_of_its_picture(variant: Variant) -> None:
    """One picture and one audio frame a second, sent in bursts: the first test of many programs, and alarm systems."""
    muxer = Muxer(variant, BOTH, options())
    frames = [
        Frame((b"sound %d" % second,), second * 48_000, second * 48_000, key=True, duration=1024) for second in range(7)
    ]
    for (_, picture), sound in zip(video(0, regular(7, rate=1, gop=1)), frames, strict=True):
        muxer.write_frame(0, picture, 0.0, START)
        muxer.write_frame(1, sound, 0.0, START)
    segments = [segment for segment in parse(text(muxer)).segments if not segment.gap]
    assert len(segments) >= 4
    for second, segment in enumerate(segments):
        body = muxer.lookup(segment.uri)
        assert isinstance(body, Resource)
        assert re.findall(rb"sound \d", body.body) == [b"sound %d" % second]


def test_nothing_is_sent_before_the_first_key_frame() -> None:
    muxer = Muxer(Variant.FMP4, BOTH, options())
    for index, frame in merge(RATES, video(0, [(time, False) for time, _ in regular(3)]), audio(1, 3)):
        assert not muxer.write_frame(index, frame, 0.0, START)
    assert muxer.size == 0


@pytest.mark.parametrize("variant", Variant)
@pytest.mark.parametrize("sps", [b"", b"\1\2\3\4", SPS[:6]])
def test_the_index_is_there_whatever_the_parameter_sets_are(variant: Variant, sps: bytes) -> None:
    muxer = Muxer(variant, [track(0, H264(sps, PPS)), track(1, AUDIO)], options())
    index = text(muxer, "index.m3u8")
    assert index.endswith("\n#EXT-X-STREAM-INF:BANDWIDTH=200000,AVERAGE-BANDWIDTH=200000\nstream.m3u8\n")
    feed(muxer, merge(RATES, video(0, regular(3)), audio(1, 3)), RATES)
    assert 'CODECS="avc1.42c028,mp4a.40.2",RESOLUTION=1920x1080' in text(muxer, "index.m3u8")


def test_parameter_sets_may_come_with_the_first_key_frame() -> None:
    muxer = Muxer(Variant.FMP4, [track(0, H264())], options())
    assert "CODECS" not in text(muxer, "index.m3u8"), "they are not known yet"
    feed(muxer, video(0, regular(4)))
    assert 'CODECS="avc1.42c028"' in text(muxer, "index.m3u8")
    initialization = muxer.lookup(parse(text(muxer)).segments[0].initialization or "")
    assert isinstance(initialization, Resource)
    assert SPS in initialization.body


def test_tracks_that_cannot_be_carried_are_named() -> None:
    tracks = [track(0, VIDEO), Track(1, VP8()), Track(2, KLV()), track(3, AUDIO), Track(4, H264())]
    carried, skipped = select_tracks(Variant.MPEGTS, tracks)
    assert [each.index for each in carried] == [0, 3]
    assert [str(each) for each in skipped] == ["VP8", "KLV", "H264"]
    with pytest.raises(LocalProtocolError):
        Muxer(Variant.MPEGTS, [Track(0, VP8())], options())
    muxer = Muxer(Variant.MPEGTS, tracks, options())
    assert not muxer.write_frame(1, Frame((b"x",), 0, 0, key=True), 0.0, START)


def test_a_track_cannot_change_its_codec() -> None:
    muxer = Muxer(Variant.MPEGTS, BOTH, options())
    with pytest.raises(LocalProtocolError):
        muxer.update_track(track(1, OPUS))


@pytest.mark.parametrize("codec", [MPEGAudio(), AC3()])
def test_audio_frames_that_are_no_frames(codec: MPEGAudio | AC3) -> None:
    muxer = Muxer(Variant.FMP4, [track(0, VIDEO), Track(1, codec)], options())
    rates = {0: 90_000, 1: codec.clock_rate}
    feed(muxer, merge(rates, video(0, regular(4)), audio(1, 4, rate=codec.clock_rate)), rates)
    assert len(parse(text(muxer)).segments) == 3


def test_after_the_end() -> None:
    muxer = low_latency()
    hint = parse(text(muxer)).hint or ""
    muxer.close()
    assert not muxer.write_frame(0, Frame((b"\x65",), 0, 0, key=True), 0.0, START)
    blocked = request(muxer, "stream.m3u8", "_HLS_msn=11")
    assert isinstance(blocked, Refusal)
    assert blocked.status == 503
    assert muxer.lookup(hint) is None
    assert isinstance(request(muxer, "stream.m3u8"), Resource)


@pytest.mark.parametrize("audio_tracks", [1, 2])
@pytest.mark.parametrize("variant", Variant)
def test_memory_is_flat_over_an_hour(variant: Variant, audio_tracks: int) -> None:
    tracks = [track(0, VIDEO), *(track(index, AUDIO) for index in range(1, audio_tracks + 1))]
    muxer = Muxer(variant, tracks, options(segment_duration=2))
    rates = {each.index: each.clock_rate for each in tracks}
    sizes, counts = [], []
    for minute in range(60):
        start = minute * 60
        frames = merge(
            rates,
            video(0, regular(60, rate=5, gop=10, start=start * 90_000), size=50),
            *(audio(each.index, 60, samples=9600, start=start * 48_000, size=20) for each in tracks[1:]),
        )
        feed(muxer, frames, rates)
        sizes.append(muxer.size)
        counts.append(sum(len(rendition.files) for rendition in muxer._renditions))
    assert max(sizes[1:]) - min(sizes[1:]) < 0.1 * sizes[1]
    playlists = len(muxer._renditions)
    assert playlists == (1 if audio_tracks == 1 else 1 + audio_tracks)
    assert max(counts[1:]) - min(counts[1:]) <= 12 * playlists
    assert counts[-1] <= 60 * playlists
    assert muxer.counters.discontinuities == muxer.counters.corrected_times == 0


def _size(muxer: Muxer, name: str) -> int | None:
    found = muxer.lookup(name)
    return len(found.body) if isinstance(found, Resource) else None
