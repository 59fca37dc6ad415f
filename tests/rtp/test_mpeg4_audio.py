"""AAC in RTP (RFC 3640): the AU header section in every combination of its parameters."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest

from polycast.media.codec import MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import build_packet
from polycast.rtp.payload.registry import make_depacketizer

CODEC = MPEG4Audio(bytes.fromhex("1190"), 48_000, 2)
DURATION = 1024


class Bits:
    """Writes fields of some bits each."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, value: int, count: int) -> None:
        if count:
            self.text += format(value & (1 << count) - 1, f"0{count}b")

    def to_bytes(self) -> bytes:
        padded = self.text + "0" * (-len(self.text) % 8)
        return int(padded, 2).to_bytes(len(padded) // 8, "big") if padded else b""


@dataclass(frozen=True)
class Fields:
    """The parameters of RFC 3640 section 4.1 that shape the headers."""

    size: int = 13
    index: int = 3
    index_delta: int = 3
    cts: int = 0
    dts: int = 0
    random_access: int = 0
    state: int = 0
    auxiliary: int = 0

    def text(self) -> str:
        values = {
            "sizeLength": self.size,
            "indexLength": self.index,
            "indexDeltaLength": self.index_delta,
            "CTSDeltaLength": self.cts,
            "DTSDeltaLength": self.dts,
            "randomAccessIndication": self.random_access,
            "streamStateIndication": self.state,
            "auxiliaryDataSizeLength": self.auxiliary,
        }
        return "".join(f";{name}={value}" for name, value in values.items() if value)

    def payload(self, units: list[bytes], places: list[int] | None = None, sizes: list[int] | None = None) -> bytes:
        """Return a payload as section 3.2 has it, written without looking at the parser."""
        bits = Bits()
        places = places if places is not None else list(range(len(units)))
        for index, unit in enumerate(units):
            bits.put(sizes[index] if sizes is not None else len(unit), self.size)
            if index == 0:
                bits.put(0, self.index)
            else:
                bits.put(places[index] - places[index - 1] - 1, self.index_delta)
            if self.cts:
                bits.put(1 if index else 0, 1)
                if index:
                    bits.put(places[index] * DURATION, self.cts)
            if self.dts:
                bits.put(1, 1)
                bits.put(0, self.dts)
            bits.put(1, self.random_access)
            bits.put(0, self.state)
        section = len(bits.text).to_bytes(2, "big") + bits.to_bytes() if bits.text else b""
        if self.auxiliary:
            more = Bits()
            more.put(11, self.auxiliary)
            more.put(0, 11)
            section += more.to_bytes()
        return section + b"".join(units)


def frames_of(parameters: str, payloads: list[bytes], *, step: int = DURATION, markers: bool = True) -> list[Frame]:
    track = Track(0, CODEC, RtpFormat(97, "mpeg4-generic", 48_000, 2, parameters))
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    frames: list[Frame] = []
    for index, payload in enumerate(payloads):
        packet = build_packet(97, index, index * step, 1, payload, marker=markers)
        frames += depacketizer.push(packet, index * step)
    assert depacketizer.errors == 0
    return frames


def unit(number: int, size: int = 60) -> bytes:
    return random.Random(number).randbytes(size)


BASE = "streamtype=5;profile-level-id=1;mode=AAC-hbr;config=1190"

COMBINATIONS = [
    Fields(size, index, delta, cts, dts, random_access, state, auxiliary)
    for size, (index, delta), cts, dts, random_access, state, auxiliary in itertools.product(
        (13, 8), ((3, 3), (0, 0), (3, 0), (0, 2)), (0, 17), (0, 7), (0, 1), (0, 5), (0, 8)
    )
]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("fields", COMBINATIONS, ids=lambda fields: fields.text()[1:])
def test_every_combination_of_fields(fields: Fields, count: int) -> None:
    units = [unit(number) for number in range(count * 4)]
    payloads = [fields.payload(units[start : start + count]) for start in range(0, len(units), count)]
    frames = frames_of(BASE + fields.text(), payloads, step=count * DURATION)
    assert [frame.units[0] for frame in frames] == units
    assert [frame.pts for frame in frames] == [number * DURATION for number in range(len(units))]


@pytest.mark.parametrize("count", [1, 2, 13, 16])
@pytest.mark.parametrize(
    ("told", "fields"),
    [
        (";sizeLength=13", Fields(13, 0, 0)),
        (";sizeLength=13", Fields(13, 3, 3)),
        ("", Fields(13, 3, 3)),
        (";sizeLength=13;indexLength=3", Fields(13, 3, 3)),
        (";indexLength=3", Fields(13, 3, 3)),
    ],
)
def test_missing_parameters_are_zero_or_as_the_mode_has_them(told: str, fields: Fields, count: int) -> None:
    # Adobe Media Server leaves out indexLength, and writes headers of 13 bits; other senders mean AAC-hbr's 16.
    units = [unit(number, 50 + number) for number in range(count * 3)]
    payloads = [fields.payload(units[start : start + count]) for start in range(0, len(units), count)]
    frames = frames_of(BASE + told, payloads, step=count * DURATION)
    assert [frame.units[0] for frame in frames] == units


@pytest.mark.parametrize("fields", [Fields(13, 0, 0), Fields(13, 3, 3)], ids=["13 bits", "16 bits"])
def test_fragments_where_parameters_are_missing(fields: Fields) -> None:
    whole = unit(1, 3000)
    track = Track(0, CODEC, RtpFormat(97, "mpeg4-generic", 48_000, 2, BASE + ";sizeLength=13"))
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    frames: list[Frame] = []
    for index, start in enumerate(range(0, 3000, 1000)):
        payload = fields.payload([whole[start : start + 1000]], sizes=[len(whole)])
        packet = build_packet(97, index, 0, 1, payload, marker=start == 2000)
        frames += depacketizer.push(packet, 0)
    assert [frame.units for frame in frames] == [(whole,)]


def test_interleaved_units_are_put_in_order() -> None:
    # RFC 3640 section 3.2.3.2 and appendix A.4: units 0, 3, 6 in one packet, then 1, 4, 7, then 2, 5, 8.
    fields = Fields(13, 3, 3)
    units = [unit(number) for number in range(27)]
    payloads = []
    for group in range(0, 27, 9):
        for first in range(3):
            numbers = [group + first + 3 * step for step in range(3)]
            payloads.append(fields.payload([units[number] for number in numbers], places=[0, 3, 6]))
    track = Track(
        0,
        CODEC,
        RtpFormat(97, "mpeg4-generic", 48_000, 2, f"{BASE}{fields.text()};constantDuration=1024;maxDisplacement=6144"),
    )
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    frames: list[Frame] = []
    for index, payload in enumerate(payloads):
        pts = (index // 3 * 9 + index % 3) * DURATION
        frames += depacketizer.push(build_packet(97, index, pts, 1, payload, marker=True), pts)
    assert [frame.units[0] for frame in frames] == units[: len(frames)]
    assert [frame.pts for frame in frames] == [number * DURATION for number in range(len(frames))]
    assert len(frames) > 20


def test_units_of_constant_size_have_no_headers() -> None:
    units = [unit(number, 40) for number in range(6)]
    payloads = [b"".join(units[:3]), b"".join(units[3:])]
    frames = frames_of(f"{BASE};constantSize=40;constantDuration=1024", payloads, step=3 * DURATION)
    assert [frame.units[0] for frame in frames] == units
    assert [frame.pts for frame in frames] == [number * DURATION for number in range(6)]


@pytest.mark.parametrize("markers", [True, False])
def test_packets_without_any_header_section(markers: bool) -> None:
    units = [unit(number) for number in range(5)]
    parameters = "config=1190;mode=generic;sizeLength=0;indexLength=0;indexDeltaLength=0"
    frames = frames_of(parameters, units, markers=markers)
    assert [frame.units[0] for frame in frames] == (units if markers else units[:-1])


def test_malformed_packets_are_counted() -> None:
    track = Track(0, CODEC, RtpFormat(97, "mpeg4-generic", 48_000, 2, BASE + ";sizeLength=13"))
    depacketizer = make_depacketizer(track)
    assert depacketizer is not None
    for index, payload in enumerate((b"", b"\x00", b"\x00\x10\x00", b"\xff\xff" + bytes(40), b"\x00\x0e" + bytes(40))):
        assert depacketizer.push(build_packet(97, index, 0, 1, payload, marker=True), 0) == ()
    assert depacketizer.errors == 5
