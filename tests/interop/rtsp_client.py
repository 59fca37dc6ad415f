"""A small RTSP client on plain sockets, for tests that care about each byte or about speed."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from types import TracebackType

from tests.support.rtp import PPS, SPS, rtp

# A description with one H264 track.
DESCRIPTION = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=Test\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
    "a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAPA8UKqA==,aM48gA==\r\n"
    "a=control:trackID=0\r\n"
)


@dataclass(frozen=True)
class Response:
    """An RTSP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RtspClient:
    """One connection. Interleaved frames that come between responses are kept in `frames`."""

    def __init__(self, port: int, *, user_agent: str = "test", timeout: float = 5.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.buffer = bytearray()
        self.frames: list[tuple[int, bytes]] = []
        self.user_agent = user_agent
        self.sequence = 1
        self.session = ""

    def __enter__(self) -> RtspClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def request(self, method: str, url: str, headers: dict[str, str] | None = None, body: str = "") -> Response:
        """Send a request and return its response. The session, once there is one, is sent along."""
        self.sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self.sequence}", f"User-Agent: {self.user_agent}"]
        if self.session:
            lines.append(f"Session: {self.session}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        response = self.read_response()
        assert response.headers.get("cseq") == str(self.sequence)
        if "session" in response.headers:
            self.session = response.headers["session"].partition(";")[0]
        return response

    def read_response(self) -> Response:
        """Return the next response; interleaved frames before it go to `frames`."""
        while True:
            while self.buffer[:1] == b"$" and self._take_frame():
                pass
            head, separator, _ = bytes(self.buffer).partition(b"\r\n\r\n")
            if separator and head[:1] != b"$":
                break
            self._receive()
        first, *lines = head.decode().split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        end = len(head) + 4 + int(headers.get("content-length", "0"))
        while len(self.buffer) < end:
            self._receive()
        body = bytes(self.buffer[len(head) + 4 : end])
        del self.buffer[:end]
        return Response(int(first.split(" ")[1]), headers, body)

    def read_frame(self) -> tuple[int, bytes]:
        """Return channel and bytes of the next interleaved frame."""
        while not self.frames:
            if self.buffer[:1] != b"$" or not self._take_frame():
                self._receive()
        return self.frames.pop(0)

    def send_frame(self, channel: int, data: bytes) -> None:
        """Send one interleaved frame (RFC 2326 section 10.12)."""
        self.socket.sendall(struct.pack("!BBH", 0x24, channel, len(data)) + data)

    def _take_frame(self) -> bool:
        if len(self.buffer) < 4:
            return False
        _, channel, size = struct.unpack_from("!BBH", self.buffer)
        if len(self.buffer) < 4 + size:
            return False
        self.frames.append((channel, bytes(self.buffer[4 : 4 + size])))
        del self.buffer[: 4 + size]
        return True

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data


def key_frame(sequence: int, timestamp: int) -> list[bytes]:
    """Return the packets of a key frame: SPS, PPS and a slice, one NAL unit each (RFC 6184 section 5.6)."""
    units = (SPS, PPS, b"\x65" + bytes(200))
    return [
        rtp(sequence + index, unit, timestamp=timestamp, marker=index == len(units) - 1)
        for index, unit in enumerate(units)
    ]


def publish(client: RtspClient, url: str) -> None:
    """Announce one H264 track over TCP and start recording."""
    assert client.request("ANNOUNCE", url, body=DESCRIPTION).status == 200
    transport = {"Transport": "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record"}
    assert client.request("SETUP", f"{url}/trackID=0", transport).status == 200
    assert client.request("RECORD", url, {"Range": "npt=0.000-"}).status == 200


def play(client: RtspClient, url: str, transport: str = "RTP/AVP/TCP;unicast;interleaved=0-1") -> Response:
    """Describe, set up the first track and play; return the response to SETUP."""
    assert client.request("DESCRIBE", url, {"Accept": "application/sdp"}).status == 200
    setup = client.request("SETUP", f"{url}/trackID=0", {"Transport": transport})
    assert setup.status == 200
    assert client.request("PLAY", f"{url}/", {"Range": "npt=0.000-"}).status == 200
    return setup
