"""The statistics of a connection, under the names of libsrt that other servers use as well."""

from __future__ import annotations

import math
from typing import Annotated, Final, TypedDict, get_type_hints

from msgspec import Meta

from polycast.items import Column
from polycast.wire.srt.connection import Connection
from polycast.wire.srt.packet import HEADER_SIZE, MAXIMUM_DATAGRAM
from polycast.wire.srt.receiver import WINDOW

_MEGABIT: Final = 1e6 / 8
_NETWORK_HEADERS: Final = 28
"""Bytes of the headers of IPv4 and UDP, which belong to the maximum segment size."""
_METRIC_NAMES: Final = {"byteMSS": "bytes_mss"}
"""Those that do not follow from the name of the field."""

Count = Annotated[int, Meta(ge=0)]


class Grows:
    """Marks a counter; the others are measured."""


Growing = Annotated[Count, Grows()]


class Statistics(TypedDict):
    """What is known of a connection. Bytes are those of payloads."""

    packetsSent: Annotated[Growing, Meta(description="Data packets sent, retransmissions included.")]
    packetsReceived: Annotated[Growing, Meta(description="Data packets received, retransmissions included.")]
    packetsSentUnique: Annotated[Growing, Meta(description="Data packets sent, without retransmissions.")]
    packetsReceivedUnique: Annotated[
        Growing, Meta(description="Data packets received, without retransmissions and duplicates.")
    ]
    packetsSendLoss: Annotated[Growing, Meta(description="Data packets that the peer reported as lost.")]
    packetsReceivedLoss: Annotated[Growing, Meta(description="Data packets found to be lost.")]
    packetsRetrans: Annotated[Growing, Meta(description="Data packets sent again.")]
    packetsReceivedRetrans: Annotated[Growing, Meta(description="Data packets received that were sent again.")]
    packetsSentACK: Annotated[Growing, Meta(description="ACK packets sent.")]
    packetsReceivedACK: Annotated[Growing, Meta(description="ACK packets received.")]
    packetsSentNAK: Annotated[Growing, Meta(description="NAK packets sent.")]
    packetsReceivedNAK: Annotated[Growing, Meta(description="NAK packets received.")]
    packetsSentKM: Annotated[Growing, Meta(description="Key material packets sent.")]
    packetsReceivedKM: Annotated[Growing, Meta(description="Key material packets received.")]
    usSndDuration: Annotated[Growing, Meta(description="Microseconds during which there was media to send.")]
    packetsReceivedBelated: Annotated[Growing, Meta(description="Data packets that arrived after they were given up.")]
    packetsSendDrop: Annotated[Growing, Meta(description="Data packets dropped because it was too late to send them.")]
    packetsReceivedDrop: Annotated[Growing, Meta(description="Data packets given up because it was too late for them.")]
    packetsReceivedUndecrypt: Annotated[Growing, Meta(description="Data packets that could not be decrypted.")]
    bytesSentUnique: Annotated[Growing, Meta(description="Bytes of media sent, without retransmissions.")]
    bytesReceivedUnique: Annotated[
        Growing, Meta(description="Bytes of media received, without retransmissions and duplicates.")
    ]
    bytesReceivedLoss: Annotated[Growing, Meta(description="Bytes of media found to be lost, an estimate.")]
    bytesRetrans: Annotated[Growing, Meta(description="Bytes of media sent again.")]
    bytesReceivedRetrans: Annotated[Growing, Meta(description="Bytes of media received that were sent again.")]
    bytesReceivedBelated: Annotated[Growing, Meta(description="Bytes of media that arrived after they were given up.")]
    bytesSendDrop: Annotated[Growing, Meta(description="Bytes of media dropped because it was too late to send them.")]
    bytesReceivedDrop: Annotated[
        Growing, Meta(description="Bytes of media given up because it was too late for them, an estimate.")
    ]
    bytesReceivedUndecrypt: Annotated[Growing, Meta(description="Bytes of media that could not be decrypted.")]
    usPacketsSendPeriod: Annotated[float, Meta(description="Microseconds between two packets at least.")]
    packetsFlowWindow: Annotated[Count, Meta(description="Packets on the way to the peer at most.")]
    packetsFlightSize: Annotated[Count, Meta(description="Packets on the way to the peer.")]
    msRTT: Annotated[float, Meta(description="Round-trip time in milliseconds.")]
    mbpsSendRate: Annotated[float, Meta(description="Mbit/s sent.")]
    mbpsReceiveRate: Annotated[float, Meta(description="Mbit/s received.")]
    mbpsLinkCapacity: Annotated[float, Meta(description="Mbit/s that the link carries, as the peer estimates.")]
    bytesAvailSendBuf: Annotated[Count, Meta(description="Bytes free in the send buffer.")]
    bytesAvailReceiveBuf: Annotated[Count, Meta(description="Bytes free in the receive buffer.")]
    mbpsMaxBW: Annotated[float, Meta(description="Mbit/s that may be sent; -1 for no limit.")]
    byteMSS: Annotated[Count, Meta(description="Bytes of a packet at most, with the headers of IP and UDP.")]
    packetsSendBuf: Annotated[Count, Meta(description="Packets in the send buffer.")]
    bytesSendBuf: Annotated[Count, Meta(description="Bytes in the send buffer.")]
    msSendBuf: Annotated[Count, Meta(description="Age of the oldest packet in the send buffer, in milliseconds.")]
    msSendTsbPdDelay: Annotated[Count, Meta(description="Milliseconds by which the peer delays packets.")]
    packetsReceiveBuf: Annotated[Count, Meta(description="Packets in the receive buffer.")]
    bytesReceiveBuf: Annotated[Count, Meta(description="Bytes in the receive buffer.")]
    msReceiveBuf: Annotated[
        Count, Meta(description="Milliseconds between the first and the last packet in the receive buffer.")
    ]
    msReceiveTsbPdDelay: Annotated[Count, Meta(description="Milliseconds by which received packets are delayed.")]
    packetsReorderTolerance: Annotated[Count, Meta(description="Packets by which another order is tolerated.")]
    packetsReceivedAvgBelatedTime: Annotated[
        Count, Meta(description="Milliseconds by which packets were too late, on average.")
    ]
    packetsSendLossRate: Annotated[float, Meta(description="Lost packets in percent of those sent.")]
    packetsReceivedLossRate: Annotated[float, Meta(description="Lost packets in percent of those received.")]


def columns() -> tuple[Column, ...]:
    """Return the metrics of the statistics, under the names of MediaMTX."""
    found = []
    for field, annotation in get_type_hints(Statistics, include_extras=True).items():
        marks = annotation.__metadata__
        (description,) = [mark.description for mark in marks if isinstance(mark, Meta) and mark.description]
        grows = any(isinstance(mark, Grows) for mark in marks)
        found.append(Column(field, description.rstrip("."), grows=grows, name=_METRIC_NAMES.get(field, "")))
    return tuple(found)


def statistics_of(connection: Connection, now: float) -> Statistics:
    """Return what a connection counts and measures."""
    sent, arrived, sender, receiver = connection.sent, connection.arrived, connection.sender, connection.receiver
    parameters, payload_size = connection.parameters, sender.payload_size
    rate = sender.pace.rate
    unsent = sender.flight + sender.waiting
    return {
        "packetsSent": sent.packets,
        "packetsReceived": arrived.packets,
        "packetsSentUnique": sent.unique_packets,
        "packetsReceivedUnique": arrived.unique_packets,
        "packetsSendLoss": sent.lost_packets,
        "packetsReceivedLoss": arrived.lost_packets,
        "packetsRetrans": sent.retransmitted_packets,
        "packetsReceivedRetrans": arrived.retransmitted_packets,
        "packetsSentACK": arrived.acks,
        "packetsReceivedACK": sent.acks,
        "packetsSentNAK": arrived.naks,
        "packetsReceivedNAK": sent.naks,
        "packetsSentKM": sent.key_messages,
        "packetsReceivedKM": arrived.key_messages,
        "usSndDuration": round(connection.busy_seconds * 1e6),
        "packetsReceivedBelated": arrived.belated_packets,
        "packetsSendDrop": sent.dropped_packets,
        "packetsReceivedDrop": arrived.dropped_packets,
        "packetsReceivedUndecrypt": arrived.undecryptable_packets,
        "bytesSentUnique": sent.unique_bytes,
        "bytesReceivedUnique": arrived.unique_bytes,
        "bytesReceivedLoss": arrived.lost_bytes,
        "bytesRetrans": sent.retransmitted_bytes,
        "bytesReceivedRetrans": arrived.retransmitted_bytes,
        "bytesReceivedBelated": arrived.belated_bytes,
        "bytesSendDrop": sent.dropped_bytes,
        "bytesReceivedDrop": arrived.dropped_bytes,
        "bytesReceivedUndecrypt": arrived.undecryptable_bytes,
        "usPacketsSendPeriod": 0.0 if rate == math.inf else round((payload_size + HEADER_SIZE) / rate * 1e6, 3),
        "packetsFlowWindow": parameters.window,
        "packetsFlightSize": sender.flight,
        "msRTT": round(connection.round_trip.time * 1000, 3),
        "mbpsSendRate": _megabits(connection.measured.send_rate.bytes),
        "mbpsReceiveRate": _megabits(connection.receive_rate.bytes),
        "mbpsLinkCapacity": _megabits(connection.measured.link_capacity * MAXIMUM_DATAGRAM),
        "bytesAvailSendBuf": max(0, parameters.window - unsent) * MAXIMUM_DATAGRAM,
        "bytesAvailReceiveBuf": max(0, WINDOW - receiver.held_count) * MAXIMUM_DATAGRAM,
        "mbpsMaxBW": -1.0 if rate == math.inf else _megabits(rate),
        "byteMSS": MAXIMUM_DATAGRAM + _NETWORK_HEADERS,
        "packetsSendBuf": unsent,
        "bytesSendBuf": unsent * payload_size,
        "msSendBuf": round(sender.held_time(connection.timestamp(now)) / 1000),
        "msSendTsbPdDelay": round(parameters.send_delay * 1000),
        "packetsReceiveBuf": receiver.held_count,
        "bytesReceiveBuf": receiver.held_size,
        "msReceiveBuf": round(receiver.held_seconds * 1000),
        "msReceiveTsbPdDelay": round(parameters.receive_delay * 1000),
        "packetsReorderTolerance": 0,
        "packetsReceivedAvgBelatedTime": round(arrived.belated_time * 1000),
        "packetsSendLossRate": _percent(sent.lost_packets, sent.unique_packets),
        "packetsReceivedLossRate": _percent(arrived.lost_packets, arrived.unique_packets + arrived.dropped_packets),
    }


def _megabits(bytes_per_second: float) -> float:
    return round(bytes_per_second / _MEGABIT, 6)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 3) if whole else 0.0
