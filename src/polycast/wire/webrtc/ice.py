"""ICE (RFC 8445): a lite agent for the server, and a controlling agent for outgoing connections.

A lite agent answers the connectivity checks of its peer and sends none, which is enough for a server that its peers can
reach. A controlling agent checks the candidates of the peer from one local socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from polycast.wire.webrtc import stun
from polycast.wire.webrtc.candidates import MAXIMUM_CANDIDATES, UDP, Candidate
from polycast.wire.webrtc.stun import AttributeType, Message, MessageType, SocketAddress

CONSENT_SECONDS: Final = 30.0
"""Seconds without a check, or an answer to one, after which the peer is considered gone (RFC 7675 section 5.1)."""
CONSENT_INTERVAL: Final = 5.0
"""Seconds between two checks of a pair in use (RFC 7675 section 5.1)."""
CHECK_INTERVAL: Final = 0.05
"""Seconds between two first checks (RFC 8445 section 14.2)."""
RETRANSMISSION_SECONDS: Final = 0.5
"""Seconds before the first retransmission of a check; doubled each time (RFC 8489 section 6.2.1)."""
MAXIMUM_RETRANSMISSION_SECONDS: Final = 2.0
"""Maximum seconds before a retransmission: a connection must be established within ten seconds."""
MAXIMUM_TRANSMISSIONS: Final = 7
"""How often one check is sent (RFC 8489 section 6.2.1)."""
MAXIMUM_ADDRESSES: Final = 16
"""Addresses from which a lite session answers checks within `CONSENT_SECONDS`: a peer with several interfaces checks
from each, and a network may give it others."""

_PRIORITY: Final = 110 << 24 | 0xFFFF << 8 | 255
"""Priority of the peer-reflexive candidate that an outgoing check may reveal (RFC 8445 section 7.1.1)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Username fragment and password of one side (RFC 8445 section 5.3)."""

    ufrag: str
    password: str


def make_credentials(random_bytes: Callable[[int], bytes]) -> Credentials:
    """Return new credentials with 72 and 192 random bits; 24 and 128 are required."""
    return Credentials(random_bytes(9).hex(), random_bytes(24).hex())


def local_ufrag(message: Message) -> str:
    """Return the ufrag of the session that a check is for: the receiver's fragment is first in USERNAME."""
    return message.username.partition(":")[0]


class LiteAgent:
    """The lite agent of one session. Its role is always the controlled one (RFC 8445 section 6.1.1)."""

    def __init__(self, credentials: Credentials, now: float) -> None:
        self.credentials = credentials
        self.selected: SocketAddress | None = None
        """Where to send media: the source of the last nominating check or, until then, of the last check."""
        self._is_nominated = False
        self._addresses: dict[SocketAddress, float] = {}
        """When a check last came from each."""
        self._last_check = now

    def answer(self, message: Message, source: SocketAddress, now: float) -> bytes | None:
        """Process a message from ``source``; return what to send there, or None.

        Only a check that was signed with the local password is answered, or changes anything.
        """
        if message.type is not MessageType.REQUEST or not message.is_signed_with(self.credentials.password):
            return None
        if message.unknown_attributes:
            return self._error(message, 420, "Unknown Attribute", stun.unknown_attributes(message.unknown_attributes))
        if message.attribute(AttributeType.ICE_CONTROLLED) is not None:
            return self._error(message, 487, "Role Conflict")
        if source not in self._addresses and len(self._addresses) >= MAXIMUM_ADDRESSES:
            recent = now - CONSENT_SECONDS
            self._addresses = {address: time for address, time in self._addresses.items() if time > recent}
            if len(self._addresses) >= MAXIMUM_ADDRESSES:
                return None
        self._addresses[source] = now
        self._last_check = now
        nominates = message.attribute(AttributeType.USE_CANDIDATE) is not None
        if nominates or not self._is_nominated:
            self.selected = source
            self._is_nominated |= nominates
        mapped = stun.xor_mapped_address(source, message.transaction_id)
        return Message(MessageType.SUCCESS, message.transaction_id, (mapped,)).serialize(self.credentials.password)

    def restart(self, credentials: Credentials) -> None:
        """Restart with other credentials (RFC 8445 section 9); media keeps flowing until a check selects an address."""
        self.credentials = credentials
        self._is_nominated = False
        self._addresses.clear()

    def next_timeout(self) -> float:
        """Return when the peer is considered gone unless it sends a check before."""
        return self._last_check + CONSENT_SECONDS

    def has_expired(self, now: float) -> bool:
        """Return whether the peer is considered gone."""
        return now >= self.next_timeout()

    def _error(self, message: Message, code: int, reason: str, *more: stun.Attribute) -> bytes:
        attributes = (stun.error_code(code, reason), *more)
        return Message(MessageType.ERROR, message.transaction_id, attributes).serialize(self.credentials.password)


def is_usable(candidate: Candidate) -> bool:
    """Return whether a controlling agent can check a candidate: neither a name nor TCP."""
    return candidate.transport == UDP and candidate.component == 1 and candidate.is_ip_address


class PairState(Enum):
    """State of a candidate pair (RFC 8445 section 6.1.2.6), without those that only exist with several components."""

    WAITING = "waiting"
    IN_PROGRESS = "in progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class _Pair:
    """The local socket and one candidate of the peer."""

    __slots__ = ("address", "candidate", "next_transmission", "nominates", "state", "transaction_id", "transmissions")

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.address: SocketAddress = candidate.address, candidate.port
        self.state = PairState.WAITING
        self.transaction_id = b""
        self.transmissions = 0
        self.next_transmission = 0.0
        self.nominates = False


class ControllingAgent:
    """A full agent with one local socket, in the controlling role. It uses the first pair that answers.

    Pass received messages to `receive`, send what `data_to_send` returns, and call `handle_timeout` at `next_timeout`.
    """

    def __init__(
        self,
        local: Credentials,
        remote: Credentials,
        candidates: Iterable[Candidate],
        now: float,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._local = local
        self._remote = remote
        self._random_bytes = random_bytes
        self._tie_breaker = random_bytes(8)
        self._pairs: list[_Pair] = []
        self._outgoing: list[tuple[bytes, SocketAddress]] = []
        self._next_check = now
        self._last_answer = now
        self.selected: SocketAddress | None = None
        """Where to send media; None until the peer has answered a nomination."""
        self.add_candidates(candidates)

    def add_candidates(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates of the peer. Names, TCP, and those above the limit are ignored."""
        known = {pair.address for pair in self._pairs}
        for candidate in candidates:
            address = candidate.address, candidate.port
            if is_usable(candidate) and address not in known and len(self._pairs) < MAXIMUM_CANDIDATES:
                known.add(address)
                self._pairs.append(_Pair(candidate))
        self._pairs.sort(key=lambda pair: -pair.candidate.priority)

    @property
    def has_failed(self) -> bool:
        """Whether all candidates have failed."""
        return bool(self._pairs) and all(pair.state is PairState.FAILED for pair in self._pairs)

    def has_expired(self, now: float) -> bool:
        """Return whether the connected peer is considered gone (RFC 7675)."""
        return self.selected is not None and now - self._last_answer >= CONSENT_SECONDS

    def receive(self, message: Message, source: SocketAddress, now: float) -> None:
        """Process a message from ``source``."""
        if message.type is MessageType.REQUEST:
            self._answer(message, source)
        elif message.type is not MessageType.INDICATION:
            self._on_answer(message, source, now)

    def data_to_send(self) -> list[tuple[bytes, SocketAddress]]:
        """Return the datagrams to send, with their destinations."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def next_timeout(self) -> float:
        """Return when to call `handle_timeout`."""
        times = [pair.next_transmission for pair in self._pairs if pair.state is PairState.IN_PROGRESS]
        if self.selected is not None or self._waiting() is not None:
            times.append(self._next_check)
        return min(times, default=self._last_answer + CONSENT_SECONDS)

    def handle_timeout(self, now: float) -> None:
        """Send the checks that are due."""
        for pair in self._pairs:
            if pair.state is PairState.IN_PROGRESS and now >= pair.next_transmission:
                if pair.transmissions < MAXIMUM_TRANSMISSIONS:
                    self._transmit(pair, now)
                elif pair.address == self.selected:
                    pair.state = PairState.SUCCEEDED  # `has_expired` decides
                else:
                    self._fail(pair, now)
        if now < self._next_check:
            return
        if self.selected is not None:
            self._next_check = now + CONSENT_INTERVAL
            self._check(next(pair for pair in self._pairs if pair.address == self.selected), now)
        elif (waiting := self._waiting()) is not None:
            self._next_check = now + CHECK_INTERVAL
            self._check(waiting, now)

    def _waiting(self) -> _Pair | None:
        return next((pair for pair in self._pairs if pair.state is PairState.WAITING), None)

    def _check(self, pair: _Pair, now: float) -> None:
        pair.state = PairState.IN_PROGRESS
        pair.transaction_id = self._random_bytes(stun.TRANSACTION_ID_SIZE)
        pair.transmissions = 0
        self._transmit(pair, now)

    def _transmit(self, pair: _Pair, now: float) -> None:
        pair.next_transmission = now + min(
            MAXIMUM_RETRANSMISSION_SECONDS, RETRANSMISSION_SECONDS * (1 << pair.transmissions)
        )
        pair.transmissions += 1
        attributes: list[stun.Attribute] = [
            (AttributeType.USERNAME, f"{self._remote.ufrag}:{self._local.ufrag}".encode()),
            (AttributeType.ICE_CONTROLLING, self._tie_breaker),
            (AttributeType.PRIORITY, _PRIORITY.to_bytes(4, "big")),
        ]
        if pair.nominates:
            attributes.append((AttributeType.USE_CANDIDATE, b""))
        message = Message(MessageType.REQUEST, pair.transaction_id, tuple(attributes))
        self._outgoing.append((message.serialize(self._remote.password), pair.address))

    def _answer(self, message: Message, source: SocketAddress) -> None:
        if not message.is_signed_with(self._local.password):
            return
        mapped = stun.xor_mapped_address(source, message.transaction_id)
        answer = Message(MessageType.SUCCESS, message.transaction_id, (mapped,))
        self._outgoing.append((answer.serialize(self._local.password), source))

    def _on_answer(self, message: Message, source: SocketAddress, now: float) -> None:
        pair = next((pair for pair in self._pairs if pair.transaction_id == message.transaction_id), None)
        if pair is None or pair.state is not PairState.IN_PROGRESS:
            return
        if source != pair.address or not message.is_signed_with(self._remote.password):
            return
        if message.type is MessageType.ERROR:
            self._fail(pair, now)
            return
        pair.state = PairState.SUCCEEDED
        self._last_answer = now
        if self.selected is not None:
            return
        if pair.nominates:
            self.selected = pair.address
            self._next_check = now + CONSENT_INTERVAL
        else:
            self._nominate(now)

    def _fail(self, pair: _Pair, now: float) -> None:
        pair.state = PairState.FAILED
        pair.nominates = False
        if self.selected is None:
            self._nominate(now)

    def _nominate(self, now: float) -> None:
        """Nominate the best pair that has answered, unless a nomination is in progress (RFC 8445 section 8.1.1)."""
        best = next((pair for pair in self._pairs if pair.state is PairState.SUCCEEDED), None)
        if best is not None and not any(pair.nominates for pair in self._pairs):
            best.nominates = True
            self._check(best, now)
