"""Fuzz target: audio and video messages through the demuxer, and its frames through the muxer.

A message: one byte whose lowest bit says video, four of time, two of length, payload. The first byte of all says
whether metadata announced tracks.
"""

from __future__ import annotations

import struct

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.track import Track
from polycast.wire.rtmp.chunks import RawMessage
from polycast.wire.rtmp.demuxer import Demuxer
from polycast.wire.rtmp.events import Event, FrameReceived, TrackChanged, TracksKnown
from polycast.wire.rtmp.metadata import Metadata
from polycast.wire.rtmp.muxer import Muxer

_HEADER = struct.Struct(">BIH")


def _message(video: bool, time: int, payload: bytes) -> bytes:
    return _HEADER.pack(video, time, len(payload)) + payload


_AVC = bytes.fromhex("0164001effe100196764001eacd940a02ff9610000030001000003003c8f162d9601000668ebe3cb22c0fdf8f800")
_MULTITRACK = b"avc1\x00" + len(_AVC).to_bytes(3, "big") + _AVC + b"\x01" + len(_AVC).to_bytes(3, "big") + _AVC
_STREAM_INFO = bytes.fromhex("100010000000000000000ac442f000000000" + "00" * 16)

SEEDS: list[bytes] = [
    b"",
    b"\x01"
    + _message(True, 0, b"\x17\x00\x00\x00\x00" + _AVC)
    + _message(False, 0, b"\xaf\x00\x12\x10")
    + _message(True, 0, b"\x17\x01\x00\x00\x50\x00\x00\x00\x04\x65\x88\x84\x00")
    + _message(False, 5, b"\xaf\x01\x21\x10\x04")
    + _message(True, 40, b"\x27\x01\xff\xff\xd8\x00\x00\x00\x04\x41\x9a\x24\x00"),
    b"\x00"
    + _message(True, 0xFFFFFFF0, b"\x96\x10" + _MULTITRACK)
    + _message(True, 2000, b"\x97\x02\x00\x00\x05\x03avc1"),
    b"\x00"
    + _message(True, 0, b"\x90av01\x81\x00\x0c\x00\x0a\x0a\x00\x00\x00\x05!\xe7\xf6bW\xc8\x02")
    + _message(True, 40, b"\x91av01\x32\x04\x10\x00\x81\x00"),
    b"\x00"
    + _message(True, 0, b"\x91vp09\x82\x49\x83\x42\x00\x27\xf0\x16\x70\x00")
    + _message(True, 0, b"\x91vp08P\x00\x00\x9d\x01\x2a"),
    b"\x00"
    + _message(False, 0, b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00")
    + _message(False, 0, b"\x91Opus\xfc\xff")
    + _message(False, 20, b"\x94Opus\x01\x06"),
    b"\x00"
    + _message(False, 0, b"\x90fLaCfLaC\x80\x00\x00\x22" + _STREAM_INFO)
    + _message(False, 0, b"\x91fLaC\xff\xf8\xc9\x18\x00"),
    b"\x00"
    + _message(False, 0, b"\x2f\xff\xfb\x90\x64" + bytes(413))
    + _message(False, 0, b"\xaf\x01\xff\xf1\x50\x80\x01\x1f\xfc!"),
    b"\x00" + _message(False, 0, b"\x91ac-3\x0b\x77\x00\x00\x0c\x40\x43\xe1" + bytes(376)),
    b"\x00"
    + _message(False, 0, b"\x72" + bytes(20))
    + _message(False, 20, b"\x3f" + bytes(20))
    + _message(False, 40, b"\xb6\x01"),
    b"\x00" + _message(True, 0, b"\x90hvc1\x01") + _message(True, 0, b"\x93hvc1\x00\x00\x00\x03\x26\x01\x02"),
]


def fuzz_one(data: bytes) -> None:
    """Frames or RemoteProtocolError; frames keep the promises of `Frame`."""
    demuxer = Demuxer()
    if data[:1] == b"\x01":
        demuxer.receive_metadata(Metadata(video=True, audio=True), 0.0)
    events: list[Event] = []
    position = 1
    try:
        while position + _HEADER.size <= len(data):
            kind, time, size = _HEADER.unpack_from(data, position)
            position += _HEADER.size
            payload = data[position : position + size]
            position += size
            events += demuxer.receive(RawMessage(9 if kind & 1 else 8, 1, time, payload), position / 1000)
        events += demuxer.handle_timeout(1e9)
    except RemoteProtocolError:
        pass
    _check(events)


def _check(events: list[Event]) -> None:
    tracks: tuple[Track, ...] = ()
    muxer: Muxer | None = None
    for event in events:
        if isinstance(event, TracksKnown):
            tracks = event.tracks
            muxer = _muxer(tracks)
        elif isinstance(event, TrackChanged):
            tracks = tuple(Track(t.index, event.codec if t.index == event.track else t.codec) for t in tracks)
            muxer = _muxer(tracks)
        elif isinstance(event, FrameReceived):
            frame = event.frame
            if not frame.units or frame.pts < frame.dts:
                raise AssertionError(f"broken frame {frame!r}")
            if muxer is not None:
                muxer.message(event.track, frame)


def _muxer(tracks: tuple[Track, ...]) -> Muxer | None:
    try:
        muxer = Muxer(tracks)
        muxer.initial()
    except (LocalProtocolError, RemoteProtocolError):
        return None  # two tracks of a kind without enhanced identifier; an SPS that says nonsense
    return muxer
