"""Responses: files with their headers, ranges and entity tags, built once and sent often (RFC 9110)."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Sequence
from typing import Final

from polycast.wire.http.message import Header, Request
from polycast.wire.http.response import Response

# Bytes under which compressing a playlist saves nothing.
MINIMUM_GZIP_SIZE: Final = 512

# Characters of a Range or If-None-Match header that are parsed: one range, a few entity tags.
MAXIMUM_CONDITION: Final = 1024

IMMUTABLE: Final = "max-age=31536000, immutable"
VOLATILE: Final = "no-cache"

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


class HttpFile:
    """A body with its headers, and the response to most requests for it, built once for all of them."""

    __slots__ = ("_headers", "_packed", "etag", "is_compressible", "whole")

    def __init__(
        self, body: bytes, headers: Sequence[Header], etag: bytes, *, is_compressible: bool, packed: bytes | None = None
    ) -> None:
        """``packed`` is the body compressed with gzip, if it exists already.

        ``etag`` is weak (``W/"..."``) where the file is compressible: it stands for both forms.
        """
        self.etag = etag
        self.is_compressible = is_compressible and (packed is not None or len(body) >= MINIMUM_GZIP_SIZE)
        fields = [*headers, (b"etag", etag), (b"accept-ranges", b"bytes")]
        if is_compressible:
            fields.append((b"vary", b"accept-encoding"))
        self._headers = fields
        self.whole = Response(200, fields, body)
        self._packed = self._pack(packed) if packed is not None else None

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.whole.body)

    def respond(self, request: Request) -> Response:
        """Return the response to a request: the file, a range of it, or that it has not changed."""
        fields = request.fields
        if b"if-none-match" in fields and _matches(fields[b"if-none-match"], self.etag):
            return Response(304, self._headers)
        if b"range" in fields and (b"if-range" not in fields or self._is_exactly(fields[b"if-range"])):
            part = self._part(fields[b"range"])
            if part is not None:
                return part
        if self.is_compressible and b"gzip" in fields.get(b"accept-encoding", b""):
            if self._packed is None:
                self._packed = self._pack(gzip.compress(self.whole.body, compresslevel=3, mtime=0))
            return self._packed
        return self.whole

    def _is_exactly(self, tag: bytes) -> bool:
        """Whether If-Range names the tag; a weak one never vouches for a range (RFC 9110 section 13.1.5)."""
        return tag.strip() == self.etag and not tag.strip().startswith(b"W/")

    def _pack(self, packed: bytes) -> Response:
        return Response(200, [*self._headers, (b"content-encoding", b"gzip")], packed)

    def _part(self, text: bytes) -> Response | None:
        body = self.whole.body
        span = _parse_range(text[:MAXIMUM_CONDITION].decode("latin-1"), len(body))
        if span is None:
            return None
        start, end = span
        if start >= end:
            return Response(416, [*self._headers, (b"content-range", b"bytes */%d" % len(body))])
        place = (b"content-range", b"bytes %d-%d/%d" % (start, end - 1, len(body)))
        return Response(206, [*self._headers, place], memoryview(body)[start:end])  # no copy for each client


class ResponseFactory:
    """Makes responses with their common headers."""

    def __init__(self, allow_origin: str) -> None:
        """``allow_origin``: who may read the responses; empty if that depends on the request (`AllowedOrigins`)."""
        self._common: list[Header] = [(b"server", b"polycast")]
        if allow_origin:
            self._common += [
                (b"access-control-allow-origin", allow_origin.encode("latin-1", "replace")),
                (b"access-control-allow-credentials", b"true"),
            ]
        self._common.append((b"x-content-type-options", b"nosniff"))

    def text(self, status: int, text: str, headers: Sequence[Header] = ()) -> Response:
        """Return a response with one line of text for people."""
        return self.document(status, b"text/plain; charset=utf-8", f"{text}\n".encode(), headers)

    def document(self, status: int, content_type: bytes, body: bytes, headers: Sequence[Header] = ()) -> Response:
        """Return a response with a body made for this request only."""
        fields = [(b"content-type", content_type), (b"cache-control", b"no-store"), *headers, *self._common]
        return Response(status, fields, body)

    def streamed(self, content_type: str) -> Response:
        """Return the head of a response whose body follows as it is made."""
        fields = [(b"content-type", content_type.encode()), (b"cache-control", b"no-store"), *self._common]
        return Response(200, fields, is_streamed=True)

    def empty(self, status: int, headers: Sequence[Header]) -> Response:
        """Return a response without a body."""
        return Response(status, [*headers, *self._common])

    def plain(self, status: int, headers: Sequence[Header], body: bytes) -> Response:
        """Return a response with a body; ``headers`` contain its type."""
        return Response(status, [*headers, *self._common], body)

    def file(
        self,
        body: bytes,
        content_type: str,
        *,
        cache: str = VOLATILE,
        etag: str = "",
        is_compressible: bool = False,
        packed: bytes | None = None,
        headers: Sequence[Header] = (),
    ) -> HttpFile:
        """Return a file. Without ``etag``, it gets one derived from its content."""
        tag = etag.encode() if etag else b'"%s"' % hashlib.blake2b(body, digest_size=12).hexdigest().encode()
        if is_compressible and not tag.startswith(b"W/"):
            tag = b"W/" + tag
        fields = [
            (b"content-type", content_type.encode()), (b"cache-control", cache.encode()), *headers, *self._common,
        ]  # fmt: skip
        return HttpFile(body, fields, tag, is_compressible=is_compressible, packed=packed)


def _matches(condition: bytes, etag: bytes) -> bool:
    """Return whether If-None-Match names the tag; weak and strong are alike here (RFC 9110 section 13.1.2)."""
    wanted = etag.removeprefix(b"W/")
    return any(
        candidate.strip().removeprefix(b"W/") in (wanted, b"*")
        for candidate in condition[:MAXIMUM_CONDITION].split(b",")
    )


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of the single requested range, empty if it cannot be satisfied; None to ignore the header."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return (max(size - int(match[2]), 0), size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return (start, min(int(match[2]) + 1, size) if match[2] else size)
