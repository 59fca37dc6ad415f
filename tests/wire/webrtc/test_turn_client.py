"""The TURN client against a server made of aioice's messages."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from aioice import stun as oracle
from aioice.turn import make_integrity_key

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc import stun, turn_client
from polycast.wire.webrtc.turn_client import RelayDeframer, TurnClient, TurnState

USER, PASSWORD, REALM = "user", "pass:word", "example.org"
KEY = make_integrity_key(USER, REALM, PASSWORD)
RELAYED = ("203.0.113.9", 49152)
PEER = ("198.51.100.7", 5004)


class Randomness:
    """Different bytes each time, the same in every run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")


class Server:
    """What a TURN server answers."""

    def __init__(self, *, is_stream: bool = False, now: float = 0.0) -> None:
        self.client = TurnClient(USER, PASSWORD, now, Randomness(), is_stream=is_stream)
        self.nonce = b"nonce"
        self.requests: list[oracle.Message] = []

    def take(self) -> list[oracle.Message]:
        """Return the requests that were sent; those with a nonce must be signed."""
        messages = []
        for data in self.client.data_to_send():
            message = oracle.parse_message(data)
            assert message.check_message_integrity(KEY) is ("NONCE" in message.attributes)
            messages.append(message)
        self.requests += messages
        return messages

    def answer(
        self, request: oracle.Message, attributes: dict[str, Any], now: float = 0.0, key: bytes | None = KEY
    ) -> None:
        kind = oracle.Class.ERROR if "ERROR-CODE" in attributes else oracle.Class.RESPONSE
        response = oracle.Message(request.message_method, kind, transaction_id=request.transaction_id)
        response.attributes.update(attributes)
        if key is not None:
            response.add_message_integrity(key)
        assert self.client.receive_datagram(bytes(response), now) is None

    def challenge(self, request: oracle.Message, code: int = 401, now: float = 0.0) -> None:
        attributes = {"ERROR-CODE": (code, "again"), "REALM": REALM, "NONCE": self.nonce}
        self.answer(request, attributes, now, key=None)

    def allocate(self, now: float = 0.0, lifetime: int = 600) -> None:
        (first,) = self.take()
        self.challenge(first, now=now)
        (second,) = self.take()
        self.answer(second, {"XOR-RELAYED-ADDRESS": RELAYED, "LIFETIME": lifetime}, now)

    def confirm(self, now: float = 0.0) -> list[oracle.Message]:
        """Confirm all requests."""
        requests = self.take()
        for request in requests:
            self.answer(request, {}, now)
        return requests


@pytest.fixture
def server() -> Server:
    server = Server()
    server.allocate()
    return server


def methods(requests: list[oracle.Message]) -> list[str]:
    return [request.message_method.name for request in requests]


def test_an_address_is_allocated() -> None:
    server = Server()
    server.allocate()
    first, second = server.requests
    assert first.attributes == {"REQUESTED-TRANSPORT": 17 << 24} | fingerprint(first)
    assert (second.attributes["USERNAME"], second.attributes["REALM"]) == (USER, REALM)
    assert second.attributes["NONCE"] == b"nonce"
    assert second.transaction_id != first.transaction_id
    assert (server.client.state, server.client.relayed) == (TurnState.ALLOCATED, RELAYED)
    assert not server.take()


def fingerprint(message: oracle.Message) -> dict[str, Any]:
    return {"FINGERPRINT": message.attributes["FINGERPRINT"]}


def test_a_server_without_users_gives_an_address() -> None:
    server = Server()
    (request,) = server.take()
    server.answer(request, {"XOR-RELAYED-ADDRESS": RELAYED, "LIFETIME": 600}, key=None)
    assert server.client.relayed == RELAYED


def test_wrong_credentials_fail() -> None:
    server = Server()
    for _ in range(2):
        (request,) = server.take()
        server.challenge(request)
    assert server.client.state is TurnState.FAILED
    assert server.client.failure == "wrong user or password"
    assert server.client.next_timeout() is None
    assert not server.take()


def test_a_server_whose_nonces_are_always_stale_fails() -> None:
    server = Server()
    (request,) = server.take()
    server.challenge(request)
    for number in range(turn_client.MAXIMUM_CHALLENGES):
        server.nonce = b"nonce %d" % number
        (request,) = server.take()
        server.challenge(request, 438)
    assert server.client.failure == "error 438 (again)"


def test_a_stale_nonce_is_replaced(server: Server) -> None:
    server.client.permit("192.0.2.1", 1.0)
    (request,) = server.take()
    server.nonce = b"another"
    server.challenge(request, 438, 1.0)
    (again,) = server.take()
    assert again.attributes["NONCE"] == b"another"
    assert again.attributes["XOR-PEER-ADDRESS"] == ("192.0.2.1", 0)
    assert again.transaction_id != request.transaction_id


@pytest.mark.parametrize("key", [None, bytes(16)])
def test_forged_answers_are_ignored(key: bytes | None) -> None:
    server = Server()
    (request,) = server.take()
    server.challenge(request)
    (request,) = server.take()
    server.answer(request, {"XOR-RELAYED-ADDRESS": RELAYED, "LIFETIME": 600}, key=key)
    server.answer(request, {"ERROR-CODE": (486, "quota")}, key=key)
    assert server.client.state is TurnState.ALLOCATING


def test_a_success_that_looks_like_a_challenge_has_to_be_signed_as_well() -> None:
    server = Server()
    (request,) = server.take()
    server.challenge(request)
    (request,) = server.take()
    forged = oracle.Message(request.message_method, oracle.Class.RESPONSE, transaction_id=request.transaction_id)
    forged.attributes.update({"XOR-RELAYED-ADDRESS": RELAYED, "LIFETIME": 600, "ERROR-CODE": (401, "again")})
    server.client.receive_datagram(bytes(forged), 0.0)
    assert server.client.state is TurnState.ALLOCATING


def test_refusals_are_told() -> None:
    server = Server()
    (request,) = server.take()
    server.challenge(request)
    (request,) = server.take()
    server.answer(request, {"ERROR-CODE": (486, "Allocation Quota Reached")})
    assert server.client.failure == "error 486 (Allocation Quota Reached)"


def test_every_host_is_asked_for_by_itself(server: Server) -> None:
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::1"):
        server.client.permit(host, 1.0)
    requests = server.take()
    assert methods(requests) == ["CREATE_PERMISSION"] * 2
    assert [request.attributes["XOR-PEER-ADDRESS"][0] for request in requests] == ["192.0.2.1", "192.0.2.2"]
    server.answer(requests[0], {"ERROR-CODE": (403, "Forbidden IP")})
    server.answer(requests[1], {})
    assert server.client.state is TurnState.ALLOCATED


def test_hosts_that_were_permitted_before_the_allocation_are_asked_for_after_it() -> None:
    server = Server()
    server.client.permit("192.0.2.1", 0.0)
    server.allocate()
    assert methods(server.take()) == ["CREATE_PERMISSION"]


def test_hosts_beyond_the_limit_wait_for_a_place(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_client, "MAXIMUM_HOSTS", 2)
    for number in range(4):
        server.client.permit(f"192.0.2.{number}", 1.0)
    assert len(server.take()) == 2
    asked: list[str] = []
    for leaving in ("192.0.2.0", "192.0.2.3", "192.0.2.1"):
        server.client.permit("192.0.2.9", 1.0)
        server.client.forbid(leaving, 1.0)
        asked += [request.attributes["XOR-PEER-ADDRESS"][0] for request in server.take()]
    assert asked == ["192.0.2.2", "192.0.2.9"], "those that have waited get the places of those that leave"


def test_datagrams_are_indications_until_a_channel_is_confirmed(server: Server) -> None:
    client = server.client
    sent = oracle.parse_message(client.wrap(b"before", PEER))
    assert (sent.message_method, sent.message_class) == (oracle.Method.SEND, oracle.Class.INDICATION)
    assert (sent.attributes["XOR-PEER-ADDRESS"], sent.attributes["DATA"]) == (PEER, b"before")
    client.bind(PEER, 1.0)
    client.bind(PEER, 1.0)
    assert oracle.parse_message(client.wrap(b"still", PEER)).attributes["DATA"] == b"still"
    (request,) = server.confirm()
    assert request.attributes["XOR-PEER-ADDRESS"] == PEER
    assert request.attributes["CHANNEL-NUMBER"] == 0x4000
    assert client.wrap(b"after", PEER) == bytes.fromhex("40000005") + b"after"
    assert client.receive_datagram(bytes.fromhex("40000003") + b"abc", 1.0) == (PEER, b"abc")
    indication = oracle.Message(oracle.Method.DATA, oracle.Class.INDICATION)
    indication.attributes.update({"XOR-PEER-ADDRESS": PEER, "DATA": b"xyz"})
    assert client.receive_datagram(bytes(indication), 1.0) == (PEER, b"xyz")


@pytest.mark.parametrize("junk", [b"", b"\x40", b"\x40\x00\x00\x09abc", b"\x4f\xff\x00\x00", bytes(20), b"\x80" * 40])
def test_junk_is_ignored(server: Server, junk: bytes) -> None:
    server.client.bind(PEER, 1.0)
    server.confirm()
    assert server.client.receive_datagram(junk, 1.0) is None


def test_over_tcp_datagrams_are_padded() -> None:
    server = Server(is_stream=True)
    server.allocate()
    server.client.bind(PEER, 1.0)
    server.confirm()
    assert server.client.wrap(b"after", PEER) == bytes.fromhex("40000005") + b"after\0\0\0"


def test_a_refused_channel_does_no_harm(server: Server) -> None:
    server.client.bind(PEER, 1.0)
    (request,) = server.take()
    server.answer(request, {"ERROR-CODE": (400, "Bad Request")})
    assert oracle.parse_message(server.client.wrap(b"x", PEER)).attributes["DATA"] == b"x"


def test_numbers_of_channels_rest_before_another_peer_gets_them(server: Server) -> None:
    def number_for(peer: tuple[str, int], now: float) -> int:
        server.client.bind(peer, now)
        (request,) = server.confirm(now)
        number: int = request.attributes["CHANNEL-NUMBER"]
        return number

    assert number_for(PEER, 0.0) == 0x4000
    server.client.unbind(PEER, 10.0)
    assert server.client.receive_datagram(bytes.fromhex("40000003") + b"abc", 10.0) is None
    assert number_for(("192.0.2.1", 1), 909.0) == 0x4001
    assert number_for(("192.0.2.2", 1), 910.0) == 0x4000


def test_everything_is_renewed(server: Server) -> None:
    server.client.permit("192.0.2.1", 0.0)
    server.client.permit("192.0.2.2", 0.0)
    server.client.bind(PEER, 0.0)
    server.confirm()
    server.client.forbid("192.0.2.2", 0.0)
    assert server.client.next_timeout() == turn_client.RENEWAL_SECONDS
    server.client.handle_timeout(239.0)
    assert not server.take()
    server.client.handle_timeout(240.0)
    requests = server.take()
    assert sorted(methods(requests)) == ["CHANNEL_BIND", "CREATE_PERMISSION", "REFRESH"]
    for request in requests:
        server.answer(request, {"LIFETIME": 600} if request.message_method is oracle.Method.REFRESH else {}, 241.0)
    assert server.client.next_timeout() == 480.0


def permit_and_bind_all(server: Server) -> None:
    """Use up all places, each at 0.0 seconds."""
    hosts = [f"198.51.{number >> 8}.{number & 255}" for number in range(turn_client.MAXIMUM_HOSTS)]
    for host in hosts:
        server.client.permit(host, 0.0)
    for number in range(4096):
        server.client.bind((hosts[number % len(hosts)], 1000 + number), 0.0)
    assert len(server.confirm()) == len(hosts) + 4096


def test_renewals_are_spread_and_nothing_lapses(server: Server) -> None:
    permit_and_bind_all(server)
    renewed: dict[Any, float] = {}
    now = 0.0
    while len(renewed) < turn_client.MAXIMUM_HOSTS + 4096:
        due = server.client.next_timeout()
        assert due is not None
        now = max(now, due)
        server.client.handle_timeout(now)
        requests = server.take()
        assert 0 < len(requests) <= turn_client.REQUESTS_AT_ONCE + 1, "with the one for the allocation"
        for request in requests:
            is_refresh = request.message_method is oracle.Method.REFRESH
            if not is_refresh:
                peer = request.attributes["XOR-PEER-ADDRESS"]
                assert peer not in renewed
                renewed[peer] = now
            server.answer(request, {"LIFETIME": 600} if is_refresh else {}, now)
    assert min(renewed.values()) == 240.0
    assert max(renewed.values()) + turn_client.ANSWER_SECONDS < 300.0
    assert server.client.next_timeout() == 480.0, "the first ones are the oldest"


def test_permissions_for_a_new_allocation_are_spread() -> None:
    server = Server()
    for number in range(100):
        server.client.permit(f"198.51.100.{number}", 0.0)
    server.allocate(now=1.0)
    now, counts = 1.0, [len(server.confirm(1.0))]
    while sum(counts) < 100:
        now = server.client.next_timeout() or 0.0
        assert now < 2.0
        server.client.handle_timeout(now)
        counts.append(len(server.confirm(now)))
    assert counts == [16] * 6 + [4]


def test_what_is_not_needed_any_more_is_not_renewed(server: Server) -> None:
    server.client.permit(PEER[0], 0.0)
    server.client.bind(PEER, 0.0)
    server.confirm()
    server.client.forbid(PEER[0], 1.0)
    server.client.unbind(PEER, 1.0)
    server.client.handle_timeout(240.0)
    assert methods(server.take()) == ["REFRESH"]


def test_retransmissions_are_spread_as_well(server: Server) -> None:
    for number in range(40):
        server.client.permit(f"198.51.100.{number}", 0.0)
    assert len(server.take()) == 40
    counts = []
    for _ in range(3):
        assert server.client.next_timeout() == 0.5
        server.client.handle_timeout(0.5)
        counts.append(len(server.take()))
    assert counts == [16, 16, 8]


def test_one_host_does_not_use_up_the_numbers_of_channels(server: Server) -> None:
    for port in range(5000):
        server.client.bind(("192.0.2.1", 1 + port), 0.0)
        server.client.unbind(("192.0.2.1", port - 7), 0.0)
    assert len(server.take()) == turn_client.MAXIMUM_HOST_CHANNELS
    server.client.bind(PEER, 1.0)
    assert methods(server.take()) == ["CHANNEL_BIND"]
    server.client.bind(("192.0.2.1", 9000), 899.0)
    assert not server.take()
    server.client.bind(("192.0.2.1", 9000), 900.0)
    assert methods(server.take()) == ["CHANNEL_BIND"]


def test_a_short_lifetime_is_refreshed_in_time() -> None:
    server = Server()
    server.allocate(lifetime=100)
    assert server.client.next_timeout() == 50.0


def test_a_lost_allocation_fails(server: Server) -> None:
    server.client.handle_timeout(240.0)
    (request,) = (item for item in server.take() if item.message_method is oracle.Method.REFRESH)
    server.answer(request, {"ERROR-CODE": (437, "Allocation Mismatch")}, 240.0)
    assert (server.client.state, server.client.failure) == (TurnState.FAILED, "error 437 (Allocation Mismatch)")


def test_requests_are_repeated_over_udp_only() -> None:
    client = TurnClient(USER, PASSWORD, 0.0, Randomness(), is_stream=False)
    times = []
    while (due := client.next_timeout()) is not None:
        (data,) = client.data_to_send() or (b"",)
        times.append(due)
        assert len(data) > 20 or len(times) == 6
        client.handle_timeout(due)
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5]
    assert client.failure == "no response"

    client = TurnClient(USER, PASSWORD, 0.0, Randomness(), is_stream=True)
    client.data_to_send()
    assert client.next_timeout() == 15.5
    client.handle_timeout(15.5)
    assert not client.data_to_send()
    assert client.failure == "no response"


def test_the_address_is_given_back(server: Server) -> None:
    server.client.close(1.0)
    (request,) = server.take()
    assert (request.message_method, request.attributes["LIFETIME"]) == (oracle.Method.REFRESH, 0)
    assert server.client.next_timeout() is None


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_messages_are_found_in_a_stream(size: int) -> None:
    message = bytes(oracle.Message(oracle.Method.BINDING, oracle.Class.REQUEST))
    expected = [message, bytes.fromhex("40000005") + b"after", message, bytes.fromhex("40010000")]
    stream = message + expected[1] + bytes(3) + message + expected[3]
    deframer = RelayDeframer()
    found = []
    for start in range(0, len(stream), size):
        found += deframer.receive_data(stream[start : start + size])
    assert found == expected


def test_something_else_than_turn_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError):
        RelayDeframer().receive_data(b"\x80\0\0\0")


def test_a_lifetime_of_any_size() -> None:
    server = Server()
    (request,) = server.take()
    address = stun.xor_mapped_address(RELAYED, request.transaction_id, stun.AttributeType.XOR_RELAYED_ADDRESS)
    lifetime = (stun.AttributeType.LIFETIME, b"\0\0\0\x78" + bytes(1000))
    answer = stun.Message(stun.MessageType.ALLOCATE_SUCCESS, request.transaction_id, (address, lifetime))
    server.client.receive_datagram(answer.serialize(), 0.0)
    assert (server.client.relayed, server.client.next_timeout()) == (RELAYED, 60.0)
