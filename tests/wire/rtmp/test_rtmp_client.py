"""The client engine against the server engine in memory, whole and byte by byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.wire.rtmp.support import AUDIO, IDR, PPS, SEED, SLICE, SPS, VIDEO, Pair, frames_of

from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AV1, H264, Generic, Opus
from polycast.media.frame import Frame
from polycast.media.track import Track
from polycast.wire.rtmp.address import parse_url
from polycast.wire.rtmp.client import MAXIMUM_TEXT_SIZE, ClientConnection, Mode
from polycast.wire.rtmp.events import (
    PeerClosedStream,
    PlayRequested,
    PublishRequested,
    RequestAccepted,
    RequestRefused,
    TrackChanged,
    TracksKnown,
)
from polycast.wire.rtmp.server import PLAY_REFUSED, PUBLISH_DENIED, PUBLISH_REFUSED, ServerConnection
from polycast.wire.rtmp.states import CLIENT, SERVER, Input, State, advance

URL = parse_url("rtmp://example.com/live/key?user=u&pass=p")
PIECES = [1, 100, 1 << 30]


def make_pair(mode: Mode, piece: int = 1 << 30) -> Pair:
    client = ClientConnection(URL, mode, 0.0, seed=SEED)
    return Pair(client, ServerConnection(0.0, seed=SEED[::-1]), piece)


def frames(milliseconds: int = 0, count: int = 6) -> list[tuple[int, Frame]]:
    """Video with B-frames at 25 pictures per second, and audio."""
    result: list[tuple[int, Frame]] = []
    for index in range(count):
        dts = (milliseconds + index * 40) * 90
        units = (IDR * 40,) if index == 0 else (SLICE,)
        result.append((0, Frame(units, dts + 3600 * (index % 3), dts, key=index == 0)))
        audio = (milliseconds * 441 + 5) // 10 + 1024 * index
        result.append((1, Frame((b"\x21\x10" + bytes((index,)),), audio, audio, key=True)))
    return result


def described(items: list[tuple[int, Frame]]) -> list[tuple[int, tuple[bytes, ...], int, int, bool]]:
    return [(track, frame.units, frame.pts, frame.dts, frame.key) for track, frame in items]


def start_publishing(pair: Pair) -> None:
    _, (_, event) = pair.exchange()
    assert isinstance(event, PublishRequested)
    (target,) = event.targets
    assert (target.path, target.user, target.password) == ("live/key", "u", "p")
    assert isinstance(pair.server, ServerConnection)
    pair.server.accept_publish(0.0)
    (accepted,), _ = pair.exchange()
    assert accepted == RequestAccepted()


def start_playing(pair: Pair, tracks: list[Track]) -> None:
    _, (_, event) = pair.exchange()
    assert isinstance(event, PlayRequested)
    pair.server.accept_play(tracks)
    events, _ = pair.exchange()
    assert events[0] == RequestAccepted()


@pytest.mark.parametrize("piece", PIECES)
def test_publish(piece: int) -> None:
    pair = make_pair(Mode.PUBLISH, piece)
    start_publishing(pair)
    assert pair.client.capabilities.multitrack
    assert pair.client.send_tracks([VIDEO, AUDIO, Track(2, Generic())]) == (VIDEO, AUDIO)
    for track, frame in frames():
        pair.client.send_frame(track, frame)
    _, events = pair.exchange()
    assert events[0] == TracksKnown((VIDEO, AUDIO))
    assert described(frames_of(events)) == described(frames())
    changed = replace(VIDEO, codec=H264(sps=SPS, pps=PPS + b"\x40"))
    pair.client.update_track(changed)
    _, events = pair.exchange()
    assert events == [TrackChanged(0, changed.codec)]
    pair.client.close_stream()
    _, events = pair.exchange()
    assert events == [PeerClosedStream("FCUnpublish")]


def test_what_is_published_begins_at_zero() -> None:
    """A server may look for the tracks in the first seconds, which begin with the sequence headers."""
    pair = make_pair(Mode.PUBLISH)
    start_publishing(pair)
    pair.client.send_tracks([VIDEO, AUDIO])
    for number in range(3):
        time = 90_000 * 60 + 3_600 * number
        pair.client.send_frame(0, Frame((IDR,), time, time, key=True))
    _, events = pair.exchange()
    assert [frame.dts for _, frame in frames_of(events)] == [0, 3_600, 7_200]


@pytest.mark.parametrize("piece", PIECES)
def test_play(piece: int) -> None:
    pair = make_pair(Mode.PLAY, piece)
    start_playing(pair, [VIDEO, AUDIO])
    for track, frame in frames():
        pair.server.send_frame(track, frame)
    events, _ = pair.exchange()
    assert TracksKnown((VIDEO, AUDIO)) in pair.client_events
    assert described(frames_of(events)) == described(frames())
    pair.server.end_play()
    events, _ = pair.exchange()
    assert [type(event) for event in events] == [PeerClosedStream]
    assert pair.client.state is State.CLOSED


@pytest.mark.parametrize("start", [(1 << 24) - 100, (1 << 32) - 100])
def test_a_stream_that_starts_before_a_wrap_continues_after_it(start: int) -> None:
    pair = make_pair(Mode.PLAY)
    start_playing(pair, [VIDEO, AUDIO])
    sent = frames(start, 12)
    for track, frame in sent:
        pair.server.send_frame(track, frame)
    events, _ = pair.exchange()
    received = frames_of(events)
    assert len(received) == len(sent)
    for (track, expected), (found_track, found) in zip(sent, received, strict=True):
        assert track == found_track
        tolerance = 0 if track == 0 else 45  # a millisecond of audio
        assert abs(found.dts - expected.dts) <= tolerance
        assert found.pts - found.dts == expected.pts - expected.dts


def test_several_tracks_of_a_kind() -> None:
    tracks = [VIDEO, Track(1, VIDEO.codec), Track(2, AUDIO.codec), Track(3, Opus(2))]
    pair = make_pair(Mode.PLAY)
    start_playing(pair, tracks)
    pair.server.send_frame(1, Frame((IDR,), 7200, 3600, key=True))
    pair.server.send_frame(3, Frame((b"\xfc\xff",), 960, 960, key=True))
    events, _ = pair.exchange()
    assert events[0] == TracksKnown(tuple(tracks))
    assert described(frames_of(events)) == [(1, (IDR,), 7200, 3600, True), (3, (b"\xfc\xff",), 960, 960, True)]


def test_av1_in_a_stream() -> None:
    # Sequence header of SVT-AV1 at 320x180; the frame is cut off after its first bytes, which tell its kind.
    header = bytes.fromhex("080200000521e7f66257c802")
    pair = make_pair(Mode.PLAY)
    start_playing(pair, [Track(0, AV1(header))])
    pair.server.send_frame(0, Frame((header, bytes.fromhex("3010008100")), 0, 0, key=True))
    events, _ = pair.exchange()
    assert [event for event in events if isinstance(event, TracksKnown)] == [TracksKnown((Track(0, AV1(header)),))]
    assert described(frames_of(events)) == [(0, (header, bytes.fromhex("3010008100")), 0, 0, True)]


def test_refusal() -> None:
    pair = make_pair(Mode.PUBLISH)
    pair.exchange()
    pair.server.refuse(PUBLISH_REFUSED, "invalid credentials")
    events, _ = pair.exchange()
    assert events == [RequestRefused(PUBLISH_REFUSED, "invalid credentials")]
    assert pair.client.state is State.CLOSED
    with pytest.raises(LocalProtocolError):
        pair.client.send_tracks([VIDEO])


@pytest.mark.parametrize(
    ("mode", "code", "first"),
    [
        (Mode.PUBLISH, PUBLISH_DENIED, "NetStream.Publish.Unauthorized"),
        (Mode.PUBLISH, PUBLISH_REFUSED, PUBLISH_REFUSED),
        (Mode.PLAY, PLAY_REFUSED, PLAY_REFUSED),
    ],
)
def test_without_an_early_start_the_refusal_is_the_only_answer(
    mode: Mode, code: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polycast.wire.rtmp.server._is_publisher", lambda _: False)
    client = ClientConnection(URL, mode, 0.0, seed=SEED)
    pair = Pair(client, ServerConnection(0.0, seed=SEED[::-1], starts_early=False))
    events, _ = pair.exchange()
    assert not events, "nothing is said before it is decided"
    pair.server.refuse(code, "invalid credentials")
    events, _ = pair.exchange()
    assert events[0] == RequestRefused(first, "invalid credentials")
    assert {event for event in events if isinstance(event, RequestRefused)} <= {
        RequestRefused(first, "invalid credentials"),
        RequestRefused(code, "invalid credentials"),
    }


def test_without_an_early_start_every_publisher_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polycast.wire.rtmp.server._is_publisher", lambda _: False)
    client = ClientConnection(URL, Mode.PUBLISH, 0.0, seed=SEED)
    pair = Pair(client, ServerConnection(0.0, seed=SEED[::-1], starts_early=False))
    start_publishing(pair)


def test_a_refusal_without_end_is_cut_short() -> None:
    pair = make_pair(Mode.PUBLISH)
    pair.exchange()
    pair.server.refuse(PUBLISH_REFUSED, "no " * 10_000)
    (event,), _ = pair.exchange()
    assert isinstance(event, RequestRefused)
    assert event.description == ("no " * 10_000)[:MAXIMUM_TEXT_SIZE]


def test_nothing_to_publish() -> None:
    pair = make_pair(Mode.PUBLISH)
    with pytest.raises(LocalProtocolError, match="cannot be sent in state 'handshake'"):
        pair.client.send_tracks([VIDEO])
    start_publishing(pair)
    with pytest.raises(LocalProtocolError, match="doesn't contain"):
        pair.client.send_tracks([Track(0, Generic())])


def test_a_silent_server_times_out() -> None:
    client = ClientConnection(URL, Mode.PLAY, 0.0, seed=SEED, timeout=3.0)
    assert client.next_timeout() == 3.0
    with pytest.raises(RemoteProtocolError, match="no data for 3 seconds"):
        client.handle_timeout(3.0)
    pair = make_pair(Mode.PLAY)
    start_playing(pair, [VIDEO])
    assert pair.client.handle_timeout(1.0) == [TracksKnown((VIDEO,))]
    assert pair.client.next_timeout() == 10.0


def test_a_client_that_publishes_is_not_delayed() -> None:
    pair = make_pair(Mode.PUBLISH)
    start_publishing(pair)
    assert pair.client.next_timeout() is None


@pytest.mark.parametrize("table", [SERVER, CLIENT])
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("trigger", Input)
def test_every_pair_of_state_and_input_has_an_answer(
    table: dict[tuple[State, Input], State], state: State, trigger: Input
) -> None:
    if (state, trigger) in table:
        assert advance(table, state, trigger) is table[state, trigger]
    else:
        with pytest.raises(RemoteProtocolError, match="is not allowed in state"):
            advance(table, state, trigger)
