"""The playlist parser, with what servers really send."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tests.wire.hls.streams import AUDIO, VIDEO, audio, feed, merge, options, regular, text, track, video

from polycast.errors import RemoteProtocolError
from polycast.wire.hls import parser
from polycast.wire.hls.attributes import parse_date, parse_decimal
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import Variant
from polycast.wire.hls.parsed import (
    ByteRange,
    Initialization,
    Key,
    ParsedMediaPlaylist,
    ParsedMultivariantPlaylist,
    ParsedReport,
    PreloadHint,
)
from polycast.wire.hls.parser import parse_playlist

MULTIVARIANT = b"""\xef\xbb\xbf#EXTM3U\r
#EXT-X-INDEPENDENT-SEGMENTS\r
# a comment\r
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a,b",NAME="English=1",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,URI="en.m3u8"\r
#EXT-X-STREAM-INF:BANDWIDTH=1280000,AVERAGE-BANDWIDTH=1000000,CODECS="avc1.4d401f, mp4a.40.2",AUDIO="a,b"\r
low/video.m3u8?x=1\r
\r
#EXT-X-STREAM-INF:RESOLUTION=1920x1080,BANDWIDTH=7680000,FRAME-RATE=29.970\r
#EXT-X-UNKNOWN:A=1\r
https://example.com/high.m3u8\r
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=86000,URI="iframe.m3u8"\r
"""

MEDIA = b"""#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:4
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,CAN-SKIP-UNTIL=12.0,HOLD-BACK=12
#EXT-X-PART-INF:PART-TARGET=0.33334
#EXT-X-MEDIA-SEQUENCE:266
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-SKIP:SKIPPED-SEGMENTS=2
#EXT-X-MAP:URI="init.mp4",BYTERANGE="720@0"
#EXT-X-KEY:METHOD=AES-128,URI="key.bin",IV=0x01
#EXTINF:4.00008,a title, with a comma
#EXT-X-PROGRAM-DATE-TIME:2019-02-14T02:13:36.106+01:00
#EXT-X-BYTERANGE:1000@500
all.mp4
#EXTINF:3,
#EXT-X-BYTERANGE:200
all.mp4
#EXT-X-DISCONTINUITY
#EXT-X-KEY:METHOD=NONE
#EXT-X-GAP
#EXTINF:4.0
gap.mp4
#EXT-X-PART:DURATION=0.33334,URI="p0.mp4",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.33334,URI="p.mp4",BYTERANGE="10@20"
#EXT-X-PART:DURATION=0.2,URI="p.mp4",BYTERANGE="5",GAP=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p.mp4",BYTERANGE-START=35
#EXT-X-RENDITION-REPORT:URI="../1M/w.m3u8",LAST-MSN=273,LAST-PART=2
"""


def test_multivariant() -> None:
    playlist = parse_playlist(MULTIVARIANT)
    assert isinstance(playlist, ParsedMultivariantPlaylist)
    assert playlist.independent_segments
    low, high = playlist.variants
    assert (low.uri, low.bandwidth, low.average_bandwidth) == ("low/video.m3u8?x=1", 1_280_000, 1_000_000)
    assert low.codecs == ("avc1.4d401f", "mp4a.40.2")
    assert (high.uri, high.resolution, high.frame_rate) == ("https://example.com/high.m3u8", (1920, 1080), 29.97)
    (rendition,) = playlist.renditions
    assert low.audio_group == rendition.group == "a,b"
    assert (rendition.name, rendition.uri, rendition.default) == ("English=1", "en.m3u8", True)


def test_media() -> None:
    playlist = parse_playlist(MEDIA)
    assert isinstance(playlist, ParsedMediaPlaylist)
    assert (playlist.version, playlist.target_duration, playlist.part_target) == (9, 4, 0.33334)
    assert (playlist.control.can_block_reload, playlist.control.can_skip_until) == (True, 12.0)
    assert (playlist.control.hold_back, playlist.control.part_hold_back) == (12.0, 1.0)
    assert playlist.skipped_segments == 2
    first, second, third = playlist.segments
    assert (first.sequence, first.duration, first.title) == (268, 4.00008, "a title, with a comma")
    assert first.byte_range == ByteRange(500, 1000)
    assert first.date == 1_550_106_816_106_000_000
    assert first.initialization == Initialization("init.mp4", ByteRange(0, 720), None)
    assert first.key == second.key == Key("AES-128", "key.bin", "0x01", "identity")
    assert second.byte_range == ByteRange(1500, 200)
    assert (third.gap, third.discontinuity, third.discontinuity_sequence, third.key) == (True, True, 4, None)
    assert [part.byte_range for part in playlist.open_parts] == [None, ByteRange(20, 10), ByteRange(30, 5)]
    assert playlist.hints == (PreloadHint("PART", "p.mp4", 35, None),)
    assert playlist.reports == (ParsedReport("../1M/w.m3u8", 273, 2),)
    assert not playlist.ended


@pytest.mark.parametrize("variant", Variant)
def test_our_own_playlists(variant: Variant) -> None:
    muxer = Muxer(variant, [track(0, VIDEO), track(1, AUDIO), track(2, AUDIO)], options())
    rates = {0: 90_000, 1: 48_000, 2: 48_000}
    feed(muxer, merge(rates, video(0, regular(10)), audio(1, 10), audio(2, 10)), rates)
    index = parse_playlist(text(muxer, "index.m3u8").encode())
    assert isinstance(index, ParsedMultivariantPlaylist)
    for uri in ("stream.m3u8", *(rendition.uri or "" for rendition in index.renditions)):
        playlist = parse_playlist(text(muxer, uri).encode())
        assert isinstance(playlist, ParsedMediaPlaylist)
        assert len(playlist.segments) == 7
        assert all(segment.date is not None for segment in playlist.segments)
        assert bool(playlist.open_parts) == (variant is Variant.LOW_LATENCY)


HEAD = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"#EXTM3U8\n",
        b"#EXTM3U\n#EXTINF:1,\na.ts\n",
        b"\xff\xfe",
        HEAD + b"a.ts\n",
        HEAD + b"#EXTINF:x,\na.ts\n",
        HEAD + b"#EXTINF:nan,\na.ts\n",
        HEAD + b"#EXTINF:1e9,\na.ts\n",
        HEAD + b"#EXTINF:-1,\na.ts\n",
        HEAD + b"#EXT-X-MEDIA-SEQUENCE:" + b"9" * 5000 + b"\n",
        HEAD + b"#EXTINF:1,\n#EXT-X-BYTERANGE:5\na.ts\n",
        HEAD + b"#EXT-X-MAP:BYTERANGE=1\n",
        HEAD + b'#EXT-X-MAP:URI="a\n',
        HEAD + b"#EXT-X-PART:URI=a\n",
        HEAD + b'#EXT-X-PART:DURATION=1,URI="a",,\n',
        HEAD + b"#EXT-X-KEY:" + b",".join(b"A%d=1" % number for number in range(100)) + b"\n",
        HEAD + b"#EXT-X-KEY:A=" + b" " * 100_000 + b'"\n',
        HEAD + b"#EXTINF:1,\na\n" * (parser.MAXIMUM_SEGMENTS + 1),
        HEAD + b'#EXT-X-PART:DURATION=1,URI="a"\n' * (parser.MAXIMUM_PARTS + 1),
        b"#EXTM3U\n" + b"#EXT-X-STREAM-INF:BANDWIDTH=1\na\n" * (parser.MAXIMUM_VARIANTS + 2),
        b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
        b"#EXTM3U\n" + b"\n" * parser.MAXIMUM_PLAYLIST_SIZE,
    ],
    ids=range(23),
)
def test_what_is_no_playlist(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_playlist(data)


@pytest.mark.parametrize(
    "attributes",
    [
        "RESOLUTION=1x",
        "RESOLUTION=1920*1080,FRAME-RATE=N/A",
        "AVERAGE-BANDWIDTH=",
        'name="main, first",x_rank=1',
        'CODECS = "avc1.4d401f" ,VIDEO-RANGE=SDR',
        "CODECS=avc1.4d401f,mp4a.40.2",
        "BANDWIDTH=x",
    ],
)
def test_attributes_that_are_not_needed_do_not_lose_the_playlist(attributes: str) -> None:
    playlist = parse_playlist(f"#EXTM3U\n#EXT-X-STREAM-INF:{attributes}, BANDWIDTH=5\na.m3u8\n".encode())
    assert isinstance(playlist, ParsedMultivariantPlaylist)
    (variant,) = playlist.variants
    assert (variant.uri, variant.bandwidth, variant.resolution, variant.frame_rate) == ("a.m3u8", 5, None, None)


def test_codecs_without_quotes() -> None:
    playlist = parse_playlist(b"#EXTM3U\n#EXT-X-STREAM-INF:CODECS=avc1.4d401f, mp4a.40.2,BANDWIDTH=5\na.m3u8\n")
    assert isinstance(playlist, ParsedMultivariantPlaylist)
    assert playlist.variants[0].codecs == ("avc1.4d401f", "mp4a.40.2")
    assert playlist.variants[0].bandwidth == 5


def test_attributes_of_the_first_line() -> None:
    playlist = parse_playlist(HEAD.replace(b"#EXTM3U", b'#EXTM3U x-tvg-url="http://a/b"') + b"#EXTINF:1,\na.ts\n")
    assert isinstance(playlist, ParsedMediaPlaylist)
    assert len(playlist.segments) == 1


def test_variables() -> None:
    defined = b'#EXT-X-DEFINE:NAME="host",VALUE="http://a"\n#EXT-X-DEFINE:NAME="url",VALUE="{$host}/b"\n'
    others = b'#EXT-X-DEFINE:IMPORT="token"\n#EXT-X-DEFINE:QUERYPARAM="user"\n'
    rest = b'#EXT-X-MAP:URI="{$url}/i?{$token}"\n#EXTINF:1,\n{$url}/{$user}.ts?t={$token}\n'
    playlist = parse_playlist(
        HEAD + defined + others + rest, "http://c/x.m3u8?user=u%20v", {"token": "s3", "unused": "x"}
    )
    assert isinstance(playlist, ParsedMediaPlaylist)
    (segment,) = playlist.segments
    assert segment.uri == "http://a/b/u v.ts?t=s3"
    assert segment.initialization is not None
    assert segment.initialization.uri == "http://a/b/i?s3"


def test_without_definitions_a_reference_is_part_of_the_address() -> None:
    playlist = parse_playlist(HEAD + b"#EXTINF:1,\n{$a}.ts\n")
    assert isinstance(playlist, ParsedMediaPlaylist)
    assert playlist.segments[0].uri == "{$a}.ts"


def test_variables_are_neither_in_comments_nor_in_titles_and_plus_is_no_space() -> None:
    lines = b'#EXT-X-DEFINE:QUERYPARAM="t"\n# {$none}\n#EXTINF:1,{$none}\na.ts?t={$t}\n'
    playlist = parse_playlist(HEAD + lines, "http://c/x.m3u8?t=ab+cd%20e==")
    assert isinstance(playlist, ParsedMediaPlaylist)
    assert [segment.uri for segment in playlist.segments] == ["a.ts?t=ab+cd e=="]


@pytest.mark.parametrize(
    "lines",
    [
        '#EXT-X-DEFINE:IMPORT="a"\n',
        '#EXT-X-DEFINE:QUERYPARAM="a"\n',
        '#EXT-X-DEFINE:\n#EXT-X-DEFINE:VALUE="x"\n',
        '#EXT-X-DEFINE:NAME="a",VALUE="x"\n#EXTINF:1,\n{$b}\n',
        "".join(f'#EXT-X-DEFINE:NAME="n{number}",VALUE="x"\n#EXTINF:1,\nb\n' for number in range(66)),
        f'#EXT-X-DEFINE:NAME="a",VALUE="{"x" * 100_000}"\n' + "#EXTINF:1,\n{$a}\n" * 50,
        f'#EXT-X-DEFINE:NAME="a",VALUE="{"x" * 1_000_000}"\n#EXTINF:1,\n{"{$a}" * 100_000}\n',
        "#EXT-X-KEY:A=1" + ",x" * 100_000 + "\n",
    ],
    ids=range(8),
)
def test_variables_that_are_not_defined_or_too_large(lines: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_playlist(HEAD + lines.encode(), "http://c/x.m3u8")


def test_the_key_that_can_be_used_among_those_of_several_systems() -> None:
    file = b'#EXT-X-KEY:METHOD=AES-128,URI="file"\n'
    other = b'#EXT-X-KEY:METHOD=AES-128,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery"\n'
    none = b"#EXT-X-KEY:METHOD=NONE\n"
    segment = b"#EXTINF:1,\na.ts\n"
    data = HEAD + file + other + segment + other + segment + none + segment + other + segment + file + segment
    playlist = parse_playlist(data)
    assert isinstance(playlist, ParsedMediaPlaylist)
    uris = [None if each.key is None else each.key.uri for each in playlist.segments]
    assert uris == ["file", "file", None, "skd://x", "file"]


def test_key_formats_are_limited() -> None:
    line = '#EXT-X-KEY:METHOD=AES-128,URI="a",KEYFORMAT="{}"\n'
    keys = "".join(line.format(number) for number in range(parser.MAXIMUM_KEY_FORMATS + 1))
    with pytest.raises(RemoteProtocolError):
        parse_playlist(HEAD + keys.encode())


@pytest.mark.parametrize("date", ["", "yesterday", "2019-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59"])
def test_dates_that_are_none_do_not_lose_the_playlist(date: str) -> None:
    playlist = parse_playlist(HEAD + f"#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:1,\na.ts\n".encode())
    assert isinstance(playlist, ParsedMediaPlaylist)
    assert len(playlist.segments) == 1


def test_a_date_without_zone_is_utc() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert parse_date("2024-05-06T07:08:09") == int(moment.timestamp()) * 10**9


@pytest.mark.parametrize(("text", "number"), [("4", 4), ("4.", 4), (".5", 0.5), (" 0.25 ", 0.25)])
def test_decimal_numbers(text: str, number: float) -> None:
    assert parse_decimal(text) == number


@pytest.mark.parametrize("text", ["", ".", "-1", "1e3", "1.2.3", "nan", "1,5"])
def test_what_is_no_decimal_number(text: str) -> None:
    with pytest.raises(RemoteProtocolError, match="number"):
        parse_decimal(text)
