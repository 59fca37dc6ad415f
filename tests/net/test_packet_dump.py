"""What connections and sockets carry, in files that Wireshark's program for terminals reads."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.connections import open_connection
from tests.support.running import application
from tests.support.tshark import read_capture
from tests.support.waiting import until

from polycast.app import Application
from polycast.config import LoadedConfiguration, from_mapping
from polycast.config.dialects.mediamtx import MEDIAMTX
from polycast.net.dumped import TcpDump
from polycast.net.listen import open_udp_socket
from polycast.net.packet_dump import MAXIMUM_QUEUED, packet_dumps_of
from polycast.net.udp import Address, UdpSocket

REQUEST = b"OPTIONS rtsp://localhost/dumped RTSP/1.0\r\nCSeq: 1\r\n\r\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where the files are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    return {"key": str(tmp_path / "key"), "certificate": str(tmp_path / "certificate")}


def loaded(**values: Any) -> LoadedConfiguration:
    addresses = ("rtsp", "rtsps", "rtmp", "hls", "api", "srtp", "srtcp", "rtp", "rtcp")
    found = {f"{name}Address": "127.0.0.1:0" for name in addresses}
    off = {"webrtc": False, "srt": False, "moq": False}
    values = {**found, **off, "rtspTransports": ["tcp"], "dumpPackets": True, **values}
    return LoadedConfiguration(from_mapping(values, MEDIAMTX), None, [], frozenset())


def captures(folder: Path, prefix: str) -> list[Path]:
    return sorted(folder.glob(f"{prefix}_*.pcapng"))


def port(app: Application, server: str, key: str) -> int:
    return app.servers[server].ports[key]


async def ask(number: int, request: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Send a request; return the beginning of the answer."""
    reader, writer = await open_connection("localhost" if tls else "127.0.0.1", number, ssl=tls)
    writer.write(request)
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return answer


async def test_a_plain_connection_with_both_directions(folder: Path) -> None:
    async with application(loaded()) as (app, _):
        number = port(app, "RTSP", "rtspAddress")
        answer = await ask(number, REQUEST)
    (capture,) = captures(folder, "rtsp_server_conn")
    assert stat.S_IMODE(capture.stat().st_mode) == 0o600, "there may be passwords in it"
    rows = read_capture(capture, "tcp.dstport", "tcp.payload", "rtsp.method", "rtsp.status", options=as_rtsp(number))
    assert [row[0] for row in rows[:3]] == [str(number), rows[1][0], str(number)]
    data = [row for row in rows if row[1]]
    assert [bytes.fromhex(row[1]) for row in data] == [REQUEST, answer]
    assert [row[2:] for row in data] == [["OPTIONS", ""], ["", "200"]]


def as_rtsp(number: int) -> tuple[str, str]:
    return "-d", f"tcp.port=={number},rtsp"


@pytest.mark.parametrize(
    ("version", "has_memory_files"),
    [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_3, False)],
)
async def test_tls_is_readable(
    folder: Path,
    certificate: dict[str, str],
    authority: trustme.CA,
    version: ssl.TLSVersion,
    has_memory_files: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The keys are in memory, or else in a temporary file."""
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    files = {"rtspServerKey": certificate["key"], "rtspServerCert": certificate["certificate"]}
    client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    client.maximum_version = version
    async with application(loaded(rtspEncryption="strict", **files)) as (app, _):
        number = port(app, "RTSPS", "rtspsAddress")
        answer = await ask(number, REQUEST, client)
    assert answer.startswith(b"RTSP/1.0 200 OK")
    (capture,) = captures(folder, "rtsps_server_conn")
    decoded = ("-d", f"tcp.port=={number},tls", "-d", f"tls.port=={number},data")
    rows = read_capture(capture, "data.data", options=decoded)
    assert [bytes.fromhex(row[0]) for row in rows if row[0]] == [REQUEST, answer]
    assert REQUEST not in capture.read_bytes()
    assert not list(temporary.iterdir())


async def test_sources_over_tls(folder: Path, certificate: dict[str, str]) -> None:
    """They ask this server, which does not have such streams."""
    pem = Path(certificate["certificate"]).read_text()
    own = ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END") + 25])
    pinned = {"sourceFingerprint": hashlib.sha256(own).hexdigest()}
    files: dict[str, str] = {}
    for server in ("rtsp", "hls"):
        files |= {f"{server}ServerKey": certificate["key"], f"{server}ServerCert": certificate["certificate"]}
    values = {"rtspEncryption": "strict", "hlsEncryption": True, **files}
    async with application(loaded(**values)) as (app, lines):
        rtsps, hls = port(app, "RTSPS", "rtspsAddress"), port(app, "HLS", "hlsAddress")
        paths = {
            "one": {"source": f"rtsps://127.0.0.1:{rtsps}/none", **pinned},
            "two": {"source": f"https://127.0.0.1:{hls}/none/index.m3u8", **pinned},
        }
        await app.settings.replace(loaded(**values, paths=paths).configuration)
        await lines.wait("path one.*failed")
        await lines.wait("path two.*failed")
    decoded = ("-d", f"tcp.port=={rtsps},tls", "-d", f"tls.port=={rtsps},data")
    rows = read_capture(captures(folder, "rtsps_source_conn")[0], "data.data", options=decoded)
    lines_read = [bytes.fromhex(row[0]).split(b" ", 2)[:2] for row in rows if row[0]]
    assert [first for first, *_ in lines_read] == [b"OPTIONS", b"RTSP/1.0", b"DESCRIBE", b"RTSP/1.0"]
    decoded = ("-d", f"tcp.port=={hls},tls", "-d", f"tls.port=={hls},http")
    rows = read_capture(
        captures(folder, "hlss_source_conn")[0], "http.request.uri", "http.response.code", options=decoded
    )
    assert [row for row in rows if any(row)] == [["/none/index.m3u8", ""], ["", "500"]]
    assert captures(folder, "hlss_server_conn")


class UdpEnd:
    """A socket that counts what it gets."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.socket = UdpSocket(asyncio.get_running_loop(), open_udp_socket("127.0.0.1", 0), self._on_datagram)
        self.address = "127.0.0.1", self.socket.port

    def _on_datagram(self, data: bytes, start: int, end: int, address: Address) -> None:
        self.received.append(data[start:end])


async def test_datagrams_are_dumped_one_by_one_while_wanted(folder: Path) -> None:
    """The kernel divides what is sent, and joins what is received."""
    one, two = UdpEnd(), UdpEnd()
    one.socket.send_segments(bytes(200), 100, two.address)
    await until(lambda: len(two.received) == 2)
    one.socket.dump("one")
    two.socket.dump("two")
    sent = [b"a" * 100, b"b" * 100, b"c" * 50]
    one.socket.send_segments(b"".join(sent), 100, two.address)
    one.socket.send(b"alone", two.address)
    await until(lambda: len(two.received) == 6)
    one.socket.dump("")
    two.socket.dump("")
    one.socket.send_segments(b"later" * 2, 5, two.address)
    await until(lambda: len(two.received) == 8)
    for end in (one, two):
        end.socket.close()
    await packet_dumps_of(asyncio.get_running_loop()).finish()
    for prefix in ("one", "two"):
        (capture,) = captures(folder, prefix)
        rows = read_capture(capture, "udp.srcport", "udp.dstport", "data.data")
        ports = [str(one.address[1]), str(two.address[1])]
        assert rows == [[*ports, data.hex()] for data in (*sent, b"alone")]


async def test_a_running_server_begins_and_ends(folder: Path) -> None:
    values = {"rtspTransports": ["udp", "tcp"]}
    async with application(loaded(**values, dumpPackets=False)) as (app, _):
        number = port(app, "RTSP", "rtspAddress")
        await ask(number, REQUEST)
        await app.settings.replace(loaded(**values).configuration)
        await ask(number, REQUEST)
        await app.settings.replace(loaded(**values, dumpPackets=False).configuration)
        await ask(number, REQUEST)
        assert port(app, "RTSP", "rtspAddress") == number, "it was restarted"
    assert len(captures(folder, "rtsp_server_conn")) == 1
    assert len(captures(folder, "rtsp_server_packet_conn")) == 2


async def test_a_service_and_a_unix_socket(folder: Path) -> None:
    path = folder / "in.sock"
    paths = {"cam": {"source": f"unix+mpegts://{path}"}}
    async with application(loaded(api=True, paths=paths)) as (app, lines):
        await ask(app.control.ports["apiAddress"], b"GET /v3/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(path.exists)
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"G" + bytes(187))
        writer.close()
        await lines.wait("the sender has closed the connection")
    (capture,) = captures(folder, "mpegts_source_unix_conn")
    assert [row[0] for row in read_capture(capture, "tcp.len") if row[0] != "0"] == ["188"]
    assert len(captures(folder, "api_server_conn")) == 1


async def test_a_folder_that_cannot_be_written_disturbs_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "gone").mkdir()
    async with application(loaded()) as (app, _):
        with contextlib.chdir(folder / "gone"):
            (folder / "gone").rmdir()
            assert b"200 OK" in await ask(port(app, "RTSP", "rtspAddress"), REQUEST)
            await packet_dumps_of(asyncio.get_running_loop()).finish()
    assert "cannot be written: No such file or directory" in caplog.text


async def test_a_slow_disk_costs_no_more_memory_than_is_allowed(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    dumps = packet_dumps_of(loop)
    is_slow = threading.Event()
    dump = TcpDump(loop, "slow", ("127.0.0.1", 1), ("127.0.0.1", 2), is_server=True)
    dumps.submit(lambda: bool(is_slow.wait(30)), 0)
    piece = bytes(MAXIMUM_QUEUED // 4)
    for _ in range(6):
        dump.add(piece, is_received=True)
    is_slow.set()
    await dumps.finish()
    dump.add(b"end", is_received=True)
    dump.close()
    await dumps.finish()
    (capture,) = captures(folder, "slow")
    assert 4 * len(piece) < capture.stat().st_size < 5 * len(piece)
    rows = read_capture(capture, "tcp.seq_raw", "tcp.len")
    assert rows[-3] == [str(1_001 + 6 * len(piece)), "3"], "what is missing is a gap"
