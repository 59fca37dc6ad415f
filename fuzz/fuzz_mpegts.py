"""Fuzz target: the MPEG-TS demuxer. No error at all may leave it."""

from __future__ import annotations

from polycast.codecs import aac
from polycast.media.codec import AC3, EAC3, H264, H265, KLV, MPEG4Audio, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer

_SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
_PPS = bytes.fromhex("68ce3c80")


class _OneByOne(Demuxer):
    """Processes each packet by itself."""

    def _receive_continuations(self, data: bytes, start: int, output: object) -> int:
        return 0


def fuzz_one(data: bytes) -> None:
    """Read the data whole, packet by packet and in pieces. The first two give the same frames and errors."""
    whole, plain = Demuxer(), _OneByOne()
    frames = whole.receive_data(data) + whole.flush()
    assert list(map(repr, frames)) == list(map(repr, plain.receive_data(data) + plain.flush()))
    assert (whole.counters, whole.tracks) == (plain.counters, plain.tracks)
    for _, frame in frames:
        assert frame.units
        assert frame.dts <= frame.pts
    tracks = whole.tracks or ()
    assert all(index < len(tracks) for index, _ in frames)
    pieces = Demuxer()
    for start in range(0, len(data), 1000):
        pieces.receive_data(data[start : start + 1000])
    pieces.flush()


def _seed(*tracks: Track) -> bytes:
    muxer = Muxer(tracks)
    pieces = [muxer.tables()]
    for number in range(4):
        for index, track in enumerate(tracks):
            units: tuple[bytes, ...] = (b"\x01" * (40 + 300 * number),)
            if isinstance(track.codec, H264):
                units = (_SPS, _PPS, b"\x65" + bytes(300)) if number == 0 else (b"\x41" + bytes(200),)
            elif isinstance(track.codec, MPEGAudio):
                units = (bytes.fromhex("fffb9064") + bytes(413),)
            elif isinstance(track.codec, AC3):
                units = (bytes.fromhex("0b770000084043e1") + bytes(248),)
            elif isinstance(track.codec, EAC3):
                units = (bytes.fromhex("0b77007f3480") + bytes(250),)
            frame = Frame(units, 0, 0, key=number == 0 or track.kind == "audio")
            pieces.append(muxer.write_frame(index, frame, number * 3600, number * 3600))
    return b"".join(pieces)


_AAC = MPEG4Audio(aac.build_audio_specific_config(2, 48_000, 2), 48_000, 2)
SEEDS: list[bytes] = [
    _seed(Track(0, H264(_SPS, _PPS)), Track(1, _AAC)),
    _seed(Track(0, H265()), Track(1, Opus(2))),
    _seed(Track(0, MPEGAudio(44_100, 2)), Track(1, AC3())),
    _seed(Track(0, EAC3()), Track(1, KLV(synchronous=True)), Track(2, KLV())),
]
