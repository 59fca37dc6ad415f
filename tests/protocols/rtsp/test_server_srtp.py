"""SRTP for RTSPS clients, with libsrtp on their side: over UDP, and inside TLS."""

from __future__ import annotations

import contextlib
import re
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pylibsrtp
import pytest
import trustme
from tests.protocols.rtsp.support import (
    H264_ONLY,
    Fixture,
    RtspClient,
    UdpEnd,
    key_unit,
    rtp,
    running,
    slice_unit,
    transport_of,
)
from tests.protocols.rtsp.test_server_tls import write_certificate

from polycast.hub.batch import MixedBatch, PacketRun
from polycast.hub.stats import CipherMeter, Counters
from polycast.net.outbox import Outbox
from polycast.protocols.rtsp.secure import LARGEST_GAP, PROFILE, SecureStream, SecureTrack
from polycast.rtp.header import parse_packet
from polycast.rtp.rtcp import ReceiverReport, SenderReport, parse_compound, serialize_compound
from polycast.wire.rtsp.headers.key_mgmt import read_key_mgmt, write_key_mgmt
from polycast.wire.rtsp.message import Response
from polycast.wire.srtp.mikey import KeyMessage, decode_message, encode_message
from polycast.wire.srtp.profiles import AEAD_AES_128_GCM, MasterKey, Profile
from polycast.wire.srtp.session import MAXIMUM_SOURCES, SrtpSender

CLIENT_KEY = MasterKey(bytes(range(16)), bytes(range(14)))


def client_message(profile: Profile = PROFILE, key: MasterKey = CLIENT_KEY, roc: int = 0) -> str:
    return encode_message(KeyMessage(profile, key, {0x1234: roc}).serialize(1, 2, bytes(16)))


def libsrtp(key: MasterKey, *, sends: bool = False) -> pylibsrtp.Session:
    kind = pylibsrtp.Policy.SSRC_ANY_OUTBOUND if sends else pylibsrtp.Policy.SSRC_ANY_INBOUND
    return pylibsrtp.Session(pylibsrtp.Policy(key=key.key + key.salt, ssrc_type=kind))


def server_key(response: Response) -> MasterKey:
    header = response.headers.get("KeyMgmt")
    assert header is not None
    return decode_message(read_key_mgmt(header)).key


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


Serve = Callable[..., contextlib.AbstractAsyncContextManager[Fixture]]


@pytest.fixture
def serve(authority: trustme.CA, tmp_path: Path) -> Serve:
    files = write_certificate(authority, tmp_path)

    @contextlib.asynccontextmanager
    async def serve(**values: object) -> AsyncIterator[Fixture]:
        settings = {"srtpAddress": "127.0.0.1:0", "srtcpAddress": "127.0.0.1:0", "protocols": ["udp", "tcp"]}
        async with running(**{"encryption": "strict", **settings, **files, **values}) as it:
            yield it

    return serve


def secure_udp(rtp_end: UdpEnd, rtcp_end: UdpEnd, *, record: bool = False) -> str:
    return f"RTP/SAVP;unicast;client_port={rtp_end.port}-{rtcp_end.port}{';mode=record' if record else ''}"


async def set_up(client: RtspClient, url: str, transport: str, key: str | None) -> Response:
    headers = {"Transport": transport}
    if key is not None:
        headers["KeyMgmt"] = write_key_mgmt(url, key)
    return await client.request("SETUP", f"{url}/trackID=0", headers)


async def test_read_over_udp(serve: Serve, context: ssl.SSLContext) -> None:
    async with serve() as it:
        url = it.url("cam")
        publisher = await it.client(tls=context)
        await publisher.publish(url)
        reader = await it.client(tls=context)
        described = (await reader.request("DESCRIBE", url)).body.decode()
        assert "m=video 0 RTP/SAVP 96\r\n" in described
        found = re.search(r"a=key-mgmt:mikey (\S+)\r\n", described)
        assert found is not None
        one, other = await it.udp(), await it.udp()
        response = await set_up(reader, url, secure_udp(one, other), client_message())
        assert response.status == 200
        transport = transport_of(response)
        assert (transport.profile, transport.client_port) == ("SAVP", (one.port, other.port))
        assert transport.server_port == (it.server.ports["srtpAddress"], it.server.ports["srtcpAddress"])
        key = server_key(response)
        assert decode_message(found[1]).key == key
        assert (await reader.request("PLAY", url)).status == 200
        session = libsrtp(key)
        sent = [rtp(index & 0xFFFF, slice_unit(index % 50)) for index in range(65_530, 65_545)]
        for packet in sent:
            publisher.send_frame(0, packet)
        received = [await one.get() for _ in sent]
        assert not set(received) & set(sent)
        assert [session.unprotect(packet) for packet in received] == sent
        await it.log.wait(r"is reading from path 'cam', with UDP/SRTP, 1 track \(H264\)$")
        # Reports in both directions.
        session_, reading = it.reading
        report = serialize_compound([ReceiverReport(7)])
        before = it.reading[0].wire.last_request
        it.clock.value += 5
        other.send(libsrtp(CLIENT_KEY, sends=True).protect_rtcp(report), it.server.ports["srtcpAddress"])
        await it.until(lambda: session_.wire.last_request > before)
        other.send(report, it.server.ports["srtcpAddress"])  # not protected: ignored
        assert reading.reader is not None
        reading.reader.send_report(0, serialize_compound([SenderReport(5, 1, 2, 3, 4)]))
        (opened,) = parse_compound(session.unprotect_rtcp(await other.get()))
        assert isinstance(opened, SenderReport)
        assert opened.ssrc == 5


async def test_a_client_without_a_key_of_its_own(serve: Serve, context: ssl.SSLContext) -> None:
    """live555 protects its reports with the key of the server."""
    async with serve() as it:
        url = it.url("cam")
        await (await it.client(tls=context)).publish(url)
        reader = await it.client(tls=context)
        one, other = await it.udp(), await it.udp()
        response = await set_up(reader, url, secure_udp(one, other), None)
        assert (await reader.request("PLAY", url)).status == 200
        session, _ = it.reading
        before = session.wire.last_request
        it.clock.value += 5
        report = libsrtp(server_key(response), sends=True).protect_rtcp(serialize_compound([ReceiverReport(7)]))
        other.send(report, it.server.ports["srtcpAddress"])
        await it.until(lambda: session.wire.last_request > before)


async def test_read_inside_tls(serve: Serve, context: ssl.SSLContext) -> None:
    async with serve() as it:
        url = it.url("cam")
        publisher = await it.client(tls=context)
        await publisher.publish(url)
        readers = [await it.client(tls=context) for _ in range(2)]
        sessions = []
        for reader in readers:
            response = await set_up(reader, url, "RTP/SAVP/TCP;unicast;interleaved=2-3", client_message())
            assert transport_of(response).profile == "SAVP"
            sessions.append(libsrtp(server_key(response)))
            assert (await reader.request("PLAY", url)).status == 200
        sent = [rtp(index, slice_unit(30)) for index in range(5)]
        for packet in sent:
            publisher.send_frame(0, packet)
        for reader, session in zip(readers, sessions, strict=True):
            assert [session.unprotect(packet) for packet in await reader.packets(5, channel=2)] == sent
        before = it.clock.value
        it.clock.value += 5
        readers[0].send_frame(3, libsrtp(CLIENT_KEY, sends=True).protect_rtcp(serialize_compound([ReceiverReport(7)])))
        await it.until(lambda: any(each.wire.last_request > before for each in it.sessions))


@pytest.mark.parametrize("in_announcement", [True, False])
@pytest.mark.parametrize("profile", [PROFILE, AEAD_AES_128_GCM], ids=lambda profile: profile.name)
async def test_publish_over_udp(serve: Serve, context: ssl.SSLContext, profile: Profile, in_announcement: bool) -> None:
    async with serve() as it:
        url = it.url("cam")
        key = MasterKey(CLIENT_KEY.key, CLIENT_KEY.salt[: profile.salt_size])
        message = client_message(profile, key, roc=3)
        publisher = await it.client(tls=context)
        description = H264_ONLY.replace("RTP/AVP", "RTP/SAVP")
        if in_announcement:
            description = description.replace("a=rtpmap", f"a=key-mgmt:mikey {message}\r\na=rtpmap")
        await publisher.announce(url, description)
        one, other = await it.udp(), await it.udp()
        transport = secure_udp(one, other, record=True)
        response = await set_up(publisher, url, transport, None if in_announcement else message)
        assert response.status == 200
        session = libsrtp(server_key(response))
        assert (await publisher.request("RECORD", url)).status == 200
        assert len(session.unprotect(await one.get())) == 12  # opens the NAT
        assert isinstance(parse_compound(session.unprotect_rtcp(await other.get()))[0], ReceiverReport)
        reader = await it.client(tls=context)
        await reader.play(url)
        sender = SrtpSender(profile, key)
        sent = [rtp(index, slice_unit(100), ssrc=0x1234) for index in range(20)]
        for number, packet in enumerate(sent):
            protected = sender.protect(packet[:12], packet[12:], 0x1234, 3 << 16 | number)
            one.send(packet, it.server.ports["srtpAddress"])  # not protected: ignored
            one.send(protected[:-1] + bytes((protected[-1] ^ 1,)), it.server.ports["srtpAddress"])  # forged
            one.send(protected, it.server.ports["srtpAddress"])
            one.send(protected, it.server.ports["srtpAddress"])  # again
        assert await reader.packets(20) == sent
        await it.log.wait(r"is publishing to path 'cam', with UDP/SRTP, 1 track \(H264\)$")


async def test_publish_inside_tls(serve: Serve, context: ssl.SSLContext) -> None:
    async with serve() as it:
        url = it.url("cam")
        publisher = await it.client(tls=context)
        await publisher.announce(url)
        transport = "RTP/SAVP/TCP;unicast;interleaved=0-1;mode=record"
        assert (await set_up(publisher, url, transport, client_message())).status == 200
        assert (await publisher.request("RECORD", url)).status == 200
        reader = await it.client(tls=context)
        await reader.play(url)
        session = libsrtp(CLIENT_KEY, sends=True)
        sent = [rtp(index, slice_unit(100)) for index in range(5)]
        for packet in sent:
            publisher.send_frame(0, session.protect(packet))
        publisher.send_frame(1, session.protect_rtcp(serialize_compound([SenderReport(1, 2, 3, 4, 5)])))
        assert await reader.packets(5) == sent


@pytest.mark.parametrize(
    ("transport", "key", "status", "reason"),
    [
        ("RTP/SAVP/TCP;interleaved=0-1;mode=record", None, 466, "needs the header KeyMgmt"),
        ("RTP/SAVP/TCP;interleaved=0-1;mode=record", "AAAA", 466, "invalid MIKEY message: truncated"),
        ("RTP/SAVP/TCP;interleaved=0-1;mode=record", "?", 466, "not base64"),
        ("RTP/AVP;unicast;client_port=5000-5001;mode=record", None, 461, "use TCP, or SRTP"),
    ],
)
async def test_refused(
    serve: Serve, context: ssl.SSLContext, transport: str, key: str | None, status: int, reason: str
) -> None:
    async with serve() as it:
        publisher = await it.client(tls=context)
        await publisher.announce(it.url("cam"))
        assert (await set_up(publisher, it.url("cam"), transport, key)).status == status
        await it.log.wait(rf"request refused \({status}\): .*{reason}")
        accepted = "RTP/AVP/TCP;interleaved=0-1;mode=record"
        assert (await set_up(publisher, it.url("cam"), accepted, None)).status == 200


async def test_not_on_the_plain_port(it: Fixture) -> None:
    await it.publisher("cam")
    reader = await it.client()
    assert "RTP/AVP 96" in (await reader.request("DESCRIBE", it.url("cam"))).body.decode()
    response = await set_up(reader, it.url("cam"), "RTP/SAVP;unicast;client_port=5000-5001", client_message())
    assert response.status == 461
    assert "needs RTSPS" in (response.reason or "")


async def test_not_offered_without_a_port(serve: Serve, context: ssl.SSLContext) -> None:
    """Then everything is inside TLS, and SRTP in it would only cost time; but who asks for it gets it."""
    async with serve(protocols=["tcp"], srtpAddress="") as it:
        url = it.url("cam")
        await (await it.client(tls=context)).publish(url)
        reader = await it.client(tls=context)
        assert "RTP/AVP 96" in (await reader.request("DESCRIBE", url)).body.decode()
        one, other = await it.udp(), await it.udp()
        assert (await set_up(reader, url, secure_udp(one, other), client_message())).status == 461
        response = await set_up(reader, url, "RTP/SAVP/TCP;interleaved=0-1", client_message())
        assert response.status == 200


# Numbers


def protect(track: SecureTrack, *packets: bytes) -> list[bytes]:
    parsed = [parse_packet(packet, 0, len(packet)) for packet in packets]
    return [*track.protect(MixedBatch([PacketRun(0, parsed)]), 0).values()]


def numbers(packets: list[bytes]) -> list[int]:
    return [struct.unpack_from("!H", packet, 2)[0] for packet in packets]


def test_losses_stay_and_numbers_never_go_back() -> None:
    track = SecureTrack()
    sequences = [10, 11, 13, 13, 12, 500, 501, 40_000, 39_000, 39_001]
    found = protect(track, *(rtp(sequence, bytes((index,))) for index, sequence in enumerate(sequences)))
    assert numbers(found) == [10, 11, 13, 14, 15, 503, 504, 505, 506, 507]
    session = libsrtp(track.key)
    assert [session.unprotect(packet)[12:] for packet in found] == [bytes((index,)) for index in range(len(found))]
    assert track.sequence_of(0x1234, 39_002) == 508
    assert track.sequence_of(0x1234, 39_001 + LARGEST_GAP + 1) == 508


def test_the_roll_over_counter_is_told() -> None:
    track = SecureTrack()
    protect(track, rtp(65_535, b"a"))
    protect(track, rtp(0, b"b"))
    assert decode_message(track.message(0x1234)).roll_over_counters == {0x1234: 1}
    assert decode_message(track.message(None)).roll_over_counters == {0: 0}


def test_another_source_starts_over() -> None:
    track = SecureTrack()
    found = protect(track, rtp(65_535, b"a", ssrc=1), rtp(0, b"b", ssrc=1), rtp(7, b"c", ssrc=2), rtp(1, b"d", ssrc=1))
    session = libsrtp(track.key)
    assert [session.unprotect(packet)[12:] for packet in found] == [b"a", b"b", b"c", b"d"]
    many = protect(track, *(rtp(1, b"e", ssrc=100 + index) for index in range(100)))
    assert len(many) == MAXIMUM_SOURCES - 2


def test_what_encryption_costs_is_counted() -> None:
    meter = CipherMeter()
    first, second = SecureStream(2, meter).tracks
    protect(first, rtp(1, b"a"), rtp(2, b"b"))
    protect(second, rtp(1, b"c"))
    assert meter.packets == 3
    assert 0 < meter.seconds < 60


def test_a_batch_is_encrypted_once() -> None:
    stream = SecureStream(1)
    packets = [parse_packet(data, 0, len(data)) for data in (rtp(1, slice_unit()), rtp(2, slice_unit()))]
    batch = MixedBatch([PacketRun(0, packets)])
    first = stream.packets(batch, 0)
    assert stream.packets(batch, 0) is first
    assert stream.datagrams(batch, 0).packets == 2
    report = serialize_compound([SenderReport(1, 2, 3, 4, 5)])
    assert stream.tracks[0].protect_report(report) is stream.tracks[0].protect_report(report)


class FullTransport:
    """A transport whose queue is full until it is emptied."""

    def __init__(self) -> None:
        self.queued = 1 << 30

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return self.queued

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...


class Owner:
    query = ""

    def __init__(self) -> None:
        self.counters = Counters()


def test_what_a_slow_reader_loses_is_counted() -> None:
    transport, owner = FullTransport(), Owner()
    outbox = Outbox(transport, 0)
    reader = SecureStream(1).make_interleaved_reader(owner, outbox, (0,), (1,), 0)  # type: ignore[arg-type]
    outbox.pause()
    packets = [rtp(1, slice_unit()), rtp(2, key_unit())]
    parsed = [parse_packet(data, 0, len(data)) for data in packets]
    parsed[1].key = True
    batch = MixedBatch([PacketRun(0, parsed, has_key=True)])
    reader.deliver(batch)
    assert (owner.counters.packets_dropped, owner.counters.packets_sent) == (2, 0)
    transport.queued = 0
    reader.deliver(batch)
    assert (owner.counters.packets_dropped, owner.counters.packets_sent) == (3, 1)
    assert outbox.dropped == 3
