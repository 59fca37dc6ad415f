"""A TURN client (RFC 8656): an address on a relay, and the datagrams that pass through it.

`receive_datagram` and `handle_timeout` may make requests: send what `data_to_send` returns, call `handle_timeout` at
`next_timeout`. Over TCP, `RelayDeframer` finds the messages in what is received.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import islice
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.webrtc import stun
from polycast.wire.webrtc.stun import Attribute, AttributeType, Message, MessageType, SocketAddress, parse_message

RENEWAL_SECONDS: Final = 240.0
"""Seconds between two requests for each permission and channel; they last for 300 and 600 (RFC 8656 sections 9, 12)."""
REQUESTS_AT_ONCE: Final = 16
"""Renewals, and retransmissions, of one call: each is signed, which takes some ten microseconds."""
RENEWAL_PAUSE_SECONDS: Final = 0.02
"""Seconds between two such groups of renewals. All permissions and channels that there may be take seven seconds, long
before any of them lapses, and no server gets them all at once."""
RETRANSMISSION_SECONDS: Final = 0.5
"""Seconds before the first retransmission; doubled each time (RFC 8489 section 6.2.1)."""
MAXIMUM_TRANSMISSIONS: Final = 5
"""How often one request is sent: for 15 seconds."""
ANSWER_SECONDS: Final = RETRANSMISSION_SECONDS * ((1 << MAXIMUM_TRANSMISSIONS) - 1)
"""Seconds to wait for a response over TCP, where requests are not retransmitted."""
MAXIMUM_CHALLENGES: Final = 2
"""How often a request is repeated with a realm or nonce from the server."""
MAXIMUM_HOSTS: Final = 1024
"""Hosts that may send through the relay, for some hundred clients with several addresses."""
MINIMUM_LIFETIME: Final = 60
"""Shortest lifetime of an allocation in seconds: with less, it would have to be refreshed all the time."""
MAXIMUM_HOST_CHANNELS: Final = 256
"""Channels of one host, those that rest included: a client that changes its port again and again would otherwise use up
the 4,096 numbers of all. Datagrams of other addresses of the host are sent without a channel."""
CHANNEL_REUSE_SECONDS: Final = 900.0
"""Seconds after which the number of a channel may belong to another peer: its ten minutes, and five (RFC 8656 section
12)."""

_CHANNELS: Final = range(0x4000, 0x5000)
_CHANNEL_HEADER: Final = struct.Struct("!HH")
_STUN_HEADER_SIZE: Final = 20
_LIFETIME_SIZE: Final = 4
_UDP_TRANSPORT: Final = bytes((17, 0, 0, 0))
_UNAUTHORIZED, _STALE_NONCE = 401, 438
_RESPONSES: Final = {
    MessageType.ALLOCATE: (MessageType.ALLOCATE_SUCCESS, MessageType.ALLOCATE_ERROR),
    MessageType.REFRESH: (MessageType.REFRESH_SUCCESS, MessageType.REFRESH_ERROR),
    MessageType.CREATE_PERMISSION: (MessageType.CREATE_PERMISSION_SUCCESS, MessageType.CREATE_PERMISSION_ERROR),
    MessageType.CHANNEL_BIND: (MessageType.CHANNEL_BIND_SUCCESS, MessageType.CHANNEL_BIND_ERROR),
}


class TurnState(Enum):
    """State of an allocation. It only moves forward."""

    ALLOCATING = auto()
    ALLOCATED = auto()
    FAILED = auto()
    """`TurnClient.failure` has the reason; a new client may be created."""
    CLOSED = auto()


class _Login:
    """Long-term credentials (RFC 8489 section 9.2)."""

    def __init__(self, user: str, password: str) -> None:
        self._user = user.encode()
        self._password = password.encode()
        self._realm = b""
        self.attributes: tuple[Attribute, ...] = ()
        """Attributes of authenticated requests, once the realm is known."""
        self.key: bytes | None = None
        """The key that signs them."""

    def take(self, challenge: Message) -> bool:
        """Use the realm and the nonce of a response; return False if there are none."""
        nonce = challenge.attribute(AttributeType.NONCE)
        realm = challenge.attribute(AttributeType.REALM) or self._realm
        if nonce is None or not realm:
            return False
        self._realm = realm
        self.attributes = (
            (AttributeType.USERNAME, self._user),
            (AttributeType.REALM, realm),
            (AttributeType.NONCE, nonce),
        )
        text = b"%b:%b:%b" % (self._user, realm, self._password)
        self.key = hashlib.md5(text, usedforsecurity=False).digest()
        return True


class _Request:
    """A request that is not answered yet."""

    __slots__ = ("attributes", "challenges", "due", "kind", "peer", "transaction_id", "transmissions")

    def __init__(self, kind: MessageType, attributes: Sequence[Attribute], peer: SocketAddress | None) -> None:
        self.kind = kind
        self.attributes = tuple(attributes)
        self.peer = peer
        """The peer of the channel or permission."""
        self.transaction_id = b""
        self.transmissions = 0
        self.challenges = 0
        self.due = 0.0


class _Channel:
    """The channel of one peer."""

    __slots__ = ("is_bound", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_bound = False


class _Hosts:
    """The hosts that may send through the relay, and those that wait for a place."""

    __slots__ = ("permitted", "waiting")

    def __init__(self) -> None:
        self.permitted: set[str] = set()
        self.waiting: dict[str, None] = {}
        """In the order of arrival."""

    def add(self, host: str) -> bool:
        """Add a host; return whether it may send now."""
        if host in self.permitted or host in self.waiting:
            return False
        if len(self.permitted) >= MAXIMUM_HOSTS:
            self.waiting[host] = None
            return False
        self.permitted.add(host)
        return True

    def remove(self, host: str) -> str:
        """Remove a host; return the one that gets its place, or an empty text."""
        self.waiting.pop(host, None)
        if host not in self.permitted:
            return ""
        self.permitted.remove(host)
        following = next(iter(self.waiting), "")
        if following:
            del self.waiting[following]
            self.permitted.add(following)
        return following


class _Renewals:
    """When each permission (by host) and each channel (by peer) is asked for again: a few at a time, oldest first."""

    __slots__ = ("_due", "_pause_end")

    def __init__(self) -> None:
        self._due: dict[str | SocketAddress, float] = {}
        """In rising order."""
        self._pause_end = 0.0

    def add(self, what: str | SocketAddress, due: float) -> None:
        """Ask for something at ``due``, which is not before the time of anything else."""
        self._due.pop(what, None)
        self._due[what] = due

    def remove(self, what: str | SocketAddress) -> None:
        self._due.pop(what, None)

    def next_timeout(self) -> float:
        return max(self._pause_end, next(iter(self._due.values()), math.inf))

    def take(self, now: float) -> list[str | SocketAddress]:
        """Remove and return what is to be asked for now."""
        if now < self.next_timeout():
            return []
        self._pause_end = now + RENEWAL_PAUSE_SECONDS
        due_now = [what for what, due in islice(self._due.items(), REQUESTS_AT_ONCE) if due <= now]
        for what in due_now:
            del self._due[what]
        return due_now


class TurnClient:
    """One allocation. ``is_stream``: over TCP or TLS."""

    def __init__(
        self, user: str, password: str, now: float, random_bytes: Callable[[int], bytes], *, is_stream: bool
    ) -> None:
        self._login = _Login(user, password)
        self._random_bytes = random_bytes
        self._is_stream = is_stream
        self.state = TurnState.ALLOCATING
        self.failure = ""
        self.relayed: SocketAddress | None = None
        """The address on the relay."""
        self._requests: dict[bytes, _Request] = {}
        self._refresh_at = now
        self._renewals = _Renewals()
        self._hosts = _Hosts()
        self._channels = _Channels()
        self._outgoing: list[bytes] = []
        self._ask(MessageType.ALLOCATE, ((AttributeType.REQUESTED_TRANSPORT, _UDP_TRANSPORT),), None, now)

    # Peers

    def permit(self, host: str, now: float) -> None:
        """Let an IPv4 address send datagrams through the relay, until `forbid`; if there are too many, as soon as one
        of them is forbidden. IPv6 addresses are ignored, since the relayed address is IPv4."""
        if ":" not in host and self._hosts.add(host) and self.state is TurnState.ALLOCATED:
            self._ask_for_permission(host, now)

    def forbid(self, host: str, now: float) -> None:
        """Let the permission of an address expire."""
        following = self._hosts.remove(host)
        self._renewals.remove(host)
        if following and self.state is TurnState.ALLOCATED:
            self._ask_for_permission(following, now)

    def bind(self, peer: SocketAddress, now: float) -> None:
        """Use a channel for a peer, whose datagrams then have four more bytes instead of thirty-six."""
        if self.state is TurnState.ALLOCATED and self._channels.add(peer, now):
            self._ask_for_channel(peer, now)

    def unbind(self, peer: SocketAddress, now: float) -> None:
        """Let the channel of a peer expire."""
        self._channels.remove(peer, now)
        self._renewals.remove(peer)

    # Datagrams

    def wrap(self, payload: bytes | memoryview, peer: SocketAddress) -> bytes:
        """Return the message that makes the relay send a datagram to a peer."""
        channel = self._channels.bound(peer)
        if channel is None:
            transaction_id = self._random_bytes(stun.TRANSACTION_ID_SIZE)
            address = stun.xor_mapped_address(peer, transaction_id, AttributeType.XOR_PEER_ADDRESS)
            attributes = (address, (AttributeType.DATA, bytes(payload)))
            return Message(MessageType.SEND_INDICATION, transaction_id, attributes).serialize()
        size = len(payload)
        return _CHANNEL_HEADER.pack(channel, size) + payload + bytes(-size % 4 if self._is_stream else 0)

    def receive_datagram(self, data: bytes, now: float) -> tuple[SocketAddress, bytes] | None:
        """Process a message of the server; return a peer and its datagram if it carries one."""
        if len(data) >= _CHANNEL_HEADER.size and data[0] >> 6 == 1:
            number, size = _CHANNEL_HEADER.unpack_from(data)
            peer = self._channels.peer(number)
            payload = data[_CHANNEL_HEADER.size : _CHANNEL_HEADER.size + size]
            return (peer, payload) if peer is not None and len(payload) == size else None
        try:
            message = parse_message(data)
        except RemoteProtocolError:
            return None
        if message.type is MessageType.DATA_INDICATION:
            sender, content = message.address(AttributeType.XOR_PEER_ADDRESS), message.attribute(AttributeType.DATA)
            return (sender, content) if sender is not None and content is not None else None
        self._take_response(message, now)
        return None

    def data_to_send(self) -> list[bytes]:
        """Return the messages to send."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    # Timers

    def next_timeout(self) -> float | None:
        """Return when to call `handle_timeout`; None if there is nothing left to do."""
        if self.state in (TurnState.FAILED, TurnState.CLOSED):
            return None
        times = [request.due for request in self._requests.values()]
        if self.state is TurnState.ALLOCATED:
            times += [self._renewals.next_timeout(), self._refresh_at]
        return min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        """Retransmit requests, and refresh the allocation, permissions and channels."""
        due = (request for request in self._requests.values() if request.due <= now)
        for request in list(islice(due, REQUESTS_AT_ONCE)):
            if self._is_stream or request.transmissions >= MAXIMUM_TRANSMISSIONS:
                del self._requests[request.transaction_id]
                self._give_up(request, "no response")
            else:
                self._transmit(request, now)
        if self.state is not TurnState.ALLOCATED:
            return
        if now >= self._refresh_at:
            self._refresh_at = now + RENEWAL_SECONDS  # until the response has the lifetime
            self._ask(MessageType.REFRESH, (), None, now)
        self._renew(now)

    def close(self, now: float) -> None:
        """Release the address, if possible."""
        if self.state is TurnState.ALLOCATED:
            self._ask(MessageType.REFRESH, ((AttributeType.LIFETIME, bytes(_LIFETIME_SIZE)),), None, now)
        self.state = TurnState.CLOSED

    # Requests

    def _renew(self, now: float) -> None:
        for what in self._renewals.take(now):
            if isinstance(what, str):
                self._ask_for_permission(what, now)
            else:
                self._ask_for_channel(what, now)

    def _ask_for_permission(self, host: str, now: float) -> None:
        # One request for each: if a server rejects one address of a request, it rejects all of them.
        self._ask(MessageType.CREATE_PERMISSION, (), (host, 0), now)
        self._renewals.add(host, now + RENEWAL_SECONDS)

    def _ask_for_channel(self, peer: SocketAddress, now: float) -> None:
        number = self._channels.number(peer)
        if number is not None:
            attribute = (AttributeType.CHANNEL_NUMBER, number.to_bytes(2, "big") + bytes(2))
            self._ask(MessageType.CHANNEL_BIND, (attribute,), peer, now)
            self._renewals.add(peer, now + RENEWAL_SECONDS)

    def _ask(self, kind: MessageType, attributes: Sequence[Attribute], peer: SocketAddress | None, now: float) -> None:
        self._transmit(_Request(kind, attributes, peer), now)

    def _transmit(self, request: _Request, now: float) -> None:
        """Send a request for the first time, or again."""
        if not request.transaction_id:
            request.transaction_id = self._random_bytes(stun.TRANSACTION_ID_SIZE)
            self._requests[request.transaction_id] = request
        attributes = list(request.attributes)
        if request.peer is not None:
            attributes.append(
                stun.xor_mapped_address(request.peer, request.transaction_id, AttributeType.XOR_PEER_ADDRESS)
            )
        attributes += self._login.attributes
        wait = ANSWER_SECONDS if self._is_stream else RETRANSMISSION_SECONDS * (1 << request.transmissions)
        request.due = now + wait
        request.transmissions += 1
        self._outgoing.append(
            Message(request.kind, request.transaction_id, tuple(attributes)).serialize(self._login.key)
        )

    # Responses

    def _take_response(self, message: Message, now: float) -> None:
        request = self._requests.get(message.transaction_id)
        if request is None or message.type not in _RESPONSES[request.kind]:
            return
        success, error = _RESPONSES[request.kind]
        is_challenge = message.type is error and message.error_code in (_UNAUTHORIZED, _STALE_NONCE)
        key = self._login.key
        if not (key is None or is_challenge or message.is_signed_with(key)):
            return  # anybody could have sent it
        del self._requests[message.transaction_id]
        if message.type is success:
            self._take_success(request, message, now)
        elif not (is_challenge and self._repeat(request, message, now)):
            self._give_up(request, _reason(message))

    def _repeat(self, request: _Request, message: Message, now: float) -> bool:
        """Repeat a request with the realm and nonce of the server; return False if that does not help."""
        refuses_credentials = message.error_code == _UNAUTHORIZED and self._login.key is not None
        if refuses_credentials or request.challenges >= MAXIMUM_CHALLENGES or not self._login.take(message):
            return False
        request.challenges += 1
        request.transaction_id, request.transmissions = b"", 0
        self._transmit(request, now)
        return True

    def _take_success(self, request: _Request, message: Message, now: float) -> None:
        match request.kind:
            case MessageType.ALLOCATE | MessageType.REFRESH if self.state is not TurnState.CLOSED:
                lifetime = message.attribute(AttributeType.LIFETIME) or b""
                seconds = max(MINIMUM_LIFETIME, int.from_bytes(lifetime[:_LIFETIME_SIZE], "big"))
                self._refresh_at = now + min(RENEWAL_SECONDS, seconds / 2)
                if request.kind is MessageType.ALLOCATE:
                    self._begin(message.address(AttributeType.XOR_RELAYED_ADDRESS), now)
            case MessageType.CHANNEL_BIND if request.peer is not None:
                self._channels.on_bound(request.peer)
            case _:
                pass

    def _begin(self, relayed: SocketAddress | None, now: float) -> None:
        if relayed is None:
            self._fail("the response has no relayed address")
            return
        self.relayed = relayed
        self.state = TurnState.ALLOCATED
        for host in self._hosts.permitted:
            self._renewals.add(host, now)
        self._renew(now)

    def _give_up(self, request: _Request, reason: str) -> None:
        """A request has failed. Without a permission or a channel, the rest still works."""
        if request.kind in (MessageType.ALLOCATE, MessageType.REFRESH):
            self._fail(reason)
        elif request.kind is MessageType.CHANNEL_BIND and request.peer is not None:
            self._channels.on_refused(request.peer)

    def _fail(self, reason: str) -> None:
        if self.state is not TurnState.CLOSED:
            self.state, self.failure = TurnState.FAILED, reason


class _Channels:
    """The channels of an allocation, by peer and by number."""

    def __init__(self) -> None:
        self._by_peer: dict[SocketAddress, _Channel] = {}
        self._by_number: dict[int, SocketAddress] = {}
        self._next = _CHANNELS.start
        self._former: deque[tuple[float, int, str]] = deque()
        """Channel numbers that were used, when they may be used again, in monotonic seconds, and the host."""
        self._rested: deque[int] = deque()
        """Channel numbers that were used and may be used again."""
        self._of_host: Counter[str] = Counter()
        """How many each host has, those that it used included."""

    def add(self, peer: SocketAddress, now: float) -> bool:
        """Return whether a peer, which had none, has a channel now."""
        if peer in self._by_peer or ":" in peer[0]:
            return False
        self._end_rests(now)
        if self._of_host[peer[0]] >= MAXIMUM_HOST_CHANNELS:
            return False
        if self._rested:
            number = self._rested.popleft()
        elif self._next in _CHANNELS:
            number, self._next = self._next, self._next + 1
        else:
            return False
        self._of_host[peer[0]] += 1
        self._by_peer[peer] = _Channel(number)
        self._by_number[number] = peer
        return True

    def remove(self, peer: SocketAddress, now: float) -> None:
        channel = self._by_peer.pop(peer, None)
        if channel is not None:
            del self._by_number[channel.number]
            self._former.append((now + CHANNEL_REUSE_SECONDS, channel.number, peer[0]))

    def _end_rests(self, now: float) -> None:
        while self._former and self._former[0][0] <= now:
            _, number, host = self._former.popleft()
            self._rested.append(number)
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]

    def number(self, peer: SocketAddress) -> int | None:
        channel = self._by_peer.get(peer)
        return channel.number if channel is not None else None

    def bound(self, peer: SocketAddress) -> int | None:
        """Return the number of a channel that the server has confirmed."""
        channel = self._by_peer.get(peer)
        return channel.number if channel is not None and channel.is_bound else None

    def peer(self, number: int) -> SocketAddress | None:
        return self._by_number.get(number)

    def on_bound(self, peer: SocketAddress) -> None:
        channel = self._by_peer.get(peer)
        if channel is not None:
            channel.is_bound = True

    def on_refused(self, peer: SocketAddress) -> None:
        channel = self._by_peer.get(peer)
        if channel is not None:
            channel.is_bound = False


class RelayDeframer:
    """Finds the messages of a TURN server in a TCP stream (RFC 8656 section 12.5, RFC 8489 section 6.2.2).

    Their lengths have 16 bits, so it never holds more than 64 KiB of one.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the complete messages. Raises RemoteProtocolError if it is no stream of a TURN server."""
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        position = 0
        while position + _CHANNEL_HEADER.size <= len(buffer):
            first, length = _CHANNEL_HEADER.unpack_from(buffer, position)
            if first >> 14 == 1:
                size, whole = _CHANNEL_HEADER.size + length, _CHANNEL_HEADER.size + (length + 3 & ~3)
            elif first >> 14 == 0:
                size = whole = _STUN_HEADER_SIZE + length
            else:
                raise RemoteProtocolError("not a TURN message")
            if position + whole > len(buffer):
                break
            messages.append(bytes(buffer[position : position + size]))
            position += whole
        del buffer[:position]
        return messages


def _reason(message: Message) -> str:
    if message.error_code == _UNAUTHORIZED:
        return "wrong user or password"
    value = message.attribute(AttributeType.ERROR_CODE) or b""
    text = value[4:132].decode("utf-8", "replace")
    return f"error {message.error_code}" + (f" ({text})" if text.isprintable() and text else "")
