"""What happens between an origin and the server: cut connections, silence, error statuses, wrong certificates."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator

import pytest
import trustme
from tests.chaos.gate import gates
from tests.chaos.support import (
    QUICK,
    Origin,
    Readers,
    all_ready,
    none_ready,
    origin,
    pulling,
    readers,
    source_paths,
    sources,
)
from tests.protocols.rtmp.support import running
from tests.protocols.sources.camera import Camera, camera
from tests.wire.rtmp.support import VIDEO

from polycast.hub.access_request import AccessRequest
from polycast.wire.rtsp.message import Request, Response

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def source() -> Iterator[Origin]:
    """An origin that is well all the time."""
    with origin() as found:
        yield found


@pytest.mark.parametrize("disturbance", ["cut", "hold"])
async def test_connections_that_are_cut_in_the_middle_of_a_frame_or_fall_silent(
    source: Origin, disturbance: str
) -> None:
    async with gates(source.ports) as between:
        paths = sources(HOST, [gate.port for gate in between])
        # Its packets do not come through the gate: it would only see the end of its control connection.
        del paths["udp"]
        async with pulling(paths) as app, readers(app) as present:
            await all_ready(app)
            await present.join()
            for gate in between:
                (gate.cut if disturbance == "cut" else gate.hold)()
            await none_ready(app)
            await present.have_ended()
            for gate in between:
                gate.restore()
            await all_ready(app)
            await Readers(app, present.http).join()


STATUSES = (401, 404, 454, 461, 503)
METHODS = ("DESCRIBE", "SETUP", "PLAY")


async def test_error_statuses_of_rtsp() -> None:
    is_ill = True

    def answer(_: Camera, request: Request) -> Response | None:
        for status in STATUSES:
            if is_ill and f"/{request.method.lower()}{status}" in request.url:
                return Response(status)
        return None

    async with camera() as cam:
        for method in METHODS:
            cam.script[method] = answer
        paths = {
            f"{method.lower()}{status}": {
                "source": cam.url(f"{method.lower()}{status}"),
                "sourceProtocol": "tcp",
                **QUICK,
            }
            for method in METHODS
            for status in STATUSES
        }
        async with pulling(paths) as app:
            for method in METHODS:
                for status in STATUSES:
                    await app.log.wait(
                        rf"\[path {method.lower()}{status}\] \[rtsp source\] .* failed: bad status code: {status} "
                    )
            assert not any(app.path(name).stream for name in paths)
            is_ill = False
            await all_ready(app)


@pytest.mark.parametrize("status", [401, 404, 503])
async def test_error_statuses_of_hls(source: Origin, status: int) -> None:
    async with gates(source.ports[2:]) as (gate,):
        paths = {"hls": sources(HOST, [0, 0, gate.port])["hls"]}
        gate.answer(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
        async with pulling(paths) as app, readers(app) as present:
            await app.log.wait(rf"\[hls source\] .* failed: bad status code: {status} ")
            gate.restore()
            await all_ready(app)
            await present.join()
            # And in the middle of the stream.
            app.log.lines.clear()
            gate.answer(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())
            await app.log.wait(rf"\[hls source\] .* failed: bad status code: {status} ")
            await none_ready(app)
            await present.have_ended()
            gate.restore()
            await all_ready(app)


async def test_refusals_of_rtmp() -> None:
    is_allowed = False

    async def authenticate(request: AccessRequest) -> bool:
        return is_allowed or request.action.value == "publish"

    async with running(authenticate) as server:
        await server.publisher("live/cam", (VIDEO,))
        addresses = {
            "denied": f"rtmp://{HOST}:{server.port()}/live/cam",
            "missing": f"rtmp://{HOST}:{server.port()}/live/nobody",
        }
        async with pulling({name: {"source": address, **QUICK} for name, address in addresses.items()}) as app:
            await app.log.wait(r"\[path denied\] \[rtmp source\] .* failed: \S+: ")
            await app.log.wait(r"\[path missing\] \[rtmp source\] .* failed: \S+: ")
            is_allowed = True
            await server.publisher("live/nobody", (VIDEO,))
            for name in ("live/cam", "live/nobody"):
                await server.until(lambda name=name: bool(server.path(name).readers))  # type: ignore[misc]
            assert not app.log.find("internal")


def certificate() -> tuple[ssl.SSLContext, str]:
    """A new certificate, as a server's context, and its fingerprint."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
    return context, hashlib.sha256(der).hexdigest()


async def test_a_wrong_certificate_that_is_replaced(source: Origin) -> None:
    wrong, wrong_fingerprint = certificate()
    right, fingerprint = certificate()
    async with gates(source.ports, wrong) as between:
        paths = sources(HOST, [gate.port for gate in between], encrypted=True, sourceFingerprint=fingerprint)
        async with pulling(paths) as app, readers(app) as present:
            for name in source_paths(app):
                await app.log.wait(
                    rf"\[path {name}\] \[{name} source\] .* failed: server fingerprint do not match: "
                    rf"expected {fingerprint}, got {wrong_fingerprint}"
                )
            for gate in between:
                await gate.close()
                await gate.open(right)
            await all_ready(app)
            await present.join()
            # The certificate is exchanged in the middle of the stream, so that the next connection sees the wrong one.
            app.log.lines.clear()
            for gate in between:
                await gate.close()
                await gate.open(wrong)
            await none_ready(app)
            await present.have_ended()
            for name in source_paths(app):
                await app.log.wait(rf"\[path {name}\] .*do not match")
            for gate in between:
                await gate.close()
                await gate.open(right)
            await all_ready(app)
