"""Gives the lower layers access to the declarations of the protocols.

The configuration is built from these declarations, but must not import the protocols; the package
(``polycast/__init__``) registers them here before anything else is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_provider: Callable[[], tuple[Any, ...]] | None = None


def provide(provider: Callable[[], tuple[Any, ...]]) -> None:
    """Set the function that returns the declarations. It is called on each use, and not before the first one."""
    global _provider
    _provider = provider


def protocols() -> tuple[Any, ...]:
    """Return the declarations of the protocols; see `config.declarations.DeclaredProtocol`."""
    if _provider is None:
        raise RuntimeError("nobody has said which protocols there are")
    return _provider()
