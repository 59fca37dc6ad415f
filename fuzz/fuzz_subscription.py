"""Subscriptions between nodes: both ends, before and after they have proved who they are."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.media.codec import H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import build_header, parse_packet
from polycast.wire.subscription.connection import NONCE_SIZE, OwnerConnection, Reason, Subscribed, SubscriberConnection
from polycast.wire.subscription.messages import Report, Start, frame, packets, report, track_changed

_NOW = 1000.0
_TOKEN = b"token"
_VIDEO = Track(0, H264(b"\x67\x42\xc0\x0d", b"\x68\xce"), RtpFormat(96, "H264"))
_AUDIO = Track(1, MPEG4Audio(bytes.fromhex("1190")), None, "de", "Ton")
_START = Start(7, True, (_VIDEO, _AUDIO), {0: 90_000, 1: 48_000})


def _ends() -> tuple[OwnerConnection, SubscriberConnection]:
    owner = OwnerConnection(_TOKEN, bytes(NONCE_SIZE), _NOW)
    subscriber = SubscriberConnection(_TOKEN, bytes(NONCE_SIZE), _NOW, node="b", path="cam", revision=7)
    return owner, subscriber


def _streaming() -> tuple[OwnerConnection, SubscriberConnection]:
    owner, subscriber = _ends()
    owner.receive_data(subscriber.data_to_send(), _NOW)
    subscriber.receive_data(owner.data_to_send(), _NOW)
    assert [type(each) for each in owner.receive_data(subscriber.data_to_send(), _NOW)] == [Subscribed]
    owner.accept(_START, _NOW)
    subscriber.receive_data(owner.data_to_send(), _NOW)
    return owner, subscriber


def fuzz_one(data: bytes) -> None:
    """The first byte says which end receives the rest, and in which state; the second one, in which pieces."""
    if len(data) < 2:
        return
    kind, size, data = data[0] % 4, data[1] or 65_536, data[2:]
    owner, subscriber = _ends() if kind < 2 else _streaming()
    end = owner if kind % 2 == 0 else subscriber
    try:
        for start in range(0, len(data), size):
            end.receive_data(data[start : start + size], _NOW)
            end.data_to_send()
        end.handle_timeout(_NOW + 1)
    except RemoteProtocolError:
        return


def _media() -> bytes:
    packet = build_header(96, 1, 90_000, 7, marker=True) + b"\x65\x88" + bytes(20)
    whole = [parse_packet(packet, 0, len(packet))] * 3
    parts = [
        *packets(0, whole),
        *frame(1, Frame((b"\x21\x00\x03\x40", b"\x21"), 480, 480, key=True, duration=1024)),
        track_changed(_VIDEO),
        report(0, Report(7, 1 << 60, 90_000, 3, 100)),
    ]
    return b"".join(parts)


def _seeds() -> list[bytes]:
    owner, subscriber = _ends()
    hello = subscriber.data_to_send()
    owner.receive_data(hello, _NOW)
    challenge = owner.data_to_send()
    subscriber.receive_data(challenge, _NOW)
    proof = subscriber.data_to_send()
    owner.receive_data(proof, _NOW)
    owner.accept(_START, _NOW)
    start = owner.data_to_send()
    owner.end(Reason.STREAM_ENDED, "the publisher left")
    end = owner.data_to_send()
    _, reader = _streaming()
    reader.request_key_frame()
    return [
        b"\x00\x00" + hello + proof,
        b"\x00\x01" + hello + proof,
        b"\x01\x00" + challenge + start + _media() + end,
        b"\x01\x03" + challenge + start,
        b"\x02\x00" + reader.data_to_send(),
        b"\x03\x00" + _media() + end,
        b"\x03\x07" + _media(),
    ]


SEEDS = _seeds()
