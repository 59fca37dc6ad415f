"""Fuzz target: recorded files, as playback reads and cuts them. Only `UnreadableFile` may leave it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from itertools import islice

from polycast.codecs import aac
from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.playback.cutter import Cutter
from polycast.playback.files import RecordedFile, UnreadableFile
from polycast.playback.fmp4_file import Fmp4File
from polycast.playback.mpegts_file import MpegtsFile
from polycast.wire.mp4.fragment import SampleRun, build_fragment
from polycast.wire.mp4.initialization import InitializationTrack, build_initialization
from polycast.wire.mp4.presentation import Presentation, build_fragmented_head
from polycast.wire.mp4.runs import build_fragment_head
from polycast.wire.mpegts.muxer import Muxer

_SECOND = 1_000_000_000
_MAXIMUM_PIECES = 20


def fuzz_one(data: bytes) -> None:
    """Read the data as a file of each format."""
    descriptor, name = tempfile.mkstemp()
    try:
        os.write(descriptor, data)
        os.close(descriptor)
        for make in (Fmp4File, MpegtsFile):
            with contextlib.suppress(UnreadableFile):
                file: RecordedFile = make(name)
                try:
                    _play(file)
                finally:
                    file.close()
    finally:
        os.unlink(name)


def _play(file: RecordedFile) -> None:
    with contextlib.suppress(UnreadableFile):
        assert file.duration > 0
    file.key_times()
    cutter, presentation = Cutter(file.tracks), Presentation(file.tracks)
    build_fragmented_head(file.tracks)
    for piece in islice(file.pieces(_SECOND, 3 * _SECOND), _MAXIMUM_PIECES):
        for group in cutter.cut(piece, -_SECOND, 2 * _SECOND):
            build_fragment_head(1, [cut.run.at(max(cut.run.time, 0)) for cut in group])
            for cut in group:
                presentation.add(cut.run)
                if cut.source.size < len(group) << 20:
                    assert len(file.read(cut.token, cut.source.position, cut.source.size)) == cut.source.size
    if not presentation.is_empty:
        presentation.build_head()


_SPS = bytes.fromhex("6742c028d900780227e584000003000400000300f03c60c920")
_PPS = bytes.fromhex("68ce3c80")
_CODECS = (H264(_SPS, _PPS), MPEG4Audio(aac.build_audio_specific_config(2, 48_000, 2), 48_000, 2))


def _mp4() -> bytes:
    tracks = [InitializationTrack(index + 1, codec, codec.clock_rate) for index, codec in enumerate(_CODECS)]
    parts = [build_initialization(tracks)]
    for second in range(4):
        runs = []
        for track in tracks:
            run = SampleRun(track.track_id, second * track.timescale, full=track.track_id == 1)
            for number in range(2):
                run.append(b"\x00\x00\x00\x06\x65" + bytes(5), track.timescale // 2, 0, key=number == 0)
            runs.append(run)
        parts.append(build_fragment(second, runs))
    return b"".join(parts)


def _mpegts() -> bytes:
    muxer = Muxer([Track(index, codec) for index, codec in enumerate(_CODECS)])
    parts = [muxer.tables()]
    for number in range(8):
        time = number * 45_000
        units = (_SPS, _PPS, b"\x65" + bytes(20)) if number % 2 == 0 else (b"\x41" + bytes(20),)
        parts.append(muxer.write_frame(0, Frame(units, time, time, key=number % 2 == 0), time, time))
        parts.append(muxer.write_frame(1, Frame((bytes(30),), time, time, key=True), time, time))
    return b"".join(parts)


SEEDS: list[bytes] = [_mp4(), _mpegts()]
