"""onMetaData: hints when read, a description when written."""

from __future__ import annotations

import pytest
from tests.wire.rtmp.support import AUDIO, VIDEO

from polycast.codecs import av1
from polycast.media.codec import AV1, G711, H265, LPCM, Codec, MPEG4Audio, MPEGAudio, Opus
from polycast.media.track import Track
from polycast.wire.rtmp import amf0
from polycast.wire.rtmp.amf import Value
from polycast.wire.rtmp.metadata import Metadata, build_metadata, codec_identifier, parse_metadata


@pytest.mark.parametrize("prefix", [[], ["@setDataFrame"]])
@pytest.mark.parametrize(
    ("members", "video", "audio"),
    [
        ({"videocodecid": 7.0, "audiocodecid": 10.0}, True, True),
        ({"videocodecid": "avc1", "audiocodecid": "mp4a"}, True, True),
        ({"videocodecid": 7.0, "audiocodecid": 0.0}, True, False),
        ({"videocodecid": "", "audiocodecid": ""}, None, None),
        ({"width": 640.0, "framerate": 25.0}, None, None),
        ({"videocodecid": True}, None, None),
    ],
)
def test_read(prefix: list[Value], members: dict[str, Value], video: bool | None, audio: bool | None) -> None:
    metadata = parse_metadata([*prefix, "onMetaData", members])
    assert metadata is not None
    assert (metadata.video, metadata.audio) == (video, audio)
    assert metadata.complete == (video is True or audio is True)


def test_further_tracks_are_announced() -> None:
    members: dict[str, Value] = {
        "videocodecid": 7.0,
        "audioTrackIdInfoMap": {"1": {}, "2": {}, "x": {}, "9999": {}, "300": {}},
        "encoder": "Lavf",
    }
    metadata = parse_metadata(["onMetaData", members])
    assert metadata is not None
    assert metadata.announced == {("video", 0), ("audio", 1), ("audio", 2)}
    assert metadata.encoder == "Lavf"


@pytest.mark.parametrize("values", [[], ["onMetaData"], ["onTextData", {}], ["@setDataFrame"], [1.0, {}]])
def test_other_data_is_not_metadata(values: list[Value]) -> None:
    assert parse_metadata(values) is None


def test_metadata_that_is_not_an_object_is_ignored() -> None:
    assert parse_metadata(["onMetaData", "text"]) == Metadata()


@pytest.mark.parametrize(
    ("codec", "identifier"),
    [
        (VIDEO.codec, 7),
        (H265(), 0x68766331),
        (AV1(), 1635135537),
        (MPEG4Audio(), 10),
        (Opus(), 1332770163),
        (MPEGAudio(44_100, 2), 2),
        (MPEGAudio(8_000, 2), 14),
        (G711(True), 8),
        (G711(False), 7),
        (LPCM(16, 44_100, 2), 3),
    ],
)
def test_codec_identifiers(codec: Codec, identifier: int) -> None:
    assert codec_identifier(codec) == identifier


def test_written() -> None:
    second = Track(2, Opus(2))
    data = build_metadata([(VIDEO, 0), (AUDIO, 0), (second, 1)]).payload()
    assert amf0.decode(data) == [
        "onMetaData",
        {
            "videodatarate": 0.0,
            "videocodecid": 7.0,
            "width": 640.0,
            "height": 360.0,
            "audiodatarate": 0.0,
            "audiocodecid": 10.0,
            "audiosamplerate": 44_100.0,
            "audiochannels": 2.0,
            "stereo": True,
            "audioTrackIdInfoMap": {
                "1": {
                    "audiodatarate": 0.0,
                    "audiocodecid": 1332770163.0,
                    "audiosamplerate": 48_000.0,
                    "audiochannels": 2.0,
                    "stereo": True,
                }
            },
        },
    ]


def test_the_picture_size_of_all_video_codecs() -> None:
    codec = AV1(bytes.fromhex("080200000521e7f66257c802"))
    members = amf0.decode(build_metadata([(Track(0, codec), 0)]).payload())[1]
    assert isinstance(members, dict)
    assert (members["width"], members["height"]) == av1.resolution(codec)
