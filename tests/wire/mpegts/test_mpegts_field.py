"""Transport streams of careless multiplexers: audio cut anywhere, PTS before DTS, programs that are announced only."""

from __future__ import annotations

import functools
import itertools
import subprocess

import pytest

from polycast.codecs import aac, eac3
from polycast.errors import RemoteProtocolError
from polycast.media.codec import EAC3, H264, H265, MPEG4Audio
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.elementary import (
    MAXIMUM_HELD_SIZE,
    MAXIMUM_HELD_UNITS,
    MAXIMUM_SEARCHES,
    AacParser,
    EnhancedAc3Parser,
    H264Parser,
    H265Parser,
    _AudioFrame,
)
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap, build_program_map, crc32_mpeg

SPS = bytes.fromhex("6764001eacd940a02ff9610000030001000003003c8f162d96")
PPS = b"\x68\xeb\xe3\xcb"
VIDEO_TYPE = 0x1B

AUDIO = {
    "adts": ("aac", ts.STREAM_TYPE_AAC_ADTS),
    "latm": ("aac", ts.STREAM_TYPE_AAC_LATM),
    "mp3": ("libmp3lame", ts.STREAM_TYPE_MPEG1_AUDIO),
    "ac3": ("ac3", ts.STREAM_TYPE_AC3),
    "eac3": ("eac3", ts.STREAM_TYPE_EAC3),
}


@functools.cache
def encoded(form: str) -> bytes:
    """Return the frames of two seconds of sound, without anything around them."""
    source = ["-f", "lavfi", "-i", "anoisesrc=duration=2:sample_rate=48000:amplitude=0.3"]
    options = ["-c:a", AUDIO[form][0], "-write_xing", "0", "-id3v2_version", "0", "-f", form, "-"]
    if form != "mp3":
        options = ["-c:a", AUDIO[form][0], "-f", form, "-"]
    command = ["ffmpeg", "-v", "error", *source, *options]
    return subprocess.run(command, check=True, capture_output=True).stdout


def association(*programs: tuple[int, int]) -> bytes:
    """Return the section that names these programs and the PIDs of their maps."""
    body = b"".join(number.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for number, pid in programs)
    section = bytes((0, 0xB0, 9 + len(body), 0, 1, 0xC1, 0, 0)) + body
    return section + crc32_mpeg(section).to_bytes(4, "big")


class Written:
    """Packets of several PIDs."""

    def __init__(self) -> None:
        self._writers: dict[int, PacketWriter] = {}

    def section(self, pid: int, section: bytes) -> bytes:
        return self._writers.setdefault(pid, PacketWriter(pid)).write_section(section)

    def map(self, pid: int, number: int, *streams: tuple[int, int]) -> bytes:
        rows = tuple(ElementaryStream(kind, stream_pid) for kind, stream_pid in streams)
        return self.section(pid, build_program_map(ProgramMap(0x1FFF, rows, number)))

    def packet(self, pid: int, pts: int, payload: bytes, *, stream_id: int = 0xC0, dts: int | None = None) -> bytes:
        """Return a PES packet in transport packets."""
        return self.write(pid, build_pes_header(stream_id, len(payload), pts, pts if dts is None else dts), payload)

    def write(self, pid: int, header: bytes, payload: bytes) -> bytes:
        return self._writers.setdefault(pid, PacketWriter(pid)).write(header, payload)


def audio_units(form: str, data: bytes, size: int) -> list[bytes]:
    written = Written()
    demuxer = Demuxer()
    frames = demuxer.receive_data(
        written.section(0, association((1, 0x100))) + written.map(0x100, 1, (AUDIO[form][1], 0x101))
    )
    for number, start in enumerate(range(0, len(data), size)):
        frames += demuxer.receive_data(written.packet(0x101, number * 3000, data[start : start + size]))
    assert demuxer.tracks is not None
    return [frame.units[0] for _, frame in frames + demuxer.flush()]


@pytest.mark.parametrize("form", AUDIO)
def test_reading_may_begin_in_the_middle_of_an_audio_frame(form: str) -> None:
    data = encoded(form)
    whole = audio_units(form, data, 1777)
    assert len(whole) > 60
    late = audio_units(form, data[100:], 1777)
    assert len(late) >= len(whole) - (20 if form == "latm" else 2)  # FFmpeg's LATM is configured every 20 frames
    assert late == whole[-len(late) :]


@pytest.mark.parametrize("form", AUDIO)
def test_damaged_audio_goes_on(form: str) -> None:
    data = encoded(form)
    whole = audio_units(form, data, 1777)
    middle = len(data) // 2
    cut = audio_units(form, data[:middle] + data[middle + 100 :], 1777)
    assert len(cut) >= len(whole) - 4
    assert cut[-20:] == whole[-20:]


@pytest.mark.parametrize("size", [100, 300, 400])
@pytest.mark.parametrize("form", ["adts", "mp3", "ac3"])
def test_packets_smaller_than_an_audio_frame(form: str, size: int) -> None:
    data = encoded(form)
    assert audio_units(form, data, size) == audio_units(form, data, 1777)


@pytest.mark.parametrize("begin", [0, 100])
def test_audio_keeps_its_times_wherever_it_is_cut(begin: int) -> None:
    data = encoded("adts")
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + aac.parse_adts_header(data, starts[-1]).frame_size)
    times = {start: 90_000 + number * 1920 for number, start in enumerate(starts)}  # 1,024 samples at 48 kHz
    size = 700
    written = Written()
    demuxer = Demuxer()
    demuxer.receive_data(written.section(0, association((1, 0x100))))
    frames = demuxer.receive_data(written.map(0x100, 1, (ts.STREAM_TYPE_AAC_ADTS, 0x101)))
    for start in range(begin, len(data) - size, size):
        # A time is that of the first frame that starts in the packet (ISO/IEC 13818-1 section 2.4.3.7).
        pts = next(time for position, time in times.items() if position >= start)
        assert pts < times[next(position for position in times if position >= start + size)]
        frames += demuxer.receive_data(written.packet(0x101, pts, data[start : start + size]))
    assert len(frames) > 80
    by_unit = {data[start + 7 : end]: times[start] for start, end in itertools.pairwise(starts)}
    assert all(abs(frame.pts * 90_000 // 48_000 - by_unit[bytes(frame.units[0])]) <= 2 for _, frame in frames)


def test_the_search_for_a_frame_is_limited() -> None:
    tried: list[int] = []

    class Counting(AacParser):
        def _read(self, data: bytes, offset: int) -> _AudioFrame | None:
            tried.append(offset)
            return super()._read(data, offset)

    with pytest.raises(RemoteProtocolError):
        Counting(MPEG4Audio()).parse(b"\xff" * 1_000_000, 0, 0)
    assert len(tried) <= MAXIMUM_SEARCHES


def test_the_search_for_a_frame_among_many_in_a_row_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start is confirmed by another one, and begins a unit of too many dependent frames."""

    def sync_frame(kind: int, words: int) -> bytes:
        return bytes((0x0B, 0x77, kind << 6 | (words - 1) >> 8, (words - 1) & 0xFF, 0x04, 0x80)).ljust(12, b"\0")

    tried: list[int] = []
    read = eac3.read_access_unit
    monkeypatch.setattr(eac3, "read_access_unit", lambda data, offset: tried.append(offset) or read(data, offset))
    starts = b"".join(sync_frame(0, 6 * count) for count in range(330, 0, -1))
    with pytest.raises(RemoteProtocolError):
        EnhancedAc3Parser(EAC3()).parse(starts + sync_frame(1, 6) * 64, 0, 0)
    assert 0 < len(tried) <= 20


def pictures(written: Written, pid: int, marks: bytes, *, delay: int = 0) -> bytes:
    """Return key frames, each with its mark, that are shown ``delay`` ticks after they are decoded."""
    data = b""
    for number, mark in enumerate(marks):
        units = (SPS, PPS, b"\x65" + bytes((mark,)) * 30)
        payload = b"".join(b"\0\0\0\1" + unit for unit in units)
        dts = 3600 * number
        data += written.packet(pid, dts + delay, payload, stream_id=0xE0, dts=dts)
    return data


@pytest.mark.parametrize("is_timed", [True, False])
def test_parameter_sets_in_packets_of_their_own(is_timed: bool) -> None:
    """They belong to the picture that follows, and are no picture themselves; only the first one may have the time."""
    written = Written()
    data = written.section(0, association((1, 0x100))) + written.map(0x100, 1, (VIDEO_TYPE, 0x101))
    for number in range(3):
        for position, unit in enumerate((b"\x09\x10", SPS, PPS, b"\x65" + bytes((number + 1,)) * 30)):
            has_time = is_timed or not position
            header = build_pes_header(0xE0, 4 + len(unit), 3600 * number, 3600 * number)
            header = header if has_time else header[:7] + b"\0\0"
            data += written.write(0x101, header, b"\0\0\0\1" + unit)
    demuxer = Demuxer()
    frames = [frame for _, frame in demuxer.receive_data(data) + demuxer.flush()]
    assert [frame.units for frame in frames] == [(SPS, PPS, b"\x65" + bytes((mark,)) * 30) for mark in (1, 2, 3)]
    assert [(frame.dts, frame.key) for frame in frames] == [(0, True), (3600, True), (7200, True)]


@pytest.mark.parametrize("unit", [SPS + bytes(range(1, 250)) * 300, b"\x06\x05\x80"])
def test_what_waits_for_a_picture_is_limited(unit: bytes) -> None:
    parser = H264Parser(H264())
    for _ in range(MAXIMUM_HELD_UNITS + 1):
        assert parser.parse(b"\0\0\1" + unit, 0, 0) == []
    (frame,) = parser.parse(b"\0\0\1\x65\x80", 0, 0)
    assert sum(map(len, frame.units)) <= MAXIMUM_HELD_SIZE
    assert len(frame.units) <= MAXIMUM_HELD_UNITS + 1


@pytest.mark.parametrize(
    ("parser", "trailing", "leading", "picture"),
    [
        (H264Parser(H264()), b"\x0a", b"\x06\x05\x80", b"\x41\x80"),  # end of sequence, SEI
        (H264Parser(H264()), b"\x0c\xff\x80", b"\x68\x80", b"\x41\x80"),  # filler, PPS
        (H265Parser(H265()), b"\x50\x01\x80", b"\x4e\x01\x80", b"\x02\x01\x80"),  # suffix and prefix SEI
    ],
)
def test_what_ends_a_picture_does_not_begin_the_next(
    parser: H264Parser | H265Parser, trailing: bytes, leading: bytes, picture: bytes
) -> None:
    for unit in (trailing, leading):
        assert parser.parse(b"\0\0\1" + unit, 0, 0) == []
    (frame,) = parser.parse(b"\0\0\1" + picture, 0, 0)
    assert frame.units == (leading, picture)


def marks_of(data: bytes, program: int | None = None) -> bytes:
    demuxer = Demuxer(program)
    frames = demuxer.receive_data(data) + demuxer.flush()
    return bytes(frame.units[-1][1] for _, frame in frames)


def test_a_pts_a_little_before_the_dts() -> None:
    written = Written()
    data = written.section(0, association((1, 0x100))) + written.map(0x100, 1, (VIDEO_TYPE, 0x101))
    data += pictures(written, 0x101, b"abc", delay=-2)
    demuxer = Demuxer()
    frames = demuxer.receive_data(data) + demuxer.flush()
    assert [(frame.pts, frame.dts) for _, frame in frames] == [(0, 0), (3600, 3600), (7200, 7200)]


def test_maps_of_several_programs_on_one_pid() -> None:
    for program, expected in ((None, b"abcd"), (1, b"abcd"), (2, b"ABCD")):
        written = Written()
        data = b""
        for first, second in ((b"ab", b"AB"), (b"cd", b"CD")):
            data += written.section(0, association((1, 0x100), (2, 0x100)))
            data += written.map(0x100, 1, (VIDEO_TYPE, 0x101)) + written.map(0x100, 2, (VIDEO_TYPE, 0x201))
            data += pictures(written, 0x101, first) + pictures(written, 0x201, second)
        assert marks_of(data, program) == expected


def test_a_program_of_data_is_passed_over() -> None:
    written = Written()
    data = b""
    for marks in (b"ab", b"cd", b"ef"):
        data += written.section(0, association((1, 0x100), (2, 0x200)))
        data += written.map(0x100, 1, (0x05, 0x101)) + written.map(0x200, 2, (VIDEO_TYPE, 0x201))
        data += pictures(written, 0x201, marks)
    assert marks_of(data) == b"abcdef"
    assert marks_of(data, 1) == b""


def test_a_program_without_a_map_is_passed_over() -> None:
    written = Written()
    data = b""
    for marks in (b"ab", b"cd", b"ef", b"gh", b"ij"):
        data += written.section(0, association((1, 0x100), (2, 0x200)))
        data += written.map(0x200, 2, (VIDEO_TYPE, 0x201)) + pictures(written, 0x201, marks)
    assert marks_of(data) == b"ghij"


def test_a_late_map_of_the_first_program_is_awaited() -> None:
    written = Written()
    data = written.section(0, association((1, 0x100), (2, 0x200)))
    data += written.map(0x200, 2, (VIDEO_TYPE, 0x201)) + pictures(written, 0x201, b"AB")
    data += written.section(0, association((1, 0x100), (2, 0x200)))
    data += written.map(0x100, 1, (VIDEO_TYPE, 0x101)) + pictures(written, 0x101, b"ab")
    assert marks_of(data) == b"ab"


def test_associations_may_be_far_more_frequent_than_maps() -> None:
    """As in ATSC A/53: every 100 ms, and maps every 400 ms."""
    written = Written()
    data = b""
    for first, second in ((b"ab", b"AB"), (b"cd", b"CD")):
        for _ in range(4):
            data += written.section(0, association((1, 0x100), (2, 0x200)))
        data += written.map(0x200, 2, (VIDEO_TYPE, 0x201)) + pictures(written, 0x201, second)
        data += written.map(0x100, 1, (VIDEO_TYPE, 0x101)) + pictures(written, 0x101, first)
    assert marks_of(data) == b"abcd"


def test_another_number_in_the_map_than_in_the_association() -> None:
    written = Written()
    data = written.section(0, association((1, 0x100), (2, 0x200)))
    data += written.map(0x100, 7, (VIDEO_TYPE, 0x101)) + pictures(written, 0x101, b"ab")
    assert marks_of(data) == b"ab"


def test_another_codec_of_a_track_is_another_stream() -> None:
    written = Written()
    demuxer = Demuxer()
    sound = (ts.STREAM_TYPE_AAC_ADTS, 0x102)
    demuxer.receive_data(written.section(0, association((1, 0x100))))
    demuxer.receive_data(written.map(0x100, 1, (VIDEO_TYPE, 0x101), sound) + pictures(written, 0x101, b"abc"))
    for number in range(3):
        demuxer.receive_data(written.packet(0x102, number * 1920, encoded("adts")[:700]))
    assert demuxer.tracks is not None
    assert len(demuxer.tracks) == 2
    for kinds, is_replaced in (
        ((sound,), False),
        (((0x24, 0x101), sound), True),
        (((VIDEO_TYPE, 0x103), sound), False),
    ):
        demuxer.receive_data(written.map(0x100, 1, *kinds))
        assert demuxer.is_replaced == is_replaced


def test_other_codecs_are_another_stream() -> None:
    written = Written()
    demuxer = Demuxer()
    demuxer.receive_data(written.section(0, association((1, 0x100))) + written.map(0x100, 1, (VIDEO_TYPE, 0x101)))
    demuxer.receive_data(pictures(written, 0x101, b"abc"))
    assert demuxer.tracks is not None
    for kind, is_replaced in ((0x05, False), (0x24, True), (VIDEO_TYPE, False)):
        demuxer.receive_data(written.map(0x100, 1, (kind, 0x101)))
        assert demuxer.is_replaced == is_replaced
