"""Two sides that call each other, over bad networks, simulated; and with what libsrt sends."""

from __future__ import annotations

import dataclasses
import heapq
import secrets
from dataclasses import dataclass, field

import pytest
from tests.wire.srt.captured import PASSPHRASE
from tests.wire.srt.simulation import Network, payload

from polycast.wire.srt.caller import CallerOptions
from polycast.wire.srt.connection import Connection, State
from polycast.wire.srt.datagrams import split
from polycast.wire.srt.encryption import SessionKeys
from polycast.wire.srt.handshake import (
    Capabilities,
    ExtensionFlag,
    ExtensionType,
    Handshake,
    HandshakeType,
    parse_handshake,
)
from polycast.wire.srt.key_material import PayloadMode
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.packet import ControlType, build_control
from polycast.wire.srt.rejection import RejectedError, Rejection
from polycast.wire.srt.rendezvous import Rendezvous, RendezvousRequest

START, TICK = 1000.0, 0.0005
HANDSHAKE = b"\x80\0\0\0"


@dataclass
class Side:
    """One end of a meeting."""

    engine: Rendezvous
    secret: str = ""
    connection: Connection | None = None
    delivered: list[bytes] = field(default_factory=list)
    sent: list[Handshake] = field(default_factory=list)
    begins_at: float = START

    def receive(self, packet: bytes, now: float) -> list[bytes]:
        """Process a datagram; return what is answered."""
        if self.connection is not None and not packet.startswith(HANDSHAKE):
            self.connection.receive_data(packet, now)
            return []
        found = self.engine.receive_data(packet, now)
        if isinstance(found, RendezvousRequest):
            keys = None
            if found.key_material is not None:
                keys = ConnectionKeys(SessionKeys(self.secret, found.key_material), secrets.token_bytes)
            self.engine.accept(keys, now)
        elif isinstance(found, Connection):
            self.connection = found
            agreement = self.engine.agreement(now)
            return [agreement] if agreement is not None else []
        elif found is not None:
            return [found]
        return []

    def due(self, now: float) -> list[bytes]:
        """Return what is sent now."""
        packet = self.engine.data_to_send(now) if now >= self.begins_at else None
        packets = [] if packet is None else [packet]
        if self.connection is not None:
            while self.connection.next_timeout() <= now:
                self.connection.handle_timeout(now)
            self.delivered += self.connection.received()
            packets += self.connection.data_to_send()
        return packets


def side(own_id: int, cookie: int, secret: str = "", mode: PayloadMode = PayloadMode.CTR, delay: float = 0.3) -> Side:
    options = CallerOptions(receive_delay=delay, send_delay=delay)
    if not secret:
        return Side(Rendezvous(options, own_id, own_id, cookie, START))
    keys = SessionKeys.generate(secret, 16, secrets.token_bytes, mode)
    message = keys.message
    made = ConnectionKeys(keys, secrets.token_bytes)
    return Side(Rendezvous(options, own_id, own_id, cookie, START, made, message, 16), secret)


class Meeting:
    """Two sides and the network between them."""

    def __init__(self, first: Side, second: Side, network: Network) -> None:
        self.sides = first, second
        self.network = network
        self.now = START
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def transmit(self, packet: bytes, target: int) -> None:
        if packet.startswith(HANDSHAKE):
            self.sides[1 - target].sent.append(parse_handshake(packet))
        for time in self.network.arrivals(self.now):
            self._count += 1
            heapq.heappush(self._flying, (time, self._count, target, packet))

    def send(self, source: int, data: bytes) -> None:
        connection = self.sides[source].connection
        assert connection is not None
        for datagrams in split(data, 1316):
            for joined, size in connection.send(datagrams, self.now):
                for offset in range(0, len(joined), size):
                    self.transmit(bytes(joined[offset : offset + size]), 1 - source)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            while self._flying and self._flying[0][0] <= self.now:
                _, _, target, packet = heapq.heappop(self._flying)
                if self.now >= self.sides[target].begins_at:
                    for answer in self.sides[target].receive(packet, self.now):
                        self.transmit(answer, 1 - target)
            for number, each in enumerate(self.sides):
                for packet in each.due(self.now):
                    self.transmit(packet, 1 - number)
            self.now += TICK

    def connect(self) -> None:
        end = self.now + 20
        while self.now < end and not all(each.connection is not None for each in self.sides):
            self.run(0.05)
        assert all(each.connection is not None for each in self.sides)


COOKIES = {"the first one asks": (7, 5), "the second one asks": (5, 7), "cookies wrap": (0x80000005, 0xFFFFFFFF)}


@pytest.mark.parametrize("cookies", COOKIES.values(), ids=COOKIES)
@pytest.mark.parametrize("head_start", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("secret", ["", PASSPHRASE])
def test_both_are_connected_and_send(cookies: tuple[int, int], head_start: float, secret: str) -> None:
    meeting = Meeting(side(11, cookies[0], secret), side(22, cookies[1], secret), Network(delay=0.02))
    meeting.sides[1].begins_at = START + head_start
    meeting.connect()
    for number in range(20):
        meeting.send(0, payload(number))
        meeting.send(1, payload(100 + number))
        meeting.run(0.01)
    meeting.run(1)
    assert meeting.sides[1].delivered == [payload(number) for number in range(20)]
    assert meeting.sides[0].delivered == [payload(100 + number) for number in range(20)]
    for each in meeting.sides:
        assert each.connection is not None
        assert each.connection.arrived.undecryptable_packets == 0
        assert each.engine.next_timeout() == float("inf")


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_lost(seed: int) -> None:
    """A third of all packets; a side that has not got the agreement learns from others that it is connected."""
    mode = PayloadMode.GCM if seed % 2 else PayloadMode.CTR
    network = Network(delay=0.02, jitter=0.03, loss=0.3, duplicates=0.2, seed=seed)
    first, second = (7, 3) if seed % 4 < 2 else (3, 7)
    meeting = Meeting(
        side(11, first, PASSPHRASE, mode, delay=1.0), side(22, second, PASSPHRASE, mode, delay=1.0), network
    )
    meeting.sides[seed % 2].begins_at = START + seed * 0.01
    meeting.connect()
    for number in range(60):
        meeting.send(0, payload(number))
        meeting.send(1, payload(number))
        meeting.run(0.01)
    meeting.run(3)
    for each in meeting.sides:
        assert each.connection is not None
        assert each.connection.state is State.OPEN
        # Nothing follows the last ones that would tell of their loss.
        assert each.delivered[:50] == [payload(number) for number in range(50)]


def test_the_larger_delay_counts() -> None:
    meeting = Meeting(side(11, 2, delay=0.5), side(22, 1, delay=0.2), Network())
    meeting.connect()
    for each in meeting.sides:
        assert each.connection is not None
        assert (each.connection.parameters.receive_delay, each.connection.parameters.send_delay) == (0.5, 0.5)


def test_the_same_cookie_is_a_draw() -> None:
    meeting = Meeting(side(11, 2), side(22, 2), Network())
    with pytest.raises(RejectedError) as caught:
        meeting.run(1)
    assert caught.value.reason is Rejection.COOKIE


def packet(handshake: Handshake, destination: int = 11) -> bytes:
    return build_control(ControlType.HANDSHAKE, 0, 7, destination, handshake.build())


WAVE = Handshake(flow_window=8192, kind=HandshakeType.WAVE_A_HAND, socket_id=22, cookie=1)
REQUEST = dataclasses.replace(
    WAVE,
    kind=HandshakeType.CONCLUSION,
    cookie=9,
    extension_field=ExtensionFlag.CAPABILITIES,
    extensions=((ExtensionType.CAPABILITIES_REQUEST.value, Capabilities(0xBF, 120, 120).build()),),
)
RESPONSE = dataclasses.replace(
    REQUEST,
    cookie=1,
    extensions=((ExtensionType.CAPABILITIES_RESPONSE.value, Capabilities(0xBF, 120, 120).build()),),
)


def test_a_wrong_passphrase_is_noticed_by_the_initiator() -> None:
    engine = side(11, 5, PASSPHRASE).engine
    engine.receive_data(packet(WAVE), START)
    with pytest.raises(RejectedError, match="wrong passphrase"):
        engine.receive_data(packet(RESPONSE), START)


@pytest.mark.parametrize(
    ("handshake", "reason"),
    [
        (dataclasses.replace(WAVE, version=4), Rejection.VERSION),
        (dataclasses.replace(WAVE, kind=1000 + Rejection.BAD_SECRET), Rejection.BAD_SECRET),
        (dataclasses.replace(REQUEST, extension_field=0x11), Rejection.ROGUE),
        (
            dataclasses.replace(REQUEST, extensions=(*REQUEST.extensions, (ExtensionType.GROUP.value, bytes(8)))),
            Rejection.GROUP,
        ),
    ],
)
def test_what_is_refused(handshake: Handshake, reason: Rejection) -> None:
    engine = side(11, 5).engine
    with pytest.raises(RejectedError) as caught:
        engine.receive_data(packet(handshake), START)
    assert caught.value.reason is reason
    told = parse_handshake(engine.reject(reason, START))
    assert told.kind == 1000 + reason


def test_a_responder_is_connected_by_the_first_packet_that_is_not_a_handshake() -> None:
    engine = side(11, 5).engine
    assert isinstance(engine.receive_data(packet(REQUEST), START), RendezvousRequest)
    keep_alive = build_control(ControlType.KEEP_ALIVE, 0, 7, 11)
    assert engine.receive_data(keep_alive, START) is None, "it is not decided yet"
    assert engine.data_to_send(START) is None
    engine.accept(None, START)
    answer = engine.data_to_send(START)
    assert answer is not None
    assert parse_handshake(answer).extension(ExtensionType.CAPABILITIES_RESPONSE) is not None
    assert isinstance(engine.receive_data(keep_alive, START), Connection)


def test_an_initiator_repeats_its_agreement() -> None:
    engine = side(11, 5).engine
    engine.receive_data(packet(WAVE), START)
    assert isinstance(engine.receive_data(packet(RESPONSE), START), Connection)
    again = engine.receive_data(packet(RESPONSE), START + 1)
    assert isinstance(again, bytes)
    assert parse_handshake(again).kind == HandshakeType.AGREEMENT
    assert engine.receive_data(packet(WAVE), START + 1) is None


def test_whoever_asks_does_not_have_the_passphrase() -> None:
    """This side is the initiator: a request of the peer does not take the place of the answer that has to be examined.
    Nor does a peer that changes its cookie, and so the roles, in between."""
    for cookie in (1, 9):
        engine = side(11, 5, PASSPHRASE).engine
        engine.receive_data(packet(dataclasses.replace(REQUEST, cookie=cookie)), START)
        engine.receive_data(packet(WAVE), START)
        with pytest.raises(RejectedError, match="wrong passphrase"):
            engine.receive_data(packet(RESPONSE), START)


def test_a_connection_is_not_refused_any_more() -> None:
    """A handshake needs no number that only the peer knows."""
    engine = side(11, 5).engine
    engine.receive_data(packet(WAVE), START)
    assert isinstance(engine.receive_data(packet(RESPONSE), START), Connection)
    refused = dataclasses.replace(WAVE, kind=1000 + Rejection.PEER)
    assert engine.receive_data(packet(refused, destination=0), START) is None


@pytest.mark.parametrize("cookie", [3, 8])
def test_a_peer_that_starts_again(cookie: int) -> None:
    """What it said before does not count, and it may have the other role now."""
    engine = side(11, 5).engine
    assert isinstance(engine.receive_data(packet(REQUEST), START), RendezvousRequest)
    fresh = dataclasses.replace(WAVE, socket_id=23, cookie=cookie)
    engine.receive_data(packet(fresh), START)
    engine.accept(None, START)  # what the former one has asked for
    answer = engine.data_to_send(START)
    assert answer is not None
    is_initiator = parse_handshake(answer).extension(ExtensionType.CAPABILITIES_REQUEST) is not None
    assert is_initiator is (cookie < 5)
    assert parse_handshake(answer).extension(ExtensionType.CAPABILITIES_RESPONSE) is None
    conclusion = dataclasses.replace(RESPONSE if is_initiator else REQUEST, socket_id=23, cookie=cookie)
    found = engine.receive_data(packet(conclusion), START)
    if not is_initiator:
        assert isinstance(found, RendezvousRequest)
        engine.accept(None, START)
        found = engine.receive_data(packet(dataclasses.replace(WAVE, kind=HandshakeType.AGREEMENT, cookie=0)), START)
    assert isinstance(found, Connection)
    assert found.parameters.peer_id == 23


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packet(WAVE)[:40],
        packet(WAVE, destination=12),
        packet(dataclasses.replace(WAVE, kind=HandshakeType.INDUCTION)),
        build_control(ControlType.KEEP_ALIVE, 0, 7, 0),
        build_control(ControlType.KEEP_ALIVE, 0, 7, 11),
        packet(dataclasses.replace(WAVE, kind=HandshakeType.AGREEMENT)),
    ],
)
def test_what_means_nothing_is_ignored(data: bytes) -> None:
    engine = side(11, 5).engine
    assert engine.receive_data(data, START) is None
    waving = engine.data_to_send(START)
    assert waving is not None
    assert parse_handshake(waving).kind == HandshakeType.WAVE_A_HAND
