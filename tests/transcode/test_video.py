"""Pictures become H264 without B-frames, on the same time line; key frames are made when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from polycast.api.decoding import Decoding
from polycast.api.inbox import Arrival
from polycast.codecs import h264
from polycast.codecs.registry import bitstream_of
from polycast.media.codec import AV1, H264, H265, MJPEG, VP8, VP9, Codec, MPEG2Video, MPEG4Audio, MPEG4Video
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.transcode import video
from polycast.transcode.video import BASELINE, KEY_FRAME_INTERVAL, VideoTranscoder

WIDTH, HEIGHT = 160, 96
RATE = 25
TICKS = 90_000 // RATE
BAR = 16
"""Width in pixels of the bar that shows the number of the picture by its place."""
PLACES = WIDTH // BAR

B_FRAMES = {"preset": "fast", "bf": "3", "b_adapt": "0", "x264-params": "log-level=error"}
X265 = {"preset": "fast", "x265-params": "log-level=error:bframes=3:b-adapt=0"}


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Return a dark picture with a bright bar at a place that depends on its number."""
    array = np.full((height, width, 3), 40, np.uint8)
    start = number % (width // BAR) * BAR
    array[:, start : start + BAR] = 220
    return array


def encode(
    encoder: str,
    codec: Codec,
    count: int,
    options: Mapping[str, str] | None = None,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pixels: str = "yuv420p",
    aspect: Fraction | None = None,
) -> list[Frame]:
    """Return numbered pictures, in decoding order."""
    context: Any = av.CodecContext.create(encoder, "w")
    context.width, context.height = size
    context.pix_fmt = pixels
    context.time_base = Fraction(1, RATE)
    context.framerate = Fraction(RATE)
    context.gop_size = 12
    context.bit_rate = 2_000_000
    if aspect is not None:
        context.sample_aspect_ratio = aspect
    context.options = dict(options or {})
    packets: list[Any] = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = number, context.time_base
        packets += context.encode(frame)
    packets += context.encode(None)
    split = bitstream_of(codec).split
    return [
        Frame(split(bytes(packet)), packet.pts * TICKS, packet.dts * TICKS, key=bool(packet.is_keyframe))
        for packet in packets
    ]


def transcode(transcoder: VideoTranscoder, frames: Sequence[Frame]) -> list[Frame]:
    return [made for frame in frames for made in transcoder.transcode(frame)]


def decode(frames: Sequence[Frame]) -> list[Any]:
    """Return the pictures of H264 frames, each decoded as soon as its frame has come, as browsers do."""
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.flags |= av.codec.context.Flags.low_delay
    pictures = []
    for frame in frames:
        packet = av.Packet(frame.annexb())
        packet.pts = packet.dts = frame.pts
        made = decoder.decode(packet)
        assert [each.pts for each in made] == [frame.pts], "nothing is held back"
        pictures += made
    return pictures


def number_of(shown: Any) -> int:
    """Return the place of the bar."""
    row = shown.to_ndarray(format="gray")[shown.height // 2]
    places = row.reshape(-1, row.shape[0] * BAR // shown.width).mean(1)
    return int(places.argmax())


def assert_numbered(frames: Sequence[Frame]) -> None:
    """Each picture is at its time."""
    for frame, shown in zip(frames, decode(frames), strict=True):
        assert number_of(shown) == frame.pts // TICKS % PLACES


@pytest.mark.parametrize(
    ("encoder", "codec", "options", "pixels"),
    [
        ("libx264", H264(), B_FRAMES, "yuv420p"),
        ("libx264", H264(), {"preset": "fast", "tune": "zerolatency", "x264-params": "log-level=error"}, "yuv422p"),
        ("libx265", H265(), X265, "yuv420p"),
        ("libx265", H265(), X265, "yuv420p10le"),
        ("libvpx", VP8(), {"deadline": "realtime", "lag-in-frames": "0"}, "yuv420p"),
        ("libvpx-vp9", VP9(), {"deadline": "realtime", "lag-in-frames": "0"}, "yuv420p"),
        ("libsvtav1", AV1(), {"preset": "11", "svtav1-params": "pred-struct=1:rtc=1:rc=2:lookahead=0"}, "yuv420p"),
        ("mpeg4", MPEG4Video(), {"bf": "2"}, "yuv420p"),
        ("mpeg2video", MPEG2Video(), {"bf": "2"}, "yuv420p"),
        ("mjpeg", MJPEG(), {"strict": "unofficial"}, "yuvj420p"),
    ],
)
def test_pictures_stay_at_their_times(encoder: str, codec: Codec, options: dict[str, str], pixels: str) -> None:
    frames = encode(encoder, codec, 40, options, pixels=pixels)
    if options.get("bf") or "bframes" in str(options):
        assert any(second.pts < first.pts for first, second in itertools.pairwise(frames)), "there are B-frames"
    transcoder = BASELINE.open(Track(0, codec))
    made = transcode(transcoder, frames)
    assert (transcoder.errors, transcoder.problem) == (0, "")
    assert len(made) >= 40 - 4, "only what is reordered is held back"
    assert [frame.pts for frame in made] == [made[0].pts + TICKS * number for number in range(len(made))]
    assert all(frame.dts == frame.pts for frame in made)
    assert_numbered(made)
    assert [frame.key for frame in made] == [True, *[False] * (len(made) - 1)]
    unit = next(unit for unit in made[0].units if unit[0] & 0x1F == 7)
    assert unit[1:3] == b"\x42\xc0", "constrained baseline"
    sps = h264.parse_sps(unit)
    assert (sps.width, sps.height, sps.reorder_depth) == (WIDTH, HEIGHT, 0)


def test_key_frames_are_made_on_request_but_not_too_often() -> None:
    frames = encode("libx264", H264(), 8 * RATE, B_FRAMES)
    transcoder = BASELINE.open(Track(0, H264()))
    made = []
    for frame in frames:
        made += transcoder.transcode(frame)
        if made and 1.0 < made[-1].pts / 90_000 < 5.0:
            transcoder.request_key_frame()
    keys = [frame.pts / 90_000 for frame in made if frame.key]
    assert keys == [0, KEY_FRAME_INTERVAL, 2 * KEY_FRAME_INTERVAL, 3 * KEY_FRAME_INTERVAL]
    for key in keys:
        first = next(index for index, frame in enumerate(made) if frame.pts / 90_000 == key)
        assert_numbered(made[first : first + 5])


def test_nothing_is_made_before_a_key_frame() -> None:
    frames = encode("libx264", H264(), 30, B_FRAMES)
    key = next(index for index, frame in enumerate(frames) if frame.key and index)
    transcoder = BASELINE.open(Track(0, H264()))
    made = transcode(transcoder, frames[3:])
    assert made[0].pts == frames[key].pts
    assert transcoder.errors == 0
    assert_numbered(made)


def test_after_a_gap_pictures_go_on_at_a_key_frame() -> None:
    frames = encode("libx265", H265(), 60, X265)
    keys = [index for index, frame in enumerate(frames) if frame.key]
    transcoder = BASELINE.open(Track(0, H265()))
    made = transcode(transcoder, frames[: keys[1] + 3])
    transcoder.restart()
    assert transcode(transcoder, frames[keys[1] + 5 : keys[2]]) == []
    made += transcode(transcoder, frames[keys[2] :])
    assert all(second.pts > first.pts for first, second in itertools.pairwise(made))
    assert_numbered(made)


def test_another_publisher_goes_on() -> None:
    frames = encode("libx264", H264(), 30, B_FRAMES)
    later = [
        Frame(
            frame.units, frame.pts + 40 * TICKS, frame.dts + 40 * TICKS, key=frame.key, discontinuity=frame is frames[0]
        )
        for frame in frames
    ]
    transcoder = BASELINE.open(Track(0, H264()))
    made = transcode(transcoder, frames + later)
    assert transcoder.errors == 0
    assert all(second.pts > first.pts for first, second in itertools.pairwise(made))
    assert_numbered(made)


def test_the_size_may_change() -> None:
    frames = encode("libx264", H264(), 24, B_FRAMES)
    larger = [
        Frame(frame.units, frame.pts + 30 * TICKS, frame.dts + 30 * TICKS, key=frame.key)
        for frame in encode("libx264", H264(), 24, B_FRAMES, size=(320, 176))
    ]
    transcoder = BASELINE.open(Track(0, H264()))
    made = transcode(transcoder, frames + larger)
    shown = decode(made)
    assert {(each.width, each.height) for each in shown} == {(WIDTH, HEIGHT), (320, 176)}
    first = next(index for index, each in enumerate(shown) if each.width == 320)
    assert made[first].key


def test_pixels_become_square() -> None:
    frames = encode("mpeg2video", MPEG2Video(), 10, size=(720, 576), aspect=Fraction(64, 45))
    made = transcode(BASELINE.open(Track(0, MPEG2Video())), frames)
    assert {(each.width, each.height) for each in decode(made)} == {(1024, 576)}


def test_sides_become_even() -> None:
    frames = encode("mjpeg", MJPEG(), 3, {"strict": "unofficial"}, size=(161, 97), pixels="yuvj444p")
    made = transcode(BASELINE.open(Track(0, MJPEG())), frames)
    assert {(each.width, each.height) for each in decode(made)} == {(160, 96)}


def test_colours_stay() -> None:
    frames = encode("mjpeg", MJPEG(), 1, {"strict": "unofficial", "q": "2"}, pixels="yuvj420p")
    (made,) = transcode(BASELINE.open(Track(0, MJPEG())), frames)
    (shown,) = decode([made])
    colours = shown.to_ndarray(format="rgb24")[HEIGHT // 2, [BAR // 2, WIDTH - BAR]].astype(int)
    assert np.abs(colours - [[220] * 3, [40] * 3]).max() < 12


def test_parameter_sets_that_came_beside_the_stream_are_used() -> None:
    """RTSP and RTMP carry them outside the frames, and may change them."""
    frames = encode("libx264", H264(), 24, B_FRAMES)
    codec = h264.updated(H264(), frames[0].units)
    bare = [
        Frame(tuple(unit for unit in frame.units if unit[0] & 0x1F not in (7, 8)), frame.pts, frame.dts, key=frame.key)
        for frame in frames
    ]
    transcoder = BASELINE.open(Track(0, H264()))
    assert transcode(transcoder, bare[:12]) == []
    transcoder.update(Track(0, codec))
    assert_numbered(transcode(transcoder, bare[12:]))


def test_the_configuration_of_mpeg4_video_may_come_late() -> None:
    frames = encode("mpeg4", MPEG4Video(), 24)
    data = frames[0].units[0]
    start = data.index(b"\x00\x00\x01\xb6")  # the first picture
    bare = [Frame((data[start:],), 0, 0, key=True), *frames[1:12]]
    transcoder = BASELINE.open(Track(0, MPEG4Video()))
    assert transcode(transcoder, bare) == []
    transcoder.update(Track(0, MPEG4Video(data[:start])))
    later = [Frame((data[start:],), 12 * TICKS, 12 * TICKS, key=True)]
    (shown,) = decode(transcode(transcoder, [*later, *later]))[:1]
    assert number_of(shown) == 0


def test_garbage_is_counted_and_the_picture_goes_on() -> None:
    frames = encode("libx264", H264(), 36, B_FRAMES)
    random = np.random.default_rng(5)
    broken = [
        Frame((b"\x65" + random.bytes(300),), frame.pts, frame.dts, key=True) if index == 5 else frame
        for index, frame in enumerate(frames)
    ]
    transcoder = BASELINE.open(Track(0, H264()))
    made = transcode(transcoder, broken)
    assert all(second.pts > first.pts for first, second in itertools.pairwise(made))
    keys = [frame.pts for frame in frames if frame.key]
    assert_numbered([frame for frame in made if frame.pts >= keys[1]] if made[0].pts >= keys[1] else made[:1])
    assert made[-1].pts >= 30 * TICKS


def test_empty_frames_are_no_end() -> None:
    frames = encode("libx264", H264(), 20, B_FRAMES)
    transcoder = BASELINE.open(Track(0, H264()))
    made = transcode(transcoder, [*frames[:6], Frame((), frames[6].pts, frames[6].dts, key=False), *frames[6:]])
    assert_numbered(made)
    assert transcoder.errors == 0


def test_pictures_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAXIMUM_PIXELS", WIDTH * HEIGHT - 1)
    frames = encode("libx264", H264(), 4, B_FRAMES)
    transcoder = BASELINE.open(Track(0, H264()))
    assert transcode(transcoder, frames) == []
    assert transcoder.errors > 0
    assert "160x96" in transcoder.problem


@pytest.mark.parametrize("rate", [10, 60])
def test_the_bit_rate_follows_the_rate(rate: int) -> None:
    """A limit for 30 pictures a second would be twice as high at 60."""
    random = np.random.default_rng(1)
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = 320, 176, "yuvj420p", Fraction(1, rate)
    context.options = {"strict": "unofficial"}
    transcoder = BASELINE.open(Track(0, MJPEG()))
    made: list[Frame] = []
    for number in range(rate * 6):
        noise = av.VideoFrame.from_ndarray(random.integers(0, 255, (176, 320, 3), np.uint8), format="rgb24")
        converted = noise.reformat(format="yuvj420p")
        converted.pts = number
        for packet in context.encode(converted):
            pts = number * 90_000 // rate
            made += transcoder.transcode(Frame((bytes(packet),), pts, pts, key=True))
    settled = [frame for frame in made if frame.pts > 4.5 * 90_000]
    bits = sum(frame.size for frame in settled) * 8 / 1.5
    assert bits == pytest.approx(320 * 176 * rate * video.BITS_PER_PIXEL, rel=0.4)


@pytest.mark.parametrize(("encoder", "codec"), [("mpeg4", MPEG4Video()), ("mpeg2video", MPEG2Video())])
def test_the_library_returns_b_frames_in_their_order(encoder: str, codec: Codec) -> None:
    decoding = Decoding("gray")
    shown = [
        made
        for frame in encode(encoder, codec, 24, {"bf": "2"})
        for made in decoding.decode(Arrival(Track(0, codec), frame, epoch=0, skipped=0))
    ]
    assert len(shown) >= 20
    times = [made.pts for made in shown]
    assert times == sorted(times)


def test_what_can_be_made_of_what() -> None:
    assert BASELINE.can_be_made_of(H265())
    assert not BASELINE.can_be_made_of(MPEG4Audio())


def test_pictures_whose_times_hardly_differ_are_converted() -> None:
    """At 90,000 pictures a second, the bit rate would be more than the encoder takes."""
    (frame,) = encode("mjpeg", MJPEG(), 1, {"strict": "unofficial"}, size=(1280, 720), pixels="yuvj420p")
    transcoder = BASELINE.open(Track(0, MJPEG()))
    count = video._RATE_PICTURES + 3
    made = transcode(transcoder, [Frame(frame.units, pts, pts, key=True) for pts in range(count)])
    assert (len(made), transcoder.errors, transcoder.problem) == (count, 0, "")
