"""The protocol between nodes: what one end says arrives at the other, in pieces of any size; errors end it."""

from __future__ import annotations

import dataclasses
import struct
import time
from typing import Any

import pytest
from fuzz.fuzz_subscription import SEEDS, fuzz_one

from polycast.errors import RemoteProtocolError
from polycast.media.codec import CODEC_TYPES, H264, MPEG4Audio
from polycast.media.frame import Frame
from polycast.media.timebase import WallTime
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import build_header, parse_packet
from polycast.wire.subscription import connection as engine
from polycast.wire.subscription.connection import (
    ALIVE_SECONDS,
    GREETING_SECONDS,
    NONCE_SIZE,
    SILENCE_SECONDS,
    OwnerConnection,
    Reason,
    SubscriberConnection,
)
from polycast.wire.subscription.messages import (
    MAXIMUM_CONTROL_SIZE,
    MAXIMUM_GREETING_SIZE,
    MAXIMUM_MEDIA_SIZE,
    Kind,
    MessageReader,
    Report,
    Start,
    frame,
    framed_packets,
    message,
    packets,
    parse_track,
    report,
    track_changed,
)

VIDEO = Track(0, H264(b"\x67\x42", b"\x68\xce"), RtpFormat(96, "H264", parameters="packetization-mode=1"))
AUDIO = Track(1, MPEG4Audio(bytes.fromhex("1190")), None, "de", "Ton")
START = Start(7, True, (VIDEO, AUDIO), {0: 90_000})


def ends(owner_token: bytes = b"t", subscriber_token: bytes = b"t") -> tuple[OwnerConnection, SubscriberConnection]:
    owner = OwnerConnection(owner_token, b"o" * NONCE_SIZE, 0.0)
    return owner, SubscriberConnection(subscriber_token, b"s" * NONCE_SIZE, 0.0, node="b", path="cam", revision=7)


def streaming() -> tuple[OwnerConnection, SubscriberConnection]:
    owner, subscriber = ends()
    owner.receive_data(subscriber.data_to_send(), 0.0)
    subscriber.receive_data(owner.data_to_send(), 0.0)
    (subscribed,) = owner.receive_data(subscriber.data_to_send(), 0.0)
    assert isinstance(subscribed, engine.Subscribed)
    assert (subscribed.hello.node, subscribed.hello.path, subscribed.hello.revision) == ("b", "cam", 7)
    owner.accept(START, 0.0)
    assert subscriber.receive_data(owner.data_to_send(), 0.0) == [engine.Started(START)]
    return owner, subscriber


def pieces(end: SubscriberConnection, data: bytes, size: int) -> list[engine.SubscriberEvent]:
    return [each for at in range(0, len(data), size) for each in end.receive_data(data[at : at + size], 1.0)]


def packet(sequence: int, size: int = 50) -> bytes:
    return build_header(96, sequence, 9000, 7, marker=False) + b"\x41" + bytes([sequence]) * size


@pytest.mark.parametrize("size", [1, 7, 1_000_000])
def test_packets_arrive_as_they_were(size: int) -> None:
    _, subscriber = streaming()
    sent = [packet(1), packet(2), packet(3, 20)]
    data = b"".join(sent)
    starts = [0, len(sent[0]), len(sent[0]) + len(sent[1])]
    parsed = [parse_packet(data, at, at + len(each)) for at, each in zip(starts, sent, strict=True)]
    received = pieces(subscriber, b"".join(packets(1, parsed)), size)
    (happened,) = received
    assert isinstance(happened, engine.PacketsReceived)
    assert happened.track == 1
    run = happened.run
    assert [run.data[start:end] for start, end in run.bounds()] == sent


def test_packets_of_a_publisher_over_tcp_are_not_copied() -> None:
    _, subscriber = streaming()
    framed = b"".join(struct.pack(">BBH", 0x24, 4, len(each)) + each for each in (packet(1), packet(2)))
    made = framed_packets(0, 2, [framed])
    assert made[1] is framed
    (happened,) = subscriber.receive_data(b"".join(made), 1.0)
    assert isinstance(happened, engine.PacketsReceived)
    assert happened.run.channel == 4


def test_more_packets_than_a_run_has() -> None:
    _, subscriber = streaming()
    sent = [parse_packet(each, 0, len(each)) for each in (packet(number % 250) for number in range(600))]
    received = subscriber.receive_data(b"".join(packets(0, sent)), 1.0)
    assert sum(each.run.count for each in received if isinstance(each, engine.PacketsReceived)) == 600


@pytest.mark.parametrize("size", [1, 13, 1_000_000])
@pytest.mark.parametrize(
    "value",
    [
        Frame((b"\x65" + bytes(1000), b"\x41"), 3000, -1500, key=True),
        Frame((), 1 << 40, 1 << 40, key=False, duration=1024, discontinuity=True),
        Frame((b"",), 0, 0, key=True, wall_time=WallTime(1_700_000_000_000_000_000)),
    ],
)
def test_frames_arrive_as_they_were(value: Frame, size: int) -> None:
    _, subscriber = streaming()
    (happened,) = pieces(subscriber, b"".join(frame(1, value)), size)
    assert isinstance(happened, engine.FrameReceived)
    assert happened.track == 1
    for name in ("units", "pts", "dts", "key", "wall_time", "duration", "discontinuity"):
        assert getattr(happened.frame, name) == getattr(value, name)


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, bytes):
        return value + b"\x00\xff"
    if isinstance(value, tuple):
        return (*value, b"\x00\xfe")
    return value


@pytest.mark.parametrize("kind", CODEC_TYPES, ids=lambda kind: kind.name)
def test_every_codec_arrives_with_its_parameters(kind: Any) -> None:
    plain = kind()
    values = {each.name: _other(getattr(plain, each.name)) for each in dataclasses.fields(kind)}
    for codec in (plain, kind(**values)):
        track = Track(3, codec, RtpFormat(97, "X", 48_000, 2, "a=b"), "en", None)
        data = track_changed(track)
        assert parse_track(3, data[10:]) == track


def test_reports_and_changed_tracks_arrive() -> None:
    owner, subscriber = streaming()
    told = Report(7, (1 << 63) + 5, 4_000_000_000, 10, 20)
    changed = Track(0, H264(b"\x67\x43", b"\x68"), VIDEO.rtp)
    received = subscriber.receive_data(report(0, told) + track_changed(changed), 1.0)
    assert received == [engine.ReportReceived(0, told), engine.TrackChanged(changed)]
    subscriber.request_key_frame()
    assert owner.receive_data(subscriber.data_to_send(), 1.0) == [engine.KeyFrameWanted()]


def test_the_end_has_a_reason() -> None:
    owner, subscriber = streaming()
    owner.end(Reason.STREAM_ENDED, "the publisher left")
    owner.end(Reason.STREAM_ENDED, "twice")
    received = subscriber.receive_data(owner.data_to_send() + b"\xff" * 100, 1.0)
    assert received == [engine.Ended(Reason.STREAM_ENDED, "the publisher left")]
    assert owner.next_timeout() is None
    assert subscriber.next_timeout() is None


def test_another_token_is_noticed_by_both_before_anything_is_told() -> None:
    owner, subscriber = ends(b"one", b"two")
    owner.receive_data(subscriber.data_to_send(), 0.0)
    challenge = owner.data_to_send()
    assert b"one" not in challenge
    with pytest.raises(RemoteProtocolError, match="token"):
        subscriber.receive_data(challenge, 0.0)
    # A subscriber that goes on nevertheless.
    owner.receive_data(message(Kind.PROOF, bytes(32)), 0.0)
    assert owner.state is engine.State.ENDED


def test_a_proof_of_one_end_is_none_of_the_other() -> None:
    owner, subscriber = ends()
    owner.receive_data(subscriber.data_to_send(), 0.0)
    proof = owner.data_to_send()[-32:]
    assert owner.receive_data(message(Kind.PROOF, proof), 0.0) == []
    assert owner.state is engine.State.ENDED


def test_silence_ends_it() -> None:
    owner, subscriber = ends()
    with pytest.raises(RemoteProtocolError, match="has not said"):
        owner.handle_timeout(GREETING_SECONDS)
    with pytest.raises(RemoteProtocolError, match="does not answer"):
        subscriber.handle_timeout(GREETING_SECONDS)
    owner, subscriber = streaming()
    now = 0.0
    for _ in range(10):
        now += ALIVE_SECONDS
        owner.handle_timeout(now)
        assert subscriber.receive_data(owner.data_to_send(), now) == []
        subscriber.handle_timeout(now)
    with pytest.raises(RemoteProtocolError, match="does not answer"):
        subscriber.handle_timeout(now + SILENCE_SECONDS)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 10,
        message(Kind.HELLO),
        struct.pack(">BBII", Kind.TRACK, 0, 0, MAXIMUM_CONTROL_SIZE + 1),
        struct.pack(">BBII", Kind.PACKETS, 0, 0, MAXIMUM_MEDIA_SIZE + 1),
        message(Kind.PACKETS, b"$\x00\x00\x05abcd", 0, 1),
        message(Kind.PACKETS, b"$\x00\x00\x04abcd", 0, 2),
        message(Kind.PACKETS, b"$", 0, 1),
        message(Kind.PACKETS, b"", 9, 0),
        message(Kind.FRAME, bytes(29), 0, 0xFFFFFFFF),
        message(Kind.FRAME, bytes(29) + b"\x00\x00\x00\x09abc", 0, 1),
        message(Kind.TRACK, b"\xc1", 0),
        message(Kind.TRACK, b"\x95\xa1X\x80\xc0\xc0\xc0", 0),
        message(Kind.TRACK, b"\x95\xa4H264\x81\xa3sps\x01\xc0\xc0\xc0", 0),
        message(Kind.REPORT, bytes(23), 0),
        message(Kind.ENDED, b"\x92\xa1x\xa1y"),
    ],
)
def test_invalid_messages_are_errors(data: bytes) -> None:
    _, subscriber = streaming()
    with pytest.raises(RemoteProtocolError):
        subscriber.receive_data(data, 1.0)


def test_who_has_not_proved_anything_sends_small_messages() -> None:
    owner, _ = ends()
    with pytest.raises(RemoteProtocolError, match="too large"):
        owner.receive_data(struct.pack(">BBII", Kind.HELLO, 0, 0, MAXIMUM_GREETING_SIZE + 1), 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_of_the_fuzzer(seed: bytes) -> None:
    fuzz_one(seed)


def test_many_messages_in_one_read_are_not_moved_for_each_other() -> None:
    made = b"".join(message(Kind.PACKETS, bytes([number & 0xFF]), 0, number) for number in range(300_000))
    reader = MessageReader()
    reader.is_trusted = True
    began = time.process_time()
    read: list[int] = []
    for part in (made[:5], made[5:-3], made[-3:]):
        reader.feed(part)
        while (received := reader.next()) is not None:
            assert received.body == bytes([received.count & 0xFF])
            read.append(received.count)
    assert read == list(range(300_000))
    assert reader.held_size == 0
    assert time.process_time() - began < 5  # 12 s if the rest is copied after each of them
