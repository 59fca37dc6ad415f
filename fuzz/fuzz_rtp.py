"""Fuzz target: RTP packets through the header parser, the scan, the reorderer, the statistics and the timeline.

The input is a row of packets, each behind two bytes of length.
"""

from __future__ import annotations

import itertools

from polycast.errors import RemoteProtocolError
from polycast.media.codec import AV1, H264, H265, VP8, VP9, Codec
from polycast.media.packet_buffer import Framing, PacketBuffer
from polycast.media.timebase import WallTime
from polycast.rtp.header import MAXIMUM_PACKET_SIZE, build_header, parse_packet, payload_type_of, rewrite, ssrc_of
from polycast.rtp.payload.registry import payload_of_codec
from polycast.rtp.reorder import Reorderer
from polycast.rtp.reports import ReceiverStatistics, SenderReportSource
from polycast.rtp.scan import PacketScanner
from polycast.rtp.timeline import Timeline

FRAMING = Framing(2, "length")
CODECS: tuple[Codec, ...] = (H264(), H265(), AV1(), VP8(), VP9())


def _row(*packets: bytes) -> bytes:
    return b"".join(len(packet).to_bytes(2, "big") + packet for packet in packets)


SEEDS: list[bytes] = [
    b"",
    _row(*(build_header(96, sequence, 3000 * sequence, 1, marker=True) + b"payload" for sequence in range(5))),
    _row(*(build_header(96, sequence, 7, 1) for sequence in (65534, 65535, 1, 0, 0, 3, 20000, 20001, 2))),
    _row(
        *(
            build_header(96, sequence, 7, 1) + b"\x7c" + bytes((start,)) + b"\x88\x80"
            for sequence, start in enumerate(b"\x85\5\x45")
        )
    ),
    _row(b"\xb2\xe0" + build_header(0, 1, 2, 3)[2:] + bytes(8) + b"\xbe\xde\x00\x01" + bytes(4) + b"abc\x00\x00\x03"),
]


def fuzz_one(data: bytes) -> None:
    """Push the packets through; what parses must parse again the same after it was rewritten."""
    _scan(data)
    reorderer = Reorderer(size=4)
    statistics = ReceiverStatistics(90_000)
    reports = SenderReportSource(90_000)
    timeline = Timeline([90_000, 48_000])
    position, now, sent, received = 0, 0.0, 0, 0
    while position + 2 <= len(data):
        end = min(len(data), position + 2 + int.from_bytes(data[position : position + 2], "big"))
        now += 0.01
        try:
            packet = parse_packet(data, position + 2, end)
        except RemoteProtocolError:
            position = end
            continue
        position = end
        sent += 1
        again = rewrite(packet, sequence=packet.sequence)
        parsed = parse_packet(again.data, again.start, again.end)
        if (parsed.payload_bytes(), ssrc_of(parsed), payload_type_of(parsed), parsed.timestamp, parsed.marker) != (
            packet.payload_bytes(),
            ssrc_of(packet),
            payload_type_of(packet),
            packet.timestamp,
            packet.marker,
        ):
            raise AssertionError("a packet changed when it was rewritten")
        received += len(reorderer.push(packet, now)) + len(reorderer.flush(now))
        statistics.update(packet.sequence, packet.timestamp, now)
        statistics.report_block(1, now)
        reports.on_packet(packet.timestamp, now, WallTime(int(now * 1e9)))
        reports.report(1, now, WallTime(int(now * 1e9)), sent, sent)
        if packet.marker:
            timeline.on_sender_report(packet.sequence & 1, packet.timestamp << 32, packet.timestamp)
        pts = timeline.tracks[packet.sequence & 1].extend(packet.timestamp, now)
        timeline.tracks[packet.sequence & 1].wall_time(pts)
    if received > sent:
        raise AssertionError("the reorderer gave out more packets than it got")


def _scan(data: bytes) -> None:
    """What is found in all packets at once must be what each of them says."""
    sizes: list[int] = []
    position = 2
    while position <= len(data):
        size = int.from_bytes(data[position - 2 : position], "big")
        if position + size > len(data):
            break
        sizes.append(size)
        position += size + 2
    if not sizes:
        return
    end = position - 2
    buffers = [PacketBuffer(FRAMING, data, 0, end, len(sizes), sizes=sizes)]
    if sizes.count(sizes[0]) == len(sizes) - (sizes[-1] < sizes[0]):
        buffers.append(PacketBuffer(FRAMING, data, 0, end, len(sizes), sizes[0] + 2))
    payload_type = data[3] & 0x7F if len(data) > 3 else 0
    for codec, buffer in itertools.product(CODECS, buffers):
        payload = payload_of_codec(codec)
        inspect = payload.peek_for(codec)
        found = PacketScanner(payload_type, MAXIMUM_PACKET_SIZE, inspect, payload.continuation).scan(buffer)
        if found is None:
            continue
        packets = [parse_packet(data, *bounds) for bounds in buffer.bounds()]
        flags = [(inspect(data, packet.payload, packet.end), packet.start, packet.end) for packet in packets]
        expected = (packets[0].sequence, packets[-1].timestamp, packets[-1].marker, [each for each in flags if each[0]])
        if (*found[:3], list(found[3])) != expected:
            raise AssertionError("packets inspected at once differ from those parsed one by one")
        if any(packet.sequence != (found[0] + index) & 0xFFFF for index, packet in enumerate(packets)):
            raise AssertionError("sequence numbers are not consecutive")
