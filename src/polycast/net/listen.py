"""Listening sockets: one dual-stack TCP socket or UDP socket per address."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from polycast.net.loop_local import LoopLocal
from polycast.net.names import looking_up

port_sharing: LoopLocal[bool] = LoopLocal("port_sharing", lambda loop: False)
"""Whether the listeners of a loop share their ports with those of other processes of the same server."""

# Connections that may wait to be accepted; Linux lowers it to net.core.somaxconn.
BACKLOG = 4_096


def open_tcp_listener(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a bound, listening, non-blocking TCP socket.

    An empty ``host`` listens on all interfaces, over IPv4 and IPv6 where the machine has it. ``is_shared``: other
    processes of the same user may listen on the same port; the system gives each connection to one of them.
    Raises OSError whose text names the address.
    """
    listener = _bind(socket.SOCK_STREAM, host, port, is_shared=is_shared)
    try:
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _explain(error, host, port) from None
    return listener


def reserve_port(kind: socket.SocketKind, host: str, port: int) -> socket.socket:
    """Return a bound socket whose port can be shared: the system does not choose it for anybody while it is open.

    Raises OSError whose text names the address, also if another program shares the port.
    """
    with _bind(kind, host, port) as probe:
        number = probe.getsockname()[1]
    return _bind(kind, host, number, is_shared=True)


def open_udp_socket(
    host: str, port: int, receive_buffer_size: int = 0, send_buffer_size: int = 0, *, is_shared: bool = False
) -> socket.socket:
    """Return a bound, non-blocking UDP socket with the buffer sizes (bytes) that the kernel allows.

    ``is_shared``: as for `open_tcp_listener`; the system gives all datagrams of an address to the same process.
    """
    udp = _bind(socket.SOCK_DGRAM, host, port, is_shared=is_shared)
    for option, size in ((socket.SO_RCVBUF, receive_buffer_size), (socket.SO_SNDBUF, send_buffer_size)):
        if size:
            with contextlib.suppress(OSError):
                udp.setsockopt(socket.SOL_SOCKET, option, size)
    return udp


def _bind(kind: socket.SocketKind, host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    families = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")] if not host else _resolve(kind, host, port)
    last_error: OSError | None = None
    # The protocol number is explicit, because asyncio sets TCP_NODELAY only on connections that have inherited it.
    protocol = socket.IPPROTO_TCP if kind == socket.SOCK_STREAM else socket.IPPROTO_UDP
    for family, address in families:
        try:
            bound = socket.socket(family, kind, protocol)
        except OSError as error:  # the kernel was built without IPv6
            last_error = error
            continue
        try:
            if kind == socket.SOCK_STREAM and os.name == "posix":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6 and not host:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            bound.bind((address, port))
            bound.setblocking(False)
        except OSError as error:
            bound.close()
            last_error = error
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                break
            continue
        return bound
    raise _explain(last_error or OSError("no address"), host, port)


def _resolve(kind: socket.SocketKind, host: str, port: int) -> list[tuple[int, str]]:
    try:
        with looking_up():
            found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(f"listen on {host}:{port}: {error.strerror}") from None
    return [(family, str(sockaddr[0])) for family, _, _, _, sockaddr in found]


def _explain(error: OSError, host: str, port: int) -> OSError:
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = " (the port is in use by another program; is another polycast running?)"
    elif error.errno == errno.EACCES:
        hint = " (binding ports below 1024 requires a privilege)"
    return OSError(error.errno, f"listen on {host}:{port}: {error.strerror or error}{hint}")
