"""RTSP requests and responses as values (RFC 2326 sections 4 to 7), and their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from polycast.errors import LocalProtocolError

VERSION: Final = "RTSP/1.0"


class Method(StrEnum):
    """The methods of RFC 2326 section 10, and PLAY_NOTIFY of RFC 7826 section 13.5."""

    OPTIONS = "OPTIONS"
    DESCRIBE = "DESCRIBE"
    ANNOUNCE = "ANNOUNCE"
    SETUP = "SETUP"
    PLAY = "PLAY"
    PAUSE = "PAUSE"
    RECORD = "RECORD"
    TEARDOWN = "TEARDOWN"
    GET_PARAMETER = "GET_PARAMETER"
    SET_PARAMETER = "SET_PARAMETER"
    REDIRECT = "REDIRECT"
    PLAY_NOTIFY = "PLAY_NOTIFY"


REASONS: Final[dict[int, str]] = {
    100: "Continue",
    200: "OK",
    201: "Created",
    250: "Low on Storage Space",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    451: "Parameter Not Understood",
    452: "Conference Not Found",
    453: "Not Enough Bandwidth",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    456: "Header Field Not Valid for Resource",
    457: "Invalid Range",
    458: "Parameter Is Read-Only",
    459: "Aggregate Operation Not Allowed",
    460: "Only Aggregate Operation Allowed",
    461: "Unsupported Transport",
    462: "Destination Unreachable",
    463: "Destination Prohibited",
    464: "Data Transport Not Ready Yet",
    465: "Notification Reason Unknown",
    466: "Key Management Error",
    470: "Connection Authorization Required",
    471: "Connection Credentials Not Accepted",
    472: "Failure to Establish Secure Connection",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "RTSP Version Not Supported",
    551: "Option Not Supported",
    553: "Proxy Unavailable",
}
"""Status code to reason phrase: RFC 2326 section 7.1.1 and RFC 7826 table 4."""

# Line breaks: echoed text of a peer must not become a header.
_LINE_BREAKERS: Final = frozenset("\r\n\0")


class Headers:
    """The headers of one message: names ignore case, order and repetition are kept."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items = list(items)

    def get(self, name: str) -> str | None:
        """Return the first value of ``name``."""
        name = name.lower()
        for key, value in self._items:
            if key.lower() == name:
                return value
        return None

    def get_all(self, name: str) -> list[str]:
        """Return every value of ``name``, in the order sent."""
        name = name.lower()
        return [value for key, value in self._items if key.lower() == name]

    def set(self, name: str, value: str) -> None:
        """Replace every value of ``name`` by this one."""
        lower = name.lower()
        self._items = [item for item in self._items if item[0].lower() != lower]
        self._items.append((name, value))

    def add(self, name: str, value: str) -> None:
        """Append a value and keep the existing ones."""
        self._items.append((name, value))

    def items(self) -> list[tuple[str, str]]:
        """Return the (name, value) pairs in the order sent."""
        return list(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        """Equal if the pairs are equal and in the same order; names ignore case."""
        if not isinstance(other, Headers):
            return NotImplemented
        return [(k.lower(), v) for k, v in self._items] == [(k.lower(), v) for k, v in other._items]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


@dataclass(slots=True)
class Request:
    """An RTSP request (RFC 2326 section 6)."""

    method: str
    """As sent; a known one compares equal to its :class:`Method`."""
    url: str
    """The request URL as sent, or ``*``."""
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    version: str = VERSION

    @property
    def cseq(self) -> str | None:
        """The sequence number that the response echoes, as sent."""
        return self.headers.get("CSeq")

    def serialize(self) -> bytes:
        """Return the bytes for the wire. Raises LocalProtocolError when a part holds a line break."""
        return _serialize(f"{self.method} {self.url} {self.version}", self.headers, self.body)


@dataclass(slots=True)
class Response:
    """An RTSP response (RFC 2326 section 7)."""

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    reason: str | None = None
    """The phrase after the status; None takes the standard one."""
    version: str = VERSION
    """A different one only to answer other protocols in their own form."""

    @property
    def cseq(self) -> str | None:
        """The sequence number of the request that this answers, as sent."""
        return self.headers.get("CSeq")

    def serialize(self) -> bytes:
        """Return the bytes for the wire. Raises LocalProtocolError when a part holds a line break."""
        reason = REASONS.get(self.status, "Unknown") if self.reason is None else self.reason
        return _serialize(f"{self.version} {self.status} {reason}", self.headers, self.body)


def _serialize(start_line: str, headers: Headers, body: bytes) -> bytes:
    lines = [start_line]
    for name, value in headers:
        if name.lower() != "content-length":
            lines.append(f"{name}: {value}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    elif headers.get("Content-Length") is not None:
        lines.append("Content-Length: 0")
    for line in lines:
        if not _LINE_BREAKERS.isdisjoint(line):
            raise LocalProtocolError(f"line break inside an RTSP header: {line!r}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("utf-8", "replace") + body
