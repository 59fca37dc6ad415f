"""Transport packets byte by byte, and as FFmpeg reads them."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from tests.interop.tools import quick_program
from tests.wire.hls.samples import interleave, sample
from tests.wire.hls.streams import AUDIO, PPS, SPS, VIDEO, track

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AC3, AV1, EAC3, H265, KLV, VP8, MPEGAudio, Opus
from polycast.media.frame import Frame
from polycast.media.timebase import rescale
from polycast.media.track import Track
from polycast.wire.mpegts.muxer import MAXIMUM_TRACKS, Muxer
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header, parse_pes_header
from polycast.wire.mpegts.psi import (
    ElementaryStream,
    ProgramMap,
    SectionAssembler,
    build_program_association,
    build_program_map,
    crc32_mpeg,
    parse_program_association,
    parse_program_map,
)

# The tables that rtsp-simple-server v0.20.0 sends: PMT on PID 4096, H264 on 256, AAC on 257.
PROGRAM_ASSOCIATION = bytes.fromhex("4740001000 00b00d0000c100000001f0007110d878") + b"\xff" * 167
PROGRAM_MAP = bytes.fromhex("4750001000 02b0170001c10000e100f0001be100f0000fe101f0002f44b99b") + b"\xff" * 157


def test_tables_are_those_of_the_reference() -> None:
    assert Muxer([track(0, VIDEO), track(1, AUDIO)]).tables() == PROGRAM_ASSOCIATION + PROGRAM_MAP


def test_the_check_value_of_the_crc() -> None:
    assert crc32_mpeg(b"123456789") == 0x0376E6E7  # CRC-32/MPEG-2 of the CRC catalogue
    assert crc32_mpeg(PROGRAM_MAP[5:31]) == 0


def test_tables_count_their_continuity() -> None:
    muxer = Muxer([track(0, VIDEO)])
    assert [muxer.tables()[3] & 0x0F for _ in range(18)] == [*range(16), 0, 1]


def test_a_video_frame_byte_by_byte() -> None:
    """The first frame of the reference's test: PCR 0, PTS 36000 (400 ms), access unit delimiter, parameter sets."""
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    packet = muxer.write_frame(0, Frame((b"\x65\x01",), 0, 0, key=True), 0, 0)
    payload = b"\0\0\0\1\x09\xf0" + b"\0\0\0\1" + SPS + b"\0\0\0\1" + PPS + b"\0\0\0\1\x65\x01"
    pes = bytes.fromhex("000001e00000848005") + _timestamp(36_000) + payload
    stuffing = 184 - len(pes)
    field = bytes((stuffing - 1, 0x50)) + bytes.fromhex("000000007e00") + b"\xff" * (stuffing - 8)
    assert packet == bytes.fromhex("47410030") + field + pes


def _timestamp(value: int) -> bytes:
    """A PTS alone, written out bit by bit: '0010' and three parts with a marker bit each."""
    bits = f"{value:033b}"
    text = f"0010{bits[:3]}1{bits[3:18]}1{bits[18:]}1"
    return int(text, 2).to_bytes(5, "big")


def test_an_audio_frame_byte_by_byte() -> None:
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    packet = muxer.write_frame(1, Frame((b"\x01\x02\x03\x04",), 0, 0, key=True), 90_000, 90_000)
    adts = bytes.fromhex("fff14c8001 7ffc") + b"\x01\x02\x03\x04"
    pes = bytes.fromhex("000001c0") + (8 + len(adts)).to_bytes(2, "big") + bytes.fromhex("848005")
    pes += _timestamp(126_000) + adts
    field = bytes((184 - len(pes) - 1, 0x40)) + b"\xff" * (184 - len(pes) - 2)
    assert packet == bytes.fromhex("47410130") + field + pes


@pytest.mark.parametrize("size", [*range(400), 16_384, 100_000])
@pytest.mark.parametrize("pcr", [None, (1 << 33) + 5])
def test_packets_of_every_size(size: int, pcr: int | None) -> None:
    writer = PacketWriter(0x1ABC)
    payload = bytes(index % 251 for index in range(size))
    packets = writer.write(b"header", payload, pcr=pcr) + writer.write(b"", b"next")
    assert len(packets) % 188 == 0
    content = []
    for number, start in enumerate(range(0, len(packets), 188)):
        packet = packets[start : start + 188]
        assert packet[0] == 0x47
        assert int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x1ABC
        assert packet[3] & 0x0F == number & 0x0F
        offset = 5 + packet[4] if packet[3] & 0x20 else 4
        if pcr is not None and number == 0:
            assert packet[5] == 0x10
            assert int.from_bytes(packet[6:12], "big") >> 15 == 5
        content.append((bool(packet[1] & 0x40), packet[offset:]))
    assert [start for start, _ in content] == [True, *[False] * (len(content) - 2), True]
    assert b"".join(part for _, part in content) == b"header" + payload + b"next"


def test_a_clock_reference_comes_at_least_every_100_ms() -> None:
    muxer = Muxer([track(0, VIDEO), track(1, AUDIO)])
    data = muxer.write_frame(0, Frame((b"\x65",), 0, 0, key=True), 0, 0)
    for time in range(0, 90_000, 1920):
        data += muxer.write_frame(1, Frame((bytes(100),), 0, 0, key=True), time, time)
    packets = [data[start : start + 188] for start in range(0, len(data), 188)]
    references = [packet for packet in packets if packet[3] & 0x20 and packet[4] and packet[5] & 0x10]
    times = [int.from_bytes(packet[6:12], "big") >> 15 for packet in references]
    assert all(packet[1] & 0x1F == 1 and packet[2] == 0 for packet in references)
    assert len(times) >= 9
    assert all(0 < later - earlier <= 9000 + 1920 for earlier, later in pairwise(times))
    # packets without payload do not count for continuity (section 2.4.3.3)
    assert {packet[3] & 0x1F for packet in references[1:]} == {0x00}


@pytest.mark.parametrize("pts", [0, 1, 0x155555555, (1 << 33) - 1, 1 << 33, (1 << 35) + 7])
@pytest.mark.parametrize("delay", [0, 3000])
def test_pes_headers(pts: int, delay: int) -> None:
    header = parse_pes_header(build_pes_header(0xC0, 100, pts, pts - delay) + bytes(100))
    assert header is not None
    assert (header.stream_id, header.pts, header.dts) == (0xC0, pts % (1 << 33), (pts - delay) % (1 << 33))
    assert header.packet_size == header.payload + 100


def test_tables_are_read_as_written() -> None:
    streams = tuple(ElementaryStream(0x1B, 0x100 + number, b"\x05\x04Opus" * number) for number in range(8))
    program = ProgramMap(0x100, streams)
    assert parse_program_map(build_program_map(program)) == program
    assert parse_program_association(build_program_association(0x1234)) == [(1, 0x1234)]
    assert parse_program_map(build_program_association(0x1234)) is None
    with pytest.raises(RemoteProtocolError):
        parse_program_map(build_program_map(program)[:-1] + b"\x00")


def test_sections_over_several_packets() -> None:
    first, second = build_program_association(0x1234), build_program_map(ProgramMap(0x100, ()))
    assembler = SectionAssembler()
    assert assembler.push(b"ignored", False) == []
    assert assembler.push(b"\x00" + first[:5], True) == []
    assert assembler.push(first[5:9], False) == []
    rest = first[9:]
    assert assembler.push(bytes((len(rest),)) + rest + second + b"\xff" * 10, True) == [first, second]
    assert assembler.push(second, False) == []


def test_opus_and_ac3_are_announced_by_descriptors() -> None:
    tables = Muxer([track(0, Opus(6)), Track(1, AC3(), language="deu")]).tables()
    assert b"\x06\xe1\x00\xf0\x0a\x05\x04Opus\x7f\x02\x80\x06" in tables
    assert b"\x81\xe1\x01\xf0\x0c\x05\x04AC-3\x0a\x04deu\x00" in tables


def test_e_ac3_and_klv_are_announced_as_ffmpeg_does_it() -> None:
    tables = Muxer([track(0, EAC3()), Track(1, KLV()), Track(2, KLV(synchronous=True))]).tables()
    assert b"\x87\xe1\x00\xf0\x06\x05\x04EAC3" in tables
    assert b"\x06\xe1\x01\xf0\x06\x05\x04KLVA" in tables
    assert b"\x15\xe1\x02\xf0\x16\x26\x09\x01\x00\xffKLVA\x00\x0f\x27\x09" in tables


@pytest.mark.parametrize(("rate", "stream_type"), [(48_000, 3), (44_100, 3), (24_000, 4), (0, 3)])
def test_stream_types_of_mpeg_audio(rate: int, stream_type: int) -> None:
    tables = Muxer([Track(0, MPEGAudio(rate, 2))]).tables()
    assert tables[188 + 5 + 12] == stream_type


def test_what_cannot_be_carried() -> None:
    for tracks in ([], [Track(0, VP8())], [Track(0, AV1())], [track(0, VIDEO)] * (MAXIMUM_TRACKS + 1)):
        with pytest.raises(LocalProtocolError):
            Muxer(tracks)
    muxer = Muxer([track(0, VIDEO)])
    with pytest.raises(LocalProtocolError):
        muxer.update_track(0, Track(0, H265()))


@pytest.mark.interop
@pytest.mark.parametrize("audio", ["aac", "opus", "mp3", "ac3", "eac3"])
@pytest.mark.parametrize("video", ["h264b", "h265"])
def test_ffmpeg_finds_nothing_wrong(video: str, audio: str, tmp_path: Path) -> None:
    samples = [sample(video), sample(audio)]
    muxer = Muxer([each.track(index) for index, each in enumerate(samples)])
    data = [muxer.tables()]
    for index, frame in interleave(*samples):
        rate = samples[index].codec.clock_rate
        pts, dts = rescale(frame.pts, rate, 90_000), rescale(frame.dts, rate, 90_000)
        data.append(muxer.write_frame(index, frame, pts + 90_000, dts + 90_000))
    path = tmp_path / "out.ts"
    path.write_bytes(b"".join(data))
    command = [quick_program(), "-v", "warning", "-xerror", "-i", str(path), "-map", "0", "-f", "null", "-"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    # the decoded pictures are those of the input, one by one
    decoded = subprocess.run(
        [quick_program(), "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"],
        capture_output=True,
        check=True,
    )
    assert decoded.stdout.count(b"\n0,") == len(samples[0].frames)
