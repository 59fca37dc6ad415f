"""The Transport header (RFC 2326 section 12.39)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from polycast.errors import RemoteProtocolError
from polycast.wire.rtsp.headers.parameters import parse_number, parse_parameter, split_unquoted

ALTERNATIVE_LIMIT: Final = 16
"""Transports offered in one SETUP; clients offer 1 to 3."""

_LARGEST_PORT: Final = 0xFFFF
_LARGEST_CHANNEL: Final = 0xFF
_LARGEST_SSRC: Final = 0xFFFFFFFF
_LARGEST: Final = {
    "interleaved": _LARGEST_CHANNEL,
    "client_port": _LARGEST_PORT,
    "server_port": _LARGEST_PORT,
    "port": _LARGEST_PORT,
}
_PROFILES: Final = frozenset(("AVP", "AVPF", "SAVP", "SAVPF"))
_LOWER_TRANSPORTS: Final[dict[str, Literal["UDP", "TCP"]]] = {"UDP": "UDP", "TCP": "TCP"}
# Wowza and FFmpeg say "receive" for what RFC 2326 calls "record".
_MODES: Final[dict[str, Literal["play", "record"]]] = {"play": "play", "record": "record", "receive": "record"}

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Transport:
    """One transport, offered or chosen. None stands for an absent parameter."""

    lower_transport: Literal["UDP", "TCP"] = "UDP"
    profile: str = "AVP"
    """The RTP profile: ``AVP``, ``AVPF``, ``SAVP`` or ``SAVPF``, in upper case."""
    delivery: Literal["unicast", "multicast"] | None = None
    destination: str | None = None
    source: str | None = None
    interleaved: Pair | None = None
    """Channels of RTP and RTCP."""
    client_port: Pair | None = None
    """The client's UDP ports for RTP and RTCP."""
    server_port: Pair | None = None
    port: Pair | None = None
    """The multicast group's UDP ports for RTP and RTCP."""
    ttl: int | None = None
    ssrc: int | None = None
    mode: Literal["play", "record"] | None = None

    @classmethod
    def parse(cls, value: str, *, leniently: bool = False) -> Transport:
        """Parse one transport; names in any case, with or without quotes, unknown parameters ignored.

        ``leniently``: invalid ports, channels and modes are also ignored. Raises RemoteProtocolError: 461 if it is
        not RTP over UDP or TCP, 400 for an invalid port, channel or mode.
        """
        parts = split_unquoted(value, ";")
        specifier = parts[0].upper().split("/") if parts else []
        if len(specifier) not in (2, 3) or specifier[0] != "RTP" or specifier[1] not in _PROFILES:
            raise RemoteProtocolError(f"unsupported transport: {value[:100]!r}", 461)
        lower_transport = _LOWER_TRANSPORTS.get(specifier[2] if len(specifier) == 3 else "UDP")
        if lower_transport is None:
            raise RemoteProtocolError(f"unsupported transport: {value[:100]!r}", 461)
        parameters: dict[str, str | None] = {}
        for part in parts[1:]:
            name, text = parse_parameter(part)
            parameters.setdefault(name, text)
        if leniently:
            _remove_invalid(parameters)
        return cls(
            lower_transport=lower_transport,
            profile=specifier[1],
            delivery="multicast" if "multicast" in parameters else "unicast" if "unicast" in parameters else None,
            destination=_parse_address(parameters, "destination"),
            source=_parse_address(parameters, "source"),
            interleaved=_parse_pair(parameters, "interleaved"),
            client_port=_parse_pair(parameters, "client_port"),
            server_port=_parse_pair(parameters, "server_port"),
            port=_parse_pair(parameters, "port"),
            ttl=parse_number(parameters.get("ttl") or "", 255),
            # Dahua pads the number with spaces and omits leading zeros; it is only informative.
            ssrc=parse_number((parameters.get("ssrc") or "").strip(), _LARGEST_SSRC, 16),
            mode=_parse_mode(parameters.get("mode")),
        )

    def serialize(self) -> str:
        """Return the header's text."""
        parts = [f"RTP/{self.profile}/TCP" if self.lower_transport == "TCP" else f"RTP/{self.profile}"]
        if self.delivery is not None:
            parts.append(self.delivery)
        for name, text in (("source", self.source), ("destination", self.destination)):
            if text is not None:
                parts.append(f"{name}={text}")
        pairs = (
            ("interleaved", self.interleaved),
            ("port", self.port),
            ("client_port", self.client_port),
            ("server_port", self.server_port),
        )
        for name, pair in pairs:
            if pair is not None:
                parts.append(f"{name}={pair[0]}-{pair[1]}")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.ssrc is not None:
            parts.append(f"ssrc={self.ssrc:08X}")
        if self.mode is not None:
            parts.append(f"mode={self.mode}")
        return ";".join(parts)


def parse_transports(value: str) -> list[Transport]:
    """Parse the alternatives that a client offers, in its order; those that are not RTP are ignored.

    Raises RemoteProtocolError: 461 if nothing is left, 400 if an RTP one is invalid.
    """
    alternatives = split_unquoted(value, ",")
    if len(alternatives) > ALTERNATIVE_LIMIT:
        raise RemoteProtocolError(f"more than {ALTERNATIVE_LIMIT} transports")
    transports = []
    for alternative in alternatives:
        try:
            transports.append(Transport.parse(alternative))
        except RemoteProtocolError as error:
            if error.status != 461:
                raise
    if not transports:
        raise RemoteProtocolError(f"unsupported transport: {value[:100]!r}", 461)
    return transports


def serialize_transports(transports: Iterable[Transport]) -> str:
    """Return the header's text for several alternatives."""
    return ",".join(transport.serialize() for transport in transports)


def _remove_invalid(parameters: dict[str, str | None]) -> None:
    for name in _LARGEST:
        try:
            _parse_pair(parameters, name)
        except RemoteProtocolError:
            del parameters[name]
    try:
        _parse_mode(parameters.get("mode"))
    except RemoteProtocolError:
        del parameters["mode"]


def _parse_pair(parameters: dict[str, str | None], name: str) -> Pair | None:
    text = parameters.get(name)
    if text is None:
        return None
    largest = _LARGEST[name]
    first_text, dash, second_text = text.partition("-")
    first = parse_number(first_text.strip(), largest)
    # A single number means the pair that starts with it.
    second = parse_number(second_text.strip(), largest) if dash else None if first is None else first + 1
    if first is None or second is None or second > largest:
        raise RemoteProtocolError(f"invalid {name}: {text[:100]!r}")
    return first, second


def _parse_address(parameters: dict[str, str | None], name: str) -> str | None:
    text = parameters.get(name)
    # An address contains none of these; with one of them it is the rest of an invalid header.
    return text if text and not any(character in ' \t,;="' for character in text) else None


def _parse_mode(text: str | None) -> Literal["play", "record"] | None:
    if text is None:
        return None
    for word in text.split(","):
        mode = _MODES.get(word.strip(" \"'").lower())
        if mode is not None:
            return mode
    raise RemoteProtocolError(f"invalid transport mode: {text[:100]!r}")
