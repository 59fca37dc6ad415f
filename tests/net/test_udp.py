"""UDP sockets: many datagrams per wake-up, runs of equal size in one call."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import socket
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from polycast.net import datagram_batches, udp_reading
from polycast.net.coalescing import coalesce_reads, coalescing_of
from polycast.net.datagram_batches import DatagramBatches
from polycast.net.listen import open_udp_socket
from polycast.net.udp import QUEUE_LIMIT, Address, UdpSocket, drops_of
from polycast.net.udp_reading import DRAIN_LIMIT


class End:
    """A socket that keeps what it gets."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.received: list[tuple[bytes, Address]] = []
        self.drained = 0
        self._grown = asyncio.Event()
        self.socket = UdpSocket(
            asyncio.get_running_loop(), open_udp_socket(host, 0), self._on_datagram, self._on_drained
        )

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        self.received.append((data[start:end], address))

    def _on_drained(self) -> None:
        self.drained += 1
        self._grown.set()

    async def get(self, count: int) -> list[bytes]:
        async with asyncio.timeout(60):
            while len(self.received) < count:
                self._grown.clear()
                await self._grown.wait()
        return [data for data, _ in self.received]


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    pair = End(), End()
    yield pair
    for end in pair:
        end.socket.close()
        end.socket.close()


async def test_datagrams(ends: tuple[End, End]) -> None:
    sender, receiver = ends
    sent = [b"", b"a", b"b" * 1472, b"c" * 60_000]
    for data in sent:
        sender.socket.send(data, ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(4) == sent
    assert {address for _, address in receiver.received} == {("127.0.0.1", sender.socket.port)}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("sizes", [[100], [100, 100], [100, 100, 30], [1400] * 40, [7, 1]])
async def test_segments(ends: tuple[End, End], sizes: list[int], plain: bool) -> None:
    sender, receiver = ends
    if plain:  # a kernel without segmentation
        sender.socket._segments = False
    parts = [bytes([index]) * size for index, size in enumerate(sizes)]
    sender.socket.send_segments(b"".join(parts), sizes[0], ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(len(parts)) == parts


@pytest.mark.parametrize(("code", "tries"), [(errno.EIO, 1), (errno.EINVAL, 1), (errno.EMSGSIZE, 2)])
async def test_route_that_refuses_segmentation(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch, code: int, tries: int
) -> None:
    sender, receiver = ends

    class Refusing:
        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.calls = 0

        def sendto(self, data: bytes, address: Address) -> int:
            if len(data) > 2:
                self.calls += 1
                raise OSError(code, "no")
            return self.real.sendto(data, address)

        def __getattr__(self, name: str) -> object:
            return getattr(self.real, name)

    refusing = Refusing(sender.socket._socket)
    sender.socket._segments = True
    monkeypatch.setattr(sender.socket, "_socket", refusing)
    for _ in range(2):
        sender.socket.send_segments(b"ab" * 10, 2, ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(20) == [b"ab"] * 20
    assert refusing.calls == tries
    assert sender.socket._segment_size == 0
    monkeypatch.undo()


@pytest.mark.parametrize("size", [1000, 3000])
async def test_address_that_nothing_can_be_sent_to(ends: tuple[End, End], size: int) -> None:
    """Anybody can send from port 0, to which no answer is possible: that changes nothing for the others."""
    sender, receiver = ends
    if not sender.socket._segments:
        pytest.skip("the kernel has no segmentation")
    address = ("127.0.0.1", receiver.socket.port)
    sender.socket.send_segments(b"a" * 2000, 1000, address)
    sender.socket.send_segments(b"b" * size, 1000, ("127.0.0.1", 0))
    assert sender.socket._segments
    sender.socket.send_segments(b"c" * 2000, 1000, address)
    assert await receiver.get(4) == [b"a" * 1000, b"a" * 1000, b"c" * 1000, b"c" * 1000]
    assert sender.socket._segment_size == 1000


async def test_sizes_that_change(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is one datagram stays one whatever was cut before, and the other way round."""
    sender, receiver = ends
    sent: list[bytes] = []
    for sizes in ([100, 100, 30], [1400], [50], [100], [101], [7, 7, 7], [7], [8], [100, 100], [100, 20], [99, 98]):
        parts = [bytes([len(sent) + index]) * size for index, size in enumerate(sizes)]
        sender.socket.send_segments(b"".join(parts), sizes[0], ("127.0.0.1", receiver.socket.port))
        sent += parts
    assert await receiver.get(len(sent)) == sent
    # Sizes of one kind after another are no system call more.
    changes = 0

    def count(size: int) -> None:
        nonlocal changes
        changes += 1

    sender.socket._segment_size = 100
    monkeypatch.setattr(sender.socket, "_set_segment_size", count)
    for size in (100, 250, 60, 100, 120):
        sender.socket.send_segments(bytes(size), 100 if size > 60 else size, ("127.0.0.1", receiver.socket.port))
    assert changes == 0


async def test_full_socket_queues_and_resumes_in_order(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    sender, receiver = ends
    full = True
    send_now = sender.socket._send_now

    def sending(data: bytes, segment_size: int, address: Address) -> None:
        if full:
            raise BlockingIOError
        send_now(data, segment_size, address)

    monkeypatch.setattr(sender.socket, "_send_now", sending)
    target = ("127.0.0.1", receiver.socket.port)
    for index in range(5):
        sender.socket.send(bytes([index]), target)
    await asyncio.sleep(0.002)  # the socket is writable all the time: it tries again and again
    assert not receiver.received
    full = False
    assert await receiver.get(5) == [bytes([index]) for index in range(5)]
    assert sender.socket._queued_bytes == 0


async def test_queue_has_a_limit(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    sender, _ = ends

    def full(data: bytes, segment_size: int, address: Address) -> None:
        raise BlockingIOError

    monkeypatch.setattr(sender.socket, "_send_now", full)
    data = bytes(60_000)
    for _ in range(QUEUE_LIMIT // len(data) + 5):
        sender.socket.send_segments(data, 1000, ("127.0.0.1", 9))
    assert sender.socket._queued_bytes <= QUEUE_LIMIT
    assert sender.socket.dropped == 5 * 60
    assert drops_of(asyncio.get_running_loop()).datagrams == 5 * 60


async def test_unreachable_targets_are_ignored(ends: tuple[End, End]) -> None:
    sender, receiver = ends
    for target in (("127.0.0.1", 1), ("240.0.0.1", 9)):
        sender.socket.send(b"x", target)
        sender.socket.send_segments(b"xy", 1, target)
    sender.socket.send(b"y", ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(1) == [b"y"]


async def test_closed_socket_is_silent(ends: tuple[End, End]) -> None:
    sender, _ = ends
    sender.socket.close()
    sender.socket.send(b"x", ("127.0.0.1", 9))


async def test_drained_once_per_wake_up(ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_reading, "DRAIN_SECONDS", 60.0)
    sender, receiver = ends
    for _ in range(30):
        sender.socket.send(b"x", ("127.0.0.1", receiver.socket.port))
    await receiver.get(30)
    assert receiver.drained == 1


async def test_handler_may_close_the_socket() -> None:
    done = asyncio.Event()
    sockets: list[UdpSocket] = []

    def close(*_: object) -> None:
        sockets[0].close()
        done.set()

    sockets.append(UdpSocket(asyncio.get_running_loop(), open_udp_socket("127.0.0.1", 0), close))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            sender.sendto(b"x", ("127.0.0.1", sockets[0].port))
    async with asyncio.timeout(60):
        await done.wait()


@pytest.mark.parametrize(
    ("host", "given", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", ("127.0.0.1", 5)),
        ("127.0.0.1", "::ffff:127.0.0.1", ("127.0.0.1", 5)),
        ("", "127.0.0.1", ("::ffff:127.0.0.1", 5, 0, 0)),
        ("", "fe80::1", ("fe80::1", 5, 0, 7)),
    ],
)
async def test_form_of_addresses(host: str, given: str, expected: Address) -> None:
    end = End(host)
    with contextlib.closing(end.socket):
        if not host and end.socket.socket.family != socket.AF_INET6:
            pytest.skip("this machine has no IPv6")
        assert end.socket.address(given, 5, 7 if given.startswith("fe80") else 0) == expected


async def test_dual_stack_reply_reaches_an_ipv4_client() -> None:
    end = End("")
    with contextlib.closing(end.socket), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.setblocking(False)
        client.sendto(b"hello", ("127.0.0.1", end.socket.port))
        await end.get(1)
        _, address = end.received[0]
        assert address == end.socket.address(*client.getsockname())
        end.socket.send(b"reply", address)
        async with asyncio.timeout(60):
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b"reply"


@pytest.mark.parametrize("batches", [True, False])
async def test_more_datagrams_than_one_iteration_reads_are_not_delayed(
    monkeypatch: pytest.MonkeyPatch, batches: bool
) -> None:
    loop = asyncio.get_running_loop()
    coalesce_reads(loop)
    drained_at_poll: list[int] = []
    receiver = End()
    monkeypatch.setattr(coalescing_of(loop), "poll_now", lambda: drained_at_poll.append(receiver.drained))
    monkeypatch.setattr(udp_reading, "DRAIN_SECONDS", 60.0)
    receiver.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if not batches:
        monkeypatch.setattr(udp_reading, "IS_SUPPORTED", False)
        receiver.socket._reading._coalesces = False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(DRAIN_LIMIT + 1):
            sender.sendto(b"datagram", ("127.0.0.1", receiver.socket.port))
    await receiver.get(DRAIN_LIMIT + 1)
    receiver.socket.close()
    assert drained_at_poll == [0]


async def test_costly_datagrams_do_not_keep_others_waiting() -> None:
    handled = 0
    turns: list[int] = []
    done = asyncio.Event()

    def handle(data: bytes, start: int, end: int, address: Address) -> None:
        nonlocal handled
        handled += 1
        time.sleep(0.004)
        if handled == 32:
            done.set()

    bound = open_udp_socket("127.0.0.1", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in range(32):
            sender.sendto(bytes(size + 1), bound.getsockname())
    receiver = UdpSocket(asyncio.get_running_loop(), bound, handle, lambda: turns.append(handled))
    async with asyncio.timeout(60):
        await done.wait()
    receiver.close()
    assert len(turns) >= 8


@pytest.mark.parametrize(("host", "families"), [("127.0.0.1", (4,)), ("", (4, 6)), ("::1", (6,))])
async def test_batches_of_datagrams_from_many_peers(
    host: str, families: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than one system call returns, of several sizes; addresses are those that Python knows of the senders."""
    if 6 in families and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    monkeypatch.setattr(udp_reading, "DRAIN_SECONDS", 60.0)
    receiver = End(host)
    sent = []
    with contextlib.closing(receiver.socket), contextlib.ExitStack() as stack:
        for index in range(40):
            is_ipv4 = families[index % len(families)] == 4
            sender = stack.enter_context(
                socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM)
            )
            local = "127.0.0.1" if is_ipv4 else "::1"
            sender.bind((local, 0))
            data = bytes([index]) * (index * 30)
            sender.sendto(data, (local, receiver.socket.port))
            name = sender.getsockname()
            sent.append((data, receiver.socket.address(*name[:2]) if is_ipv4 else name))
        await receiver.get(40)
    assert receiver.received == sent
    assert receiver.drained == 1


@pytest.mark.parametrize("obstacle", ["", "blocked", "segments", "no batches"])
@pytest.mark.parametrize("host", ["127.0.0.1", ""])
async def test_answers_of_a_read_are_sent_at_its_end(host: str, obstacle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_reading, "DRAIN_SECONDS", 60.0)
    receiver = End(host)
    log: list[str] = []

    def answer(data: bytes, start: int, end: int, address: Address) -> None:
        receiver.socket.send_soon(data[start:end] + b" yourself", address)
        log.append("answered")

    def send(batches: DatagramBatches, descriptor: int, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        log.append("sent")
        if obstacle == "blocked":
            raise BlockingIOError
        return batches_send(batches, descriptor, datagrams)

    monkeypatch.setattr(receiver.socket._reading, "_on_datagram", answer)
    batches_send = DatagramBatches.send
    monkeypatch.setattr(DatagramBatches, "send", send)
    if obstacle == "segments":
        receiver.socket._set_segment_size(8)
    if obstacle == "no batches":
        monkeypatch.setattr(udp_reading, "IS_SUPPORTED", False)
    with contextlib.closing(receiver.socket), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(30)]
        for index, client in enumerate(clients):
            client.setblocking(False)
            client.sendto(b"%d" % index, ("127.0.0.1", receiver.socket.port))
        for index, client in enumerate(clients):
            async with asyncio.timeout(60):
                assert await asyncio.get_running_loop().sock_recv(client, 100) == b"%d yourself" % index
    assert log == ["answered"] * 30 + (["sent"] if obstacle in ("", "blocked") else [])


async def test_large_answers_and_those_outside_of_reads_are_sent_at_once(ends: tuple[End, End]) -> None:
    sender, receiver = ends
    sender.socket.send_soon(b"a", ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(1) == [b"a"]
    sender.socket._answers = []
    sender.socket.send_soon(b"b" * 65, ("127.0.0.1", receiver.socket.port))
    assert await receiver.get(2) == [b"a", b"b" * 65]


async def test_remembered_addresses_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datagram_batches, "_KNOWN_ADDRESSES", 3)
    receiver = End()
    addresses = datagram_batches.datagram_batches_of(asyncio.get_running_loop())._addresses
    with contextlib.closing(receiver.socket):
        for number in range(10):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind((f"127.0.0.{number + 1}", 0))
                sender.sendto(b"x", ("127.0.0.1", receiver.socket.port))
                await receiver.get(number + 1)
                assert receiver.received[-1][1] == sender.getsockname()
            assert len(addresses.decoded) <= 3
            assert len(addresses.encoded) <= 3


@pytest.mark.skipif(not datagram_batches.IS_SUPPORTED, reason="this system has no such calls")
def test_a_sandbox_that_refuses_batches_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert datagram_batches._load() is not None
    monkeypatch.setattr(ctypes, "get_errno", lambda: errno.ENOSYS)
    assert datagram_batches._load() is None
