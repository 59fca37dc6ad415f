"""Transport streams as they are found in the wild: several programs, other packet sizes, LATM, maps that change."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

import pytest
from tests.interop.tools import quick_program

from polycast.codecs import aac
from polycast.media.codec import AC3, H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.psi import (
    ElementaryStream,
    ProgramMap,
    build_program_association,
    build_program_map,
    crc32_mpeg,
)

INPUTS = [
    *("-f", "lavfi", "-i", "testsrc2=size=64x64:rate=25:duration=3"),
    *("-f", "lavfi", "-i", "sine=duration=3:sample_rate=48000", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25"),
    *("-c:a", "aac", "-ac", "2"),
]


def write(path: Path, *arguments: str) -> bytes:
    """Let FFmpeg write a transport stream."""
    subprocess.run([quick_program(), "-v", "error", *INPUTS, *arguments, "-f", "mpegts", "-y", str(path)], check=True)
    return path.read_bytes()


def demux(data: bytes, *, chunk: int = 1 << 20, program: int | None = None) -> tuple[Demuxer, list[tuple[int, Frame]]]:
    demuxer = Demuxer(program)
    frames: list[tuple[int, Frame]] = []
    for start in range(0, len(data), chunk):
        frames += demuxer.receive_data(data[start : start + chunk])
    return demuxer, frames + demuxer.flush()


def units(frames: list[tuple[int, Frame]]) -> list[tuple[int, tuple[bytes, ...], int, int]]:
    return [(index, frame.units, frame.pts, frame.dts) for index, frame in frames]


@pytest.mark.parametrize("chunk", [188, 1000, 1 << 20])
def test_latm_has_the_frames_of_adts(tmp_path: Path, chunk: int) -> None:
    plain, expected = demux(write(tmp_path / "adts.ts"))
    latm, found = demux(write(tmp_path / "latm.ts", "-mpegts_flags", "+latm"), chunk=chunk)
    assert plain.tracks is not None
    assert latm.tracks is not None
    assert isinstance(latm.tracks[1].codec, MPEG4Audio)
    assert (latm.tracks[1].codec.sample_rate, latm.tracks[1].codec.channels) == (48_000, 2)
    assert aac.object_type(latm.tracks[1].codec) == 2
    audio = [frame for index, frame in found if index == 1]
    wanted = [frame for index, frame in expected if index == 1]
    assert len(wanted) > 130
    assert [frame.units for frame in audio] == [frame.units for frame in wanted][-len(audio) :]
    assert len(audio) >= len(wanted) - 20  # FFmpeg writes the configuration every 20 frames
    assert [frame.pts for frame in audio] == [frame.pts for frame in wanted][-len(audio) :]


def test_damaged_latm_is_counted(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "latm.ts", "-mpegts_flags", "+latm"))
    for position in range(20_000, len(data) - 188, 30_000):
        data[position] ^= 0xFF
    demuxer, frames = demux(bytes(data))
    assert demuxer.tracks is not None
    assert len(frames) > 100


def with_parity(data: bytes) -> bytes:
    """Return a stream with 16 bytes after each packet, some of which look like the start of one."""
    random = Random(1)
    return b"".join(data[start : start + 188] + random.randbytes(16) for start in range(0, len(data), 188))


@pytest.mark.parametrize("chunk", [1, 188, 204, 300, 1 << 20])
def test_packets_with_parity_bytes(tmp_path: Path, chunk: int) -> None:
    data = write(tmp_path / "in.ts")[: 188 * 300]
    demuxer, frames = demux(with_parity(data), chunk=chunk)
    assert units(frames) == units(demux(data)[1])
    assert demuxer.counters.lost_sync == (chunk in (1, 188))  # after the first 188 bytes, it seems to be a plain one


@pytest.mark.parametrize("chunk", [100, 192, 1 << 20])
def test_packets_with_timestamps(tmp_path: Path, chunk: int) -> None:
    data = write(tmp_path / "in.m2ts", "-c:a", "ac3", "-mpegts_m2ts_mode", "1")
    demuxer, frames = demux(data, chunk=chunk)
    assert demuxer.tracks is not None
    assert [type(track.codec) for track in demuxer.tracks] == [H264, AC3]
    assert len(frames) > 150
    assert demuxer.counters.continuity_errors == 0


def test_the_size_of_packets_may_change(tmp_path: Path) -> None:
    data = write(tmp_path / "in.ts")
    middle = 188 * 100
    demuxer, frames = demux(data[:middle] + with_parity(data[middle:]))
    assert units(frames) == units(demux(data)[1])
    assert demuxer.counters.lost_sync == 1


def test_one_of_several_programs(tmp_path: Path) -> None:
    arguments = ("-map", "0", "-map", "1", "-program", "program_num=5:st=1", "-program", "program_num=7:st=0")
    data = write(tmp_path / "in.ts", *arguments)
    for number, kind in ((None, MPEG4Audio), (5, MPEG4Audio), (7, H264)):
        demuxer, frames = demux(data, program=number)
        assert demuxer.tracks is not None
        assert [type(track.codec) for track in demuxer.tracks] == [kind]
        assert len(frames) > 70
    missing, frames = demux(data, program=9)
    assert (missing.tracks, frames) == (None, [])


VIDEO = Track(0, H264(sps=bytes.fromhex("6764001eacd940a02ff9610000030001000003003c8f162d96"), pps=b"\x68\xeb\xe3\xcb"))
AUDIO = Track(1, MPEG4Audio(bytes.fromhex("1210"), 44_100, 2))


def version(section: bytes, number: int) -> bytes:
    """Return a section with another version."""
    body = section[:5] + bytes((section[5] & 0xC1 | number << 1,)) + section[6:-4]
    return body + crc32_mpeg(body).to_bytes(4, "big")


class Written:
    """A stream whose PIDs can be moved."""

    def __init__(self) -> None:
        self._muxer = Muxer([VIDEO, AUDIO])
        self._version = 0
        self._map_writer = PacketWriter(ts.PROGRAM_MAP_PID)
        self._move: dict[int, int] = {}

    def tables(self, pids: tuple[int, ...], *, types: tuple[int, ...] = (0x1B, 0x0F)) -> bytes:
        """Return the tables with these PIDs, which the packets have from now on."""
        self._version += 1
        self._move = dict(zip((0x100, 0x101), pids, strict=False))
        streams = tuple(ElementaryStream(kind, pid) for kind, pid in zip(types, pids, strict=False))
        section = version(build_program_map(ProgramMap(pids[0], streams)), self._version)
        association = PacketWriter(0).write_section(build_program_association(ts.PROGRAM_MAP_PID))
        return association + self._map_writer.write_section(section)

    def frames(self, first: int, count: int) -> bytes:
        data = b""
        for number in range(first, first + count):
            video = Frame((b"\x65" + bytes((number + 1,)) * 30,), number * 3600, number * 3600, key=True)
            data += self._muxer.write_frame(0, video, number * 3600, number * 3600)
            audio = Frame((b"\x21" + bytes((number + 1,)) * 9,), number, number, key=True)
            data += self._muxer.write_frame(1, audio, number * 3600, number * 3600)
        moved = bytearray(data)
        for start in range(0, len(moved), 188):
            pid = (moved[start + 1] & 0x1F) << 8 | moved[start + 2]
            new = self._move.get(pid, pid)
            moved[start + 1] = moved[start + 1] & 0xE0 | new >> 8
            moved[start + 2] = new & 0xFF
        return bytes(moved)


def numbers(frames: list[tuple[int, Frame]], index: int) -> list[int]:
    return [frame.units[-1][1] - 1 for found, frame in frames if found == index]


def test_a_changed_map_moves_the_tracks() -> None:
    written = Written()
    data = written.tables((0x100, 0x101)) + written.frames(0, 5)
    data += written.tables((0x200, 0x201)) + written.frames(5, 5)
    data += written.tables((0x201, 0x200)) + written.frames(10, 5)
    demuxer, frames = demux(data)
    assert demuxer.tracks is not None
    assert len(demuxer.tracks) == 2
    assert numbers(frames, 1) == list(range(15))
    assert numbers(frames, 0) == [*range(4), *range(5, 9), *range(10, 15)]  # a picture ends where the next one begins


def test_a_track_may_leave_and_come_back() -> None:
    written = Written()
    data = written.tables((0x100, 0x101)) + written.frames(0, 3)
    data += written.tables((0x300,)) + written.frames(3, 3)
    data += written.tables((0x300, 0x301)) + written.frames(6, 3)
    demuxer, frames = demux(data)
    assert demuxer.tracks is not None
    assert len(demuxer.tracks) == 2
    assert numbers(frames, 1) == [0, 1, 2, 6, 7, 8]


def test_a_map_that_changes_before_the_tracks_are_known() -> None:
    written = Written()
    data = written.tables((0x100, 0x101), types=(0x24, 0x0F))
    data += written.tables((0x100, 0x101)) + written.frames(0, 3)
    demuxer, _ = demux(data)
    assert demuxer.tracks is not None
    assert [type(track.codec) for track in demuxer.tracks] == [H264, MPEG4Audio]
