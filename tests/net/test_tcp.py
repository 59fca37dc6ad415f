"""The shell of TCP connections: its states, and the budget of work. Time passes only when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from polycast.errors import RemoteProtocolError
from polycast.log import Log
from polycast.net import work
from polycast.net.budget import FIRST_PIECE_SIZE, SMALLEST_PIECE_SIZE
from polycast.net.connection_slots import SILENT_SECONDS, ConnectionSlots, SlotHolder
from polycast.net.tcp import CLOSE_GRACE_SECONDS, ConnectionState, TcpConnection
from polycast.net.work import (
    BURST_SECONDS,
    CROWDED_BURST_SECONDS,
    READ_SIZE,
    SHARE,
    SLICE_SECONDS,
    TURN_SECONDS,
    WorkQueue,
)


class Loop:
    """Turns of an event loop, with a clock that stands still unless somebody works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.callbacks: list[Callable[[], None]] = []
        self.queue = WorkQueue(self.callbacks.append, clock=self.clock)
        monkeypatch.setattr("polycast.net.budget.work_queue_of", lambda loop: self.queue)

    def clock(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.Handle:
        return asyncio.Handle(callback, (), cast("asyncio.AbstractEventLoop", self))

    def get_debug(self) -> bool:
        return False

    def turn(self) -> float:
        """Run what is due; return the seconds that it took."""
        began = self.now
        callbacks, self.callbacks[:] = list(self.callbacks), []
        for callback in callbacks:
            callback()
        return self.now - began


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5000)})
        self.is_paused = False
        self.written = b""
        self.waiting = 0
        self.has_ended = False
        self.end = ""
        self.protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused or self.has_ended
        self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.has_ended
        self.written += data
        self.waiting += len(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"


class Connection(TcpConnection):
    """Each byte is an event that takes ``cost`` seconds."""

    def __init__(self, loop: Loop, cost: float = 0.0) -> None:
        super().__init__(cast("asyncio.AbstractEventLoop", loop), Log(), loop.clock)
        self.it = loop
        self.cost = cost
        self.buffer = b""
        self.done = b""
        self.told: list[str] = []
        self.error: Exception | None = None

    def receive(self, data: bytes, now: float) -> bool:
        assert now == self.it.now
        self.buffer += data
        return self.continue_receiving(now)

    def continue_receiving(self, now: float) -> bool:
        while self.buffer:
            if self.error is not None:
                raise self.error
            self.done += self.buffer[:1]
            self.buffer = self.buffer[1:]
            self.it.now += self.cost
            if self.is_slice_over():
                return bool(self.buffer)
        return False

    def on_closing(self, reason: str) -> None:
        self.told.append(f"closing: {reason}")

    def on_lost(self, reason: str) -> None:
        self.told.append(f"lost: {reason}")


def connect(loop: Loop, cost: float = 0.0) -> tuple[Connection, Transport]:
    connection, transport = Connection(loop, cost), Transport()
    connection.connection_made(transport)
    return connection, transport


# The budget


def test_little_work_is_done_immediately(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS / 10)
    connection.data_received(b"12345")
    assert connection.done == b"12345"
    assert not transport.is_paused
    assert not loop.callbacks


def test_more_than_a_slice_is_left_for_later_iterations(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS / 2)
    connection.data_received(b"123456")
    assert connection.done == b"12"
    assert transport.is_paused
    assert connection.is_behind
    loop.turn()
    assert connection.done == b"1234"
    assert transport.is_paused
    loop.turn()
    assert connection.done == b"123456"
    assert not transport.is_paused
    assert not connection.is_behind
    assert not loop.callbacks


def test_a_full_read_yields_to_other_connections(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.data_received(bytes(READ_SIZE))
    assert len(connection.done) == READ_SIZE
    assert transport.is_paused
    loop.turn()
    assert not transport.is_paused


def test_what_is_read_in_spite_of_a_pause_keeps_its_order(loop: Loop) -> None:
    connection, _ = connect(loop, SLICE_SECONDS / 2)
    connection.data_received(b"1234")
    connection.data_received(b"56")
    connection.data_received(b"7")
    while loop.callbacks:
        loop.turn()
    assert connection.done == b"1234567"


def test_all_that_have_work_left_share_one_turn(loop: Loop) -> None:
    connections = [connect(loop, SLICE_SECONDS)[0] for _ in range(20)]
    for connection in connections:
        connection.data_received(b"12345678")
    for _ in range(8):
        assert loop.turn() == pytest.approx(TURN_SECONDS, abs=SLICE_SECONDS / 2)
    # Slices in rotation: after 40 slices each of the 20 had two of them.
    assert {connection.done for connection in connections} == {b"123"}


def test_one_long_event_ends_the_turn(loop: Loop) -> None:
    slow = [connect(loop, 2 * TURN_SECONDS)[0] for _ in range(3)]
    for connection in slow:
        connection.data_received(b"123")
    assert loop.turn() == pytest.approx(2 * TURN_SECONDS)


def test_a_sustained_share_is_worked_for_in_the_queue_only(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS / 2)
    while not transport.is_paused:
        connection.data_received(b"1")
    worked = len(connection.done) * SLICE_SECONDS / 2
    assert worked == pytest.approx(BURST_SECONDS / (1 - SHARE), rel=0.1)
    connection.data_received(b"2")
    assert not connection.done.endswith(b"2")
    loop.turn()
    assert connection.done.endswith(b"2")
    assert not transport.is_paused
    loop.now += BURST_SECONDS / SHARE  # its share comes back with time
    connection.data_received(b"3")
    assert connection.done.endswith(b"3")


def test_slices_shrink_while_other_connections_have_work_left(loop: Loop) -> None:
    """Each of hundreds of new connections would have a slice in each turn."""
    many = [connect(loop, SLICE_SECONDS)[0] for _ in range(200)]
    for connection in many:
        connection.data_received(b"1234")
    loop.turn()
    late = [connect(loop, SLICE_SECONDS)[0] for _ in range(50)]
    for connection in late:
        for _ in range(5):
            connection.data_received(b"1")
    worked = sum(len(connection.done) for connection in late)
    assert worked == pytest.approx(len(late) * (CROWDED_BURST_SECONDS / SLICE_SECONDS + 1), abs=len(late))


def test_an_interruption_by_other_processes_does_not_use_up_a_share(loop: Loop) -> None:
    connection, transport = connect(loop, 1.0)
    connection.data_received(b"1")
    assert not transport.is_paused
    connection.data_received(b"1")
    assert not transport.is_paused
    assert not loop.callbacks


def test_less_than_its_share_never_waits(loop: Loop) -> None:
    connection, _ = connect(loop, SLICE_SECONDS / 2)
    for _ in range(1000):
        connection.data_received(b"1")
        loop.now += SLICE_SECONDS / 2 / SHARE
    assert not loop.callbacks
    assert len(connection.done) == 1000


def test_a_publisher_works_for_its_readers(loop: Loop) -> None:
    connection, _ = connect(loop, SLICE_SECONDS / 2)
    connection.weight = 10
    for _ in range(1000):
        connection.data_received(b"1")
        loop.now += SLICE_SECONDS / 2 / SHARE / 9
    assert not loop.callbacks


def test_nothing_is_done_for_a_connection_that_was_closed(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS)
    connection.data_received(b"123")
    connection.close("enough")
    loop.turn()
    assert connection.done == b"1"
    assert not loop.callbacks
    assert transport.has_ended


def test_pending_work_resumes_when_its_data_arrives(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS)
    connection.hold_reading()
    connection.buffer = b"12"
    connection.resume_work()
    assert connection.done == b"1"
    loop.turn()
    assert connection.done == b"12"
    assert transport.is_paused  # by the protocol still
    connection.release_reading()
    assert not transport.is_paused


class Pieces(Connection):
    """An engine that cannot be interrupted."""

    is_divisible = True
    ends = 0

    def receive(self, data: bytes, now: float) -> bool:
        self.told.append(str(len(data)))
        self.done += data
        self.it.now += self.cost * len(data)
        return False

    def end_slice(self, now: float) -> None:
        self.ends += 1


def pieces(loop: Loop, cost: float) -> tuple[Pieces, Transport]:
    connection, transport = Pieces(loop, cost), Transport()
    connection.connection_made(transport)
    return connection, transport


def test_costly_bytes_are_given_in_small_pieces(loop: Loop) -> None:
    connection, _ = pieces(loop, 1e-6)
    data = bytes(range(256)) * (FIRST_PIECE_SIZE // 128)
    connection.data_received(data)
    while loop.callbacks:
        assert loop.turn() <= SLICE_SECONDS * 1.6
    assert connection.done == data
    assert connection.told[0] == str(FIRST_PIECE_SIZE)
    assert max(map(int, connection.told[2:])) * 1e-6 <= SLICE_SECONDS
    assert min(map(int, connection.told)) >= SMALLEST_PIECE_SIZE or len(data) % SMALLEST_PIECE_SIZE


def test_cheap_bytes_are_soon_processed_whole(loop: Loop) -> None:
    connection, _ = pieces(loop, 1e-10)
    for _ in range(20):
        connection.data_received(bytes(100_000))
    assert connection.told[-3:] == ["100000"] * 3
    assert connection.ends == 20  # once for each read, however it was cut
    assert not loop.callbacks


# States


def test_closing_lets_the_last_bytes_leave(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.outbox.write(b"bye")
    connection.close("the end")
    connection.close("twice")
    assert connection.state is ConnectionState.DRAINING
    connection.data_received(b"ignored")
    assert connection.done == b""
    assert transport.has_ended
    assert not transport.end
    assert not connection.check_progress(loop.now + CLOSE_GRACE_SECONDS / 2, 10)
    assert not transport.end
    connection.check_progress(loop.now + CLOSE_GRACE_SECONDS, 10)
    assert transport.end == "aborted"
    assert isinstance(transport.protocol, asyncio.Protocol)
    transport.protocol.connection_lost(None)
    assert connection.told == ["closing: the end", "lost: the end"]


def test_closing_after_the_peer_has_ended_its_side_waits_for_nothing(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.eof_received()
    connection.close("the end")
    assert not transport.has_ended
    assert transport.end == "closed"


def test_closing_while_reading_is_paused_reads_what_comes(loop: Loop) -> None:
    connection, transport = connect(loop, SLICE_SECONDS)
    connection.data_received(b"12345")
    assert transport.is_paused
    connection.close("the end")
    assert not transport.is_paused
    loop.turn()
    assert connection.done == b"1"
    assert not transport.is_paused


def test_pending_slices_are_dropped_when_their_owner_closes(loop: Loop) -> None:
    connection, _ = connect(loop, SLICE_SECONDS)
    connection.data_received(bytes(READ_SIZE + 1))
    assert connection.waiting_size
    connection.error = RemoteProtocolError("no such thing")
    loop.turn()
    assert not connection.is_open
    assert not connection.waiting_size


def test_aborting_does_not_wait(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.abort("enough")
    assert connection.state is ConnectionState.CLOSED
    assert transport.end == "aborted"
    connection.close("late")
    connection.connection_lost(None)
    assert connection.told == ["closing: enough", "lost: enough"]


def test_the_peer_leaves(loop: Loop) -> None:
    connection, _ = connect(loop)
    assert not connection.eof_received()
    connection.connection_lost(None)
    assert connection.state is ConnectionState.CLOSED
    assert connection.told == ["closing: closed by the client", "lost: closed by the client"]


def test_a_silent_connection_makes_room(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    slots: ConnectionSlots[SlotHolder] = ConnectionSlots(4, SILENT_SECONDS)
    monkeypatch.setattr("polycast.net.tcp.connection_slots_of", lambda loop: slots)
    first, second = connect(loop)[0], connect(loop)[0]
    loop.now += SILENT_SECONDS
    first.silent_since = None
    third = connect(loop)[0]  # one address may have two places of four
    assert (first.is_open, second.is_open, third.is_open) == (True, False, True)
    assert second.close_reason == "no request was received, and another client needs the connection slot"
    second.connection_lost(None)
    assert len(slots) == 2


def test_a_connection_that_is_being_closed_is_evicted_first(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    slots: ConnectionSlots[SlotHolder] = ConnectionSlots(4, SILENT_SECONDS)
    monkeypatch.setattr("polycast.net.tcp.connection_slots_of", lambda loop: slots)
    (first, _), (second, transport) = connect(loop), connect(loop)
    second.close("the end")
    assert connect(loop)[0].is_open
    assert first.is_open
    assert transport.end == "aborted"
    assert second.close_reason == "the end"


def test_a_connection_without_a_slot_is_refused(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slots: ConnectionSlots[SlotHolder] = ConnectionSlots(2, SILENT_SECONDS)
    monkeypatch.setattr("polycast.net.tcp.connection_slots_of", lambda loop: slots)
    first = connect(loop)[0]
    for _ in range(3):
        refused, transport = connect(loop)
        assert transport.end == "aborted"
        refused.connection_lost(None)
        assert not refused.told
    assert first.is_open
    assert caplog.text.count("connections refused") == 1
    first.connection_lost(None)
    assert connect(loop)[0].is_open


def test_a_broken_protocol_closes(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.error = RemoteProtocolError("no such thing")
    connection.data_received(b"1")
    assert connection.close_reason == "invalid data: no such thing"
    assert transport.has_ended


def test_a_bug_of_ours_ends_this_connection_only(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    connection, transport = connect(loop)
    connection.error = ZeroDivisionError()
    connection.data_received(b"1")
    assert connection.close_reason == "internal error"
    assert transport.end == "aborted"
    assert "ZeroDivisionError" in caplog.text


def test_a_peer_that_reads_nothing_is_disconnected(loop: Loop) -> None:
    connection, transport = connect(loop)
    connection.outbox.write(b"hello")
    assert connection.check_progress(loop.now + 9, 10)
    assert not connection.check_progress(loop.now + 19, 10)
    assert transport.end == "aborted"
    assert connection.close_reason == "the client took no data for 10 s"


def test_a_peer_that_reads_no_responses_is_closed(loop: Loop) -> None:
    connection, transport = connect(loop)
    while connection.is_open:
        connection.answer(bytes(100_000))
    assert transport.waiting <= 2 * connection.outbox.limit + 100_000
    assert connection.close_reason == "the client does not read the responses"


def test_each_loop_has_its_queue() -> None:
    loops = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first, second = map(work.work_queue_of, loops)
        assert first is work.work_queue_of(loops[0])
        assert first is not second
    finally:
        for each in loops:
            each.close()
