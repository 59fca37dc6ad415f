"""The hosts from which the clients of a relay may send."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from polycast.security.addresses import network_of

MAXIMUM_HOSTS: Final = 16
"""Hosts of one connection that may send through the relay: those of its candidates, and the one of its offer."""

MAXIMUM_ADDRESS_HOSTS: Final = 128
"""Hosts of all connections whose offers came from one address: an eighth of what the relay permits."""


class RelayHosts:
    """The hosts of each connection, with a limit for each connection and for each address that makes offers."""

    def __init__(self) -> None:
        self._of_peer: dict[Hashable, tuple[str, set[str]]] = {}
        """The address of its offer, and its hosts."""
        self._of_address: dict[str, Counter[str]] = {}
        """By address of the offers, how many of its connections have each host."""
        self._permitted: Counter[str] = Counter()
        """By host, the number of connections that may use it."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._permitted)

    def add(self, peer: Hashable, hosts: Iterable[str]) -> list[str]:
        """Add IP addresses of a connection; return those that may send from now on. The first one that is ever told
        of a connection is the address of its offer."""
        added = []
        for host in hosts:
            address, known = self._of_peer.setdefault(peer, (network_of(host), set()))
            of_address = self._of_address.setdefault(address, Counter())
            is_too_much = host not in of_address and len(of_address) >= MAXIMUM_ADDRESS_HOSTS
            # The relayed address is IPv4.
            if ":" in host or host in known or len(known) >= MAXIMUM_HOSTS or is_too_much:
                continue
            known.add(host)
            of_address[host] += 1
            self._permitted[host] += 1
            added.append(host)
        return added

    def remove(self, peer: Hashable) -> list[str]:
        """Remove a connection; return the hosts that no other one uses."""
        address, known = self._of_peer.pop(peer, ("", set()))
        of_address = self._of_address.get(address, Counter())
        unused = []
        for host in known:
            _count_down(of_address, host)
            if _count_down(self._permitted, host):
                unused.append(host)
        if not of_address:
            self._of_address.pop(address, None)
        return unused


def _count_down(counter: Counter[str], host: str) -> bool:
    """Return whether nobody is left."""
    counter[host] -= 1
    if counter[host]:
        return False
    del counter[host]
    return True
