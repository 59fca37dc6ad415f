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
from polycast.wire.rtsp import parser as parser_module
from polycast.wire.rtsp.interleaved import RUN_LIMIT, InterleavedRun, next_run, uniform_run
from polycast.wire.rtsp.message import Request, Response
from polycast.wire.rtsp.parser import INTERLEAVED_LIMIT, Limits, MessageParser

Plain = Request | Response | tuple[int, bytes]


def events(parser: MessageParser, first: InterleavedRun | None = None) -> list[Plain]:
    """Return ``first`` and the other events of the parser; runs of frames become (channel, payload) pairs."""
    found: list[Plain] = []
    while (event := first or parser.next_event()) is not None:
        first = None
        if isinstance(event, InterleavedRun):
            assert event.count == len(list(event.bounds())) > 0
            assert event.size == sum(end - start for start, end in event.bounds())
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


def test_frames_of_one_channel_are_one_run_without_a_copy() -> None:
    data = frame(0, b"a" * 1400) + frame(0, b"b" * 1500) + frame(1, b"c") + frame(0, b"d" * 200)
    parser = MessageParser()
    parser.receive_data(data)
    runs = [parser.next_event() for _ in range(3)]
    for run, channel, count in zip(runs, (0, 1, 0), (2, 1, 1), strict=True):
        assert isinstance(run, InterleavedRun)
        assert run.data is data
        assert (run.channel, run.count, run.is_last) == (channel, count, run is runs[2])
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


def test_the_next_message_is_parsed_only_on_request() -> None:
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
def test_only_remote_errors_are_raised(data: bytes) -> None:
    parser = MessageParser()
    parser.receive_data(data)
    try:
        events(parser)
    except RemoteProtocolError:
        pass


# Frames of one size: the shortcut has to read what is read frame by frame, or nothing at all.


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        pytest.param([9], (1, 13), id="one frame"),
        pytest.param([9, 9, 9], (3, 13), id="one size"),
        pytest.param([9, 9, 4], (3, 13), id="a shorter last one"),
        pytest.param([9, 9, 0], (3, 13), id="an empty last one"),
        pytest.param([9, 4], (2, 13), id="two"),
        pytest.param([0, 0], (2, 4), id="empty frames"),
        pytest.param([9] * (RUN_LIMIT - 1) + [1], (RUN_LIMIT, 13), id="as many as possible"),
        pytest.param([9] * RUN_LIMIT, None, id="too many"),
        pytest.param([9, 9, 10], None, id="a longer last one"),
        pytest.param([9, 4, 9], None, id="a shorter one in the middle"),
        pytest.param([9, 9, 4, 4], None, id="two shorter ones"),
    ],
)
def test_frames_of_one_size(sizes: list[int], expected: tuple[int, int] | None) -> None:
    data = b"".join(frame(6, bytes([index & 0xFF]) * size) for index, size in enumerate(sizes))
    run = uniform_run(data, 0, INTERLEAVED_LIMIT)
    assert (None if run is None else (run.count, run.stride)) == expected
    if run is not None:
        assert (run.channel, run.start, run.end, run.is_last) == (6, 0, len(data), True)
        each = next_run(data, 0, INTERLEAVED_LIMIT)
        assert each is not None
        assert list(run.frames()) == list(each.frames())


UNIFORM = [frame(6, b"\x80" + bytes(8)) for _ in range(5)]


@pytest.mark.parametrize("place", [1, 2, 4])
@pytest.mark.parametrize(
    "other",
    [
        pytest.param(frame(7, b"\x80" + bytes(8)), id="another channel"),
        pytest.param(b"%" + UNIFORM[0][1:], id="no frame"),
        pytest.param(UNIFORM[0][:3] + b"\x0a" + UNIFORM[0][4:], id="another length"),
        pytest.param(UNIFORM[0][:2] + b"\x01" + UNIFORM[0][3:], id="a much greater length"),
        pytest.param(UNIFORM[0][:-1], id="cut short"),
        pytest.param(MESSAGES[0].data, id="a request"),
    ],
)
def test_frames_among_which_is_something_else(place: int, other: bytes) -> None:
    assert uniform_run(b"".join(UNIFORM), 0, INTERLEAVED_LIMIT) is not None
    data = b"".join([*UNIFORM[:place], other, *UNIFORM[place + 1 :]])
    assert uniform_run(data, 0, INTERLEAVED_LIMIT) is None


def test_a_shorter_last_frame_of_another_channel_is_a_run_of_its_own() -> None:
    data = b"".join([*UNIFORM, frame(7, b"\x80abc")])
    assert uniform_run(data, 0, INTERLEAVED_LIMIT) is None
    first = next_run(data, 0, INTERLEAVED_LIMIT)
    assert first is not None
    assert (first.channel, first.count, first.stride, first.is_last) == (6, 5, 13, False)


def test_frames_of_one_size_behind_what_is_not_complete() -> None:
    whole = b"".join(UNIFORM)
    parser = MessageParser()
    parser.receive_data(whole[:7])
    assert events(parser) == []
    parser.receive_data(whole[7:] + whole)
    run = parser.next_event()
    assert isinstance(run, InterleavedRun)
    assert (run.count, run.stride, run.is_last) == (10, 13, True)


BEGINNINGS = (b"$", UNIFORM[0][:7], b"\r\n", b"OPTIONS * RTSP/1.0\r\n", MESSAGES[0].data)
"""What may have come before: parts of something, and what is whole."""

Outcome = tuple[list[Plain], int, int, bool]


def outcome(parser: MessageParser, data: bytes, *, has_shortcut: bool = False) -> Outcome:
    """Return what a parser makes of a read: events, status of the error, and what it keeps."""
    found: list[Plain] = []
    status = 0
    try:
        if has_shortcut:
            found = events(parser, parser.receive_run(data))
        else:
            parser.receive_data(data)
            found = events(parser)
    except RemoteProtocolError as error:
        status = error.status
    return found, status, parser.buffered, parser.is_incomplete


def random_read(randomness: random.Random) -> bytes:
    """Return frames of one channel and size with or without something odd about them."""
    size = randomness.choice((0, 1, 2, 3, 4, 5, 20))
    count = randomness.choice((0, 1, 1, 2, 3, 4, 5, 63, RUN_LIMIT - 1, RUN_LIMIT, RUN_LIMIT + 1))
    channel = randomness.choice((0, 0, 0, 2, 255))
    payloads = [(b"\x80" + randomness.randbytes(19))[:size] for _ in range(count)]
    data = b"".join(frame(channel, payload) for payload in payloads)
    step = size + 4
    place = randomness.randrange(count) * step if count else 0
    match randomness.randrange(12):
        case 0 if size and count:
            data += frame(channel, payloads[0][: randomness.randrange(1, size + 1)])
        case 1:
            data += frame(channel, bytes(size + 1))
        case 2:
            data += frame(channel, b"")
        case 3 if count > 1:
            data = data[:place] + frame(channel ^ 1, data[place + 4 : place + step]) + data[place + step :]
        case 4 if count:
            data = data[:place] + b"%" + data[place + 1 :]
        case 5 if data:
            data = data[: -randomness.randrange(1, step + 1)]
        case 6:
            data += MESSAGES[0].data
        case 7 if data:
            flipped = randomness.randrange(len(data))
            data = data[:flipped] + randomness.randbytes(1) + data[flipped + 1 :]
    return data


def test_the_shortcut_equals_reading_frame_by_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def counted(data: bytes, start: int, limit: int) -> InterleavedRun | None:
        nonlocal taken
        run = uniform_run(data, start, limit)
        taken += run is not None
        return run

    randomness = random.Random(5)
    for _ in range(4000):
        data = random_read(randomness)
        before = randomness.choice(BEGINNINGS) if randomness.random() < 0.2 else b""
        outcomes: list[list[Outcome]] = []
        channels = randomness.choice(((), (), (0, 1)))
        for shortcut in (counted, lambda data, start, limit: None):
            monkeypatch.setattr(parser_module, "uniform_run", shortcut)
            parser = MessageParser()
            parser.expect_frames(channels)
            has_shortcut = shortcut is counted
            outcomes.append(
                [outcome(parser, read, has_shortcut=has_shortcut) for read in (before, data, data, MESSAGES[0].data)]
            )
        assert outcomes[0] == outcomes[1]
    assert taken > 1000


def test_a_frame_over_the_limit_is_not_taken() -> None:
    data = frame(0, b"\x80" * 2049) * 2
    assert uniform_run(data, 0, 2048) is None
    assert uniform_run(data, 0, 2049) is not None


def test_a_read_of_tiny_frames_is_given_out_in_parts() -> None:
    parser = MessageParser()
    count = 2 * RUN_LIMIT + 3
    parser.receive_data(b"$\0\0\0$\2\0\0" * count)
    runs = []
    while (event := parser.next_event()) is not None:
        assert isinstance(event, InterleavedRun)
        runs.append((event.count, event.is_last))
    assert runs == [(1, False)] * (2 * count - 1) + [(1, True)]
    parser.receive_data(b"$\0\0\0" * count)
    for expected in [(RUN_LIMIT, False)] * 2 + [(3, True)]:
        event = parser.next_event()
        assert isinstance(event, InterleavedRun)
        assert (event.count, event.is_last) == expected


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
