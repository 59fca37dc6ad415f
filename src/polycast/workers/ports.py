"""The ports of the workers: shared by all of them, or one for each where clients are told the port."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import Final

import msgspec

from polycast.app.servers import StartError, check_ports, start_error
from polycast.config.fields import configuration_fields, replace
from polycast.config.schema import Configuration
from polycast.net.address import join_host_port
from polycast.net.listen import open_udp_socket, reserve_port
from polycast.protocols.base import Listener, ServerKind
from polycast.protocols.listening import listening_addresses
from polycast.protocols.registry import server_kinds
from polycast.security.addresses import parse_address

BUFFER_SIZE: Final = 4 * 1024 * 1024
"""Bytes of the buffers of a shared UDP socket: that of one worker's clients together."""

_HIGHEST_PORT: Final = 65_535

# linux/filter.h: a classic BPF program decides which socket of the group gets a datagram. Offsets are those of the
# payload of UDP.
_SO_ATTACH_REUSEPORT_CBPF: Final = 51
_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_REMAINDER: Final = 0x94
_RETURN: Final = 0x16


def for_worker(configuration: Configuration, index: int) -> Configuration:
    """Return the configuration of a worker: with its own ports, and without what the supervisor does."""
    addresses = {
        configuration_fields()[listener.key].name: _moved(listener.address(configuration), listener.worker_step * index)
        for kind in server_kinds()
        if kind.is_enabled(configuration)
        for listener in kind.listeners
        if listener.worker_step and listener.is_used(configuration)
    }
    own = replace(configuration, **addresses)
    return msgspec.structs.replace(own, api=False, metrics=False, pprof=False, playback=False, webhooks=())


def _moved(address: str, step: int) -> str:
    host, port = parse_address(address)
    if not port or not step:
        return address
    if port + step > _HIGHEST_PORT:
        raise StartError(f"there is no port {port + step} for one of the workers ({address})")
    return join_host_port(host, port + step) if host else f":{port + step}"


def _shared(configuration: Configuration) -> Iterator[tuple[ServerKind, Listener]]:
    for kind in server_kinds():
        if kind.is_enabled(configuration):
            for listener in kind.listeners:
                if not listener.worker_step and listener.is_used(configuration):
                    yield kind, listener


class Ports:
    """What the supervisor holds so that all workers get the same ports."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: dict[tuple[str, str], list[socket.socket]] = {}
        """By configuration key and address: the sockets of all workers for UDP, and one that only keeps the port for
        TCP."""

    async def prepare(self, configuration: Configuration) -> Configuration:
        """Take the ports of a configuration, in addition to those that are held; return it with the numbers of those
        that are 0. Raises StartError."""
        self._check(configuration)
        numbers: dict[str, str] = {}
        for kind, listener in _shared(configuration):
            address = listener.address(configuration)
            sockets = self._held.get((listener.key, address))
            if sockets is None:
                try:
                    sockets = await asyncio.to_thread(partial(self._open, listener, address))
                except OSError as error:
                    raise start_error(kind, configuration, error) from error
                self._held[listener.key, address] = sockets
            host, port = parse_address(address)
            if not port:
                number = sockets[0].getsockname()[1]
                address = join_host_port(host, number) if host else f":{number}"
                numbers[configuration_fields()[listener.key].name] = address
        return replace(configuration, **numbers)

    def _check(self, configuration: Configuration) -> None:
        """Name two settings that give two workers the same port. Raises StartError."""
        check_ports(configuration)
        used: dict[tuple[bool, int], tuple[str, str]] = {}
        for index in range(self._count):
            for key, is_datagram, address in listening_addresses(for_worker(configuration, index)):
                host, port = parse_address(address) if address else ("", 0)
                other, other_address = used.setdefault((is_datagram, port), (key, address)) if port else (key, address)
                if other != key and (host == parse_address(other_address)[0] or not host):
                    raise StartError(f"{key}: port {port} of worker {index + 1} is also that of {other}")

    def keep(self, configuration: Configuration) -> None:
        """Release the ports that a configuration does not have."""
        wanted = {(listener.key, listener.address(configuration)) for _, listener in _shared(configuration)}
        for key in self._held.keys() - wanted:
            self._close(self._held.pop(key))

    def sockets(self, key: str, address: str) -> list[socket.socket]:
        """Return the UDP sockets of all workers for a listener, by its configuration key and its address in `prepare`'s
        result. While a configuration is applied there may be those of the old one as well. Raises StartError.
        """
        host, port = parse_address(address)
        for (held_key, held_address), sockets in self._held.items():
            held_host, held_port = parse_address(held_address)
            number = held_port or sockets[0].getsockname()[1]
            if (held_key, held_host, number) == (key, host, port):
                return sockets
        raise StartError(f"{key}: the workers have no socket for {address}")

    def close(self) -> None:
        """Release all ports."""
        for sockets in self._held.values():
            self._close(sockets)
        self._held = {}

    def _close(self, sockets: list[socket.socket]) -> None:
        for each in sockets:
            each.close()

    def _open(self, listener: Listener, address: str) -> list[socket.socket]:
        host, port = parse_address(address)
        if not listener.is_datagram:
            return [reserve_port(socket.SOCK_STREAM, host, port)]
        with reserve_port(socket.SOCK_DGRAM, host, port) as reserved:
            number = reserved.getsockname()[1]
        sockets: list[socket.socket] = []
        try:
            for _ in range(self._count):
                sockets.append(open_udp_socket(host, number, BUFFER_SIZE, BUFFER_SIZE, is_shared=True))
            _distribute(sockets)
        except OSError:
            self._close(sockets)
            raise
        return sockets


def _distribute(sockets: list[socket.socket]) -> None:
    """Let the numbers in SRT's packets decide which socket gets them (draft-sharabayko-srt section 3): the socket id of
    the server, or that of the client in a handshake, which has none of the server."""
    program = [
        (_LOAD_WORD, 0, 0, 12),
        (_JUMP_IF_EQUAL, 0, 1, 0),
        (_LOAD_WORD, 0, 0, 40),
        (_REMAINDER, 0, 0, len(sockets)),
        (_RETURN, 0, 0, 0),
    ]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    description = struct.pack("@HP", len(program), ctypes.addressof(filters))
    sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, description)
