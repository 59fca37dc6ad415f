"""Which URLs a client makes from what cameras write into Content-Base and a=control."""

from __future__ import annotations

import pytest

from polycast.wire.rtsp.control_url import presentation_urls, track_url
from polycast.wire.rtsp.url import RtspUrl

ASKED = "rtsp://192.0.2.7:8554/live?ch=1"
HOST = "rtsp://192.0.2.7:8554"

CASES = [
    # (Content-Base or Content-Location, the session's control, the track's control, presentation, track)
    # What RFC 2326 has in mind.
    (f"{ASKED}/", None, "trackID=0", f"{ASKED}/", f"{ASKED}/trackID=0"),
    (f"{HOST}/live/", "*", "trackID=0", f"{HOST}/live/", f"{HOST}/live/trackID=0"),
    (f"{HOST}/live", "*", "trackID=0", f"{HOST}/live", f"{HOST}/live/trackID=0"),
    (f"{HOST}/live/", None, None, f"{HOST}/live/", f"{HOST}/live/"),
    (f"{HOST}/live/", None, "*", f"{HOST}/live/", f"{HOST}/live/"),
    (None, None, "trackID=0", ASKED, f"{ASKED}/trackID=0"),
    (None, "*", f"{HOST}/live/track1", ASKED, f"{HOST}/live/track1"),
    # Dahua: the query is part of the path, the slash stands behind it.
    (
        f"{HOST}/cam/realmonitor?channel=1&subtype=0/",
        None,
        "trackID=0",
        f"{HOST}/cam/realmonitor?channel=1&subtype=0/",
        f"{HOST}/cam/realmonitor?channel=1&subtype=0/trackID=0",
    ),
    # Axis: a control that is a query.
    (f"{HOST}/axis-media/media.amp/", None, "?ctype=video", f"{HOST}/axis-media/media.amp/", None),
    # The address of an inner network, of another port, with credentials.
    ("rtsp://10.0.0.1/live/", None, "trackID=0", f"{HOST}/live/", f"{HOST}/live/trackID=0"),
    ("rtsp://user:secret@10.0.0.1:554/live/", None, "trackID=0", f"{HOST}/live/", f"{HOST}/live/trackID=0"),
    (f"{HOST}/live/", None, "rtsp://10.0.0.1:554/inner/track1?x=1", f"{HOST}/live/", f"{HOST}/inner/track1?x=1"),
    ("rtsps://10.0.0.1/live/", None, "RTSP://10.0.0.1/live/track1", f"{HOST}/live/", f"{HOST}/live/track1"),
    # The session's own control.
    (f"{HOST}/live/", f"{HOST}/whole", "trackID=0", f"{HOST}/whole", f"{HOST}/whole/trackID=0"),
    (f"{HOST}/live/", "whole", "trackID=0", f"{HOST}/live/whole", f"{HOST}/live/whole/trackID=0"),
    (f"{HOST}/live/", "rtsp://", "trackID=0", f"{HOST}/live/", f"{HOST}/live/trackID=0"),
    # The scheme twice (go2rtc's users met it).
    ("rtsp://rtsp://camera.lan:554/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ("rtsp://rtsp://rtsp://camera.lan/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    (f"{HOST}/live/", None, "rtsp://rtsp://camera.lan/stream/track1", f"{HOST}/live/", f"{HOST}/stream/track1"),
    # No host, a wrong port, a host that is none: the path counts.
    ("rtsp:///stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ("rtsp://:554/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ("rtsp://camera:554:554/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ("rtsp://(null)/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    # A path alone, quotes, spaces.
    ("/stream/", None, "track1", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ('"rtsp://10.0.0.1/stream/"', None, '"track1"', f"{HOST}/stream/", f"{HOST}/stream/track1"),
    (" <rtsp://10.0.0.1/stream/> ", None, " track1 ", f"{HOST}/stream/", f"{HOST}/stream/track1"),
    ("rtsp://10.0.0.1", None, "track1", f"{HOST}/", f"{HOST}/track1"),
    # Nonsense: what was asked for.
    ("", None, "track1", ASKED, f"{ASKED}/track1"),
    ("rtsp://", None, "track1", ASKED, f"{ASKED}/track1"),
    ("not a URL", None, "track1", ASKED, f"{ASKED}/track1"),
    ("http://10.0.0.1/live/", None, "track1", ASKED, f"{ASKED}/track1"),
    ("stream", None, "track1", ASKED, f"{ASKED}/track1"),
    ("rtsp://10.0.0.1/a b/", None, "track1", ASKED, f"{ASKED}/track1"),
    # Blanks, which would end the URL in a request line.
    (f"{HOST}/live/", None, "track 1", f"{HOST}/live/", f"{HOST}/live/track%201"),
    # A control that begins with a slash goes behind the base as it is (so FFmpeg, live555 and GStreamer), unless it has
    # the base's path itself.
    (f"{HOST}/live/", None, "/track1", f"{HOST}/live/", f"{HOST}/live//track1"),
    (f"{HOST}/live", None, "/track1", f"{HOST}/live", f"{HOST}/live/track1"),
    (f"{HOST}/live/", None, "/live/track1", f"{HOST}/live/", f"{HOST}/live/track1"),
    (f"{HOST}/live/", None, "/lively/track1", f"{HOST}/live/", f"{HOST}/live//lively/track1"),
    (f"{HOST}/a/b/", None, "/a/b/track1", f"{HOST}/a/b/", f"{HOST}/a/b/track1"),
]


@pytest.mark.parametrize(("base", "session_control", "control", "presentation", "track"), CASES)
def test_urls(
    base: str | None, session_control: str | None, control: str | None, presentation: str, track: str | None
) -> None:
    url = RtspUrl.parse(ASKED.replace("//", "//user:secret@"))
    urls = presentation_urls([] if base is None else [base], session_control, url)
    assert urls[0] == presentation
    assert urls[-1] == ASKED, "the last resort"
    assert track_url(urls[0], control, url) == (track or f"{presentation}{control}")


def test_the_first_base_that_can_be_read_counts() -> None:
    url = RtspUrl.parse(ASKED)
    assert presentation_urls(["", "nonsense", "rtsp://h/a/", "rtsp://h/b/"], None, url) == [f"{HOST}/a/", ASKED]
    assert presentation_urls(["rtsp://h/a/"], "b", url) == [f"{HOST}/a/b", f"{HOST}/a/", ASKED]
    assert presentation_urls([ASKED], "*", url) == [ASKED]
