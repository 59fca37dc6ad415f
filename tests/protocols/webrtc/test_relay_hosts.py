"""From which hosts the clients of a relay may send."""

from __future__ import annotations

from polycast.protocols.webrtc.relay_hosts import MAXIMUM_ADDRESS_HOSTS, MAXIMUM_HOSTS, RelayHosts


def candidates(peer: int) -> list[str]:
    return [f"198.{peer >> 8}.{peer & 255}.{number}" for number in range(100)]


def test_one_connection_has_few_hosts() -> None:
    hosts = RelayHosts()
    assert hosts.add(1, ["192.0.2.1", *candidates(1)]) == ["192.0.2.1", *candidates(1)[: MAXIMUM_HOSTS - 1]]
    assert hosts.add(1, candidates(2)) == []


def test_the_connections_of_one_address_leave_places_for_those_of_others() -> None:
    hosts = RelayHosts()
    for peer in range(200):
        hosts.add(peer, ["192.0.2.1", *candidates(peer)])
    assert len(list(hosts)) == MAXIMUM_ADDRESS_HOSTS
    assert hosts.add("again", ["192.0.2.1"]) == ["192.0.2.1"]
    assert hosts.add("other", ["192.0.2.2", "10.0.0.1"]) == ["192.0.2.2", "10.0.0.1"]


def test_offers_over_ipv6_are_counted_by_network() -> None:
    hosts = RelayHosts()
    for peer in range(200):
        hosts.add(peer, [f"2001:db8::{peer:x}", *candidates(peer)])
    assert len(list(hosts)) == MAXIMUM_ADDRESS_HOSTS


def test_a_host_is_forbidden_when_its_last_connection_has_ended() -> None:
    hosts = RelayHosts()
    for peer in range(200):
        hosts.add(peer, ["192.0.2.1", *candidates(peer)])
    hosts.add("other", ["192.0.2.2", "192.0.2.1"])
    forbidden = [host for peer in range(200) for host in hosts.remove(peer)]
    assert len(forbidden) == len(set(forbidden)) == MAXIMUM_ADDRESS_HOSTS - 1
    assert set(hosts) == {"192.0.2.1", "192.0.2.2"}
    assert hosts.remove("unknown") == []
    assert set(hosts.remove("other")) == {"192.0.2.1", "192.0.2.2"}
    assert not hosts._of_address
