"""TLS between nodes: both sides show a certificate of the cluster's authority."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

from polycast.net.dial import connect, describe_failure
from polycast.net.tls import MutualCertificate
from polycast.security.addresses import parse_address

CONNECT_SECONDS: Final = 5.0
"""For a connection to another node."""

_NEEDED: Final = "all nodes need a certificate that the authority in 'clusterCA' has signed"

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class EncryptedDial:
    """Connects to other nodes over TLS."""

    def __init__(self, certificate: MutualCertificate) -> None:
        self._certificate = certificate

    async def __call__(self, factory: Callable[[], _Protocol], address: str) -> _Protocol:
        """Connect to ``host:port``. Raises OSError with a text for the user."""
        tls = self._certificate.outgoing
        try:
            return await connect(factory, *parse_address(address), tls=tls, timeout=CONNECT_SECONDS)
        except (ssl.SSLError, ConnectionResetError) as error:
            raise ConnectionError(f"{address}: {describe_tls_failure(error)}") from error


def describe_tls_failure(error: Exception) -> str:
    """Return why TLS with another node failed, and what to do, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the node is not valid ({error.verify_message}): {_NEEDED}"
    if not isinstance(error, ssl.SSLError):
        return f"{describe_failure(error)}: is 'clusterEncryption' set on all nodes?"
    reason = error.reason or str(error)
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return f"the node has no certificate: {_NEEDED}"
    if "_ALERT_" in reason:
        return f"the node refuses the connection ({reason}): {_NEEDED}"
    return f"TLS error: {reason}: is 'clusterEncryption' set on all nodes?"
