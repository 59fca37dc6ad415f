"""URLs: their parts, and which path and track the URLs of real clients mean."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.url import (
    RtspUrl,
    announce_path,
    check_record_controls,
    control_path,
    decode_path,
    describe_path,
    join_control,
    match_record_control,
    setup_play_path,
    split_path_query,
    strip_one_trailing_slash,
)

URLS = [
    ("rtsp://h/p", RtspUrl("rtsp", "h", None, "p")),
    ("rtsp://h", RtspUrl("rtsp", "h")),
    ("rtsps://h:8322/a/b?x=1&y=/2?", RtspUrl("rtsps", "h", 8322, "a/b", "x=1&y=/2?")),
    ("rtsp://[::1]:554/p/", RtspUrl("rtsp", "::1", 554, "p/")),
    ("rtsp://[fe80::1]/p", RtspUrl("rtsp", "fe80::1", None, "p")),
    ("rtsp://u:p%40%3Aw@h/p", RtspUrl("rtsp", "h", None, "p", user="u", password="p@:w")),
    ("rtsp://u%20v:@h/p", RtspUrl("rtsp", "h", None, "p", user="u v", password="")),
    ("rtsp://u@h/p%20q", RtspUrl("rtsp", "h", None, "p%20q", user="u")),
]


@pytest.mark.parametrize(("text", "url"), URLS)
def test_parse(text: str, url: RtspUrl) -> None:
    assert RtspUrl.parse(text) == url
    assert RtspUrl.parse(url.serialize()) == url
    assert url.serialize() == text or not url.path
    assert str(url) == url.serialize()


def test_blanks_are_encoded_on_the_wire() -> None:
    url = RtspUrl.parse("rtsp://h/my cam\t?a b")
    assert url.path == "my cam\t"
    assert url.serialize() == "rtsp://h/my%20cam%09?a%20b"
    assert describe_path(url)[0] == describe_path(RtspUrl.parse(url.serialize()))[0]


def test_parse_tolerates() -> None:
    assert RtspUrl.parse("RTSP://H/p").scheme == "rtsp"
    assert RtspUrl.parse("rtsp://u:p@ss@h/p").password == "p@ss"
    assert RtspUrl.parse("rtsp://h?q") == RtspUrl("rtsp", "h", None, "", "q")
    assert RtspUrl.parse("rtsp://h:/p").port is None


@pytest.mark.parametrize(
    "text", ["", "*", "/p", "http://h/p", "rtsp:h/p", "rtsp:///p", "rtsp://h:x/p", "rtsp://h:70000/", "rtsp://[::1/p"]
)
def test_invalid(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        RtspUrl.parse(text)
    assert raised.value.status == 400


def test_ports_and_credentials() -> None:
    url = RtspUrl.parse("rtsps://u:p@h/x?y")
    assert url.effective_port == 322
    assert RtspUrl.parse("rtsp://h/x").effective_port == 554
    assert RtspUrl.parse("rtsp://h:1/x").effective_port == 1
    assert url.without_credentials().serialize() == "rtsps://h/x?y"


def test_small_ones() -> None:
    assert split_path_query("a/b?c?d") == ("a/b", "c?d")
    assert split_path_query("a") == ("a", "")
    assert strip_one_trailing_slash("a//") == "a/"
    assert strip_one_trailing_slash("a") == "a"
    assert decode_path("a%20b%2fc%5F") == "a b%2Fc_"


def test_describe() -> None:
    assert describe_path(RtspUrl.parse("rtsp://h/a/b?q=/")) == ("a/b", "q=/")
    for text in ("rtsp://h/a/b/", "rtsp://h/a/b/?q"):
        assert describe_path(RtspUrl.parse(text))[0] == "a/b"
        with pytest.raises(RemoteProtocolError):
            announce_path(RtspUrl.parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://h/p", ("p", "")),
        ("rtsp://h/p/", ("p", "")),
        ("rtsp://h/p//", ("p/", "")),
        ("rtsp://h/a/b?q=1/", ("a/b", "q=1")),  # FFmpeg and GStreamer: Content-Base of a URL with a query
        ("rtsp://h/a/b/?q=1", ("a/b", "q=1")),
        ("rtsp://h/p/trackID=1", ("p", "")),
    ],
)
def test_control_path(text: str, expected: tuple[str, str]) -> None:
    assert control_path(RtspUrl.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://h/teststream/trackID=2", ("teststream", "", 2)),
        ("rtsp://h/test/stream/trackID=0", ("test/stream", "", 0)),
        ("rtsp://h/test/stream/", ("test/stream", "", 0)),
        ("rtsp://h/teststream?testing=123/trackID=4", ("teststream", "testing=123", 4)),
        ("rtsp://h/test/stream?testing=0/", ("test/stream", "testing=0", 0)),
        ("rtsp://h/p/?x=1/trackID=4", ("p", "x=1", 4)),
        ("rtsp://h/cam/a/trackID=0?x=1&y=2", ("cam/a", "x=1&y=2", 0)),
        ("rtsp://h/p/trackID=12/", ("p", "", 12)),
        ("rtsp://h/p/trackID=5/trackID=1", ("p/trackID=5", "", 1)),
    ],
)
def test_setup_play(text: str, expected: tuple[str, str, int]) -> None:
    assert setup_play_path(RtspUrl.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rtsp://h/p", "must end with a slash"),
        ("rtsp://h/p?q", "must end with a slash"),
        ("rtsp://h/p/trackID=", "track ID"),
        ("rtsp://h/p/trackID=-1", "track ID"),
        ("rtsp://h/p/trackID=1x", "track ID"),
        ("rtsp://h/p/trackID=99999", "track ID"),
    ],
)
def test_invalid_setup_play(text: str, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason) as raised:
        setup_play_path(RtspUrl.parse(text))
    assert raised.value.status == 400


FFMPEG_CONTROLS = ["streamid=0", "streamid=1"]


@pytest.mark.parametrize(
    ("setup", "base", "controls", "index"),
    [
        ("rtsp://h/p/streamid=1", "rtsp://h/p", FFMPEG_CONTROLS, 1),
        ("rtsp://h/p/streamid=1/", "rtsp://h/p/", FFMPEG_CONTROLS, 1),
        ("rtsp://h/p/streamid=2", "rtsp://h/p", FFMPEG_CONTROLS, None),
        ("rtsp://h/q/streamid=0", "rtsp://h/p", FFMPEG_CONTROLS, None),
        ("rtsp://h/p", "rtsp://h/p", FFMPEG_CONTROLS, None),
        ("rtsp://h/p/trackID=0", "rtsp://h/p", ["trackID=1", "trackID=0"], 1),
        ("rtsp://h/p/my&track/x", "rtsp://h/p", ["a", "my&track/x"], 1),
        ("rtsp://h/cam/b?k=v/streamid=0", "rtsp://h/cam/b?k=v", FFMPEG_CONTROLS, 0),  # FFmpeg 5.1
        ("rtsp://h/cam/b/stream=0?k=v", "rtsp://h/cam/b?k=v", ["stream=0"], 0),  # GStreamer 1.22
        ("rtsp://h/p?ctype=video", "rtsp://h/p", ["?ctype=audio", "?ctype=video"], 1),
        ("rtsp://h:8554/p/a", "rtsp://h:8554/p", ["rtsp://10.0.0.1/p/b", "rtsp://10.0.0.1/p/a"], 1),
        ("rtsp://h/p", "rtsp://h/p", [None], 0),
        ("rtsp://h/p/", "rtsp://h/p", ["*"], 0),
        ("rtsp://h/p/a", "rtsp://h/p", ["/a"], 0),
        ("rtsp://h/p", "rtsp://h/p", ["rtsp://"], None),
    ],
)
def test_match_record_control(setup: str, base: str, controls: list[str | None], index: int | None) -> None:
    assert match_record_control(RtspUrl.parse(setup), RtspUrl.parse(base), controls) == index


@pytest.mark.parametrize("base", ["rtsp://h/p", "rtsp://h/p?q=1", "rtsp://u:p@h/p"])
@pytest.mark.parametrize(
    "control", [None, "*", "trackID=0", "?x", "/a", "rtsp://10.0.0.9:8554/p/video", "rtsp://h/p?x"]
)
def test_controls_of_announced_tracks(base: str, control: str | None) -> None:
    check_record_controls(RtspUrl.parse(base), ["trackID=1", control])


@pytest.mark.parametrize("control", ["rtsp://", "rtsp://host", "rtsp://host/other/a", "rtsp://host/pp/a", "rtsp:// a"])
def test_controls_that_no_request_can_name(control: str) -> None:
    with pytest.raises(RemoteProtocolError, match="invalid track control") as raised:
        check_record_controls(RtspUrl.parse("rtsp://h/p"), ["trackID=1", control])
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("base", "control", "expected"),
    [
        ("rtsp://h/p/", "trackID=1", "rtsp://h/p/trackID=1"),
        ("rtsp://h/p", "trackID=1", "rtsp://h/p/trackID=1"),
        ("rtsp://h/p?q", "trackID=1", "rtsp://h/p?q/trackID=1"),
        ("rtsp://h/p", "RTSP://other/x", "RTSP://other/x"),
        ("rtsp://h/p", "*", "rtsp://h/p"),
        ("rtsp://h/p", None, "rtsp://h/p"),
        ("rtsp://h/p", "?x", "rtsp://h/p?x"),
    ],
)
def test_join_control(base: str, control: str | None, expected: str) -> None:
    assert join_control(base, control) == expected


@given(st.text(max_size=80))
def test_only_remote_errors_are_raised(text: str) -> None:
    try:
        url = RtspUrl.parse("rtsp://" + text)
    except RemoteProtocolError:
        return
    control_path(url)
    match_record_control(url, url, [text])
    with contextlib.suppress(RemoteProtocolError):
        check_record_controls(url, [text])
    for function in (describe_path, announce_path, setup_play_path):
        try:
            function(url)
        except RemoteProtocolError:
            pass
