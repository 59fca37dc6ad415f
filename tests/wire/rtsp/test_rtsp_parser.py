"""The byte stream of a connection, cut in every way."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.rtsp.cases import AT_THE_LIMIT, INVALID, MESSAGES, InvalidCase, MessageCase

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.message import Request, Response
from polycast.wire.rtsp.parser import _SHAPES_LIMIT, RUN_LIMIT, InterleavedRun, Limits, MessageParser, Train, _shapes

Plain = Request | Response | tuple[int, bytes]


def events(parser: MessageParser) -> list[Plain]:
    """Drain the parser; runs of frames become (channel, payload) pairs."""
    found: list[Plain] = []
    while (event := parser.next_event()) is not None:
        if isinstance(event, InterleavedRun):
            assert event.groups
            for channel, start, end in event.frames():
                header = b"$" + bytes([channel]) + (end - start).to_bytes(2, "big")
                assert event.data[start - 4 : start] == header
                found.append((channel, event.data[start:end]))
        else:
            found.append(event)
    return found


def parse(*pieces: bytes) -> list[Plain]:
    parser = MessageParser()
    found = []
    for piece in pieces:
        parser.receive_data(piece)
        found += events(parser)
    assert parser.buffered == 0
    return found


def frame(channel: int, payload: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(payload).to_bytes(2, "big") + payload


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_parse(case: MessageCase) -> None:
    assert parse(case.data) == [case.message]


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_parse_byte_by_byte(case: MessageCase) -> None:
    assert parse(*(bytes([byte]) for byte in case.data)) == [case.message]


@pytest.mark.parametrize("case", MESSAGES, ids=lambda case: case.name)
def test_round_trip(case: MessageCase) -> None:
    written = case.message.serialize()
    [parsed] = parse(written)
    assert not isinstance(parsed, tuple)
    assert parsed.serialize() == written
    assert parsed.body == case.message.body


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.name)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_invalid(case: InvalidCase, step: int) -> None:
    parser = MessageParser()

    def feed() -> None:
        for start in range(0, len(case.data), step):
            parser.receive_data(case.data[start : start + step])
            assert events(parser) == []

    with pytest.raises(RemoteProtocolError, match=case.text or None) as raised:
        feed()
    assert raised.value.status == case.status
    # The position in the stream is lost: nothing after it is read.
    parser.receive_data(b"OPTIONS * RTSP/1.0\r\n\r\n")
    with pytest.raises(RemoteProtocolError, match=case.text or None):
        parser.next_event()


@pytest.mark.parametrize("data", AT_THE_LIMIT, ids=lambda data: f"{data[:20]!r}")
def test_at_the_limit(data: bytes) -> None:
    assert len(parse(data)) == 1
    assert len(parse(data[:1500], data[1500:2000], data[2000:])) == 1


def test_limits_can_be_set() -> None:
    parser = MessageParser(Limits(body=3))
    parser.receive_data(b"OPTIONS * RTSP/1.0\r\nContent-Length: 4\r\n\r\nabcd")
    with pytest.raises(RemoteProtocolError) as raised:
        parser.next_event()
    assert raised.value.status == 413


STREAM = (
    frame(0, b"one")
    + MESSAGES[0].data
    + frame(1, b"")
    + frame(255, b"$$$$")
    + MESSAGES[1].data
    + MESSAGES[-1].data
    + b"\r\n"
    + frame(2, bytes(range(256)) * 255)
    + frame(3, b"\r\nOPTIONS")
)
STREAM_EVENTS: list[Plain] = [
    (0, b"one"),
    MESSAGES[0].message,
    (1, b""),
    (255, b"$$$$"),
    MESSAGES[1].message,
    MESSAGES[-1].message,
    (2, bytes(range(256)) * 255),
    (3, b"\r\nOPTIONS"),
]


def test_messages_and_frames_mixed() -> None:
    assert parse(STREAM) == STREAM_EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_messages_and_frames_cut_anywhere(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    assert parse(*(STREAM[start:end] for start, end in pairwise(bounds))) == STREAM_EVENTS


def test_frames_of_one_read_are_one_run_without_a_copy() -> None:
    data = frame(0, b"a" * 1400) + frame(1, b"b") + frame(0, b"c" * 200)
    parser = MessageParser()
    parser.receive_data(data)
    run = parser.next_event()
    assert isinstance(run, InterleavedRun)
    assert run.data is data
    assert [channel for channel, _, _ in run.frames()] == [0, 1, 0]
    assert parser.next_event() is None


def test_a_cut_frame_is_completed_by_the_next_read() -> None:
    data = frame(0, b"a" * 1400) * 3
    parser = MessageParser()
    parser.receive_data(data[:2000])
    assert events(parser) == [(0, b"a" * 1400)]
    assert parser.buffered == 2000 - 1404
    parser.receive_data(data[2000:])
    assert events(parser) == [(0, b"a" * 1400)] * 2
    assert parser.buffered == 0


def test_the_next_message_waits_until_asked_for() -> None:
    parser = MessageParser()
    parser.receive_data(MESSAGES[0].data + MESSAGES[0].data)
    assert parser.next_event() == MESSAGES[0].message
    assert parser.buffered == len(MESSAGES[0].data)
    assert parser.next_event() == MESSAGES[0].message
    assert parser.next_event() is None


@pytest.mark.parametrize("step", [1, 1000])
def test_a_frame_over_the_limit_is_refused_after_those_before_it(step: int) -> None:
    parser = MessageParser(interleaved_limit=2048)
    data = frame(0, b"a" * 2048) + b"$\x00\x08\x01"
    found = []
    for start in range(0, len(data) - 1, step):
        parser.receive_data(data[start : min(start + step, len(data) - 1)])
        found += events(parser)
    assert found == [(0, b"a" * 2048)]
    parser.receive_data(data[-1:])
    with pytest.raises(RemoteProtocolError) as raised:
        parser.next_event()
    assert raised.value.status == 413


def test_a_body_that_trickles_in_is_counted_as_buffered() -> None:
    parser = MessageParser()
    parser.receive_data(b"OPTIONS * RTSP/1.0\r\nContent-Length: 100\r\n\r\n" + b"x" * 60)
    assert parser.next_event() is None
    assert parser.buffered == 60


@given(st.binary(max_size=300))
def test_only_remote_errors_come_out(data: bytes) -> None:
    parser = MessageParser()
    parser.receive_data(data)
    try:
        events(parser)
    except RemoteProtocolError:
        pass


# Trains: the short way has to read what the general one reads, or nothing at all.


def frames_of(data: bytes, train: Train) -> list[Plain]:
    channel, stride, count, last = train
    starts = [*range(0, last, stride), last]
    assert len(starts) == count
    return [(channel, data[start + 4 : end]) for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([9], (6, 13, 1, 0), id="one frame"),
        pytest.param([9, 9, 9], (6, 13, 3, 26), id="one size"),
        pytest.param([9, 9, 4], (6, 13, 3, 26), id="a shorter last one"),
        pytest.param([9, 4], (6, 13, 2, 13), id="two"),
        pytest.param([9] * 64 + [1], (6, 13, 65, 13 * 64), id="as long as possible"),
        pytest.param([9] * 65, None, id="too long"),
        pytest.param([9, 9, 10], None, id="a longer last one"),
        pytest.param([9, 4, 9], None, id="a shorter one in the middle"),
        pytest.param([9, 9, 4, 4], None, id="two shorter ones"),
        pytest.param([9, 9, 0], None, id="an empty last one"),
        pytest.param([0, 0], None, id="empty frames"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_train(sizes: list[int], expected: Train | None) -> None:
    data = b"".join(
        frame(6, b"\x80" + bytes([index]) * (size - 1) if size else b"") for index, size in enumerate(sizes)
    )
    assert MessageParser().take_train(data) == expected
    assert MessageParser().take_train(data) == expected  # of a shape that is known now
    if expected is not None:
        assert frames_of(data, expected) == parse(data)


TRAIN = [frame(6, b"\x80" + bytes(8)) for _ in range(5)]


@pytest.mark.parametrize("place", [1, 2, 4])
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(frame(7, b"\x80" + bytes(8)), id="another channel"),
        pytest.param(b"%" + TRAIN[0][1:], id="no frame"),
        pytest.param(frame(6, b"\x81" + bytes(8)), id="another first byte"),
        pytest.param(TRAIN[0][:-1], id="cut short"),
        pytest.param(MESSAGES[0].data, id="a request"),
    ],
)
def test_no_train(place: int, other: bytes) -> None:
    data = b"".join([*TRAIN[:place], other, *TRAIN[place + 1 :]])
    parser, asked = MessageParser(), MessageParser()
    assert asked.take_train(data) is None
    results: list[list[Plain] | int] = []
    for each in (parser, asked):
        each.receive_data(data)
        try:
            results.append(events(each))
        except RemoteProtocolError as error:
            results.append(error.status)
    assert results[0] == results[1]
    assert parser.buffered == asked.buffered


def test_a_shorter_last_frame_with_another_first_byte_or_channel_is_of_no_train() -> None:
    assert MessageParser().take_train(b"".join([*TRAIN, frame(6, b"\x80abc")])) is not None
    assert MessageParser().take_train(b"".join([*TRAIN, frame(6, b"\x81abc")])) is None
    assert MessageParser().take_train(b"".join([*TRAIN, frame(7, b"\x80abc")])) is None


def test_train_behind_what_is_not_complete() -> None:
    whole = b"".join(TRAIN)
    for beginning in (
        b"$",
        TRAIN[0][:7],
        b"OPTIONS * RTSP/1.0\r\n",
        b"ANNOUNCE * RTSP/1.0\r\nContent-Length: 99\r\n\r\n",
    ):
        parser = MessageParser()
        parser.receive_data(beginning)
        assert events(parser) == []
        parser.receive_data(b"")
        assert parser.take_train(whole) is None


def test_no_train_after_an_error() -> None:
    parser = MessageParser()
    parser.receive_data(b"\0\0\0\0")
    with pytest.raises(RemoteProtocolError):
        parser.next_event()
    assert parser.take_train(b"".join(TRAIN)) is None
    with pytest.raises(RemoteProtocolError):
        parser.next_event()


def test_train_after_a_whole_request() -> None:
    parser = MessageParser()
    parser.receive_data(MESSAGES[0].data)
    assert events(parser) == [MESSAGES[0].message]
    parser.receive_data(TRAIN[0])
    assert events(parser) == [(6, TRAIN[0][4:])]
    assert parser.take_train(b"".join(TRAIN)) == (6, 13, 5, 52)


BEGINNINGS = (b"$", TRAIN[0][:7], b"\r\n", b"OPTIONS * RTSP/1.0\r\n", MESSAGES[0].data)
"""What may have come before a train: parts of something, and what is whole."""

Outcome = tuple[list[Plain], int, int, bool]


def outcome(parser: MessageParser, data: bytes) -> Outcome:
    """Return what a parser makes of a read: events, status of the error, and what it keeps."""
    parser.receive_data(data)
    found: list[Plain] = []
    status = 0
    try:
        found = events(parser)
    except RemoteProtocolError as error:
        status = error.status
    return found, status, parser.buffered, parser.is_incomplete


def random_read(randomness: random.Random) -> tuple[bytes, bool]:
    """Return frames of one channel and size with or without something odd about them, and whether they are a train."""
    size = randomness.choice((0, 1, 2, 3, 4, 5, 20))
    count = randomness.choice((0, 1, 1, 2, 3, 4, 5, 63, 64, 65, 66, 70))
    channel = randomness.choice((0, 0, 0, 2, 255))
    payloads = [(b"\x80" + randomness.randbytes(19))[:size] for _ in range(count)]
    data = b"".join(frame(channel, payload) for payload in payloads)
    is_train = size > 0 and 0 < count <= 64
    step = size + 4
    place = randomness.randrange(count) * step if count else 0
    match randomness.randrange(12):
        case 0 if size and count:
            data += frame(channel, payloads[0][: randomness.randrange(1, size + 1)])
            is_train = is_train and (count < 64 or len(data) < 65 * step)
        case 1:
            data += frame(channel, bytes(size + 1))
            is_train = False
        case 2:
            data += frame(channel, b"")
            is_train = False
        case 3 if count > 1:
            data = data[:place] + frame(channel ^ 1, data[place + 4 : place + step]) + data[place + step :]
            is_train = False
        case 4 if count:
            data = data[:place] + b"%" + data[place + 1 :]
            is_train = False
        case 5 if data:
            data = data[: -randomness.randrange(1, step + 1)]
            is_train = is_train and bool(data) and not len(data) % step
        case 6 if size and count > 1:
            data = data[: place + 4] + b"\x90" + data[place + 5 :]
            is_train = False
        case 7:
            data += MESSAGES[0].data
            is_train = False
        case 8 if size > 1 and count:
            data += frame(channel, b"\x90" * randomness.randrange(1, size))
            is_train = False
        case 9 if data:
            flipped = randomness.randrange(len(data))
            data = data[:flipped] + randomness.randbytes(1) + data[flipped + 1 :]
            is_train = False  # or still one, which need not be noticed
    return data, is_train


def test_trains_are_what_the_general_way_reads() -> None:
    randomness = random.Random(5)
    taken = 0
    for _ in range(4000):
        data, is_train = random_read(randomness)
        before = randomness.choice(BEGINNINGS) if randomness.random() < 0.2 else b""
        asked, general = MessageParser(), MessageParser()
        for parser in (asked, general):
            outcome(parser, before)
        train = asked.take_train(data)
        expected = outcome(general, data)
        if train is not None:
            taken += 1
            assert (frames_of(data, train), 0, 0, False) == expected
        else:
            assert before or not is_train
            assert outcome(asked, data) == expected
        assert outcome(asked, MESSAGES[0].data) == outcome(general, MESSAGES[0].data)
    assert taken > 500


def test_a_frame_over_the_limit_is_of_no_train() -> None:
    parser = MessageParser(interleaved_limit=2048)
    data = frame(0, b"\x80" * 2049) * 2
    assert parser.take_train(data) is None


def test_shapes_of_trains_do_not_pile_up() -> None:
    for size in range(1, 2000):
        data = frame(0, b"\x80" * size) * 2
        assert MessageParser().take_train(data) == (0, size + 4, 2, size + 4)
        assert len(_shapes) <= _SHAPES_LIMIT


def test_lengths_of_trains_do_not_pile_up() -> None:
    _shapes.clear()
    for count in range(2, 200):
        assert (MessageParser().take_train(frame(0, b"\x80abc") * count) is not None) == (count <= 64)
    [(_, _, heads)] = _shapes.values()
    assert len(heads) < 64


def test_single_frames_push_no_shape_out() -> None:
    _shapes.clear()
    assert MessageParser().take_train(b"".join(TRAIN)) is not None
    before = dict(_shapes)
    for size in range(20, 200):
        assert MessageParser().take_train(frame(0, b"\x80" * size)) == (0, size + 4, 1, 0)
    assert _shapes == before


def test_a_read_of_tiny_frames_is_given_out_in_parts() -> None:
    parser = MessageParser()
    count = 2 * RUN_LIMIT + 3
    parser.receive_data(b"$\0\0\0$\2\0\0" * count)
    runs = []
    while (event := parser.next_event()) is not None:
        assert isinstance(event, InterleavedRun)
        runs.append((len(list(event.frames())), event.is_last))
    assert runs == [(RUN_LIMIT, False)] * 4 + [(6, True)]


def test_line_ends_without_end_cost_no_step_each() -> None:
    """They are no event between which others have their turn."""

    class Counting(bytes):
        steps = 0

        def __getitem__(self, key: Any) -> Any:
            Counting.steps += 1
            return super().__getitem__(key)

    parser = MessageParser()
    parser.receive_data(Counting(b"\r\n" * 100_000 + b"OPTIONS * RTSP/1.0\r\n\r\n"))
    assert isinstance(parser.next_event(), Request)
    assert Counting.steps < 20
