"""The manifest of DASH: periods, times, and the segments that it names. Players read it in tests/interop."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from itertools import pairwise

from tests.wire.hls.streams import AUDIO, OPUS, START, VIDEO, audio, feed, merge, options, regular, track, video

from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.wire.hls.muxer import Muxer
from polycast.wire.hls.options import Variant
from polycast.wire.hls.resource import Refusal, Resource, WaitFor

NAMES = {"d": "urn:mpeg:dash:schema:mpd:2011"}
RATES = {0: 90_000, 1: 48_000}


def muxer(*codecs: object, variant: Variant = Variant.FMP4, dash: bool = True) -> Muxer:
    tracks = [track(index, codec) for index, codec in enumerate(codecs)]  # type: ignore[arg-type]
    return Muxer(variant, tracks, options(splits_audio=dash))


def both(seconds: int, start: int = 0) -> list[tuple[int, Frame]]:
    return merge(RATES, video(0, regular(seconds, start=start * 90_000)), audio(1, seconds, start=start * 48_000))


def manifest(it: Muxer) -> ElementTree.Element:
    answer = it.manifest(START)
    assert isinstance(answer, Resource)
    assert answer.content_type == "application/dash+xml"
    return ElementTree.fromstring(answer.body)


def names(adaptation_set: ElementTree.Element) -> list[str]:
    """Return the names of the segments of an adaptation set."""
    template = adaptation_set.find(".//d:SegmentTemplate", NAMES)
    assert template is not None
    times = [each.attrib["t"] for each in template.iterfind(".//d:S", NAMES)]
    return [template.attrib["media"].replace("$Time$", time) for time in times]


def test_pictures_and_sound_have_segments_of_their_own() -> None:
    it = muxer(VIDEO, AUDIO)
    feed(it, both(6), RATES)
    document = manifest(it)
    assert (document.attrib["type"], document.attrib["availabilityStartTime"]) == (
        "dynamic",
        "2023-11-14T22:13:20.000Z",
    )
    (period,) = document.iterfind("d:Period", NAMES)
    assert period.attrib["start"] == "PT0S"
    pictures, sound = period.iterfind("d:AdaptationSet", NAMES)
    assert (pictures.attrib["mimeType"], sound.attrib["mimeType"]) == ("video/mp4", "audio/mp4")
    shown = pictures.find("d:Representation", NAMES)
    assert shown is not None
    assert (shown.attrib["codecs"], shown.attrib["width"], shown.attrib["height"]) == ("avc1.42c028", "1920", "1080")
    heard = sound.find("d:Representation", NAMES)
    assert heard is not None
    assert (heard.attrib["codecs"], heard.attrib["audioSamplingRate"]) == ("mp4a.40.2", "48000")
    for each, rate in ((pictures, 90_000), (sound, 48_000)):
        template = each.find(".//d:SegmentTemplate", NAMES)
        assert template is not None
        assert template.attrib["timescale"] == str(rate)
        assert isinstance(it.lookup(template.attrib["initialization"]), Resource)
        spans = [(int(each.attrib["t"]), int(each.attrib["d"])) for each in template.iterfind(".//d:S", NAMES)]
        assert len(spans) == 5
        assert all(earlier[0] + earlier[1] == later[0] for earlier, later in pairwise(spans))
        for name, (time, _) in zip(names(each), spans, strict=True):
            found = it.lookup(name)
            assert isinstance(found, Resource)
            place = found.body.index(b"tfdt") + 8
            assert int.from_bytes(found.body[place : place + 8], "big") == time, "as the segment itself says"


def test_the_next_segment_is_waited_for() -> None:
    it = muxer(VIDEO, AUDIO)
    feed(it, both(4), RATES)
    pictures = next(manifest(it).iterfind(".//d:AdaptationSet", NAMES))
    *_, last = names(pictures)
    time = int(last.rpartition("_time")[2].removesuffix(".mp4"))
    following = last.replace(f"_time{time}", f"_time{time + 90_000}")
    assert isinstance(it.lookup(following), WaitFor)
    assert it.lookup(last.replace(f"_time{time}", f"_time{time + 1}")) is None
    assert it.lookup(last.replace(f"_time{time}", "_time")) is None
    feed(it, both(2, 4), RATES)
    assert isinstance(it.lookup(following), Resource)


def test_a_discontinuity_begins_a_period() -> None:
    it = muxer(VIDEO, AUDIO)
    feed(it, both(4), RATES)
    first = manifest(it)
    assert it.resume(it.tracks)

    def go_on(frames: list[tuple[int, Frame]]) -> None:
        for index, frame in frames:
            seconds = 10 + frame.dts / RATES[index]
            it.write_frame(index, frame, seconds, WallTime(START + int(seconds * 1e9)))

    go_on(both(3))
    document = manifest(it)
    assert document.attrib["availabilityStartTime"] == first.attrib["availabilityStartTime"]
    one, two = document.iterfind("d:Period", NAMES)
    assert one.attrib["id"] != two.attrib["id"]
    assert one.attrib["start"] == "PT0S"
    segment = next(two.iterfind(".//d:S", NAMES))
    start = float(two.attrib["start"].removeprefix("PT").removesuffix("S"))
    assert abs(start + int(segment.attrib["t"]) / 90_000 - 10) < 0.1, "when the publisher came back"
    assert all(isinstance(it.lookup(name), Resource) for each in two for name in names(each))
    go_on(both(4, 3))
    starts = {each.attrib["id"]: each.attrib["start"] for each in manifest(it).iterfind("d:Period", NAMES)}
    assert starts[two.attrib["id"]] == two.attrib["start"], "it stays where it was"


def test_a_language_that_xml_cannot_contain() -> None:
    tracks = [track(0, VIDEO), track(1, AUDIO, language='d\x00\x08\x1b\ud800e\uffff<"&')]
    it = Muxer(Variant.FMP4, tracks, options(splits_audio=True))
    feed(it, both(6), RATES)
    _, sound = manifest(it).iterfind(".//d:AdaptationSet", NAMES)
    assert sound.attrib["lang"] == 'de<"&'


def test_only_sound() -> None:
    it = muxer(OPUS)
    feed(it, audio(0, 5, samples=960), {0: 48_000})
    (sound,) = manifest(it).iterfind(".//d:AdaptationSet", NAMES)
    assert sound.attrib["contentType"] == "audio"
    assert all(isinstance(it.lookup(name), Resource) for name in names(sound))


def test_it_is_refused_where_it_does_not_exist() -> None:
    assert isinstance(muxer(VIDEO, AUDIO).manifest(START), WaitFor)
    for it in (muxer(VIDEO, AUDIO, dash=False), muxer(VIDEO, AUDIO, variant=Variant.MPEGTS)):
        feed(it, both(4), RATES)
        answer = it.manifest(START)
        assert isinstance(answer, Refusal)
        assert answer.status == 404
