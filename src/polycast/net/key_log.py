"""The keys of TLS connections, which Wireshark needs to show what they carry."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from typing import Final

MAXIMUM_SIZE: Final = 1024 * 1024
"""Bytes after which the log starts again: keys are taken from it within a handshake."""

_CLIENT_HELLO: Final = re.compile(rb"\x16\x03[\x00-\x04]..\x01...\x03\x03(.{32})", re.DOTALL)
_COMPLETE: Final = (b"CLIENT_RANDOM ", b"CLIENT_TRAFFIC_SECRET_0 ")
"""The line that a handshake of TLS 1.2 has, and the last one of TLS 1.3 that matters."""


def client_random(data: bytes) -> bytes | None:
    """Return the number by which the key log names a connection, in hexadecimal; None without a client's hello."""
    match = _CLIENT_HELLO.search(data)
    return match[1].hex().encode() if match is not None else None


class KeyLog:
    """A file to which OpenSSL writes keys. It is in memory where the system has such files, and never has a name."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._path = ""

    def attach(self, context: ssl.SSLContext) -> None:
        """Log the keys of the connections that are made with a context from now on. Raises OSError."""
        if self._descriptor < 0:
            self._open()
        if context.keylog_filename != self._path:
            context.keylog_filename = self._path

    def find(self, random: bytes) -> bytes:
        """Return the lines with the keys of a connection; nothing before its handshake has made all of them."""
        if self._descriptor < 0:
            return b""
        size = os.fstat(self._descriptor).st_size
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        logged = os.read(self._descriptor, size)
        lines = [line + b"\n" for line in logged.splitlines() if random in line]
        if not any(line.startswith(_COMPLETE) for line in lines):
            return b""
        if size > MAXIMUM_SIZE:
            os.ftruncate(self._descriptor, 0)
        return b"".join(lines)

    def _open(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("tls-keys")
            self._path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
            return
        self._descriptor, self._path = tempfile.mkstemp(prefix="tls-keys-")

    def close(self) -> None:
        """Remove the file; the next `attach` makes another one."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if not hasattr(os, "memfd_create"):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            self._path = ""
