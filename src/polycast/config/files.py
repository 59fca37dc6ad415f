"""Reads configuration files, with limits: the path may lead to a pipe, a device or a huge file."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from typing import Final

import msgspec

from polycast.errors import ConfigurationError

MAXIMUM_FILE_SIZE: Final = 8 * 1024 * 1024  # bytes; encrypted text is a third longer than what the YAML reader takes

_READ_SIZE: Final = 64 * 1024  # bytes


class UnreadableError(ConfigurationError):
    """The file cannot be read at all. The text is for the user."""


def read_once(path: str) -> tuple[bytes, bool]:
    """Read a configuration at the start of the server; return its content, and whether it can be read again.

    A pipe (``polycast <(...)``) is read until its other end closes, and cannot be read again. Raises UnreadableError.
    """
    try:
        with open(path, "rb") as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MAXIMUM_FILE_SIZE + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return _within_limit(path, content), is_regular


def read_again(path: str | os.PathLike[str]) -> bytes:
    """Read the file while the server is running. Never waits for another process. Raises UnreadableError."""
    try:
        # Opening a named pipe waits for a writer, unless asked not to.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError(f"the configuration file '{path}' is not a regular file, so it is not read again")
            if status.st_size > MAXIMUM_FILE_SIZE:
                return _within_limit(path, b"", status.st_size)
            content = bytearray()
            while len(content) <= MAXIMUM_FILE_SIZE and (piece := file.read(_READ_SIZE)):
                content += piece
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return _within_limit(path, bytes(content))


class Encoding(msgspec.Struct, frozen=True):
    """How the text of a file is encoded."""

    name: str
    mark: bytes = b""
    """The byte order mark at the start."""

    def encode(self, text: str) -> bytes:
        """Return the encoded text."""
        return self.mark + text.encode(self.name)


_MARKED: Final = (
    # The longer mark first: the one of UTF-32 starts like the one of UTF-16.
    Encoding("utf-32-le", codecs.BOM_UTF32_LE),
    Encoding("utf-32-be", codecs.BOM_UTF32_BE),
    Encoding("utf-8", codecs.BOM_UTF8),
    Encoding("utf-16-le", codecs.BOM_UTF16_LE),  # what PowerShell's > and Notepad's "Unicode" write
    Encoding("utf-16-be", codecs.BOM_UTF16_BE),
)


def decode(content: bytes) -> tuple[str, Encoding]:
    """Return the text of a file, without its byte order mark, and its encoding. Raises ConfigurationError."""
    encoding = next((marked for marked in _MARKED if content.startswith(marked.mark)), Encoding("utf-8"))
    body = content[len(encoding.mark) :]
    if encoding.name == "utf-8" and b"\0" in body:
        line = body[: body.index(0)].count(b"\n") + 1
        is_utf16 = body[:4].count(0) == 2  # two of the first characters have a byte of 0 each
        what = "is UTF-16 without a byte order mark" if is_utf16 else "contains the character NUL, so it is not text"
        raise ConfigurationError(f"invalid YAML: line {line}: the file {what} (save it in the encoding UTF-8)")
    try:
        return body.decode(encoding.name), encoding
    except UnicodeDecodeError as error:
        line = body[: error.start].decode(encoding.name, "replace").count("\n") + 1
        name = encoding.name[:6].removesuffix("-").upper()
        raise ConfigurationError(
            f"invalid YAML: line {line}: the file is not {name} text (save it in the encoding UTF-8)"
        ) from error


def digest_of(content: bytes) -> str:
    """Return what identifies the content of a file (``LoadedConfiguration.content_digest``)."""
    return hashlib.sha256(content).hexdigest()


def is_blank(content: bytes) -> bool:
    """Whether a file is empty, without even a comment."""
    return not content.strip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")


def empty_file(path: str | os.PathLike[str]) -> str:
    """Return the message about a file that became empty."""
    return f"the configuration file '{path}' is empty"


def _within_limit(path: str | os.PathLike[str], content: bytes, size: int = 0) -> bytes:
    if max(len(content), size) > MAXIMUM_FILE_SIZE:
        raise UnreadableError(f"the configuration file '{path}' is too large (limit: {MAXIMUM_FILE_SIZE} bytes)")
    return content


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UnreadableError:
    reason = error.strerror if isinstance(error, OSError) else error
    return UnreadableError(f"can't read the configuration file '{path}': {reason}")
