"""Fuzz target: the demuxer of fragmented MP4. Only `RemoteProtocolError` may leave it."""

from __future__ import annotations

from polycast.codecs import aac
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, EAC3, H264, VP9, MPEG4Audio, MPEGAudio, Opus
from polycast.wire.mp4.demuxer import Demuxer
from polycast.wire.mp4.fragment import SampleRun, build_fragment
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization

_SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
_PPS = bytes.fromhex("68ce3c80")


def fuzz_one(data: bytes) -> None:
    """Read the data whole and in pieces, which makes no difference."""
    whole = Demuxer()
    frames: list[tuple[int, int, tuple[bytes, ...]]] = []
    expected: list[tuple[int, int, tuple[bytes, ...]]] | None = frames
    try:
        for index, frame in whole.receive_data(data):
            frames.append((index, frame.dts, frame.units))
            assert frame.units
            assert frame.dts <= frame.pts
            assert whole.tracks is not None
            assert index < len(whole.tracks) or data.count(b"moov") > 1
    except RemoteProtocolError:
        expected = None
    pieces = Demuxer()
    found: list[tuple[int, int, tuple[bytes, ...]]] = []
    try:
        for start in range(0, len(data), 100):
            for index, frame in pieces.receive_data(data[start : start + 100]):
                found.append((index, frame.dts, frame.units))
        assert found == expected
    except RemoteProtocolError:
        assert expected is None


def _seed(*codecs: H264 | VP9 | MPEG4Audio | Opus | MPEGAudio | AC3 | EAC3) -> bytes:
    tracks = [InitializationTrack(index + 1, codec, codec.clock_rate, "eng") for index, codec in enumerate(codecs)]
    runs = []
    for track in tracks:
        run = SampleRun(track.track_id, 90_000, full=track.codec.kind == "video")
        for number in range(3):
            run.append(b"\x00\x00\x00\x06\x65" + bytes(5), 3000, 1500, key=number == 0)
        runs.append(run)
    return build_initialization(tracks) + build_fragment(1, runs)


_AAC = MPEG4Audio(aac.build_audio_specific_config(2, 48_000, 2), 48_000, 2)
SEEDS: list[bytes] = [
    _seed(H264(_SPS, _PPS), _AAC),
    _seed(VP9(width=640, height=480), Opus(2)),
    _seed(MPEGAudio(44_100, 2), AC3()),
    _seed(EAC3(48_000, 8)),
]
