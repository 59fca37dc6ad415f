"""TLS between nodes, with real sockets in one process."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from tests.cluster.memory import Network
from tests.cluster.streams import NumberedPublisher, Viewer
from tests.cluster.test_sockets import SocketNode
from tests.support.waiting import until

from polycast.net.tls import MutualCertificate

AUTHORITY = trustme.CA()
OTHER_AUTHORITY = trustme.CA()


def write_files(folder: Path, issuer: trustme.CA, trusted: trustme.CA) -> tuple[str, str, str]:
    """Write certificate, key and certificate of the authority. The name in the certificate is no node's."""
    folder.mkdir(exist_ok=True)
    issued = issuer.issue_cert("name.invalid")
    issued.cert_chain_pems[0].write_to_path(folder / "crt")
    issued.private_key_pem.write_to_path(folder / "key")
    trusted.cert_pem.write_to_path(folder / "ca")
    return str(folder / "crt"), str(folder / "key"), str(folder / "ca")


def certificate(folder: Path, issuer: trustme.CA = AUTHORITY, trusted: trustme.CA = AUTHORITY) -> MutualCertificate:
    return MutualCertificate(*write_files(folder, issuer, trusted))


class Cluster:
    """Node a publishes ``cam`` over TLS, and node b, of the same authority, has a viewer of it."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.nodes: list[SocketNode] = []
        self.viewers: list[Viewer] = []

    async def add(self, name: str, certificate: MutualCertificate | None) -> SocketNode:
        node = SocketNode(self.network, name)
        await node.start("127.0.0.1:0", certificate)
        self.nodes.append(node)
        return node

    async def start(self) -> None:
        self.owner = await self.add("a", certificate(self.folder / "a"))
        await self.add("b", certificate(self.folder / "b"))
        self.publisher = NumberedPublisher(self.owner, "cam")  # type: ignore[arg-type]

    async def view(self, node: SocketNode) -> Viewer:
        await until(lambda: node.registry.directory.owner_of("cam") is not None, node.lines.lines)
        viewer = Viewer(node, "cam")  # type: ignore[arg-type]
        self.viewers.append(viewer)
        return viewer

    async def stop(self) -> None:
        self.publisher.leave()
        for viewer in self.viewers:
            viewer.leave()
        for node in self.nodes:
            node.hub.close("the test is over")
            await node.node.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    made = Cluster(Network(1), tmp_path)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def assert_undisturbed(cluster: Cluster, viewer: Viewer) -> None:
    """The viewer gets more pictures, in its first session, without a gap."""
    count = len(viewer.pictures)
    await until(lambda: len(viewer.pictures) > count + 2, cluster.nodes[1].lines.lines)
    numbers = [number for _, number in viewer.sessions[0].pictures]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert len(viewer.sessions) == 1


def client(issuer: trustme.CA | None, trusted: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    trusted.configure_trust(context)
    if issuer is not None:
        issuer.issue_cert("client.invalid").configure_cert(context)
    return context


async def test_a_path_is_copied_over_tls(cluster: Cluster) -> None:
    viewer = await cluster.view(cluster.nodes[1])
    await assert_undisturbed(cluster, viewer)
    port = cluster.owner.node.server.port
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(AUTHORITY))
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()


NEEDED = "all nodes need a certificate that the authority in 'clusterCA' has signed"
INVALID = rf"the certificate of the node is not valid \(.*certificate.*\): {NEEDED}$"
REFUSES = rf"the node refuses the connection \(TLSV1_ALERT_UNKNOWN_CA\): {NEEDED}$"


def logged(pattern: str, node: SocketNode) -> bool:
    return any(re.search(pattern, line) for line in node.lines.lines)


@pytest.mark.parametrize(
    ("trusted", "of_owner", "of_other"),
    [(OTHER_AUTHORITY, REFUSES, INVALID), (AUTHORITY, INVALID, REFUSES)],
    ids=["both refuse", "the owner refuses"],
)
async def test_a_node_of_another_authority_is_refused(
    cluster: Cluster, trusted: trustme.CA, of_owner: str, of_other: str
) -> None:
    viewer = await cluster.view(cluster.nodes[1])
    await until(lambda: viewer.pictures)
    other = await cluster.add("c", certificate(cluster.folder / "c", OTHER_AUTHORITY, trusted))
    refused = await cluster.view(other)
    await until(lambda: logged(rf"a node at 127\.0\.0\.1:\d+ was refused: {of_owner}", cluster.owner))
    await until(lambda: logged(f"copying failed: .*{of_other}", other), other.lines.lines)
    await assert_undisturbed(cluster, viewer)
    assert not refused.pictures


async def test_a_node_without_encryption_is_refused(cluster: Cluster) -> None:
    viewer = await cluster.view(cluster.nodes[1])
    await until(lambda: viewer.pictures)
    plain = await cluster.add("c", None)
    refused = await cluster.view(plain)
    text = "was refused: TLS error: "
    await until(lambda: any(text in line for line in cluster.owner.lines.lines), cluster.owner.lines.lines)
    line = next(line for line in cluster.owner.lines.lines if text in line)
    assert line.endswith("is 'clusterEncryption' set on all nodes?")
    await assert_undisturbed(cluster, viewer)
    assert not refused.pictures


async def test_an_owner_without_encryption_is_refused(cluster: Cluster) -> None:
    plain = await cluster.add("c", None)
    publisher = NumberedPublisher(plain, "other")  # type: ignore[arg-type]
    reader = cluster.nodes[1]
    await until(lambda: reader.registry.directory.owner_of("other") is not None)
    viewer = Viewer(reader, "other")  # type: ignore[arg-type]
    cluster.viewers.append(viewer)
    text = "is 'clusterEncryption' set on all nodes?"
    await until(lambda: any(text in line for line in reader.lines.lines), reader.lines.lines)
    assert not viewer.pictures
    publisher.leave()


async def test_a_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    port = cluster.owner.node.server.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(None))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        await reader.read()
    writer.close()
    text = f"was refused: the node has no certificate: {NEEDED}"
    await until(lambda: any(text in line for line in cluster.owner.lines.lines), cluster.owner.lines.lines)


async def test_changed_files_are_used_for_new_connections(tmp_path: Path) -> None:
    elapsed = 0.0
    node = SocketNode(Network(1), "a")
    shown = certificate(tmp_path)
    await node.start("127.0.0.1:0", shown, lambda: time.monotonic() + elapsed)
    lines = node.lines.lines
    try:
        (tmp_path / "crt").write_text("damaged")
        elapsed += 60.0
        await until(lambda: any("the new certificate cannot be used" in line for line in lines), lines)
        write_files(tmp_path, OTHER_AUTHORITY, OTHER_AUTHORITY)
        elapsed += 60.0
        await until(lambda: any("the certificate was reloaded" in line for line in lines), lines)
        port = node.node.server.port
        context = client(OTHER_AUTHORITY, OTHER_AUTHORITY)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=client(AUTHORITY))
    finally:
        node.hub.close("the test is over")
        await node.node.stop()


async def test_the_address_can_be_used_again_at_once(tmp_path: Path) -> None:
    shown = certificate(tmp_path)
    address = "127.0.0.1:0"
    for _ in range(2):
        node = SocketNode(Network(1), "a")
        await node.start(address, shown)
        address = f"127.0.0.1:{node.node.server.port}"
        await node.node.stop()
