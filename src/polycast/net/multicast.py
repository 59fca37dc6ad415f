"""Sockets that receive multicast."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
import sys
from typing import Final

# Linux: ip(7), ipv6(7), and struct group_source_req of linux/in.h; the socket module has no names for them.
_MCAST_JOIN_SOURCE_GROUP: Final = 46
_STORAGE_SIZE: Final = 128
"""Bytes of struct sockaddr_storage."""


def bind_to_group(group: str, port: int, receive_buffer_size: int) -> socket.socket:
    """Return a non-blocking socket that receives datagrams to a multicast group which it has yet to join.

    Several sockets may be bound to the same group and port; each receives all datagrams. Raises OSError.
    """
    bound = socket.socket(_family_of(group), socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer_size:
            with contextlib.suppress(OSError):
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_size)
        try:
            bound.bind((group, port))  # only this group's packets; not possible on Windows
        except OSError:
            bound.bind(("", port))
    except BaseException:
        bound.close()
        raise
    return bound


def open_group(
    group: str, port: int, receive_buffer_size: int, *, interface: str = "", source: str = ""
) -> socket.socket:
    """Return a non-blocking socket that has joined a multicast group.

    ``interface``: name of the network interface; empty: the one that the group is routed to. ``source``: IP address of
    the only sender that is asked for (IGMPv3, MLDv2: source-specific multicast), where the system supports it. Raises
    OSError with a text for the user.
    """
    index = interface_index(interface)
    joined = bind_to_group(group, port, receive_buffer_size)
    try:
        _join(joined, group, index, source)
    except OSError as error:
        joined.close()
        hint = "" if interface else "; name the network interface with ?interface="
        where = f" on interface '{interface}'" if interface else ""
        text = f"the multicast group {group} cannot be joined{where}: {error.strerror or error}{hint}"
        raise OSError(error.errno, text) from error
    return joined


def interface_index(interface: str) -> int:
    """Return the index of a network interface, 0 for an empty name. Raises OSError with a text for the user."""
    if not interface:
        return 0
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no network interface '{interface}'") from None


def _family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _join(joined: socket.socket, group: str, index: int, source: str) -> None:
    is_ipv6 = joined.family == socket.AF_INET6
    if source and sys.platform == "linux":
        if (":" in source) != is_ipv6:
            raise OSError(errno.EINVAL, f"the source {source} is of another version of IP")
        request = struct.pack("=I4x", index) + _storage(group) + _storage(source)
        level = socket.IPPROTO_IPV6 if is_ipv6 else socket.IPPROTO_IP
        joined.setsockopt(level, _MCAST_JOIN_SOURCE_GROUP, request)
    elif is_ipv6:
        membership = struct.pack("=16sI", socket.inet_pton(socket.AF_INET6, group), index)
        joined.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
    else:
        membership = struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index)
        joined.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def _storage(address: str) -> bytes:
    """Return struct sockaddr_storage with an address and no port."""
    family = _family_of(address)
    packed = ipaddress.ip_address(address).packed
    padding = 2 if family == socket.AF_INET else 6  # port; and flow of IPv6
    return (struct.pack("=H", family) + bytes(padding) + packed).ljust(_STORAGE_SIZE, b"\0")
