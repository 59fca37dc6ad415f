"""Transmission over bad networks, simulated."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.wire.srt.captured import PASSPHRASE
from tests.wire.srt.simulation import Network, Simulation, payload, transfer

from polycast.wire.srt.caller import CallerOptions
from polycast.wire.srt.connection import State
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.encryption import SessionKeys
from polycast.wire.srt.key_material import PayloadMode, parse_key_material
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.packet import HEADER, MESSAGE_MASK, SEQUENCE_MASK

ROUND_TRIPS = 4
"""Nothing is lost if the delay is at least so many round trips."""
STEADY = 0.005
"""Seconds by which the delays of packets differ at most."""


def delay_for(network: Network) -> float:
    return ROUND_TRIPS * (2 * network.delay + 2 * network.jitter) + 0.02


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("loss", [0.0, 0.01, 0.05, 0.15])
@pytest.mark.parametrize("from_caller", [True, False])
def test_nothing_is_lost_within_four_round_trips(loss: float, delay: float, from_caller: bool) -> None:
    network = Network(delay=delay, loss=loss, seed=round(1000 * (loss + delay)))
    simulation = Simulation(network, delay=delay_for(network))
    simulation.connect()
    delays = transfer(simulation, 1000, from_caller=from_caller)
    assert len(delays) == 1000
    assert max(delays.values()) - min(delays.values()) <= STEADY


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.15]),
    delay=st.floats(0.01, 0.1),
    jitter=st.floats(0, 0.02),
    duplicates=st.sampled_from([0.0, 0.1]),
    burst=st.floats(0.0, 0.9),
    seed=st.integers(0, 1 << 20),
    initial=st.sampled_from([0, 1000, SEQUENCE_MASK, SEQUENCE_MASK - 100]),
)
def test_whatever_arrives_is_in_order_and_on_time(
    loss: float, delay: float, jitter: float, duplicates: float, burst: float, seed: int, initial: int
) -> None:
    """``burst``: seconds during which nothing arrives, as a part of the time that is left for retransmissions."""
    network = Network(delay=delay, loss=loss, jitter=jitter, duplicates=duplicates, seed=seed)
    patience = delay_for(network)
    outage = burst * (patience - 3 * (2 * delay + 2 * jitter))
    network.bursts = ((2.0, outage),)
    simulation = Simulation(network, delay=patience, initial_sequence=initial)
    simulation.connect()
    delays = transfer(simulation, 500, 0.005)
    assert simulation.listener is not None
    counters = simulation.listener.arrived
    assert len(delays) + counters.dropped_packets == 500
    assert counters.dropped_packets <= (5 if loss == 0.15 else 0)
    # No later packet tells the receiver that the last ones were lost, and nothing waits for them: they may come late.
    followed = [delay for number, delay in delays.items() if number < 480]
    assert max(followed) - min(followed) <= STEADY
    assert counters.unique_packets == len(delays)


def test_a_packet_that_comes_too_late_is_dropped() -> None:
    network = Network(delay=0.1)
    simulation = Simulation(network, delay=0.15)  # a retransmission takes 0.3 s
    simulation.connect()
    start = simulation.now
    network.bursts = ((start - 1000.0 + 0.5, 0.02),)
    delays = transfer(simulation, 300, 0.005)
    assert simulation.listener is not None
    counters = simulation.listener.arrived
    assert counters.dropped_packets == 300 - len(delays) == 4
    assert counters.belated_packets > 0
    assert counters.belated_time > 0.01
    assert max(delays.values()) - min(delays.values()) <= STEADY


def test_an_interruption_ends() -> None:
    network = Network(delay=0.02)
    simulation = Simulation(network, delay=0.2)
    simulation.connect()
    network.bursts = ((simulation.now - 1000.0 + 1.0, 3.0),)
    delays = transfer(simulation, 1200, 0.005)
    assert simulation.listener is not None
    assert simulation.listener.state is State.OPEN
    lost = [number for number in range(1200) if number not in delays]
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert 1.9 < len(lost) * 0.005 < 3.1  # the sender keeps the last second
    on_time = [delay for number, delay in delays.items() if number < lost[0] or number > lost[-1] + 220]
    assert max(on_time) - min(on_time) <= STEADY


@pytest.mark.parametrize("skew", [2e-4, -2e-4])
def test_the_drift_of_a_clock_is_corrected(skew: float) -> None:
    simulation = Simulation(Network(delay=0.02, skew=skew), delay=0.2)
    simulation.connect()
    delays = transfer(simulation, 6000, 0.01)
    assert len(delays) == 6000
    assert max(delays.values()) - min(delays.values()) <= STEADY  # without the correction, it is 12 ms
    assert simulation.listener is not None
    assert abs(simulation.listener.receiver.clock.drift) > 0.005


def test_the_delay_stays_when_timestamps_wrap() -> None:
    simulation = Simulation(Network(), delay=0.12)
    simulation.calling._started_at -= (1 << 32) / 1e6 - 2  # 71 minutes ago
    simulation.connect()
    delays = transfer(simulation, 800, 0.005)
    assert len(delays) == 800
    assert max(delays.values()) - min(delays.values()) <= STEADY


def test_numbers_of_messages_wrap() -> None:
    simulation = Simulation(Network(loss=0.05), delay=0.2)
    simulation.connect()
    assert simulation.caller is not None
    simulation.caller.sender._initial -= MESSAGE_MASK - 200
    assert len(transfer(simulation, 400)) == 400


def test_packets_sent_together_arrive() -> None:
    simulation = Simulation(Network(loss=0.05, seed=3), delay=0.3)
    simulation.connect()
    for start in range(0, 400, 40):
        simulation.send(b"".join(map(payload, range(start, start + 40))))
        simulation.run(0.04)
    simulation.run(2)
    assert [data for _, data in simulation.to_listener] == list(map(payload, range(400)))


def test_the_last_packet_is_sent_again_if_it_was_lost() -> None:
    network = Network()
    simulation = Simulation(network, delay=0.3)
    simulation.connect()
    simulation.run(0.5)
    network.loss = 1.0
    simulation.send(payload(7))
    network.loss = 0.0
    simulation.run(1)
    assert [data for _, data in simulation.to_listener] == [payload(7)]


def test_nobody_can_ask_for_a_flood_of_packets() -> None:
    simulation = Simulation(Network(), delay=1.0)
    simulation.connect()
    simulation.network.loss = 1.0  # the peer acknowledges nothing
    for number in range(200):
        simulation.send(payload(number))
    simulation.run(0.2)
    before, caller = simulation.datagrams, simulation.caller
    assert caller is not None
    everything = HEADER.pack(0x80030000, 0, 0, 0) + (0x80000000 | 1000).to_bytes(4, "big") + (1199).to_bytes(4, "big")
    for _ in range(100):
        caller.receive_data(everything, simulation._caller_time())
        simulation.run(0.01)
    assert simulation.datagrams - before <= 256 + 4 * 200 + 50


def test_what_is_not_acknowledged_is_sent_again_without_a_request() -> None:
    network = Network(loss=0.03, seed=5)
    simulation = Simulation(network, delay=0.6)
    simulation.connect()
    send = simulation.transmit

    def transmit(packet: bytes, *, to_listener: bool) -> None:
        if packet[:2] != b"\x80\x03":  # all requests are lost
            send(packet, to_listener=to_listener)

    simulation.transmit = transmit  # type: ignore[method-assign]
    assert len(transfer(simulation, 300, 0.01)) == 300
    assert simulation.caller is not None
    assert 0 < simulation.caller.sent.retransmitted_packets < 60


def nak(first: int, last: int) -> bytes:
    return HEADER.pack(0x80030000, 0, 0, 0) + (0x80000000 | first).to_bytes(4, "big") + last.to_bytes(4, "big")


def test_what_may_have_been_acknowledged_meanwhile_is_not_sent_again() -> None:
    """A timer that is late means that the program was busy, so it may not have read what has arrived."""
    simulation = Simulation(Network())
    simulation.connect()
    caller = simulation.caller
    assert caller is not None
    (datagrams,) = split(bytes(1316 * 3), 1316)
    caller.send(datagrams, caller.parameters.peer_arrival)
    due = caller.sender.next_probe()
    assert caller.next_timeout() <= due
    caller.handle_timeout(due + 0.1)
    assert caller.sent.retransmitted_packets == 0
    again = caller.sender.next_probe()
    assert again > due + 0.1
    caller.handle_timeout(again)
    assert caller.sent.retransmitted_packets == 2


def test_late_requests_for_what_has_arrived_are_not_answered() -> None:
    """libsrt 1.5.1 takes a drop request for packets that it has as an order to throw them away."""
    simulation = Simulation(Network(), delay=0.5)
    simulation.connect()
    for number in range(10):
        simulation.send(payload(number))
    simulation.run(0.3)
    caller = simulation.caller
    assert caller is not None
    assert caller.sender.flight == 0
    caller.receive_data(nak(1002, 1005), simulation._caller_time())
    assert caller.data_to_send() == []


def test_requests_for_what_was_dropped_are_answered() -> None:
    simulation = Simulation(Network(), delay=0.12)
    simulation.connect()
    for number in range(10):
        simulation.send(payload(number))
    simulation.run(0.3)
    simulation.network.loss = 1.0
    for number in range(10, 20):
        simulation.send(payload(number))
    simulation.run(2.0)
    caller = simulation.caller
    assert caller is not None
    assert caller.sent.dropped_packets == 10
    caller.receive_data(nak(1005, 1012), simulation._caller_time())
    (answer,) = caller.data_to_send()
    first, _, _, _ = HEADER.unpack_from(answer)
    assert first == 0x80070000
    assert [int.from_bytes(answer[16:20], "big"), int.from_bytes(answer[20:24], "big")] == [1010, 1012]


def test_a_pace_is_kept() -> None:
    simulation = Simulation(Network(), delay=1.0, bandwidth=200_000)
    simulation.connect()
    for number in range(100):
        simulation.send(payload(number))
    assert simulation.caller is not None
    start = simulation.now
    simulation.run(5.0, lambda: not simulation.caller.sender.waiting)  # type: ignore[union-attr]
    assert simulation.now - start == pytest.approx(100 * 1332 / 200_000, rel=0.05)
    simulation.run(2.0)
    assert len(simulation.to_listener) == 100


def test_what_cannot_be_sent_in_time_is_dropped_by_the_sender() -> None:
    simulation = Simulation(Network(), delay=0.12, bandwidth=100_000)
    simulation.connect()
    for number in range(400):
        simulation.send(payload(number))
    simulation.run(6.0)
    assert simulation.caller is not None
    sent = simulation.caller.sent
    assert 400 <= sent.dropped_packets + len(simulation.to_listener) <= 405  # some arrived, but were not acknowledged
    assert 50 <= len(simulation.to_listener) <= 100  # about a second's worth


def test_a_pace_can_follow_the_input() -> None:
    simulation = Simulation(Network(), delay=0.5, bandwidth=0.0)
    simulation.connect()
    assert len(transfer(simulation, 800)) == 800
    assert simulation.caller is not None
    assert simulation.caller.sender.pace.rate == pytest.approx(1316 / 0.003 * 1.25, rel=0.05)


# The end


def test_closing_waits_until_everything_was_delivered() -> None:
    simulation = Simulation(Network(delay=0.05, loss=0.1, seed=4), delay=0.5)
    simulation.connect()
    for number in range(100):
        simulation.send(payload(number))
    assert simulation.caller is not None
    simulation.caller.close("enough", simulation._caller_time())
    simulation.run(5.0)
    assert len(simulation.to_listener) == 100
    assert simulation.caller.state is State.CLOSED
    assert (simulation.caller.close_reason, simulation.listener.close_reason) == ("enough", "EOF")  # type: ignore[union-attr]


def test_what_has_arrived_is_delivered_when_the_peer_leaves_at_once() -> None:
    simulation = Simulation(Network(), delay=0.5)
    simulation.connect()
    simulation.send(payload(1))
    assert simulation.caller is not None
    simulation.caller.abort("gone", simulation._caller_time())
    simulation.run(0.1)
    assert [data for _, data in simulation.to_listener] == [payload(1)]
    assert simulation.listener is not None
    assert simulation.listener.state is State.CLOSED


def test_idle_connections_are_kept_alive_until_the_peer_is_silent() -> None:
    simulation = Simulation(Network())
    simulation.connect()
    simulation.run(20)
    assert simulation.caller is not None
    assert simulation.listener is not None
    assert simulation.caller.state is simulation.listener.state is State.OPEN
    simulation.network.loss = 1.0
    simulation.run(7)
    for end in (simulation.caller, simulation.listener):
        assert (end.state, end.close_reason) == (State.CLOSED, "the peer was silent for 5 s")


def test_a_closed_connection_does_nothing() -> None:
    simulation = Simulation(Network())
    simulation.connect()
    caller = simulation.caller
    assert caller is not None
    caller.abort("gone", simulation._caller_time())
    simulation.run(1)
    before = simulation.datagrams
    simulation.send(payload(1))
    caller.receive_data(bytes(20), simulation._caller_time())
    caller.close("again", simulation._caller_time())
    simulation.run(10)
    assert simulation.datagrams == before
    assert caller.close_reason == "gone"


# Encryption


def session_keys(
    size: int, refresh_packets: int = 1 << 24, mode: PayloadMode = PayloadMode.CTR
) -> tuple[ConnectionKeys, ConnectionKeys, bytes, int]:
    keys = SessionKeys.generate(PASSPHRASE, size, secrets.token_bytes, mode)
    unwrapped = SessionKeys(PASSPHRASE, parse_key_material(keys.message))
    message = keys.message
    return (
        ConnectionKeys(keys, secrets.token_bytes, refresh_packets),
        ConnectionKeys(unwrapped, secrets.token_bytes, refresh_packets),
        message,
        size,
    )


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("from_caller", [True, False])
@pytest.mark.parametrize("mode", PayloadMode)
def test_payloads_are_encrypted(size: int, mode: PayloadMode, from_caller: bool) -> None:
    simulation = Simulation(Network(loss=0.1, seed=size), delay=0.3, keys=session_keys(size, mode=mode))
    simulation.connect()
    assert simulation.caller is not None
    transmitted: list[bytes] = []
    send = simulation.transmit
    simulation.transmit = lambda packet, **options: (transmitted.append(packet), send(packet, **options))[1]  # type: ignore[method-assign]
    assert len(transfer(simulation, 200, from_caller=from_caller)) == 200
    payloads = [packet[16:] for packet in transmitted if not packet[0] & 0x80]
    assert len(payloads) >= 200
    assert not {payload(number) for number in range(200)} & set(payloads)
    assert len(set(payloads)) == 200  # a retransmission is the same packet


@pytest.mark.parametrize("mode", PayloadMode)
def test_keys_change_without_a_gap(mode: PayloadMode) -> None:
    simulation = Simulation(Network(loss=0.1, seed=2), delay=0.3, keys=session_keys(16, 100, mode))
    simulation.connect()
    assert simulation.caller is not None
    assert simulation.listener is not None
    keys: list[int] = []
    send = simulation.transmit

    def watch(packet: bytes, *, to_listener: bool) -> None:
        if not packet[0] & 0x80 and not packet[4] & 0x04:
            keys.append(packet[4] >> 3 & 3)
        send(packet, to_listener=to_listener)

    simulation.transmit = watch  # type: ignore[method-assign]
    assert len(transfer(simulation, 1000, 0.01)) == 1000
    assert simulation.listener.arrived.undecryptable_packets == 0
    changes = [number for number in range(1, len(keys)) if keys[number] != keys[number - 1]]
    assert 8 <= len(changes) <= 10
    assert set(keys) == {1, 2}
    assert simulation.caller.sent.key_messages >= 8


def test_the_other_direction_has_keys_of_its_own() -> None:
    simulation = Simulation(Network(), delay=0.3, keys=session_keys(16, refresh_packets=100))
    simulation.connect()
    assert len(transfer(simulation, 350)) == 350
    assert len(transfer(simulation, 350, from_caller=False)) == 350


def test_what_cannot_be_decrypted_is_counted_and_not_asked_for_again() -> None:
    first, second = session_keys(16), session_keys(16)
    simulation = Simulation(Network(), delay=0.2, keys=(first[0], first[1], first[2], 16))
    simulation.connect()
    assert simulation.listener is not None
    object.__setattr__(simulation.listener.parameters, "keys", None)
    assert transfer(simulation, 50) == {}
    assert simulation.listener.arrived.undecryptable_packets == 50
    assert simulation.listener.arrived.naks == 0
    del second


def test_key_messages_with_another_passphrase_change_nothing() -> None:
    simulation = Simulation(Network(), delay=0.2, keys=session_keys(16))
    simulation.connect()
    assert simulation.listener is not None
    other = SessionKeys.generate("another passphrase", 16, secrets.token_bytes).message
    for _ in range(3):
        simulation.listener.receive_data(HEADER.pack(0xFFFF0003, 0, 0, 0) + other, simulation.now)
        simulation.listener.receive_data(HEADER.pack(0xFFFF0003, 0, 0, 0) + other[:20], simulation.now)
    assert simulation.listener.data_to_send() == []
    assert len(transfer(simulation, 50)) == 50


# Options and damage


def test_a_caller_may_wish_another_delay_for_each_direction() -> None:
    options = CallerOptions(receive_delay=0.3, send_delay=0.6)
    simulation = Simulation(Network(delay=0.01), delay=0.12, options=options)
    simulation.connect()
    there = transfer(simulation, 50)
    back = transfer(simulation, 50, from_caller=False)
    assert min(there.values()) == pytest.approx(0.61, abs=0.01)
    assert min(back.values()) == pytest.approx(0.31, abs=0.03)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(15),
        bytes(1500),
        HEADER.pack(0x80020000, 5, 0, 0),
        HEADER.pack(0x80020000, 5, 0, 0) + b"\x7f\xff\xff\xff",
        HEADER.pack(0x80030000, 0, 0, 0) + b"\xff" * 1400,
        HEADER.pack(0x80030000, 0, 0, 0) + bytes(6),
        HEADER.pack(0x80060000, 99, 0, 0),
        HEADER.pack(0x80070000, 0, 0, 0) + bytes(4),
        HEADER.pack(0x80070000, 0, 0, 0) + b"\0\0\0\0\x7f\xff\xff\xff",
        HEADER.pack(0x80040000, 0, 0, 0),
        HEADER.pack(0x80080000, 0, 0, 0),
        HEADER.pack(0xFFFF0003, 0, 0, 0) + bytes(48),
        HEADER.pack(0xFFFF0004, 0, 0, 0),
        HEADER.pack(0x9ABC0000, 0, 0, 0),
    ],
)
def test_invalid_packets_change_nothing(packet: bytes) -> None:
    simulation = Simulation(Network(), delay=0.2, keys=session_keys(16))
    simulation.connect()
    assert simulation.listener is not None
    simulation.listener.receive_data(packet, simulation.now)
    assert len(transfer(simulation, 50)) == 50
