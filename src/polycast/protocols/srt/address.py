"""URLs of other SRT servers and of encoders: ``srt://host:port?streamid=...``, with the parameters of libsrt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from polycast.errors import ConfigurationError
from polycast.wire.srt.handshake import MAXIMUM_TEXT
from polycast.wire.srt.key_material import KEY_SIZES, MAXIMUM_PASSPHRASE, MINIMUM_PASSPHRASE, PayloadMode
from polycast.wire.srt.pacing import UNLIMITED
from polycast.wire.srt.packet import DEFAULT_PAYLOAD, MAXIMUM_PAYLOAD, TRANSPORT_PACKET_SIZE

DEFAULT_LATENCY: Final = 0.12
MAXIMUM_LATENCY_MILLISECONDS: Final = 65_535
"""The field of the handshake has 16 bits."""
DEFAULT_CONNECT_SECONDS: Final = 3.0
DEFAULT_IDLE_SECONDS: Final = 5.0
_MAXIMUM_PARAMETERS: Final = 100
_MAXIMUM_PROGRAM: Final = 0xFFFF
_MAXIMUM_PORT: Final = 0xFFFF
_PAYLOAD_MODES: Final = {0: None, 1: PayloadMode.CTR, 2: PayloadMode.GCM}
_FORM: Final = "write srt://host:port?streamid=..., with & # % in values as %26 %23 %25"


class Mode(Enum):
    """Who calls."""

    CALLER = "caller"
    LISTENER = "listener"
    RENDEZVOUS = "rendezvous"
    """Both sides call each other, as most NATs require."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SrtAddress:
    """A URL with its parameters."""

    host: str
    """Empty for a listener on all interfaces."""
    port: int
    local_host: str = ""
    local_port: int = 0
    """The local address of a rendezvous; an empty host stands for all addresses."""
    mode: Mode = Mode.CALLER
    stream_id: str = ""
    passphrase: str = ""
    key_size: int = 0
    """Bytes of the keys that are made if there is a passphrase."""
    payload_mode: PayloadMode | None = None
    """How payloads are encrypted; None for AES-CTR, or, as a listener, for the choice of the caller."""
    receive_delay: float = DEFAULT_LATENCY
    send_delay: float = DEFAULT_LATENCY
    """Seconds."""
    bandwidth: float = UNLIMITED
    """Bytes per second; see `Pace`."""
    payload_size: int = DEFAULT_PAYLOAD
    program: int | None = None
    """Number of the program that is read; None for the first one."""
    connect_seconds: float = DEFAULT_CONNECT_SECONDS
    idle_seconds: float = DEFAULT_IDLE_SECONDS


def parse_address(url: str) -> SrtAddress:
    """Return the parts of a URL. Raises ConfigurationError; the text does not contain the passphrase."""
    try:
        parts = urlsplit(url)
        port = parts.port
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=_MAXIMUM_PARAMETERS))
    except ValueError:
        raise ConfigurationError(f"the SRT URL is invalid ({_FORM})") from None
    if parts.scheme != "srt" or not port:
        raise ConfigurationError(f"the SRT URL has no port ({_FORM})")
    mode = _mode(parameters, parts.hostname or "")
    host = parts.hostname or ""
    passphrase = parameters.get("passphrase", "")
    if passphrase and not MINIMUM_PASSPHRASE <= len(passphrase.encode()) <= MAXIMUM_PASSPHRASE:
        raise ConfigurationError(
            f"the passphrase of an SRT URL must have {MINIMUM_PASSPHRASE} to {MAXIMUM_PASSPHRASE} characters"
        )
    stream_id = parameters.get("streamid", "")
    if len(stream_id.encode()) > MAXIMUM_TEXT:
        raise ConfigurationError(f"the stream id of an SRT URL has more than {MAXIMUM_TEXT} bytes")
    latency = _number(parameters, "latency", MAXIMUM_LATENCY_MILLISECONDS)
    received = _number(parameters, "rcvlatency", MAXIMUM_LATENCY_MILLISECONDS)
    sent = _number(parameters, "peerlatency", MAXIMUM_LATENCY_MILLISECONDS)
    connect, idle = _number(parameters, "conntimeo"), _number(parameters, "peeridletimeo")
    return SrtAddress(
        host=host,
        port=port,
        mode=mode,
        local_host=parameters.get("adapter") or parameters.get("localaddress", ""),
        local_port=_number(parameters, "localport", _MAXIMUM_PORT) or port,
        stream_id=stream_id,
        passphrase=passphrase,
        key_size=_key_size(parameters) if passphrase else 0,
        payload_mode=_payload_mode(parameters),
        receive_delay=_seconds(received if received is not None else latency, DEFAULT_LATENCY),
        send_delay=_seconds(sent if sent is not None else latency, DEFAULT_LATENCY),
        bandwidth=_bandwidth(parameters),
        payload_size=_payload_size(parameters),
        program=_number(parameters, "program", _MAXIMUM_PROGRAM),
        connect_seconds=_seconds(connect, DEFAULT_CONNECT_SECONDS) or DEFAULT_CONNECT_SECONDS,
        idle_seconds=_seconds(idle, DEFAULT_IDLE_SECONDS) or DEFAULT_IDLE_SECONDS,
    )


def _mode(parameters: Mapping[str, str], host: str) -> Mode:
    text = parameters.get("mode", "")
    if not text:
        return Mode.CALLER if host else Mode.LISTENER  # srt://:port listens, as in libsrt's programs
    try:
        mode = Mode(text)
    except ValueError:
        raise ConfigurationError(
            f"the mode '{text}' of an SRT URL is not supported (caller, listener, rendezvous)"
        ) from None
    if mode is not Mode.LISTENER and not host:
        raise ConfigurationError(f"the SRT URL has no host ({_FORM})")
    return mode


def _number(parameters: Mapping[str, str], key: str, maximum: int = 10**12) -> int | None:
    """Return a whole number from 0 on; None if it is absent."""
    text = parameters.get(key, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise ConfigurationError(f"the parameter '{key}' of an SRT URL must be a number from 0 to {maximum}")
    return int(text)


def _seconds(milliseconds: int | None, default: float) -> float:
    return default if milliseconds is None else milliseconds / 1000


def _key_size(parameters: Mapping[str, str]) -> int:
    size = _number(parameters, "pbkeylen") or KEY_SIZES[0]
    if size not in KEY_SIZES:
        raise ConfigurationError("the parameter 'pbkeylen' of an SRT URL must be 16, 24 or 32")
    return size


def _payload_mode(parameters: Mapping[str, str]) -> PayloadMode | None:
    number = _number(parameters, "cryptomode") or 0
    if number not in _PAYLOAD_MODES:
        raise ConfigurationError("the parameter 'cryptomode' of an SRT URL must be 0 (any), 1 (AES-CTR) or 2 (AES-GCM)")
    return _PAYLOAD_MODES[number]


def _bandwidth(parameters: Mapping[str, str]) -> float:
    if parameters.get("maxbw", "") in ("", "-1"):
        return UNLIMITED
    return float(_number(parameters, "maxbw") or 0)


def _payload_size(parameters: Mapping[str, str]) -> int:
    for key in ("pkt_size", "payloadsize", "payload_size"):
        size = _number(parameters, key)
        if size:
            if not TRANSPORT_PACKET_SIZE <= size <= MAXIMUM_PAYLOAD:
                raise ConfigurationError(
                    f"the parameter '{key}' of an SRT URL must be from {TRANSPORT_PACKET_SIZE} to {MAXIMUM_PAYLOAD}"
                )
            return size // TRANSPORT_PACKET_SIZE * TRANSPORT_PACKET_SIZE
    return DEFAULT_PAYLOAD
