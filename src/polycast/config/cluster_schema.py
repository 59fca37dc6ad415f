"""The settings of a cluster: several servers that serve the same paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct

from polycast.config.kinds import ADDRESS
from polycast.config.marks import LIVE, NEW, Heading
from polycast.config.redact import redact
from polycast.config.spelling import yaml_key
from polycast.errors import ConfigurationError

REGISTRY_SCHEMES: Final = ("nats://", "tls://")
MAXIMUM_NODE_NAME: Final = 64
"""Characters of the name of a node."""


class ClusterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key):
    """Part of the configuration."""

    cluster: Annotated[
        tuple[str, ...],
        Heading("Cluster", after="Recording"),
        LIVE,
        NEW,
        Meta(
            description=(
                "Addresses of the NATS servers that connect this server with others to a cluster, such as "
                "'nats://user:pass@host:4222' ('tls://' with TLS). What is published on one of them can be read on all "
                "(see docs/cluster.md)."
            )
        ),
    ] = ()
    cluster_credentials: Annotated[
        str, LIVE, NEW, Meta(description="File with credentials of NATS (.creds), instead of user and password.")
    ] = ""
    cluster_token: Annotated[
        str,
        LIVE,
        NEW,
        Meta(description="Secret text that all nodes of the cluster have: only they get streams from each other."),
    ] = ""
    cluster_encryption: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Encrypt the streams between the nodes with TLS 1.3. Nodes accept each other only with a certificate "
                "signed by the authority in clusterCA. It must be the same on all nodes."
            )
        ),
    ] = False
    cluster_server_key: Annotated[
        str, LIVE, NEW, Meta(description="File with the private key of this node, for clusterEncryption.")
    ] = "server.key"
    cluster_server_cert: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "File with the certificate of this node, for clusterEncryption. It is shown to nodes that connect, "
                "and to those that this one connects to; names in it are not checked."
            )
        ),
    ] = "server.crt"
    cluster_ca: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "File with the certificate of the authority that has signed those of all nodes. Required by "
                "clusterEncryption. Use an authority of the cluster's own, not a public one."
            )
        ),
    ] = ""
    node_name: Annotated[
        str, LIVE, NEW, Meta(description="Name of this server in the cluster. Empty: the name of the machine.")
    ] = ""
    node_address: Annotated[
        str,
        ADDRESS,
        LIVE,
        NEW,
        Meta(
            description=(
                "Address at which the other nodes get streams from this one. Without a host: all interfaces, and the "
                "others are told the one that leads to the NATS server."
            )
        ),
    ] = ":8600"

    node_host: Annotated[
        str,
        LIVE,
        NEW,
        Meta(
            description=(
                "Host name or IP address at which clients reach this server, for clusterRedirect. Empty: the host that "
                "other nodes connect to (nodeAddress)."
            )
        ),
    ] = ""
    cluster_redirect: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Send readers of RTSP, HLS and WebRTC to the node that publishes the path, instead of copying it from "
                "there. Readers over other protocols get a copy. It must be the same on all nodes."
            )
        ),
    ] = False

    def broken_rules_of_cluster(self) -> Iterator[ConfigurationError]:
        """Yield an error for each broken rule."""
        for server in self.cluster:
            if not server.startswith(REGISTRY_SCHEMES):
                text = f"'cluster' must have addresses like nats://host:4222 or tls://host:4222, not '{redact(server)}'"
                yield ConfigurationError(text, ("cluster",))
        if self.cluster and not self.cluster_token:
            text = "'clusterToken' must be set if 'cluster' is: without it, anyone could get all streams"
            yield ConfigurationError(text, ("clusterToken",), ("cluster",))
        if self.cluster_encryption and not self.cluster_ca:
            text = (
                "'clusterCA' must be set if 'clusterEncryption' is: the file with the certificate of the authority "
                "that has signed those of all nodes"
            )
            yield ConfigurationError(text, ("clusterCA",), ("clusterEncryption",))
        if self.cluster and not self.node_address:
            yield ConfigurationError("'nodeAddress' must be set if 'cluster' is", ("nodeAddress",), ("cluster",))
        if len(self.node_name) > MAXIMUM_NODE_NAME:
            yield ConfigurationError(f"'nodeName' has more than {MAXIMUM_NODE_NAME} characters", ("nodeName",))
