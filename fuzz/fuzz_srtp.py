"""SRTP and SRTCP packets, and what a publisher's RTP is after it was opened."""

from __future__ import annotations

import struct

from polycast.protocols.webrtc.inbound import InboundMedia, InboundTrack
from polycast.rtp.rtcp import PictureLossIndication, ReceiverReport, SenderReport, serialize_compound
from polycast.wire.srtp.profiles import PROFILES, MasterKey
from polycast.wire.srtp.session import SrtpReceiver, SrtpSender
from polycast.wire.webrtc.description import Format

_MASTERS = [MasterKey(bytes(profile.key_size), bytes(profile.salt_size)) for profile in PROFILES]
_PLAIN = struct.pack("!BBHII", 0x80, 96, 7, 9000, 1) + b"payload"
_EXTENDED = struct.pack("!BBHIIHH", 0x90, 96, 8, 9000, 1, 0xBEDE, 2) + b"\x21\x00\x05\x10\x30\x00\x00\x00payload"
_RESENT = struct.pack("!BBHII", 0x80, 97, 1, 9000, 2) + b"\x00\x06payload"
_REPORT = serialize_compound([SenderReport(1, 1 << 32, 9000, 5, 500), PictureLossIndication(1, 2)])

SEEDS: list[bytes] = [
    _PLAIN,
    _EXTENDED,
    _RESENT,
    _REPORT,
    serialize_compound([ReceiverReport(1)]),
    *(
        SrtpSender(profile, master).protect(_PLAIN[:12], _PLAIN[12:], 1, 7)
        for profile, master in zip(PROFILES, _MASTERS, strict=True)
    ),
    *(SrtpSender(profile, master).protect_control(_REPORT) for profile, master in zip(PROFILES, _MASTERS, strict=True)),
]
DICTIONARY: list[bytes] = [b"\xbe\xde\x00\x01", b"\x10\x00\x00\x01", b"\x80\x60", b"\x81\xce", b"\x80\xc8"]


def fuzz_one(data: bytes) -> None:
    """Nothing is raised, whatever is received; what was read of RTP makes RTCP that can be written."""
    for profile, master in zip(PROFILES, _MASTERS, strict=True):
        receiver = SrtpReceiver(profile, master)
        for packet in (receiver.open(data), receiver.open_control(data)):
            if packet is not None and len(packet) >= len(data):
                raise ValueError("an opened packet is as long as the protected one")
    video = Format(96, "VP8", 90_000, feedback=frozenset({"nack"}), retransmission=97)
    media = InboundMedia(
        [InboundTrack(0, "video", "0", video, ()), InboundTrack(1, "audio", "1", Format(111, "opus", 48_000, 2), (3,))],
        0.0,
        mid_extension=1,
        transport_sequence_extension=2,
    )
    for now, packet in ((0.0, _PLAIN), (0.1, data), (0.2, data[::-1]), (0.3, _EXTENDED), (0.4, _RESENT)):
        media.receive_rtp(packet, now)
        media.receive_rtcp(packet, now)
    for _ in range(20):
        media.handle_timeout(media.next_timeout() + 0.001)
