"""Ids of sessions and connections as MediaMTX has them: UUIDs, in API v3 and in the variables of commands."""

from __future__ import annotations

import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("7f0f5c0e-9a65-4d3b-8b0e-52f7a1f6c3d4")


def universal_id(identifier: str) -> str:
    """Return an id as a UUID. One that is none becomes one, always the same; an empty one stays empty."""
    try:
        return str(uuid.UUID(identifier))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, identifier)) if identifier else ""
