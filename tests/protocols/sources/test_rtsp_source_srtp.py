"""Pulling RTSPS over UDP, as SRTP: from our own server, and from servers that have it in part."""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.protocols.rtsp.support import H264_ONLY, Fixture, RtspClient, running
from tests.protocols.rtsp.test_server_tls import write_certificate
from tests.protocols.sources.camera import Camera, camera
from tests.protocols.sources.test_rtsp_source import pulling, ready, tls_context
from tests.support.rtp import key_unit, rtp

from polycast.protocols.rtsp import source_receiver
from polycast.wire.rtsp.message import Request, Response


@contextlib.asynccontextmanager
async def origin(tmp_path: Path, **values: Any) -> AsyncIterator[tuple[Fixture, RtspClient, str]]:
    """Run our own server with a publisher of ``live``; yield its fingerprint, too."""
    authority = trustme.CA()
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    files = write_certificate(authority, tmp_path)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(files["serverCert"]).read_text())).hexdigest()
    settings = {"srtpAddress": "127.0.0.1:0", "srtcpAddress": "127.0.0.1:0", "protocols": ["udp", "tcp"]}
    async with running(**{"encryption": "strict", **settings, **files, **values}) as it:
        publisher = await it.client(tls=context)
        await publisher.publish(it.url("live"))
        yield it, publisher, fingerprint


@pytest.mark.parametrize(
    ("protocol", "transport"), [("automatic", "UDP/SRTP"), ("udp", "UDP/SRTP"), ("tcp", "TCP/TLS")]
)
async def test_from_our_own_server(tmp_path: Path, protocol: str, transport: str) -> None:
    async with origin(tmp_path) as (it, publisher, fingerprint):
        url = it.url("live")
        async with running(paths=pulling(url, protocol, sourceFingerprint=fingerprint)) as app:
            await it.log.wait(f"is reading from path 'live', with {transport}, 1 track")
            first = rtp(6, key_unit(300))
            publisher.send_frame(0, first)
            await ready(app)
            reader = await app.reader("cam")
            packets = [rtp(7 + index, key_unit(300 + index)) for index in range(5)]
            for packet in packets:
                publisher.send_frame(0, packet)
            received = await reader.packets(5)
            assert received in (packets, [first, *packets[:4]])


async def test_our_own_server_without_srtp(tmp_path: Path) -> None:
    """The same connection continues with TCP."""
    async with origin(tmp_path, protocols=["tcp"], srtpAddress="") as (it, _, fingerprint):
        async with running(paths=pulling(it.url("live"), "automatic", sourceFingerprint=fingerprint)) as app:
            await ready(app)
            assert it.connection_count == 2
            assert not app.log.find("UDP does not work")
        async with running(paths=pulling(it.url("live"), "udp", sourceFingerprint=fingerprint)) as app:
            await app.log.wait("failed: the server offers no SRTP; with RTSPS, only TCP can be used")


SECURE = H264_ONLY.replace("RTP/AVP", "RTP/SAVP")


@contextlib.asynccontextmanager
async def secure_camera() -> AsyncIterator[tuple[Camera, dict[str, Any]]]:
    context, fingerprint = tls_context()
    async with camera(tls=context) as device:
        device.description = SECURE
        url = device.url().replace("rtsp:", "rtsps:")
        yield device, pulling(url, "automatic", sourceFingerprint=fingerprint)


async def test_a_camera_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_receiver, "FIRST_PACKET_SECONDS", 0.1)
    async with secure_camera() as (device, paths), running(paths=paths) as app:
        await app.log.wait(r"UDP does not work \(the server gives no key for SRTP\); tries TCP")
        await ready(app)
        first = next(request for request in device.requests if request.method == "SETUP")
        assert (first.headers.get("Transport") or "").startswith("RTP/SAVP;unicast;client_port=")
        assert re.fullmatch(r'prot=mikey;uri="rtsps://[^"]+";data="[^"]+"', first.headers.get("KeyMgmt") or "")


@pytest.mark.parametrize("header", ["prot=mikey", 'prot=other;data="AAAA"', 'prot=mikey;data="AAAA"', "?"])
async def test_a_camera_with_a_bad_key(header: str) -> None:
    def answer(device: Camera, request: Request) -> Response | None:
        if "TCP" in (request.headers.get("Transport") or ""):
            return None
        response = device._set_up_udp(request.headers.get("Transport") or "")
        response.headers.set("KeyMgmt", header)
        return response

    async with secure_camera() as (device, paths):
        device.script["SETUP"] = answer
        async with running(paths=paths) as app:
            await app.log.wait(r"UDP does not work \(.*(MIKEY|KeyMgmt).*\); tries TCP")
            await ready(app)
