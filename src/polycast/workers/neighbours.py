"""How workers serve clients of each other: HTTP requests and connections are passed to the worker that has the stream
or the session.

A browser's requests arrive at any worker, but the segments of a stream have the same names everywhere only if one muxer
makes them. So a request is passed to the owner of its path, as the owner would get it from the client itself, and the
answer is sent by the worker that has the connection.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from polycast.log import Log
from polycast.net.http.server import HttpListener
from polycast.net.http.transaction import Transaction
from polycast.protocols.base import Server
from polycast.protocols.handing_over import HandedOver
from polycast.security.addresses import IPNetwork
from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response
from polycast.workers.channel import Channel, ChannelError
from polycast.workers.kept import KeptFiles, Key, tag_of
from polycast.workers.messages import HandOver, PassedDatagram, SentSocket
from polycast.workers.sockets import SocketBox

ANSWER_SECONDS: Final = 60.0
"""For an answer: players wait for parts that do not exist yet."""

PLAYLISTS: Final = (b".m3u8", b".mpd")
"""Ends of the names of what changes: it is passed on to each viewer."""

MAXIMUM_BODY: Final = 64 * 1024 * 1024
"""Bytes of a streamed answer. Files of streams are sent whole."""


TAKE_SECONDS: Final = 10.0
"""Seconds to wait until a worker accepts or refuses a connection."""

MAXIMUM_ACCEPTED: Final = 1_000
"""Connections that a worker has accepted and does not serve yet: it may do so a moment later."""


class PassedRequest(Struct, frozen=True, array_like=True):
    """A request of a client of another worker."""

    server: str
    """The name of the server."""
    method: str
    target: bytes
    headers: list[Header]
    body: bytes
    is_truncated: bool
    peer: tuple[str, int]
    local_address: tuple[str, int]
    is_encrypted: bool
    known: bytes
    """The entity tag of the file that the worker has got for such a request before; empty if it has none."""


class PassedResponse(Struct, frozen=True, array_like=True):
    """The answer."""

    status: int
    headers: list[Header]
    body: bytes
    is_known: bool = False
    """Whether the body is that of the known file, and not sent again."""


class PassedClient:
    """The connection of a request that came from another worker (`net.http.transaction.Responder`)."""

    def __init__(self, request: PassedRequest, trusted_proxies: Sequence[IPNetwork]) -> None:
        self._request = request
        self._body = bytearray()
        self._head: Response | None = None
        self.trusted_proxies = trusted_proxies
        self.answer: asyncio.Future[PassedResponse] = asyncio.get_running_loop().create_future()

    @property
    def peer(self) -> tuple[str, int]:
        return self._request.peer

    @property
    def local_address(self) -> tuple[str, int]:
        return self._request.local_address

    @property
    def is_encrypted(self) -> bool:
        return self._request.is_encrypted

    def respond(self, transaction: Transaction, response: Response) -> None:
        if response.is_streamed:
            self._head = response
        else:
            self._finish(response, bytes(response.body))

    def send_body(self, transaction: Transaction, data: bytes, *, is_last: bool) -> None:
        self._body += data
        if len(self._body) > MAXIMUM_BODY:
            self.abort("too large")
        elif is_last and self._head is not None:
            self._finish(self._head, bytes(self._body))

    def unsent(self, transaction: Transaction) -> int:
        return len(self._body)

    async def drain(self, transaction: Transaction) -> None:
        """Nothing: the answer is sent when it is complete."""

    def abandon(self, transaction: Transaction) -> None:
        self.abort("given up")

    def abort(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(ChannelError(reason))

    def _finish(self, head: Response, body: bytes) -> None:
        if not self.answer.done():
            headers = [field for field in head.headers if field[0] != b"content-length"]
            self.answer.set_result(PassedResponse(head.status, headers, body))


class AcceptedSocket(NamedTuple):
    """A connection that this worker serves as soon as the other one has left it to it."""

    channel: Channel
    """To the other worker."""
    end: socket.socket
    wish: HandOver


class Neighbours:
    """The other workers, as one of them sees them."""

    def __init__(
        self,
        number: int,
        folder: str,
        servers: Callable[[], Mapping[str, Server]],
        is_welcome: Callable[[str], bool],
        log: Log,
    ) -> None:
        """``number`` is that of this worker; ``servers`` returns its servers. ``is_welcome`` returns whether this
        worker takes readers of a path from others.
        """
        self._number = number
        self._servers = servers
        self._is_welcome = is_welcome
        self._log = log
        self._sockets = SocketBox(folder, number)
        # An earlier process with the number of this worker used other socket numbers.
        self._numbers = count(os.getpid() << 32)
        self._channels: dict[int, asyncio.Task[Channel]] = {}
        self._listener: asyncio.Server | None = None
        self._accepted: set[Channel] = set()
        self._offered: dict[tuple[int, int], AcceptedSocket] = {}
        """Accepted connections that the other worker has not left to this one yet, by the numbers of `SentSocket`."""
        self._serving: set[asyncio.Task[None]] = set()
        self._kept = KeptFiles()

    async def open(self) -> None:
        """Accept requests of others. Raises OSError."""
        path = self._path(self._number)
        if os.path.exists(path):  # of the worker that this one replaces
            os.unlink(path)
        self._sockets.open()
        self._listener = await asyncio.get_running_loop().create_unix_server(self._accept, path)

    def close(self) -> None:
        """Neither accept requests nor pass any on."""
        self._sockets.close()
        for accepted in self._offered.values():
            accepted.end.close()
        self._offered.clear()
        if self._listener is not None:
            self._listener.close()
        for channel in list(self._accepted):
            channel.close()
        for opening in self._channels.values():
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opening.result().close()
            opening.cancel()

    async def pass_on(self, number: int, server: str, transaction: Transaction) -> Response:
        """Return the answer of another worker's server to a request."""
        transaction.origins = None  # the other one has them
        request = transaction.request
        key = Key(number, server, request.target.partition(b"?")[0])
        if request.method != "GET" or b"?" in request.target or key.path.endswith(PLAYLISTS):
            return await self._ask(key, transaction)
        async with self._kept.turn(key):
            return await self._ask(key, transaction)

    async def _ask(self, key: Key, transaction: Transaction) -> Response:
        request, connection = transaction.request, transaction.connection
        kept = self._kept.find(key)
        passed = PassedRequest(
            key.server,
            request.method,
            request.target,
            list(request.headers),
            request.body,
            request.is_truncated,
            connection.peer,
            connection.local_address,
            connection.is_encrypted,
            kept.tag if kept is not None else b"",
        )
        try:
            channel = await self._channel(key.worker)
            answer: PassedResponse = await channel.call("http", passed, PassedResponse, seconds=ANSWER_SECONDS)
        except (ChannelError, OSError) as error:
            self._log.debug("worker %d did not answer a request: %s", key.worker, error)
            return Response(503, [(b"content-type", b"text/plain"), (b"retry-after", b"1")], b"try again\n")
        if answer.is_known and kept is not None:
            return Response(answer.status, answer.headers, kept.body)
        if request.method == "GET" and answer.status == 200:
            self._kept.keep(key, answer.headers, answer.body, asyncio.get_running_loop().time())
        return Response(answer.status, answer.headers, answer.body)

    async def hand_over(self, number: int, server: str, connection: HandedOver, descriptor: int) -> bool:
        """Let another worker's server serve a connection; return whether it does.

        It begins when it is told that this worker has its answer: a connection is never served by both, however late
        the answer is.
        """
        name = next(self._numbers)
        try:
            channel = await self._channel(number)
            self._sockets.send(number, name, descriptor)
            sent = SentSocket(self._number, name)
            try:
                wish = HandOver(sent, server, connection)
                is_accepted: bool = await channel.call("accept", wish, bool, seconds=TAKE_SECONDS)
            except BaseException:
                channel.tell("leave", sent)
                raise
            is_accepted = is_accepted and not channel.lost.done()
            if is_accepted:
                channel.tell("serve", sent)
        except (ChannelError, OSError) as error:
            self._log.debug("worker %d did not take a connection: %s", number, error)
            return False
        return is_accepted

    def pass_datagram(self, number: int, server: str, data: bytes, address: tuple[Any, ...]) -> None:
        """Let another worker's server process a datagram; the client repeats lost ones."""
        opening = self._channels.get(number)
        if opening is None or not _is_usable(opening):
            task = asyncio.get_running_loop().create_task(self._channel(number))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        else:
            opening.result().tell("datagram", PassedDatagram(server, data, address))

    async def _channel(self, number: int) -> Channel:
        opening = self._channels.get(number)
        if opening is None or (opening.done() and not _is_usable(opening)):
            opening = self._channels[number] = asyncio.get_running_loop().create_task(self._connect(number))
        return await asyncio.shield(opening)

    async def _connect(self, number: int) -> Channel:
        channel = Channel(self._log)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, self._path(number))
        return channel

    def _path(self, number: int) -> str:
        return os.path.join(self._sockets.folder, f"worker-{number}")

    def _accept(self) -> Channel:
        channel = Channel(self._log)
        channel.calls |= {"http": partial(self._answer, channel), "accept": partial(self._on_offered, channel)}
        channel.notices |= {"datagram": self._on_datagram, "serve": self._on_serve, "leave": self._on_leave}
        self._accepted.add(channel)
        channel.lost.add_done_callback(lambda _: self._on_lost(channel))
        return channel

    def _on_lost(self, channel: Channel) -> None:
        self._accepted.discard(channel)
        for key in [key for key, accepted in self._offered.items() if accepted.channel is channel]:
            self._offered.pop(key).end.close()

    async def _on_offered(self, channel: Channel, body: Raw) -> bool:
        wish = msgspec.msgpack.decode(body, type=HandOver)
        key = (wish.sent.number, wish.sent.name)
        end, path = self._sockets.take(*key), wish.connection.path
        if end is None:
            return False
        is_possible = wish.server in self._servers() and len(self._offered) < MAXIMUM_ACCEPTED
        if not is_possible or (path and not self._is_welcome(path)):
            end.close()
            return False
        self._offered[key] = AcceptedSocket(channel, end, wish)
        return True

    def _on_serve(self, body: Raw) -> None:
        sent = msgspec.msgpack.decode(body, type=SentSocket)
        accepted = self._offered.pop((sent.number, sent.name))
        server = self._servers().get(accepted.wish.server)
        if server is None:  # it has stopped in between
            accepted.end.close()
            return
        task = asyncio.get_running_loop().create_task(server.take(accepted.end, accepted.wish.connection))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _on_leave(self, body: Raw) -> None:
        """The other one serves the client itself. As long as there is a copy of its socket, the client sees no end."""
        sent = msgspec.msgpack.decode(body, type=SentSocket)
        key = (sent.number, sent.name)
        accepted = self._offered.pop(key, None)
        left = accepted.end if accepted is not None else self._sockets.take(*key)
        if left is not None:
            left.close()

    def _on_datagram(self, body: Raw) -> None:
        passed = msgspec.msgpack.decode(body, type=PassedDatagram)
        server = self._servers().get(passed.server)
        if server is not None:
            server.receive_datagram(passed.data, passed.address)

    async def _answer(self, channel: Channel, body: Raw) -> PassedResponse:
        passed = msgspec.msgpack.decode(body, type=PassedRequest)
        server: object = self._servers().get(passed.server)
        if not isinstance(server, HttpListener):
            raise ChannelError(f"there is no {passed.server} server")
        request = Request(0, passed.method, passed.target, passed.headers)
        request.body, request.is_truncated = passed.body, passed.is_truncated
        client = PassedClient(passed, server.trusted_proxies)
        transaction = Transaction(client, request, server.now())
        server.handler.handle(transaction)
        try:
            answer = await client.answer
        except asyncio.CancelledError:
            transaction.cancel()
            raise
        if passed.known and answer.status == 200 and tag_of(answer.headers) == passed.known:
            return PassedResponse(answer.status, answer.headers, b"", is_known=True)
        await channel.drain()
        return answer


def _is_usable(opening: asyncio.Task[Channel]) -> bool:
    is_open = opening.done() and not opening.cancelled() and opening.exception() is None
    return is_open and not opening.result().lost.done()
