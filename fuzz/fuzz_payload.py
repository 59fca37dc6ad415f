"""Fuzz target: RTP payloads of every format through peek, parameters, depacketizer, splitter and packetizer.

The first byte selects a media description; then payloads follow, each behind two bytes of flags and two of length.
"""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.media.track import Track
from polycast.rtp.header import build_packet
from polycast.rtp.payload.registry import (
    codec_from_sdp,
    format_parameters,
    make_depacketizer,
    make_packetizer,
    payload_of_codec,
)
from polycast.rtp.repacketize import Repacketizer

DESCRIPTIONS: list[tuple[str, int, str, int | None, int | None, str]] = [
    ("video", 96, "H264", 90_000, None, "packetization-mode=1; sprop-parameter-sets=Z0LAKdkAeAIn5YgR,aMuMsg=="),
    ("video", 96, "H265", 90_000, None, ""),
    ("video", 96, "H265", 90_000, None, "sprop-max-don-diff=2"),
    ("video", 96, "AV1", 90_000, None, ""),
    ("video", 96, "VP8", 90_000, None, ""),
    ("video", 96, "VP9", 90_000, None, ""),
    ("video", 96, "MP4V-ES", 90_000, None, "profile-level-id=1; config=000001B001"),
    ("video", 32, "", None, None, ""),
    ("video", 26, "", None, None, ""),
    (
        "audio",
        96,
        "mpeg4-generic",
        48_000,
        2,
        "mode=AAC-hbr; sizelength=13; config=1190",
    ),
    ("audio", 96, "mpeg4-generic", 48_000, 2, "mode=AAC-lbr; sizelength=6; indexlength=2; indexdeltalength=2"),
    ("audio", 96, "mpeg4-generic", 48_000, 2, "ctsDeltaLength=5; dtsDeltaLength=7; auxiliaryDataSizeLength=5"),
    ("audio", 96, "MP4A-LATM", 48_000, 2, "cpresent=0; config=400023203fc0"),
    ("audio", 96, "MP4A-LATM", 48_000, 2, ""),
    ("audio", 96, "opus", 48_000, 2, "sprop-stereo=1"),
    ("audio", 14, "", None, None, ""),
    ("audio", 96, "AC3", 48_000, 2, ""),
    ("audio", 0, "", None, None, ""),
    ("audio", 10, "", None, None, ""),
    ("audio", 9, "", None, None, ""),
    ("audio", 96, "AAL2-G726-24", 8_000, None, ""),
    ("audio", 96, "speex", 16_000, None, ""),
    ("audio", 96, "vorbis", 48_000, 2, "configuration=AAAA"),
    ("application", 96, "SMPTE336M", 90_000, None, ""),
    ("video", 33, "", None, None, ""),
    ("application", 96, "private", 90_000, None, ""),
    ("audio", 96, "EAC3", 48_000, 2, ""),
]


SENT_WHOLE = ("Opus", "G722", "G726", "Speex")
"""Codecs whose payload formats have no fragments."""


def _row(index: int, *payloads: bytes) -> bytes:
    parts = [bytes((index,))]
    for number, payload in enumerate(payloads):
        # Flags: marker on the last, a new timestamp on the first.
        flags = (1 if number == len(payloads) - 1 else 0) | (2 if number == 0 else 0)
        parts += [bytes((flags, 0)), len(payload).to_bytes(2, "big"), payload]
    return b"".join(parts)


_SPS = bytes.fromhex("6742c029d900780227e58811")
_PPS = bytes.fromhex("68cb8cb2")
_VP9_KEY = bytes.fromhex("8c8001824983420009f0059600f47b1e8e1a14012c5c")
_MP3 = bytes.fromhex("fffb9064") + bytes(413)
_AC3 = bytes.fromhex("0b770000144043e1") + bytes(376)
_EAC3 = bytes.fromhex("0b77007f3480") + bytes(250)

SEEDS: list[bytes] = [
    _row(0, b"\x18\x00\x0c" + _SPS + b"\x00\x04" + _PPS, b"\x7c\x85\x88\x84", b"\x7c\x05abcdefgh", b"\x7c\x45ijkl"),
    _row(0, b"\x00\x00\x00\x01" + _SPS + b"\x00\x00\x01" + _PPS + b"\x00\x00\x01\x65\x88\x84\x00\x10"),
    _row(
        1,
        b"\x60\x01\x00\x04\x40\x01\x0c\x01\x00\x03\x42\x01\x01",
        b"\x62\x01\x93abc",
        b"\x62\x01\x13def",
        b"\x62\x01\x53gh",
    ),
    _row(2, b"\x60\x01\x00\x01\x00\x04\x40\x01\x0c\x01\x01\x00\x03\x42\x01\x01", b"\x62\x01\x93\x00\x03abc"),
    _row(
        3,
        b"\x08\x0b\x0a\x0b\x00\x00\x00\x04\x3c\xff\xbd\xc0\x00\x80\x03\x32\x10\x00",
        b"\x40\x04\x32\x10abc",
        b"\x80\x02de",
    ),
    _row(4, b"\x10\x30\x01\x00\x9d\x01\x2a\x40\x01\xf0\x00abc", b"\x00def"),
    _row(5, _VP9_KEY[:3] + _VP9_KEY[3:], b"\x84\x80\x01abc"),
    _row(6, bytes.fromhex("000001b001000001b58913000001000000012000c48881f45141443000012b6000"), b"rest"),
    _row(7, bytes.fromhex("00002019000001b314000f0013ffffe0180000010000000fffff8000000101") + b"slice"),
    _row(8, b"\x00\x00\x00\x00\x01\xff\x14\x0f\x00\x00\x00\x80" + bytes(range(1, 129)) + b"scan"),
    _row(
        8,
        b"\x00\x00\x00\x00\x41\x32\x14\x0f\x00\x04\xff\xffscan",
        b"\x00\x00\x00\x04\x41\x32\x14\x0f\x00\x04\xff\xffmore",
    ),
    _row(9, b"\x00\x20\x00\x18\x00\x20abcdefg", b"\x00\x10\x00\x50abcd", b"\x00\x10\x00\x50efghij"),
    _row(9, b"\x00\x10\x00\x58\xff\xf1\x4c\x80\x01\x7f\xfcabcd"),
    _row(10, b"\x00\x10\x10\x14abcdefghi"),
    _row(11, b"\x00\x20\x00\x18\x84\x01\x11abcdef"),
    _row(12, b"\x05abcde"),
    _row(13, bytes.fromhex("200011901fe0") + bytes(20)),
    _row(14, b"\xfc\xff\xfe"),
    _row(15, b"\x00\x00\x00\x00" + _MP3, b"\x00\x00\x00\x00" + _MP3[:100], b"\x00\x00\x00\x64" + _MP3[100:]),
    _row(16, b"\x00\x01" + _AC3, b"\x01\x02" + _AC3[:300], b"\x03\x02" + _AC3[300:]),
    _row(17, bytes(160)),
    _row(18, bytes(400)),
    _row(23, b"\x06\x0e\x2b\x34abcd", b"efg"),
    _row(24, bytes(188)),
    _row(len(DESCRIPTIONS) - 1, b"\x00\x02" + 2 * _EAC3, b"\x01\x02" + _EAC3[:100], b"\x01\x02" + _EAC3[100:]),
]


def fuzz_one(data: bytes) -> None:
    """Push the payloads through everything that looks at them. Only RemoteProtocolError may come out."""
    if not data:
        return
    codec, form = codec_from_sdp(*DESCRIPTIONS[data[0] % len(DESCRIPTIONS)])
    track = Track(0, codec, form)
    depacketizer = make_depacketizer(track)
    # Small packets, so that small frames are cut; those of JPEG begin with 144 bytes of headers.
    maximum = 256 if codec.name == "JPEG" else 64
    packetizer = make_packetizer(track, ssrc=1, initial_sequence=0, initial_timestamp=0, maximum_payload=maximum)
    peek = payload_of_codec(codec).peek_for(codec)
    oversized = Repacketizer(track)
    position, sequence, timestamp = 1, 0, 0
    while position + 4 <= len(data):
        flags = data[position]
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        payload = data[position + 4 : position + 4 + size]
        position += 4 + size
        sequence += 2 if flags & 4 else 1
        timestamp += 3000 if flags & 2 else 0
        packet = build_packet(96, sequence, timestamp, 1, payload, marker=bool(flags & 1))
        before = bytes(packet.data)
        if peek(packet.data, packet.payload, packet.end) & 2:
            try:
                codec = payload_of_codec(codec).parameters_from_packet(codec, packet.data, packet.payload, packet.end)
            except RemoteProtocolError:
                pass
        try:
            oversized.push(packet)
        except RemoteProtocolError:
            pass
        frames = depacketizer.push(packet, timestamp) if depacketizer is not None else ()
        if packet.data != before:
            raise AssertionError("a depacketizer changed its input")
        for frame in frames:
            if not frame.units or not all(frame.units) or frame.dts > frame.pts:
                raise AssertionError(f"bad frame: {frame}")
            if packetizer is not None:
                try:
                    packets = packetizer.packetize(frame)
                except RemoteProtocolError:
                    continue
                too_large = any(made.end - made.payload > maximum for made in packets)
                if too_large and codec.name not in SENT_WHOLE:
                    raise AssertionError(f"a packet of {codec.name} is too large")
    format_parameters(Track(0, codec, form))
