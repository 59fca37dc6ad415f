"""Keys made of passphrases: in a thread, since that takes milliseconds, and only where the package is installed."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from polycast.errors import MissingDependency, RemoteProtocolError, missing_packages
from polycast.wire.srt.key_material import KeyMaterial, PayloadMode
from polycast.wire.srt.keys import ConnectionKeys
from polycast.wire.srt.rejection import RejectedError, Rejection

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.wire.srt.encryption import SessionKeys

PURPOSE: Final = "a passphrase of SRT"


def load_encryption() -> None:
    """Import what encrypts. Raises MissingDependency."""
    try:
        import polycast.wire.srt.encryption  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "cryptography":
            raise
        raise MissingDependency(missing_packages(PURPOSE, "cryptography")) from error


def find_missing(configuration: Configuration) -> str:
    """Return what the passphrases of paths need and is not installed, as a text for the user; empty for nothing."""
    paths = configuration.paths.values()
    if any(path.srt_publish_passphrase or path.srt_read_passphrase for path in paths):
        try:
            load_encryption()
        except MissingDependency as error:
            return str(error)
    return ""


async def keys_for(passphrase: str, material: KeyMaterial) -> ConnectionKeys:
    """Return the keys that a caller has sent. Raises RejectedError for another passphrase."""
    try:
        keys = await asyncio.to_thread(_unwrap, passphrase, material)
    except RemoteProtocolError:
        raise RejectedError(Rejection.BAD_SECRET, "invalid passphrase") from None
    return ConnectionKeys(keys, secrets.token_bytes)


async def generate_keys(passphrase: str, key_size: int, mode: PayloadMode) -> tuple[ConnectionKeys, bytes]:
    """Return new keys, and the message with them for a listener. Raises MissingDependency."""
    keys = await asyncio.to_thread(_generate, passphrase, key_size, mode)
    return ConnectionKeys(keys, secrets.token_bytes), keys.message


def _unwrap(passphrase: str, material: KeyMaterial) -> SessionKeys:
    load_encryption()
    from polycast.wire.srt.encryption import SessionKeys

    return SessionKeys(passphrase, material)


def _generate(passphrase: str, key_size: int, mode: PayloadMode) -> SessionKeys:
    load_encryption()
    from polycast.wire.srt.encryption import SessionKeys

    return SessionKeys.generate(passphrase, key_size, secrets.token_bytes, mode)
