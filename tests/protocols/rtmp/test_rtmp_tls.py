"""RTMPS: RTMP over TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.protocols.rtmp.support import running, write_certificate

from polycast.app import StartError
from polycast.net.tls import CERTIFICATE_CHECK_SECONDS
from polycast.wire.rtmp.client import Mode


def settings(folder: Path, encryption: str = "optional") -> dict[str, Any]:
    return {
        "rtmpEncryption": encryption,
        "rtmpServerKey": str(folder / "server.key"),
        "rtmpServerCert": str(folder / "server.crt"),
    }


async def test_publish_and_read(tmp_path: Path) -> None:
    context = write_certificate(tmp_path)
    async with running(**settings(tmp_path)) as it:
        publisher = await it.publisher("live/cam", tls=context)
        plain, encrypted = await it.reader("live/cam"), await it.reader("live/cam", tls=context)
        publisher.send_video([1, 2], keys=[1])
        assert [event.frame.units for event in await plain.frames(2)] == [
            event.frame.units for event in await encrypted.frames(2)
        ]
        await it.log.wait(r"INFO \[RTMPS\] listener opened on 127.0.0.1:\d+ \(TCP/TLS\)")
        await it.log.wait(r"INFO \[RTMPS\] \[conn 127.0.0.1:\d+\] is publishing to path 'live/cam'")
        counts = {name: len(it.app.servers[name].sessions()) for name in ("RTMP", "RTMPS")}
        assert counts == {"RTMP": 1, "RTMPS": 2}


@pytest.mark.parametrize(
    ("encryption", "servers"), [("no", {"RTMP"}), ("optional", {"RTMP", "RTMPS"}), ("strict", {"RTMPS"})]
)
async def test_encryption_decides_which_servers_run(tmp_path: Path, encryption: str, servers: set[str]) -> None:
    write_certificate(tmp_path)
    async with running(**settings(tmp_path, encryption)) as it:
        assert {name for name in it.app.servers if name.startswith("RTMP")} == servers


async def test_the_certificate_is_verified_by_clients(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    async with running(**settings(tmp_path)) as it:
        with pytest.raises(ssl.SSLCertVerificationError):
            await it.client(Mode.PLAY, "live/cam", tls=ssl.create_default_context())


async def test_a_renewed_certificate_is_used(tmp_path: Path) -> None:
    old = write_certificate(tmp_path)
    async with running(**settings(tmp_path), readTimeout="100s") as it:
        publisher = await it.publisher("live/cam", tls=old)
        it.pass_time()
        new = write_certificate(tmp_path)
        it.pass_time(CERTIFICATE_CHECK_SECONDS + 1)
        await it.log.wait(r"INFO \[RTMPS\] the certificate was reloaded")
        reader = await it.reader("live/cam", tls=new)
        with pytest.raises(ssl.SSLCertVerificationError):
            await it.client(Mode.PLAY, "live/cam", tls=old)
        # Who was connected stays.
        publisher.send_video([1], keys=[1])
        await reader.frames(1)


@pytest.mark.parametrize(
    ("dialect", "types"),
    [("rtsp-simple-server", ["rtmpConn", "rtmpConn"]), ("mediamtx", ["rtmpsConn", "rtmpConn"])],
)
async def test_the_type_of_clients_over_tls(tmp_path: Path, dialect: str, types: list[str]) -> None:
    context = write_certificate(tmp_path)
    async with running(**settings(tmp_path)) as it:
        for server in it.app.servers.values():
            server.configuration = msgspec.structs.replace(server.configuration, dialect=dialect)
        await it.publisher("live/a", tls=context)
        await it.publisher("live/b")
        publishers = [it.app.hub.paths[name].publisher for name in ("live/a", "live/b")]
        assert [publisher.reference().type for publisher in publishers if publisher is not None] == types


async def test_a_broken_new_certificate_is_not_used(tmp_path: Path) -> None:
    context = write_certificate(tmp_path)
    async with running(**settings(tmp_path)) as it:
        it.pass_time()
        (tmp_path / "server.crt").write_text("nonsense")
        it.pass_time(CERTIFICATE_CHECK_SECONDS + 1)
        await it.log.wait(r"WARNING \[RTMPS\] the new certificate cannot be used")
        await it.publisher("live/cam", tls=context)


async def test_missing_certificate_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"\[RTMPS\]"):
        async with running(**settings(tmp_path)):
            pass


async def test_plain_bytes_and_silence_on_the_encrypted_port(tmp_path: Path) -> None:
    context = write_certificate(tmp_path)
    async with running(**settings(tmp_path), readTimeout="1s") as it:
        publisher = await it.publisher("live/cam", tls=context)
        port = it.port("RTMPS")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        silent_reader, silent_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x03" + bytes(1536))
        async with asyncio.timeout(60):
            while await reader.read(1000):
                pass
            assert await silent_reader.read(1000) == b""
        writer.close()
        silent_writer.close()
        assert not publisher.lost
