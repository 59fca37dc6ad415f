"""Addresses on which a source is received: ``udp+mpegts://host:port?source=...`` and ``unix+mpegts:///path``."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from polycast.config.redact import redact
from polycast.config.urls import with_examples
from polycast.errors import ConfigurationError

_MAXIMUM_PARAMETERS: Final = 100
_MAXIMUM_PROGRAM: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class ReceivingAddress:
    """An address of the server that a program sends to."""

    host: str = ""
    """IP address or name of this machine, or a multicast group; empty: all interfaces."""
    port: int = 0
    """UDP port; 0 for a Unix socket."""
    socket_path: str = ""
    """File name of a Unix socket; empty for UDP."""
    source: str = ""
    """IP address of the only sender that is accepted; empty: any."""
    interface: str = ""
    """Name of the network interface on which a multicast group is joined; empty: the one that it is routed to."""
    program: int | None = None
    """Number of the program of an MPEG transport stream; None: the first one."""

    @property
    def is_multicast(self) -> bool:
        """Whether the host is a multicast group."""
        try:
            return ipaddress.ip_address(self.host).is_multicast
        except ValueError:
            return False


def parse_address(url: str, shown: str = "") -> ReceivingAddress:
    """Return the parts of a URL. Raises ConfigurationError, with the text ``shown`` in place of the URL, if given."""
    shown = redact(shown or url)
    try:
        parts = urlsplit(url)
        port = parts.port
        parameters = dict(parse_qsl(parts.query, max_num_fields=_MAXIMUM_PARAMETERS))
    except ValueError:
        raise ConfigurationError(f"'{shown}' is not a valid URL ({_form(url)})") from None
    if not url.isprintable() or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(f"'{shown}' is not a valid URL ({_form(url)})")
    program = _program(parameters.get("program", ""))
    if parts.scheme.startswith("unix"):
        return ReceivingAddress(socket_path=_socket_path(shown, parts.netloc, parts.path), program=program)
    if not port:
        raise ConfigurationError(f"'{shown}' is missing the port ({_form(url)})")
    source = parameters.get("source", "")
    if source and not _is_ip_address(source):
        raise ConfigurationError(f"invalid source IP: '{source}' (?source= is the IP address of the sender)")
    host, _, scope = (parts.hostname or "").partition("%")
    return ReceivingAddress(
        host, port, source=source, interface=parameters.get("interface", "") or scope, program=program
    )


def check_address(url: str) -> None:
    """Check an address in a setting, whose parameters may have groups of an expression (``$G1``) that are only known
    later. Raises ConfigurationError.
    """
    without_parameters, _, parameters = url.partition("?")
    parse_address(with_examples(without_parameters if "$" in parameters else url), url)


def _socket_path(url: str, host: str, path: str) -> str:
    if bool(host) == bool(path):
        raise ConfigurationError(f"'{url}' has no file name of a Unix socket ({_form(url)})")
    return unquote(path or host)


def _program(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > _MAXIMUM_PROGRAM:
        raise ConfigurationError(f"the parameter 'program' must be a number from 0 to {_MAXIMUM_PROGRAM}")
    return int(text)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _form(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme.startswith("unix"):
        return f"write {scheme}:///folder/name.sock, or {scheme}://name.sock in the working directory"
    return f"write {scheme}://host:port, with the host or multicast group on which the server receives"
