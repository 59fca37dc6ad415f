"""HTTPS: HTTP/2 by ALPN, and certificates that change while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.interop import tools
from tests.protocols.hls.support import Fixture, names, running


@contextlib.asynccontextmanager
async def encrypted(folder: Path) -> AsyncIterator[Fixture]:
    tools.make_certificate(folder)
    files = {"hlsServerKey": str(folder / "server.key"), "hlsServerCert": str(folder / "server.crt")}
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    async with running(tls=context, hlsEncryption=True, **files) as it:
        yield it


async def handshake(it: Fixture, authority: Path, *protocols: str) -> Any:
    """Return the TLS state of a new connection; raises ssl.SSLError when the certificate is not vouched for."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(protocols)
    _, writer = await asyncio.open_connection("127.0.0.1", it.port, ssl=context, server_hostname="localhost")
    state = writer.get_extra_info("ssl_object")
    writer.close()
    return state


async def test_the_client_chooses_http_2(tmp_path: Path) -> None:
    async with encrypted(tmp_path) as it:
        assert it.log.find(r"\[HLS\] listener opened on 127\.0\.0\.1:\d+ \(HTTPS\)")
        authority = tmp_path / "ca.crt"
        assert (await handshake(it, authority, "h2", "http/1.1")).selected_alpn_protocol() == "h2"
        assert (await handshake(it, authority, "http/1.1")).selected_alpn_protocol() == "http/1.1"
        _, playlist = await it.playing("cam")
        assert (await it.get(f"/cam/{names(playlist)[0]}")).content


async def test_http_2(tmp_path: Path) -> None:
    tools.require("curl")
    async with encrypted(tmp_path) as it:
        _, playlist = await it.playing("cam", size=5000)
        name = names(playlist)[0]
        whole = (await it.get(f"/cam/{name}")).content
        for arguments, expected in (
            ([], whole),
            (["-H", "range: bytes=5-9"], whole[5:10]),
            (["-I", "-o", os.devnull], b""),
        ):
            process = await asyncio.create_subprocess_exec(
                "curl", "-s", "--http2", "--cacert", str(tmp_path / "ca.crt"), *arguments,
                "-w", "%{stderr}%{http_version} %{http_code} %{size_download}",
                f"https://127.0.0.1:{it.port}/cam/{name}", stdout=-1, stderr=-1,
            )  # fmt: skip
            output, report = await process.communicate()
            assert report.startswith(b"2 20"), report
            assert output == expected


async def test_a_changed_certificate_is_used(tmp_path: Path) -> None:
    async with encrypted(tmp_path) as it:
        await it.playing("cam")
        old = tmp_path / "old.crt"
        old.write_bytes((tmp_path / "ca.crt").read_bytes())
        tools.make_certificate(tmp_path)
        it.pass_time(10)
        await it.log.wait("the certificate was reloaded")
        await handshake(it, tmp_path / "ca.crt", "h2")
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(it, old, "h2")
        (tmp_path / "server.crt").write_text("nonsense")
        it.pass_time(10)
        await it.log.wait("the new certificate cannot be used")
        await handshake(it, tmp_path / "ca.crt", "h2")
