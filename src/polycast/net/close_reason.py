"""Why a connection was lost, as text for the log."""

from __future__ import annotations

import ssl


def describe_close(error: Exception | None, peer: str = "client") -> str:
    """Return the reason for what asyncio passed to ``connection_lost``; ``peer`` names the other side."""
    if error is None:
        return f"closed by the {peer}"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "connection lost"
    if isinstance(error, ssl.SSLError):
        return f"TLS error: {getattr(error, 'reason', None) or error}"
    return str(error) or type(error).__name__
