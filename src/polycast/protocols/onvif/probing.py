"""Sends the message that ONVIF cameras answer, to a group or to given hosts, and collects the answers."""

from __future__ import annotations

import selectors
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif.discovery import GROUP, PORT, Device, answered, probe

REPEAT_SECONDS: Final = (0.0, 0.5, 1.0)
"""Seconds at which the message is sent, several times, as datagrams get lost."""
MAXIMUM_DATAGRAM: Final = 65_535
MAXIMUM_ANSWERS: Final = 4096
"""Datagrams that are read, at most."""

Target = tuple[str, int]


def find_cameras(hosts: Sequence[Target], interfaces: Sequence[str], seconds: float) -> dict[str, Device]:
    """Return the cameras that answer within some seconds, by the URL of their device service.

    ``hosts``: the addresses to ask; if there are none, all hosts in the networks of the ``interfaces`` (IPv4 addresses
    of this machine; none: the system's choice). Raises OSError for an interface that does not exist, or a host
    without address.
    """
    message_id = str(uuid.uuid4())
    message = probe(message_id)
    found: dict[str, Device] = {}
    with ExitStack() as stack:
        targets = [
            (stack.enter_context(opened), address)
            for opened, address in (_unicast(hosts) if hosts else _multicast(interfaces))
        ]
        begin = time.monotonic()
        due = [begin + pause for pause in REPEAT_SECONDS if pause < seconds]
        for _ in range(MAXIMUM_ANSWERS):
            while due and due[0] <= time.monotonic():
                due.pop(0)
                for opened, address in targets:
                    with suppress(OSError):  # a host that does not exist must not hide the others
                        opened.sendto(message, address)
            data, sender = _receive([opened for opened, _ in targets], min([begin + seconds, *due]))
            if data:
                with suppress(RemoteProtocolError):
                    found |= {device.address: device for device in answered(data, message_id, sender)}
            if time.monotonic() >= begin + seconds or (hosts and len(found) >= len(hosts)):
                break
    return found


def _receive(sockets: Sequence[socket.socket], until: float) -> tuple[bytes, str]:
    """Return a datagram and the address it came from; an empty one if none came in time."""
    with selectors.DefaultSelector() as selector:  # a server may have more descriptors than select() takes
        for opened in sockets:
            selector.register(opened, selectors.EVENT_READ)
        for key, _ in selector.select(max(0.0, until - time.monotonic())):
            with suppress(OSError):
                data, sender = next(each for each in sockets if each is key.fileobj).recvfrom(MAXIMUM_DATAGRAM)
                return data, sender[0]
    return b"", ""


def _unicast(hosts: Sequence[Target]) -> Iterator[tuple[socket.socket, Target]]:
    for host, port in hosts:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        yield socket.socket(family, kind, protocol), (str(address[0]), int(address[1]))


def _multicast(interfaces: Sequence[str]) -> Iterator[tuple[socket.socket, Target]]:
    for interface in interfaces or ("",):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        if interface:
            try:
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
                opened.bind((interface, 0))
            except OSError as error:
                opened.close()
                raise OSError(f"'{interface}' is not an address of this machine: {error.strerror or error}") from error
        yield opened, (GROUP, PORT)
