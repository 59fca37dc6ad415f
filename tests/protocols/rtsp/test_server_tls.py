"""RTSPS: RTSP over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import trustme
from tests.protocols.rtsp.support import (
    H264_ONLY,
    Fixture,
    RtspClient,
    rtp,
    running,
    slice_unit,
)

Serve = Callable[..., contextlib.AbstractAsyncContextManager[Fixture]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())


def write_certificate(
    authority: trustme.CA, folder: Path, key_type: trustme.KeyType = trustme.KeyType.ECDSA
) -> dict[str, str]:
    certificate = authority.issue_cert("localhost", "127.0.0.1", key_type=key_type)
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.crt")
    return {"serverKey": str(folder / "server.key"), "serverCert": str(folder / "server.crt")}


@pytest.fixture
def serve(authority: trustme.CA, tmp_path: Path) -> Serve:
    files = write_certificate(authority, tmp_path)

    @contextlib.asynccontextmanager
    async def serve(**values: object) -> AsyncIterator[Fixture]:
        async with running(**{"encryption": "strict", "protocols": ["tcp"], **files, **values}) as it:
            yield it

    return serve


async def publish(it: Fixture, context: ssl.SSLContext, path: str) -> RtspClient:
    client = await it.client(tls=context)
    await client.publish(it.url(path))
    return client


async def test_publish_and_read(serve: Serve, client_context: ssl.SSLContext) -> None:
    async with serve() as it:
        publisher = await publish(it, client_context, "cam")
        reader = await it.client(tls=client_context)
        await reader.play(it.url("cam"))
        sent = [rtp(index, slice_unit(25 * index)) for index in range(50)]
        for packet in sent:
            publisher.send_frame(0, packet)
        assert await reader.packets(50) == sent
        await it.log.wait(r"^INFO \[RTSPS\] listener opened on 127\.0\.0\.1:\d+ \(TCP/TLS\)$")
        await it.log.wait(r"\[RTSPS\] \[session \d+\] is publishing to path 'cam', with TCP/TLS, 1 track \(H264\)$")
        await it.log.wait(r"\[RTSPS\] \[session \d+\] is reading from path 'cam', with TCP/TLS, 1 track \(H264\)$")
        assert [each.reference().type for each in it.path("cam").readers] == ["rtspsSession"]


@pytest.mark.parametrize(
    "transport", ["RTP/AVP;unicast;client_port=5000-5001", "RTP/AVP;multicast", "RTP/AVP/UDP;unicast"]
)
async def test_media_stays_inside_tls(serve: Serve, client_context: ssl.SSLContext, transport: str) -> None:
    async with serve() as it:
        await publish(it, client_context, "cam")
        reader = await it.client(tls=client_context)
        response = await reader.request("SETUP", it.url("cam/trackID=0"), {"Transport": transport})
        assert response.status == 461
        assert "can't be used with TLS; use TCP" in (response.reason or "")  # players show it


async def test_plain_and_tls_side_by_side(serve: Serve, client_context: ssl.SSLContext) -> None:
    async with serve(encryption="optional") as it:
        plain = await it.publisher("cam")
        tls_port = it.app.servers["RTSPS"].ports["rtspsAddress"]
        reader = await it.client(tls=client_context, port=tls_port)
        await reader.play(f"rtsps://127.0.0.1:{tls_port}/cam")
        plain.send_frame(0, rtp(1, slice_unit()))
        assert await reader.packets(1) == [rtp(1, slice_unit())]


@pytest.mark.parametrize(
    "data", [b"OPTIONS rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", bytes(100)]
)
async def test_plain_client_on_the_tls_port(serve: Serve, client_context: ssl.SSLContext, data: bytes) -> None:
    async with serve() as it:
        publisher = await publish(it, client_context, "beside")
        client = await it.client()
        client.send(data)
        assert await client.reader.read() in (b"", b"\x15\x03\x01\x00\x02\x02F", b"\x15\x03\x03\x00\x02\x02F")
        await it.log.wait(
            rf"^INFO \[RTSPS\] \[conn {client.address}\] closed \(TLS handshake failed: TLS error: \w+\)$"
        )
        await publisher.sync(it.url("beside"))


async def test_client_that_leaves_during_the_handshake(serve: Serve) -> None:
    async with serve() as it:
        client = await it.client()
        client.send(b"\x16\x03\x01")
        await client.writer.drain()
        await client.close()
        await it.log.wait(r"closed \(TLS handshake failed: ")


async def test_client_that_stalls_during_the_handshake(serve: Serve) -> None:
    async with serve(readTimeout="50ms") as it:
        client = await it.client()
        assert await client.reader.read() == b""
        await it.log.wait(r"closed \(TLS handshake failed: .*longer than 0\.05 seconds")


async def test_client_that_trusts_another_authority(serve: Serve) -> None:
    async with serve() as it:
        with pytest.raises(ssl.SSLCertVerificationError):
            await it.client(tls=ssl.create_default_context())
        await it.log.wait(r"closed \(")
        assert it.connection_count == 0


async def test_stop_ends_handshakes(serve: Serve) -> None:
    async with serve() as it:
        client = await it.client()
        await asyncio.sleep(0)
        await it.app.stop()
        assert await client.reader.read() == b""


async def test_renewed_certificate(
    serve: Serve, authority: trustme.CA, client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    async def serial(it: Fixture) -> object:
        client = await it.client(tls=client_context)
        return client.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]

    async with serve() as it:
        publisher = await publish(it, client_context, "cam")
        before = await serial(it)
        write_certificate(authority, tmp_path)
        it.pass_time(5)
        await publisher.sync(it.url("cam"))
        it.pass_time(9)
        await it.log.wait("the certificate was reloaded")
        assert await serial(it) != before
        await publisher.sync(it.url("cam"))  # connections stay

        (tmp_path / "server.crt").write_text("broken")
        it.pass_time(5)
        await publisher.sync(it.url("cam"))
        it.pass_time(9)
        await it.log.wait(r"^WARNING \[RTSPS\] the new certificate cannot be used: ")
        assert await serial(it) != before


async def test_renewed_certificate_with_another_type_of_key(
    serve: Serve, authority: trustme.CA, client_context: ssl.SSLContext, tmp_path: Path
) -> None:
    async def cipher(it: Fixture) -> str:
        client = await it.client(tls=client_context)
        await client.close()
        return str(client.writer.get_extra_info("cipher")[0])

    client_context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose ciphers tell the type
    async with serve() as it:
        assert "ECDSA" in await cipher(it)
        for key_type, name in ((trustme.KeyType.RSA, "-RSA-"), (trustme.KeyType.ECDSA, "-ECDSA-")):
            write_certificate(authority, tmp_path, key_type)
            it.log.lines.clear()
            it.pass_time(15)
            await it.log.wait("the certificate was reloaded")
            assert name in await cipher(it)


async def test_failed_authentication_over_tls(serve: Serve, client_context: ssl.SSLContext) -> None:
    async with serve(paths={"all": {"publishUser": "u", "publishPass": "p"}}) as it:
        client = await it.client(tls=client_context)
        assert (await client.request("ANNOUNCE", it.url("cam"), body=H264_ONLY)).status == 401
