"""Fuzz target: tables of MPEG-TS whose CRC is right, what follows them, and the pacer, which looks into packets."""

from __future__ import annotations

import contextlib
import math

from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.mpegts import constants as ts
from polycast.wire.mpegts.demuxer import Demuxer
from polycast.wire.mpegts.muxer import Muxer
from polycast.wire.mpegts.pacer import Pacer
from polycast.wire.mpegts.packet import PacketWriter
from polycast.wire.mpegts.pes import build_pes_header, parse_pes_header
from polycast.wire.mpegts.psi import (
    MAXIMUM_SECTION_SIZE,
    ElementaryStream,
    ProgramMap,
    SectionAssembler,
    build_program_association,
    build_program_map,
    crc32_mpeg,
    iterate_descriptors,
    parse_program_association,
    parse_program_map,
)

_NOW = 1000.0


def fuzz_one(data: bytes) -> None:
    """The first byte says what the rest is: a program map and its stream, a section, a PES packet, or packets."""
    if len(data) < 3:
        return
    kind, data = data[0] % 4, data[1:]
    if kind == 0:
        _program(data)
    elif kind == 1:
        _sections(data)
    elif kind == 2:
        header = parse_pes_header(data)
        if header is not None:
            assert header.payload <= len(data)
    else:
        _pacer(data)


def _with_crc(section: bytes) -> bytes:
    body = section[: MAXIMUM_SECTION_SIZE - 4]
    length = len(body) + 1
    body = body[:1] + bytes((0xB0 | length >> 8 & 3, length & 0xFF)) + body[3:5] + b"\xc1" + body[6:]
    return body + crc32_mpeg(body).to_bytes(4, "big")


def _packets(writer: PacketWriter, section: bytes) -> bytes:
    """Return a section, which may be longer than a packet, as packets."""
    payload = b"\0" + section
    return writer.write(b"", payload + b"\xff" * (-len(payload) % ts.PAYLOAD_SIZE))


def _program(data: bytes) -> None:
    """A program map with a right CRC, and data on its elementary streams."""
    size, data = data[0], data[1:]
    program_map = _with_crc(b"\x02\0\0\0\1\0\0\0" + data[:size])
    stream = PacketWriter(ts.FIRST_ELEMENTARY_PID)
    packets = _packets(PacketWriter(ts.PROGRAM_ASSOCIATION_PID), build_program_association(ts.PROGRAM_MAP_PID))
    packets += _packets(PacketWriter(ts.PROGRAM_MAP_PID), program_map)
    for start in range(size, len(data), 400):
        payload = data[start : start + 400]
        packets += stream.write(build_pes_header(ts.STREAM_ID_VIDEO, len(payload), start, start), payload)
    demuxer = Demuxer()
    for _, frame in demuxer.receive_data(packets) + list(demuxer.end_analysis()) + demuxer.flush():
        assert frame.units
    with contextlib.suppress(RemoteProtocolError):
        found = parse_program_map(program_map)
        for each in found.streams if found is not None else ():
            iterate_descriptors(each.descriptors)


def _sections(data: bytes) -> None:
    """Payloads of packets, and a PAT with a right CRC."""
    assembler = SectionAssembler()
    for start in range(0, len(data), ts.PAYLOAD_SIZE):
        for section in assembler.push(data[start : start + ts.PAYLOAD_SIZE], bool(data[start] & 1)):
            assert len(section) <= MAXIMUM_SECTION_SIZE
    for number, pid in parse_program_association(_with_crc(b"\0" + data)) or ():
        assert number
        assert pid < 0x2000


def _pacer(data: bytes) -> None:
    pacer, now = Pacer(7), _NOW
    whole = data[: len(data) // ts.PACKET_SIZE * ts.PACKET_SIZE]
    for start in range(0, len(whole), 3 * ts.PACKET_SIZE):
        pacer.receive_data(whole[start : start + 3 * ts.PACKET_SIZE], now)
        now += whole[start] / 1000
    pacer.finish()
    size = 0
    while (due := pacer.next_timeout()) < math.inf:
        now = max(now, due)
        datagram = pacer.next_datagram(now)
        assert datagram
        assert len(datagram) <= 7 * ts.PACKET_SIZE
        size += len(datagram)
    assert size + ts.PACKET_SIZE * (pacer.held + pacer.dropped) == len(whole)


def _map(*streams: ElementaryStream) -> bytes:
    return build_program_map(ProgramMap(ts.FIRST_ELEMENTARY_PID, streams))[8:-4]


def _paced() -> bytes:
    """Return a stream with a PCR in each frame."""
    muxer = Muxer((Track(0, H264(b"\x67\x42\xc0\x28", b"\x68\xce")),))
    frames = [Frame((b"\x65" + bytes(300),), number * 3000, number * 3000, key=True) for number in range(6)]
    return muxer.tables() + b"".join(muxer.write_frame(0, frame, frame.pts, frame.dts) for frame in frames)


_REGISTERED = ElementaryStream(ts.STREAM_TYPE_PRIVATE, ts.FIRST_ELEMENTARY_PID, b"\x05\x04Opus\x7f\x02\x80\x02")
_MAPS = [
    _map(ElementaryStream(kind, ts.FIRST_ELEMENTARY_PID))
    for kind in (ts.STREAM_TYPE_H264, ts.STREAM_TYPE_AAC_LATM, ts.STREAM_TYPE_AC3, ts.STREAM_TYPE_MPEG2_VIDEO)
] + [_map(_REGISTERED, ElementaryStream(ts.STREAM_TYPE_PRIVATE, 0x101, b"\x05\x04KLVA"))]
SEEDS: list[bytes] = [
    *(b"\0" + bytes((len(each),)) + each + b"\0\0\1\x67" + bytes(range(1, 200)) * 3 for each in _MAPS),
    b"\1\0" + build_program_association(ts.PROGRAM_MAP_PID) + b"\xff" * 100,
    b"\1\0\0" + build_program_association(ts.PROGRAM_MAP_PID)[3:],
    b"\2" + build_pes_header(ts.STREAM_ID_VIDEO, 100, 9000, 3000) + bytes(100),
    b"\2" + build_pes_header(ts.STREAM_ID_AUDIO, 100, 9000, 9000) + bytes(100),
    b"\3" + _paced(),
]
