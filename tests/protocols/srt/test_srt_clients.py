"""Sources and pushes over SRT, as callers and as listeners, and the library."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest
from tests.control.support import Server
from tests.protocols.srt.support import Peer, peer, port_of, publishing, send_some, serving, url, video_frame
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

import polycast
from polycast.config import from_mapping
from polycast.errors import ConfigurationError
from polycast.log import Log
from polycast.protocols.base import Destination
from polycast.protocols.push import Push
from polycast.protocols.registry import push_of
from polycast.protocols.srt import client
from polycast.protocols.srt.address import Mode, SrtAddress, parse_address
from polycast.wire.srt.key_material import PayloadMode
from polycast.wire.srt.pacing import UNLIMITED

QUICK = {"sourceRetryPause": "20ms", "sourceRetryPauseMax": "50ms"}
SECRET = "a long passphrase"


async def ready(app: Server, path: str = "cam") -> None:
    await app.until(lambda: app.app.hub.paths[path].stream is not None)


async def keep_sending(publisher: Peer) -> None:
    """Send frames until the task is cancelled."""
    for number in range(10, 60_000, 5):
        send_some(publisher, number, 5)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("passphrase", ["", SECRET])
async def test_a_source_that_calls(passphrase: str) -> None:
    paths = {"cam": {"srtReadPassphrase": passphrase}}
    parameters: dict[str, Any] = {"passphrase": passphrase, "pbkeylen": 32} if passphrase else {}
    async with serving(paths=paths) as origin, publishing(origin) as publisher:
        sending = asyncio.create_task(keep_sending(publisher))
        source = url(port_of(origin), "read:cam", **parameters)
        async with serving(paths={"cam": {"source": source, **QUICK}}) as app:
            await ready(app)
            assert app.log.find(r"\[srt source\] ready: 2 tracks \(H264, AAC\)")
            found = await app.get("/v3/paths/get/cam")
            assert found["source"] == {"type": "srtSource", "id": ""}
            await app.until(lambda: app.app.hub.paths["cam"].source.counters.bytes_received > 1000)  # type: ignore[union-attr]
        sending.cancel()


@pytest.mark.parametrize("passphrase", ["", SECRET])
async def test_a_source_that_is_called(passphrase: str) -> None:
    port = free_port()
    extra = f"&passphrase={SECRET.replace(' ', '%20')}" if passphrase else ""
    source = f"srt://127.0.0.1:{port}?mode=listener{extra}"
    async with serving(paths={"cam": {"source": source, **QUICK}}) as app:
        await app.log.wait(rf"waits for a connection on port {port}")
        for _ in range(2):  # after the end of one, another one may come
            caller = Peer(url(port, "whatever", **({"passphrase": SECRET} if passphrase else {})))
            await caller.client.connect()
            caller.begin()
            send_some(caller, 0, 5)
            await ready(app)
            other = Peer(url(port, "whatever", **({"passphrase": SECRET} if passphrase else {})))
            with pytest.raises(polycast.PolycastError, match="too many connections"):
                await other.client.connect()
            await other.client.close(0.1)
            await caller.client.close(5.0)
            await app.until(lambda: app.app.hub.paths["cam"].stream is None)


async def test_a_caller_whose_passphrase_is_still_checked_at_the_end_is_not_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checking, go = asyncio.Event(), asyncio.Event()

    async def check(settings: SrtAddress, material: object) -> None:
        checking.set()
        await go.wait()

    monkeypatch.setattr(client, "_keys_of_caller", check)
    port = free_port()
    called = Peer(f"srt://127.0.0.1:{port}?mode=listener")
    calling = Peer(url(port, "whatever"))
    connecting = [asyncio.create_task(each.client.connect()) for each in (called, calling)]
    await asyncio.wait_for(checking.wait(), PATIENCE)
    (handshake,) = called.client._handshake._tasks.values()  # type: ignore[union-attr]
    await called.client.close(0.1)
    go.set()
    await handshake
    assert called.client.link is None
    await calling.client.close(0.1)
    await asyncio.wait(connecting)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"passphrase": "another passphrase", "cryptomode": 2}, "wrong passphrase"),
        ({}, "one side has a"),
        ({"passphrase": SECRET}, "the ciphers differ"),
    ],
)
async def test_a_source_that_is_called_wants_the_passphrase(given: dict[str, object], reason: str) -> None:
    port = free_port()
    source = f"srt://127.0.0.1:{port}?mode=listener&passphrase=a%20long%20passphrase&cryptomode=2"
    async with serving(paths={"cam": {"source": source, **QUICK}}) as app:
        await app.log.wait("waits for a connection")
        caller = Peer(url(port, "x", **given))
        with pytest.raises(polycast.PolycastError, match=reason):
            await caller.client.connect()
        await caller.client.close(0.1)


async def test_a_refusal_is_reported_and_retried() -> None:
    async with serving() as origin:
        source = url(port_of(origin), "read:cam", passphrase="")
        async with serving(paths={"cam": {"source": source, **QUICK}}) as app:
            await app.log.wait(r"failed: refused: there is no such stream \(SRT rejection 1404\); next attempt in")
            async with publishing(origin) as publisher:
                sending = asyncio.create_task(keep_sending(publisher))
                await ready(app)
                sending.cancel()
            await app.log.wait(r"failed: closed by the peer")


async def test_a_server_that_does_not_answer() -> None:
    port = free_port()
    async with serving(paths={"cam": {"source": f"srt://127.0.0.1:{port}?conntimeo=100", **QUICK}}) as app:
        await app.log.wait(rf"failed: 127\.0\.0\.1:{port} did not answer within 0\.1 s")


async def test_a_name_that_does_not_exist() -> None:
    async with serving(paths={"cam": {"source": "srt://no.such.host.invalid:1", **QUICK}}) as app:
        await app.log.wait(r"\[srt source\] .*failed: ")


@pytest.mark.parametrize("passphrase", ["", SECRET])
@pytest.mark.parametrize("mode", [Mode.CALLER, Mode.LISTENER])
async def test_a_push(mode: Mode, passphrase: str) -> None:
    secret = f"&passphrase={SECRET.replace(' ', '%20')}&pbkeylen=24&cryptomode=2" if passphrase else ""
    port = free_port()
    async with serving() as app, publishing(app) as publisher:
        sending = asyncio.create_task(keep_sending(publisher))
        paths: dict[str, Any] = {"copy": {"srtPublishPassphrase": passphrase}}
        if mode is Mode.LISTENER:
            paths = {"copy": {"source": f"srt://127.0.0.1:{port}?x=y{secret}", **QUICK}}
        async with serving(paths=paths) as target:
            address = f"srt://127.0.0.1:{port_of(target)}?streamid=publish:copy&conntimeo=30000{secret}"
            if mode is Mode.LISTENER:
                address = f"srt://127.0.0.1:{port}?mode=listener{secret}"
            push = await start_push(app, address)
            await ready(target, "copy")
            await push.stop()
            if mode is Mode.CALLER:
                await target.log.wait(r"closed \(EOF\)")
            await target.until(lambda: "copy" not in target.app.hub.paths or not target.app.hub.paths["copy"].stream)
        sending.cancel()


@pytest.mark.parametrize("passphrase", ["", SECRET])
async def test_a_rendezvous(passphrase: str) -> None:
    """One server pushes, the other one pulls; whoever has the larger cookie asks."""
    secret = f"&passphrase={SECRET.replace(' ', '%20')}" if passphrase else ""
    port, other = free_port(), free_port()
    address = "srt://127.0.0.1:{}?mode=rendezvous&adapter=127.0.0.1&localport={}" + secret
    source = {"cam": {"source": address.format(other, port), **QUICK}}
    async with serving() as app, publishing(app) as publisher:
        sending = asyncio.create_task(keep_sending(publisher))
        async with serving(paths=source) as target:
            push = await start_push(app, address.format(port, other))
            await ready(target)
            await push.stop()
            await target.log.wait(r"failed: closed by the peer")
        sending.cancel()


@pytest.mark.parametrize("given", ["", "another passphrase"])
async def test_a_rendezvous_wants_the_passphrase(given: str) -> None:
    """Whichever side notices it tells the other one."""
    port, other = free_port(), free_port()
    address = "srt://127.0.0.1:{}?mode=rendezvous&adapter=127.0.0.1&localport={}"
    source = {"cam": {"source": address.format(other, port) + "&passphrase=a%20long%20passphrase", **QUICK}}
    async with serving(paths=source) as app:
        caller = Peer(address.format(port, other) + (f"&passphrase={given.replace(' ', '%20')}" if given else ""))
        with pytest.raises(polycast.PolycastError, match=r"(wrong|invalid) passphrase|one side has a passphrase"):
            await caller.client.connect()
        await app.log.wait(r"failed: .*passphrase")
        await caller.client.close(0.1)


async def start_push(app: Server, address: str) -> Push:
    """Push the path ``cam``."""
    kind = push_of(address)
    assert kind is not None
    make = kind.open(Destination(address))
    connected = asyncio.Event()
    push = Push(
        app.app.hub.paths["cam"],
        Log,
        lambda: make(Log()),
        on_connected=connected.set,
        on_failed=lambda ended: True,
    )
    push.start()
    await asyncio.wait_for(connected.wait(), PATIENCE)
    return push


async def test_everything_that_was_pushed_arrives() -> None:
    async with serving() as app, publishing(app) as publisher, serving() as target:
        push = await start_push(app, url(port_of(target), "publish:copy"))
        send_some(publisher, 10, 5)
        await ready(target, "copy")
        async with peer(target, "read:copy") as reader:
            await target.until(lambda: bool(target.app.hub.paths["copy"].readers))
            send_some(publisher, 20, 20)
            publisher.send_frame(0, video_frame(40, key=True))
            await app.until(lambda: app.app.hub.paths["cam"].stream.bytes_received > 0)  # type: ignore[union-attr]
            await reader.until(30)
            await push.stop()
            await reader.ended()


def test_the_library_reads_and_publishes() -> None:
    options = {"rtspAddress": "127.0.0.1:0", "srt": True, "srtAddress": "127.0.0.1:0"}
    with polycast.Server(options) as server:
        assert server.url("cam", protocol="SRT") == f"srt://127.0.0.1:{server.ports['srtAddress']}/cam"
        base = f"srt://127.0.0.1:{server.ports['srtAddress']}"
        with (
            polycast.publish(f"{base}?streamid=publish:cam&conntimeo=30000", tracks=[polycast.Opus()]) as writer,
            polycast.read(f"{base}?streamid=read:cam&conntimeo=30000", decode=False, timeout=PATIENCE) as reader,
        ):
            for number in range(200):
                writer.write(bytes((0xFC, number)) + b"x" * 40, pts=number * 0.02, key=True)
                if number > 100 and reader.tracks:
                    break
                time.sleep(0.02)
            frame = next(iter(reader))
            assert frame.units[0][0] == 0xFC


# Addresses


def test_the_parameters_of_an_address() -> None:
    address = parse_address(
        "srt://h:9000?streamid=%23!::r=a%26b,m=publish&passphrase=0123456789&pbkeylen=24&latency=200&peerlatency=300"
        "&pkt_size=1316&maxbw=250000&conntimeo=1000&peeridletimeo=2000&unknown=1&program=7&cryptomode=2"
    )
    assert (address.host, address.port, address.mode) == ("h", 9000, Mode.CALLER)
    assert address.stream_id == "#!::r=a&b,m=publish"
    assert (address.passphrase, address.key_size, address.payload_mode) == ("0123456789", 24, PayloadMode.GCM)
    assert (address.receive_delay, address.send_delay) == (0.2, 0.3)
    assert (address.bandwidth, address.payload_size) == (250_000, 1316)
    assert (address.connect_seconds, address.idle_seconds, address.program) == (1.0, 2.0, 7)


@pytest.mark.parametrize(
    ("text", "mode", "bandwidth", "payload_size"),
    [
        ("srt://h:1", Mode.CALLER, UNLIMITED, 1316),
        ("srt://:1", Mode.LISTENER, UNLIMITED, 1316),
        ("srt://h:1?mode=listener&maxbw=-1&payloadsize=1400", Mode.LISTENER, UNLIMITED, 1316),
        ("srt://[::1]:1?mode=caller&maxbw=0&payloadsize=188", Mode.CALLER, 0.0, 188),
    ],
)
def test_defaults_of_an_address(text: str, mode: Mode, bandwidth: float, payload_size: int) -> None:
    address = parse_address(text)
    assert (address.mode, address.bandwidth, address.payload_size) == (mode, bandwidth, payload_size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("srt://h", "has no port"),
        ("rtmp://h:1", "has no port"),
        ("srt://h:99999", "is invalid"),
        ("srt://:1?mode=caller", "has no host"),
        ("srt://h:1?mode=meeting", "'meeting' of an SRT URL is not supported"),
        ("srt://:1?mode=rendezvous", "has no host"),
        ("srt://h:1?mode=rendezvous&localport=65536", "'localport' .* from 0 to 65535"),
        ("srt://h:1?passphrase=short", "10 to 79"),
        ("srt://h:1?passphrase=0123456789&pbkeylen=17", "must be 16, 24 or 32"),
        ("srt://h:1?cryptomode=3", r"must be 0 \(any\), 1 \(AES-CTR\) or 2 \(AES-GCM\)"),
        ("srt://h:1?latency=-5", "'latency' .* from 0 to 65535"),
        ("srt://h:1?latency=70000", "'latency' .* from 0 to 65535"),
        ("srt://h:1?maxbw=fast", "'maxbw' .* must be a number"),
        ("srt://h:1?pkt_size=100", "'pkt_size' .* from 188 to 1456"),
        ("srt://h:1?streamid=" + "x" * 513, "more than 512 bytes"),
    ],
)
def test_addresses_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_address(text)


def test_the_addresses_of_a_rendezvous() -> None:
    address = parse_address("srt://h:9000?mode=rendezvous")
    assert (address.mode, address.local_host, address.local_port) == (Mode.RENDEZVOUS, "", 9000)
    address = parse_address("srt://h:9000?mode=rendezvous&adapter=192.0.2.1&localport=7")
    assert (address.local_host, address.local_port) == ("192.0.2.1", 7)
    assert parse_address("srt://h:9000?mode=rendezvous&localaddress=::1").local_host == "::1"


def test_a_source_is_checked_when_the_configuration_is_loaded() -> None:
    with pytest.raises(ConfigurationError, match=re.escape("'srt://' is not a valid SRT URL")):
        from_mapping({"paths": {"cam": {"source": "srt://"}}})
