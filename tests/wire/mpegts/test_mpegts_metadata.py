"""KLV metadata: synchronous, in metadata cells, and asynchronous."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.hls.samples import Sample, interleave, sample

from polycast.errors import RemoteProtocolError
from polycast.media.codec import KLV
from polycast.media.frame import Frame
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.codecs import make_parser
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.metadata import MAXIMUM_UNIT_SIZE, MetadataReader, build_metadata_cells, number_cells
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header
from polycast.wire.mpegts.psi import ElementaryStream, ProgramMap, build_program_association, build_program_map

LABEL = bytes.fromhex("060e2b34020b01010e01030101000000")
"""The universal key of UAS metadata (MISB ST 0601)."""
UNITS = [LABEL + bytes((20,)) + bytes((number,)) * 20 for number in range(50)]
KLV_DESCRIPTOR = bytes.fromhex("2609 0100 ff 4b4c5641 00 0f")


def klv(synchronous: bool) -> Sample:
    frames = [Frame((unit,), number * 7200, number * 7200, key=True) for number, unit in enumerate(UNITS)]
    return Sample(KLV(synchronous), tuple(frames))


def written(*samples: Sample) -> bytes:
    muxer = Muxer([each.track(index) for index, each in enumerate(samples)])
    data = [muxer.tables()]
    for index, frame in interleave(*samples):
        data.append(muxer.write_frame(index, frame, frame.pts + 90_000, frame.dts + 90_000))
    return b"".join(data)


def demuxed(data: bytes) -> tuple[Demuxer, list[Frame]]:
    """Return the demuxer, and the frames of the metadata."""
    demuxer = Demuxer()
    frames = demuxer.receive_data(data) + demuxer.flush()
    assert demuxer.tracks is not None
    index = next(track.index for track in demuxer.tracks if isinstance(track.codec, KLV))
    return demuxer, [frame for found, frame in frames if found == index]


@pytest.mark.parametrize("synchronous", [True, False])
def test_metadata_of_ours(synchronous: bool) -> None:
    demuxer, frames = demuxed(written(sample("h264"), klv(synchronous)))
    assert demuxer.tracks is not None
    assert demuxer.tracks[1].codec == KLV(synchronous)
    assert [frame.units for frame in frames] == [(unit,) for unit in UNITS]
    assert [after.pts - before.pts for before, after in pairwise(frames)] == [7200] * 49
    assert demuxer.counters.broken == 0


@pytest.mark.interop
@pytest.mark.parametrize("synchronous", [True, False])
def test_ffmpeg_reads_it_and_copies_it(synchronous: bool, tmp_path: Path) -> None:
    ours, copy = tmp_path / "ours.ts", tmp_path / "copy.ts"
    ours.write_bytes(written(sample("h264"), klv(synchronous)))
    read = ["ffmpeg", "-v", "error", "-i", str(ours)]
    result = subprocess.run([*read, "-map", "0:d", "-c", "copy", "-f", "data", "-"], capture_output=True, check=True)
    assert result.stdout == b"".join(UNITS)
    subprocess.run([*read, "-map", "0", "-c", "copy", str(copy)], check=True)
    _, frames = demuxed(copy.read_bytes())
    # FFmpeg writes no times for asynchronous metadata; the first one comes before any other.
    expected = UNITS if synchronous else UNITS[1:]
    assert [frame.units for frame in frames] == [(unit,) for unit in expected]


def test_metadata_without_times_belongs_to_what_is_around_it() -> None:
    """Asynchronous metadata may have none (MISB ST 1402)."""
    video = sample("h264")
    writer = PacketWriter(ts.FIRST_ELEMENTARY_PID + 1)
    data = written(video, klv(synchronous=False))
    header = bytes.fromhex("000001bd") + (3 + len(UNITS[0])).to_bytes(2, "big") + bytes.fromhex("840000")
    video_and_tables = bytearray()
    for start in range(0, len(data), ts.PACKET_SIZE):
        packet = data[start : start + ts.PACKET_SIZE]
        if packet[1] & 0x1F == 1 and packet[2] == 1:
            video_and_tables += writer.write(header, UNITS[0])
        else:
            video_and_tables += packet
    _, frames = demuxed(bytes(video_and_tables))
    # The first one may come before any time.
    assert len(frames) >= len(UNITS) - 1
    assert {frame.units for frame in frames} == {(UNITS[0],)}
    times = [frame.pts for frame in frames]
    assert times == sorted(times)
    assert times[-1] - times[0] == pytest.approx(48 * 7200, abs=7200)


def test_cells_are_numbered() -> None:
    cells, following = number_cells(build_metadata_cells(b"abc") + build_metadata_cells(b"de"), 255)
    assert cells == b"\0\xff\xdf\0\3abc" + b"\0\0\xdf\0\2de"
    assert following == 257


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 200_000])
def test_large_units_take_several_cells(size: int) -> None:
    unit = bytes(index & 0xFF for index in range(size))
    payload = build_metadata_cells(unit)
    assert MetadataReader().read(payload) == [unit]
    reader = MetadataReader()
    found: list[bytes] = []
    for start in range(0, len(payload), 65_540):  # one cell in each packet
        found += reader.read(payload[start : start + 65_540])
    assert found == [unit]


def test_cells_that_do_not_fit() -> None:
    reader = MetadataReader()
    assert reader.read(b"\0\0\x0f\0\1x") == [], "its beginning was lost"
    assert reader.read(b"\0\0\x4f\0\1x") == []
    for payload in (b"\0\0\xcf", b"\0\0\xcf\0\5abcd"):
        with pytest.raises(RemoteProtocolError):
            reader.read(payload)
    reader.read(b"\0\0\x8f\xff\xff" + bytes(65_535))
    cells = (b"\0\0\x0f\xff\xff" + bytes(65_535)) * (MAXIMUM_UNIT_SIZE // 65_535 + 1)
    with pytest.raises(RemoteProtocolError, match="too large"):
        reader.read(cells)
    assert reader.read(b"\0\0\x4f\0\1x") == []


def test_empty_cells_are_not_collected_for_ever() -> None:
    reader = MetadataReader()
    reader.read(b"\0\0\x8f\0\0")
    cells = b"\0\0\x0f\0\0" * (MAXIMUM_UNIT_SIZE // 5)
    with pytest.raises(RemoteProtocolError, match="too large"):
        reader.read(cells)


@given(st.binary(max_size=40))
def test_hostile_cells(data: bytes) -> None:
    try:
        MetadataReader().read(data)
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize(
    ("stream_type", "descriptors", "is_read"),
    [
        (0x15, KLV_DESCRIPTOR, True),
        (0x15, b"\x05\x04KLVA", True),
        (0x06, b"\x05\x04KLVA", True),
        (0x15, bytes.fromhex("260d ffff 49443320 ff 49443320 00 0f"), False),  # ID3 in HLS
        (0x15, b"", False),
        (0x06, b"\x7a\x01\x00", True),  # E-AC-3 in DVB
    ],
)
def test_what_is_recognized(stream_type: int, descriptors: bytes, is_read: bool) -> None:
    assert (make_parser(ElementaryStream(stream_type, 0x100, descriptors)) is not None) == is_read


def test_tables_of_broadcasters_are_read() -> None:
    """E-AC-3 as DVB announces it, beside synchronous metadata."""
    streams = (ElementaryStream(0x06, 0x101, b"\x7a\x01\x00"), ElementaryStream(0x15, 0x102, KLV_DESCRIPTOR))
    audio = bytes.fromhex("0b77007f3480") + bytes(250)
    tables = PacketWriter(0).write_section(build_program_association(0x1000))
    tables += PacketWriter(0x1000).write_section(build_program_map(ProgramMap(0x101, streams)))
    sound, metadata = PacketWriter(0x101), PacketWriter(0x102)
    data = tables
    for number in range(3):
        time = number * 2880
        data += sound.write(build_pes_header(0xBD, len(audio), time, time), audio)
        cells = build_metadata_cells(UNITS[number])
        data += metadata.write(build_pes_header(0xFC, len(cells), time, time), cells)
    demuxer = Demuxer()
    frames = demuxer.receive_data(data) + demuxer.flush()
    assert demuxer.tracks is not None
    assert [track.codec.name for track in demuxer.tracks] == ["EAC3", "KLV"]
    assert [(frame.units[0], frame.pts) for index, frame in frames if index == 0] == [
        (audio, number * 1536) for number in range(3)
    ]
    assert [frame.units[0] for index, frame in frames if index == 1] == UNITS[:3]
