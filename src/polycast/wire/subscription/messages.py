"""The messages of a subscription: their framing, and how media and descriptions are written.

A message is a header (kind, track, count, size of the body) and a body. Packets keep the framing of interleaved RTSP,
each after a header with its channel and size: if the publisher used it, its bytes are sent unchanged, and the readers
of the subscribing node can use them unchanged as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, Final

import msgspec

from polycast.errors import RemoteProtocolError
from polycast.media.codec import CODEC_TYPES, Codec
from polycast.media.frame import Frame
from polycast.media.packet import RtpPacket
from polycast.media.packet_buffer import Framing
from polycast.media.timebase import WallTime
from polycast.media.track import RtpFormat, Track
from polycast.wire.rtsp.interleaved import DOLLAR, HEADER, HEADER_SIZE, InterleavedRun, is_interleaved, next_run

VERSION: Final = 1
"""Of the protocol. Nodes of different versions refuse each other."""

MAXIMUM_TRACKS: Final = 64
"""Tracks of a stream: more than any publisher may have."""

MAXIMUM_CONTROL_SIZE: Final = 1024 * 1024
"""Bytes of the body of a message without media: descriptions with their parameter sets."""

MAXIMUM_GREETING_SIZE: Final = 16 * 1024
"""Bytes of the body of a message from a peer that has not proved yet that it belongs to the cluster."""

MAXIMUM_MEDIA_SIZE: Final = 32 * 1024 * 1024
"""Bytes of the body of a message with media: above the largest frame that a publisher may send, and above the packets
of one flush, which hold a frame or two."""

MAXIMUM_PACKET_SIZE: Final = 65_535
"""Bytes of a packet: its size has 16 bits."""


class Kind(IntEnum):
    """The kinds of messages. None is the dollar sign, with which packets begin."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    START = 4
    REFUSED = 5
    ENDED = 6
    ALIVE = 7
    KEY_FRAME = 8
    PACKETS = 9
    FRAME = 10
    TRACK = 11
    REPORT = 12


_MEDIA: Final = frozenset({Kind.PACKETS, Kind.FRAME})

_HEADER: Final = Struct(">BBII")
"""Kind, track, count of packets or units, bytes of the body."""

_FRAME: Final = Struct(">BqqqI")
"""Flags, presentation time, decoding time, capture time, duration."""
_REPORT: Final = Struct(">IQIII")
"""As in RTCP: SSRC, NTP time, RTP timestamp, packets, bytes."""

_IS_KEY: Final = 1
_IS_DISCONTINUITY: Final = 2
_HAS_WALL_TIME: Final = 4
_HAS_DURATION: Final = 8


def message(kind: Kind, body: bytes = b"", track: int = 0, count: int = 0) -> bytes:
    """Return a whole message."""
    return _HEADER.pack(kind, track, count, len(body)) + body


# Media


def is_framed(framing: Framing | None) -> bool:
    """Whether packets with this framing can be sent unchanged."""
    return is_interleaved(framing)


def framed_packets(track: int, count: int, pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the message of packets in interleaved framing, as parts to be joined."""
    return [_HEADER.pack(Kind.PACKETS, track, count, sum(map(len, pieces))), *pieces]


def packets(track: int, those: Iterable[RtpPacket]) -> list[bytes | memoryview]:
    """Return the message of packets without that framing, as parts to be joined."""
    pieces: list[bytes | memoryview] = []
    channel = 2 * track & 0xFF
    count = 0
    for packet in those:
        pieces.append(HEADER.pack(DOLLAR, channel, packet.end - packet.start))
        pieces.append(memoryview(packet.data)[packet.start : packet.end])
        count += 1
    return framed_packets(track, count, pieces)


def parse_packets(body: bytes, count: int) -> list[InterleavedRun]:
    """Return the packets of a message."""
    runs: list[InterleavedRun] = []
    position = 0
    last_header = len(body) - HEADER_SIZE
    while position < len(body):
        has_header = position <= last_header and body[position] == DOLLAR
        run = next_run(body, position, MAXIMUM_PACKET_SIZE) if has_header else None
        if run is None:
            raise RemoteProtocolError("invalid packets")
        runs.append(run)
        position = run.end
        count -= run.count
    if count:
        raise RemoteProtocolError("the number of packets is wrong")
    return runs


def frame(track: int, value: Frame) -> list[bytes | memoryview]:
    """Return the message of a frame, as parts to be joined."""
    units = value.units
    sizes = [len(unit) for unit in units]
    flags = (
        (_IS_KEY if value.key else 0)
        | (_IS_DISCONTINUITY if value.discontinuity else 0)
        | (_HAS_WALL_TIME if value.wall_time is not None else 0)
        | (_HAS_DURATION if value.duration is not None else 0)
    )
    head = _FRAME.pack(flags, value.pts, value.dts, value.wall_time or 0, value.duration or 0)
    table = Struct(f">{len(units)}I").pack(*sizes)
    size = len(head) + len(table) + sum(sizes)
    return [_HEADER.pack(Kind.FRAME, track, len(units), size), head, table, *units]


def parse_frame(body: bytes, count: int) -> Frame:
    """Return the frame of a message."""
    start = _FRAME.size + 4 * count
    if count > MAXIMUM_MEDIA_SIZE or len(body) < start:
        raise RemoteProtocolError("a frame is too short")
    flags, pts, dts, wall_time, duration = _FRAME.unpack_from(body)
    units: list[bytes] = []
    for size in Struct(f">{count}I").unpack_from(body, _FRAME.size):
        units.append(body[start : start + size])
        start += size
    if start != len(body):
        raise RemoteProtocolError("the units of a frame do not have its size")
    return Frame(
        tuple(units),
        pts,
        dts,
        key=bool(flags & _IS_KEY),
        wall_time=WallTime(wall_time) if flags & _HAS_WALL_TIME else None,
        duration=duration if flags & _HAS_DURATION else None,
        discontinuity=bool(flags & _IS_DISCONTINUITY),
    )


class Report(msgspec.Struct, frozen=True):
    """A sender report: it maps the timestamps of a track to the wall clock (RFC 3550 section 6.4.1)."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int


def report(track: int, value: Report) -> bytes:
    """Return the message of a sender report."""
    body = _REPORT.pack(
        value.ssrc, value.ntp, value.rtp_timestamp, value.packet_count & 0xFFFFFFFF, value.octet_count & 0xFFFFFFFF
    )
    return message(Kind.REPORT, body, track)


def parse_report(body: bytes) -> Report:
    """Return the sender report of a message."""
    if len(body) != _REPORT.size:
        raise RemoteProtocolError("a report has the wrong size")
    return Report(*_REPORT.unpack(body))


# Descriptions


class _TrackValue(msgspec.Struct, array_like=True):
    """A track in a message."""

    codec: str
    fields: dict[str, Any]
    rtp: RtpFormat | None
    language: str | None
    title: str | None


class Start(msgspec.Struct, frozen=True):
    """What a subscriber must know before the media."""

    revision: int
    """Of the owner's claim."""
    publishes_packets: bool
    """Whether packets follow, or frames."""
    tracks: tuple[Track, ...]
    sync_point: Mapping[int, int]
    """The RTP timestamps of the tracks at one sync point, by index; empty if none is known."""


class _StartValue(msgspec.Struct, array_like=True):
    revision: int
    publishes_packets: bool
    tracks: list[_TrackValue]
    sync_point: dict[int, int]


_CODECS: Final = {codec.name: codec for codec in CODEC_TYPES}
_encoder: Final = msgspec.msgpack.Encoder()
_track_decoder: Final = msgspec.msgpack.Decoder(_TrackValue)
_start_decoder: Final = msgspec.msgpack.Decoder(_StartValue)


def _track_value(track: Track) -> _TrackValue:
    codec = track.codec
    fields = {field.name: getattr(codec, field.name) for field in dataclasses.fields(codec)}
    return _TrackValue(codec.name, fields, track.rtp, track.language, track.title)


def _track_of(index: int, value: _TrackValue) -> Track:
    kind = _CODECS.get(value.codec)
    if kind is None:
        raise RemoteProtocolError(f"the codec '{value.codec[:40]}' is not known")
    try:
        codec: Codec = msgspec.convert(value.fields, kind)
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"invalid parameters of {value.codec}: {error}") from error
    return Track(index, codec, value.rtp, value.language, value.title)


def track_changed(track: Track) -> bytes:
    """Return the message of a changed description."""
    return message(Kind.TRACK, _encoder.encode(_track_value(track)), track.index)


def parse_track(index: int, body: bytes) -> Track:
    """Return the description of a message."""
    try:
        return _track_of(index, _track_decoder.decode(body))
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"invalid description: {error}") from error


def start(value: Start) -> bytes:
    """Return the message before the media."""
    tracks = [_track_value(track) for track in value.tracks]
    made = _StartValue(value.revision, value.publishes_packets, tracks, dict(value.sync_point))
    return message(Kind.START, _encoder.encode(made))


def parse_start(body: bytes) -> Start:
    """Return what precedes the media."""
    try:
        value = _start_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"invalid description: {error}") from error
    if not 0 < len(value.tracks) <= MAXIMUM_TRACKS or not set(value.sync_point) <= set(range(len(value.tracks))):
        raise RemoteProtocolError("invalid number of tracks")
    tracks = tuple(_track_of(index, track) for index, track in enumerate(value.tracks))
    return Start(value.revision, value.publishes_packets, tracks, value.sync_point)


# Reading


class Message(msgspec.Struct, frozen=True):
    """A received message."""

    kind: Kind
    track: int
    count: int
    body: bytes


class MessageReader:
    """Cuts received bytes into messages."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._start = 0
        """Bytes of the first part that were read already: messages are not moved, as a read may bring thousands."""
        self.held_size = 0
        """Bytes of the message that is not complete yet."""
        self._wanted = _HEADER.size
        """Bytes that are needed before anything can be done."""
        self.is_trusted = False
        """Whether the peer belongs to the cluster, so that its messages may be large."""

    def feed(self, data: bytes) -> None:
        """Take received bytes."""
        if data:
            self._parts.append(data)
            self.held_size += len(data)

    def next(self) -> Message | None:
        """Return the next message; None if more bytes are needed. Raises RemoteProtocolError."""
        if self.held_size < self._wanted:
            return None
        if len(self._parts) > 1:
            self._parts[0] = self._parts[0][self._start :]
            self._parts, self._start = [b"".join(self._parts)], 0
        data, start = self._parts[0], self._start
        number, track, count, size = _HEADER.unpack_from(data, start)
        try:
            kind = Kind(number)
        except ValueError:
            raise RemoteProtocolError(f"unknown message {number}") from None
        if size > self._limit(kind):
            raise RemoteProtocolError(f"a message of {size} bytes is too large")
        body = start + _HEADER.size
        end = body + size
        if len(data) < end:
            self._wanted = end - start
            return None
        self._wanted = _HEADER.size
        self._start = end
        self.held_size = len(data) - end
        if not self.held_size:
            self._parts, self._start = [], 0
        return Message(kind, track, count, data[body:end])

    def _limit(self, kind: Kind) -> int:
        if not self.is_trusted:
            return MAXIMUM_GREETING_SIZE
        return MAXIMUM_MEDIA_SIZE if kind in _MEDIA else MAXIMUM_CONTROL_SIZE
