"""FLV tag bodies: legacy and enhanced headers, one track and many."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polycast.errors import RemoteProtocolError
from polycast.media.codec import AV1, EAC3, G711, H264, H265, LPCM, VP8, VP9, MPEG4Audio, MPEGAudio, Opus, Speex
from polycast.wire.rtmp.flv import Part, PartType, parse_audio, parse_video

CONFIGURATION, FRAME, END = PartType.CONFIGURATION, PartType.FRAME, PartType.END


def summary(part: Part) -> tuple[Any, ...]:
    return part.type, part.codec, part.track_id, part.composition_time, part.nanoseconds, part.body


def four(text: str) -> str:
    return text.encode("ascii").hex()


VIDEO: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "AVC configuration": ("17000000000102", [(CONFIGURATION, H264, 0, 0, 0, b"\x01\x02")]),
    "AVC key frame": ("17010000500102", [(FRAME, H264, 0, 80, 0, b"\x01\x02")]),
    "AVC negative composition time": ("2701ffffd80102", [(FRAME, H264, 0, -40, 0, b"\x01\x02")]),
    "AVC end": ("1702000000", [(END, H264, 0, 0, 0, b"")]),
    "AVC unknown packet type": ("1703000000", []),
    "AVC cut off": ("1701", []),
    "empty": ("", []),
    "command frame": ("5700", []),
    "H265 with the number of Chinese networks": ("1c0100000001", [(FRAME, H265, 0, 0, 0, b"\x01")]),
    "H263": ("120102", [(FRAME, None, 0, 0, 0, b"\x12\x01\x02")]),
    "enhanced H265 configuration": ("90" + four("hvc1") + "0102", [(CONFIGURATION, H265, 0, 0, 0, b"\x01\x02")]),
    "enhanced H265 coded frames": ("91" + four("hvc1") + "00002801", [(FRAME, H265, 0, 40, 0, b"\x01")]),
    "enhanced H265 coded frames X": ("a3" + four("hvc1") + "01", [(FRAME, H265, 0, 0, 0, b"\x01")]),
    "enhanced AVC coded frames": ("a1" + four("avc1") + "ffffff01", [(FRAME, H264, 0, -1, 0, b"\x01")]),
    "enhanced AV1 coded frames": ("91" + four("av01") + "000028", [(FRAME, AV1, 0, 0, 0, b"\x00\x00\x28")]),
    "enhanced VP9 coded frames": ("a1" + four("vp09") + "01", [(FRAME, VP9, 0, 0, 0, b"\x01")]),
    "enhanced VP8 coded frames": ("a1" + four("vp08") + "01", [(FRAME, VP8, 0, 0, 0, b"\x01")]),
    "enhanced end": ("92" + four("av01"), [(END, AV1, 0, 0, 0, b"")]),
    "enhanced metadata": ("d4" + four("hvc1") + "05", [(PartType.METADATA, H265, 0, 0, 0, b"\x05")]),
    "enhanced MPEG-2 TS configuration": ("95" + four("av01") + "81", [(PartType.OTHER, AV1, 0, 0, 0, b"\x81")]),
    "enhanced unknown codec": ("91" + four("vvc1") + "01", [(FRAME, None, 0, 0, 0, b"\x01")]),
    "enhanced command": ("d100", []),
    "nanoseconds": ("97020f423f01" + four("av01") + "01", [(FRAME, AV1, 0, 0, 999_999, b"\x01")]),
    "ModEx of another type, then nanoseconds": (
        "9700aa170200000501" + four("vp09") + "01",
        [(FRAME, VP9, 0, 0, 5, b"\x01")],
    ),
    "long ModEx": ("97ff0100" + "00" * 257 + "11" + four("vp09") + "01", [(FRAME, VP9, 0, 0, 0, b"\x01")]),
    "one track": ("9601" + four("hvc1") + "020000280102", [(FRAME, H265, 2, 40, 0, b"\x01\x02")]),
    "many tracks": (
        "9610" + four("avc1") + "0000000201020100000103",
        [(CONFIGURATION, H264, 0, 0, 0, b"\x01\x02"), (CONFIGURATION, H264, 1, 0, 0, b"\x03")],
    ),
    "many tracks, many codecs": (
        "9621" + four("avc1") + "0000000400000a01" + four("av01") + "0700000103",
        [(FRAME, H264, 0, 10, 0, b"\x01"), (FRAME, AV1, 7, 0, 0, b"\x03")],
    ),
}

AUDIO: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "AAC configuration": ("af001210", [(CONFIGURATION, MPEG4Audio, 0, 0, 0, b"\x12\x10")]),
    "AAC frame": ("af012110", [(FRAME, MPEG4Audio, 0, 0, 0, b"\x21\x10")]),
    "AAC cut off": ("af", []),
    "empty": ("", []),
    "MP3": ("2ffffb", [(FRAME, MPEGAudio, 0, 0, 0, b"\xff\xfb")]),
    "A-law": ("72d5", [(FRAME, G711, 0, 0, 0, b"\xd5")]),
    "LPCM": ("3e0100", [(FRAME, LPCM, 0, 0, 0, b"\x01\x00")]),
    "Speex": ("b601", [(FRAME, Speex, 0, 0, 0, b"\x01")]),
    "Nellymoser": ("6201", [(FRAME, None, 0, 0, 0, b"\x01")]),
    "enhanced Opus configuration": ("90" + four("Opus") + "01", [(CONFIGURATION, Opus, 0, 0, 0, b"\x01")]),
    "enhanced Opus frame": ("91" + four("Opus") + "fc", [(FRAME, Opus, 0, 0, 0, b"\xfc")]),
    "enhanced AAC": ("91" + four("mp4a") + "21", [(FRAME, MPEG4Audio, 0, 0, 0, b"\x21")]),
    "enhanced MP3": ("91" + four(".mp3") + "ff", [(FRAME, MPEGAudio, 0, 0, 0, b"\xff")]),
    "enhanced E-AC-3": ("91" + four("ec-3") + "0b", [(FRAME, EAC3, 0, 0, 0, b"\x0b")]),
    "enhanced unknown codec": ("91" + four("dtsc") + "0b", [(FRAME, None, 0, 0, 0, b"\x0b")]),
    "channels": ("94" + four("Opus") + "0106", [(PartType.CHANNELS, Opus, 0, 0, 0, b"\x01\x06")]),
    "end": ("92" + four("Opus"), [(END, Opus, 0, 0, 0, b"")]),
    "nanoseconds": ("970200000101" + four("Opus") + "fc", [(FRAME, Opus, 0, 0, 1, b"\xfc")]),
    "one track": ("9501" + four("mp4a") + "0121", [(FRAME, MPEG4Audio, 1, 0, 0, b"\x21")]),
    "many tracks, many codecs": (
        "9521" + four("Opus") + "00000001fc" + four("mp4a") + "0100000121",
        [(FRAME, Opus, 0, 0, 0, b"\xfc"), (FRAME, MPEG4Audio, 1, 0, 0, b"\x21")],
    ),
}


@pytest.mark.parametrize("name", VIDEO)
def test_video(name: str) -> None:
    payload, parts = VIDEO[name]
    assert [summary(part) for part in parse_video(bytes.fromhex(payload))] == parts


@pytest.mark.parametrize("name", AUDIO)
def test_audio(name: str) -> None:
    payload, parts = AUDIO[name]
    assert [summary(part) for part in parse_audio(bytes.fromhex(payload))] == parts


@pytest.mark.parametrize(
    "payload",
    [
        "90" + four("hvc")[:6],
        "91" + four("hvc1") + "0000",
        "9610" + four("avc1") + "0000000501",
        "9630" + four("avc1"),
        "97",
        "97050102",
    ],
)
def test_truncated_video(payload: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_video(bytes.fromhex(payload))


def test_the_number_of_tracks_in_a_message_is_limited() -> None:
    with pytest.raises(RemoteProtocolError, match="tracks in one message"):
        parse_video(bytes.fromhex("9610" + four("avc1") + "00000000" * 1000))


def test_the_number_of_modifiers_is_limited() -> None:
    with pytest.raises(RemoteProtocolError, match="ModEx"):
        parse_audio(bytes.fromhex("97" + "00aa17" * 100))


def test_an_unknown_codec_is_named() -> None:
    assert [part.codec_name for part in parse_video(bytes.fromhex("12ff"))] == ["Sorenson H.263"]
    assert [part.codec_name for part in parse_video(bytes.fromhex("18ff"))] == ["number 8"]
    assert [part.codec_name for part in parse_audio(bytes.fromhex("5fff"))] == ["Nellymoser"]
    assert [part.codec_name for part in parse_video(bytes.fromhex("910a1b4120ff"))] == [r"'\n\x1bA '"]
    assert [part.codec_name for part in parse_audio(bytes.fromhex("91" + four("dtsc") + "01"))] == ["dtsc"]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    for parse in (parse_video, parse_audio):
        try:
            parts = parse(payload)
        except RemoteProtocolError:
            continue
        assert sum(len(part.body) for part in parts) <= len(payload)
