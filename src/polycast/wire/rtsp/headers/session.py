"""The Session header (RFC 2326 section 12.37)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.parameters import parse_number, parse_parameter, split_unquoted

_LARGEST_TIMEOUT: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Session:
    """A session's name and timeout."""

    identifier: str
    timeout: int | None = None
    """Seconds; None if not given (60 by RFC 2326)."""

    @classmethod
    def parse(cls, value: str) -> Session:
        """Parse the header; an invalid timeout is ignored. Raises RemoteProtocolError (400) without a name."""
        identifier, _, rest = value.partition(";")
        identifier = identifier.strip()
        if not identifier:
            raise RemoteProtocolError(f"invalid session: {value[:100]!r}")
        timeout = None
        for part in split_unquoted(rest, ";"):
            name, text = parse_parameter(part)
            if name == "timeout" and text is not None:
                timeout = parse_number(text, _LARGEST_TIMEOUT)
        return cls(identifier, timeout)

    def serialize(self) -> str:
        """Return the header's text."""
        return self.identifier if self.timeout is None else f"{self.identifier};timeout={self.timeout}"
