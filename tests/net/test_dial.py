"""Outgoing connections: verification, pinned certificates, addresses that do not answer."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import re
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from polycast.net import dial


class Server(asyncio.Protocol):
    """Counts what clients send."""

    received = 0
    transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        Server.received += len(data)


class Client(asyncio.Protocol):
    """Closes at once, as nothing more is to be seen."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]


AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost")


def fingerprint() -> str:
    pem = CERTIFICATE.cert_chain_pems[0].bytes().decode()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


@pytest.fixture
async def tls_port() -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, ssl=context)
    Server.received = 0
    yield server.sockets[0].getsockname()[1]
    server.close()


def forms(text: str) -> list[str]:
    colons = ":".join(text[i : i + 2] for i in range(0, 64, 2))
    return [text, text.upper(), colons, colons.upper()]


@pytest.mark.parametrize("form", range(4))
async def test_a_pinned_certificate_is_accepted_in_every_spelling(tls_port: int, form: int) -> None:
    context = dial.client_context(forms(fingerprint())[form])
    protocol = await dial.connect(Client, "127.0.0.1", tls_port, tls=context)
    assert isinstance(protocol, Client)


async def test_another_certificate_is_refused_before_anything_is_sent(tls_port: int) -> None:
    class Eager(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(b"secret")  # type: ignore[attr-defined]

    wrong = "0" * 64
    with pytest.raises(ssl.SSLError) as caught:
        await dial.connect(Eager, "127.0.0.1", tls_port, tls=dial.client_context(wrong))
    text = f"server fingerprint do not match: expected {wrong}, got {fingerprint()}"
    assert dial.describe_failure(caught.value) == text
    assert Server.received == 0


async def test_an_unknown_authority_is_refused(tls_port: int) -> None:
    dial._verifying_context.cache_clear()
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        await dial.connect(Client, "localhost", tls_port, tls=dial.client_context())
    assert dial.describe_failure(caught.value).startswith("the certificate of the server is not valid: ")


async def test_a_known_authority_is_accepted_and_the_name_is_checked(
    tls_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AUTHORITY.cert_pem.tempfile() as file:
        monkeypatch.setenv("SSL_CERT_FILE", file)
        dial._verifying_context.cache_clear()
        try:
            context = dial.client_context()
            await dial.connect(Client, "localhost", tls_port, tls=context)
            with pytest.raises(ssl.SSLCertVerificationError, match="address mismatch"):
                await dial.connect(Client, "127.0.0.1", tls_port, tls=context)
        finally:
            dial._verifying_context.cache_clear()


@pytest.mark.parametrize("text", ["", "abc", "z" * 64, "0" * 63, "0" * 66])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        dial.normalize_fingerprint(text)


async def test_a_silent_server_times_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)  # accepts TCP, never answers TLS
        port = listener.getsockname()[1]
        with pytest.raises(TimeoutError, match=rf"127\.0\.0\.1:{port} did not answer within 0\.1 s"):
            await dial.connect(Client, "127.0.0.1", port, tls=dial.client_context("0" * 64), timeout=0.1)


async def test_the_next_address_is_tried_beside_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tried = []

    async def resolve(*_: object, **__: object) -> list[object]:
        entry = (socket.SOCK_STREAM, 6, "")
        return [(socket.AF_INET, *entry, ("127.0.0.9", port)), (socket.AF_INET, *entry, ("127.0.0.1", port))]

    async def sock_connect(outgoing: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        if address[0] == "127.0.0.9":
            await asyncio.get_running_loop().create_future()
        outgoing.setblocking(True)
        outgoing.connect(address)
        outgoing.setblocking(False)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    monkeypatch.setattr(dial, "RACE_DELAY", 0.01)
    await dial.connect(Client, "camera.example", port, timeout=2)
    assert tried == ["127.0.0.9", "127.0.0.1"]
    server.close()


async def test_a_refused_connection_names_the_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as caught:
            await dial.connect(Client, "127.0.0.1", port)
    assert dial.describe_failure(caught.value) == "Connection refused"


@pytest.mark.parametrize(
    ("reasons", "text"),
    [
        (
            {"::1": errno.ENETUNREACH, "127.0.0.1": errno.ECONNREFUSED},
            "Network is unreachable (::1), Connection refused (127.0.0.1)",
        ),
        ({"::1": errno.ECONNREFUSED, "127.0.0.1": errno.ECONNREFUSED}, "Connection refused"),
    ],
)
async def test_a_name_with_several_addresses_of_which_none_answers(
    reasons: dict[str, int], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    async def resolve(host: str, port: int, **_: object) -> list[object]:
        # The second and later addresses of a family are tried, too, but not the same one twice.
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ]
        return found * 2

    tried: list[str] = []

    async def sock_connect(outgoing: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise OSError(reasons[address[0]], f"Connect call failed {address}")

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    with pytest.raises(OSError, match="Connect call failed") as caught:
        await dial.connect(Client, "camera.example", 554)
    assert dial.describe_failure(caught.value) == text
    assert tried == ["::1", "127.0.0.1"]


async def test_a_load_balancer_with_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    tried: list[str] = []

    async def resolve(host: str, port: int, **_: object) -> list[object]:
        sixth = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", (f"::{n}", port, 0, 0)) for n in range(1, 100)]
        fourth = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in range(1, 100)]
        return sixth + fourth

    async def sock_connect(outgoing: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed {address}")

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    with pytest.raises(ConnectionRefusedError):
        await dial.connect(Client, "camera.example", 554)
    assert tried[:4] == ["::1", "127.0.0.1", "::2", "127.0.0.2"]
    assert len(tried) == 2 * dial.MAXIMUM_ADDRESSES


async def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int, **_: object) -> list[object]:
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(OSError, match=r"'camera\.example' has no address"):
        await dial.connect(Client, "camera.example", 554)


@pytest.mark.parametrize("host", ["camera..example", f"{64 * 'a'}.example"])
async def test_what_is_no_name(host: str) -> None:
    with pytest.raises(OSError, match=f"the name '{re.escape(host)}' cannot be resolved: not a valid name"):
        await dial.connect(Client, host, 554)
