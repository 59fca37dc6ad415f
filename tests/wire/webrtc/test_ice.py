"""The agents of ICE: the lite one, the controlling one, and both against each other over a lossy network."""

from __future__ import annotations

import random

import pytest
from tests.support.stun import mapped_address

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc import ice
from polycast.wire.webrtc.candidates import MAXIMUM_CANDIDATES, Candidate, host_priority, parse_candidate
from polycast.wire.webrtc.ice import ControllingAgent, Credentials, LiteAgent, local_ufrag, make_credentials
from polycast.wire.webrtc.stun import Attribute, AttributeType, Message, MessageType, SocketAddress, parse_message

SERVER = Credentials("server", "the server's password")
CLIENT = Credentials("client", "the client's password")
HERE: SocketAddress = ("192.0.2.1", 8189)
THERE: SocketAddress = ("198.51.100.7", 50000)


def check(
    *more: Attribute, password: str = SERVER.password, role: AttributeType = AttributeType.ICE_CONTROLLING
) -> Message:
    attributes = ((AttributeType.USERNAME, b"server:client"), (role, bytes(8)), *more)
    return parse_message(Message(MessageType.REQUEST, bytes(range(12)), attributes).serialize(password))


NOMINATION: Attribute = (AttributeType.USE_CANDIDATE, b"")


def test_lite_agent_answers_a_check_with_its_source() -> None:
    agent = LiteAgent(SERVER, 0.0)
    message = check()
    assert local_ufrag(message) == "server"
    answer = agent.answer(message, THERE, 1.0)
    assert answer is not None
    response = parse_message(answer)
    assert response.type is MessageType.SUCCESS
    assert response.is_signed_with(SERVER.password)
    assert mapped_address(response) == THERE
    assert response.transaction_id == message.transaction_id
    assert agent.selected == THERE


def test_lite_agent_ignores_what_it_cannot_trust() -> None:
    agent = LiteAgent(SERVER, 0.0)
    assert agent.answer(check(password="wrong"), THERE, 20.0) is None
    unsigned = parse_message(
        Message(MessageType.REQUEST, bytes(12), ((AttributeType.USERNAME, b"server:x"),)).serialize()
    )
    assert agent.answer(unsigned, THERE, 20.0) is None
    indication = parse_message(Message(MessageType.INDICATION, bytes(12)).serialize(SERVER.password))
    assert agent.answer(indication, THERE, 20.0) is None
    assert agent.selected is None
    assert agent.has_expired(ice.CONSENT_SECONDS)


def test_a_nomination_stays_until_the_next_one() -> None:
    agent = LiteAgent(SERVER, 0.0)
    other = ("203.0.113.9", 1)
    agent.answer(check(), other, 0.0)
    agent.answer(check(NOMINATION), THERE, 0.0)
    agent.answer(check(), other, 0.0)
    assert agent.selected == THERE
    agent.answer(check(NOMINATION), other, 0.0)
    assert agent.selected == other


@pytest.mark.parametrize(
    ("message", "code"),
    [(check(role=AttributeType.ICE_CONTROLLED), 487), (check((0x7777, b"")), 420)],
    ids=["role conflict", "unknown attribute"],
)
def test_lite_agent_refuses(message: Message, code: int) -> None:
    agent = LiteAgent(SERVER, 0.0)
    answer = agent.answer(message, THERE, 0.0)
    assert answer is not None
    assert parse_message(answer).error_code == code
    assert agent.selected is None


def test_lite_agent_notices_that_the_peer_has_gone() -> None:
    agent = LiteAgent(SERVER, 0.0)
    agent.answer(check(), THERE, 10.0)
    assert not agent.has_expired(39.9)
    assert agent.next_timeout() == 40.0
    assert agent.has_expired(40.0)


def test_lite_agent_limits_addresses() -> None:
    agent = LiteAgent(SERVER, 0.0)
    answers = [agent.answer(check(), ("192.0.2.9", port), 0.0) for port in range(ice.MAXIMUM_ADDRESSES + 1)]
    assert answers[-1] is None
    assert all(answers[:-1])


def test_restart_takes_other_credentials() -> None:
    agent = LiteAgent(SERVER, 0.0)
    agent.answer(check(NOMINATION), THERE, 0.0)
    agent.restart(CLIENT)
    assert agent.answer(check(), ("203.0.113.9", 1), 1.0) is None
    assert agent.selected == THERE, "media flows on"
    agent.answer(check(password=CLIENT.password), ("203.0.113.9", 1), 1.0)
    assert agent.selected == ("203.0.113.9", 1)


def test_credentials_are_long_and_new() -> None:
    source = random.Random(1)
    one, other = make_credentials(source.randbytes), make_credentials(source.randbytes)
    assert one != other
    assert len(one.ufrag) >= 4
    assert len(one.password) >= 22


def controlling(*addresses: SocketAddress, seed: int = 1) -> ControllingAgent:
    candidates = [Candidate(host, port, priority=host_priority(order)) for order, (host, port) in enumerate(addresses)]
    return ControllingAgent(CLIENT, SERVER, candidates, 0.0, random.Random(seed).randbytes)


def run(agent: ControllingAgent, lite: LiteAgent, *, loss: float, seed: int, seconds: float = 60.0) -> float | None:
    """Let both talk; packets get lost either way. Returns when the agents agreed on a pair."""
    network = random.Random(seed)
    now = 0.0
    while now < seconds and agent.selected is None:
        agent.handle_timeout(now)
        for data, destination in agent.data_to_send():
            if destination == HERE and network.random() >= loss:
                answer = lite.answer(parse_message(data), THERE, now)
                if answer is not None and network.random() >= loss:
                    agent.receive(parse_message(answer), HERE, now)
        now = max(now + 0.001, agent.next_timeout())
    return now if agent.selected is not None else None


def test_controlling_agent_finds_the_address_that_answers() -> None:
    agent, lite = controlling(("10.0.0.1", 1), ("10.0.0.2", 2), HERE), LiteAgent(SERVER, 0.0)
    agreed = run(agent, lite, loss=0.0, seed=1)
    assert agreed is not None
    assert agreed < 1.0
    assert agent.selected == HERE
    assert lite.selected == THERE


@pytest.mark.parametrize("seed", range(20))
def test_agents_agree_although_a_fifth_is_lost(seed: int) -> None:
    agent, lite = controlling(("10.0.0.1", 1), HERE, seed=seed), LiteAgent(SERVER, 0.0)
    assert run(agent, lite, loss=0.2, seed=seed) is not None


def test_controlling_agent_gives_up() -> None:
    agent = controlling(("10.0.0.1", 1))
    assert run(agent, LiteAgent(SERVER, 0.0), loss=0.0, seed=1) is None
    assert agent.has_failed
    assert not controlling().has_failed, "candidates may follow"


def test_controlling_agent_keeps_checking_and_notices_the_end() -> None:
    agent, lite = controlling(HERE), LiteAgent(SERVER, 0.0)
    run(agent, lite, loss=0.0, seed=1)
    start = agent.next_timeout()
    agent.handle_timeout(start)
    ((data, destination),) = agent.data_to_send()
    assert destination == HERE
    answer = lite.answer(parse_message(data), THERE, start)
    assert answer is not None
    agent.receive(parse_message(answer), HERE, start)
    assert not agent.has_expired(start + 29.9)
    assert agent.has_expired(start + 30.0)


def test_controlling_agent_ignores_forged_answers() -> None:
    agent = controlling(HERE)
    agent.handle_timeout(0.0)
    ((data, _),) = agent.data_to_send()
    transaction = parse_message(data).transaction_id
    for source, password in ((HERE, "wrong"), (("10.9.9.9", 1), SERVER.password)):
        forged = Message(MessageType.SUCCESS, transaction).serialize(password)
        agent.receive(parse_message(forged), source, 0.0)
    assert agent.data_to_send() == []
    assert agent.selected is None


def test_controlling_agent_answers_checks_of_a_full_peer() -> None:
    agent = controlling(HERE)
    request = Message(MessageType.REQUEST, bytes(12), ((AttributeType.USERNAME, b"client:server"),))
    agent.receive(parse_message(request.serialize(CLIENT.password)), HERE, 0.0)
    ((data, destination),) = agent.data_to_send()
    assert destination == HERE
    assert mapped_address(parse_message(data)) == HERE


def test_candidates_over_the_limit_are_ignored() -> None:
    agent = controlling(*(("192.0.2.1", port) for port in range(1, MAXIMUM_CANDIDATES + 20)))
    sent = 0
    for turn in range(2 * MAXIMUM_CANDIDATES):
        agent.handle_timeout(turn * ice.CHECK_INTERVAL)
        sent = max(sent, len({destination for _, destination in agent.data_to_send()}))
        if turn == 0:
            assert sent == 1, "paced"


CHROMIUM = (
    "candidate:842163049 1 udp 1677729535 203.0.113.1 54321 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag +Q"
)
CANDIDATES = [
    (CHROMIUM, Candidate("203.0.113.1", 54321, "udp", "srflx", 1677729535, "842163049")),
    (
        "1 1 TCP 1671430143 192.0.2.1 8189 typ host tcptype passive",
        Candidate("192.0.2.1", 8189, "tcp", "host", 1671430143, "1", 1, "passive"),
    ),
    (
        "0 2 UDP 2122252543 b9b0f4a4-6d2e-4d0a-9a3b-6b1e4f9a2c1d.local 50000 typ host",
        Candidate("b9b0f4a4-6d2e-4d0a-9a3b-6b1e4f9a2c1d.local", 50000, "udp", "host", 2122252543, "0", 2),
    ),
]


@pytest.mark.parametrize(("text", "candidate"), CANDIDATES)
def test_candidates_are_read(text: str, candidate: Candidate) -> None:
    assert parse_candidate(text) == candidate
    assert parse_candidate(parse_candidate(text).serialize()) == candidate


@pytest.mark.parametrize(
    "text", ["", "1 1 udp x 1.2.3.4 5 typ host", "1 1 udp 1 1.2.3.4 70000 typ host", "1 1 udp 1 a 5 host"]
)
def test_bad_candidates_are_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_candidate(text)


def test_priority_of_rfc_8445() -> None:
    """Section 5.1.2.1: 2**24 * 126 + 2**8 * 65535 + 255."""
    assert host_priority(0) == 2130706431
    assert host_priority(1) == 2130706431 - 256
    assert host_priority(0, "tcp") < host_priority(1000)
