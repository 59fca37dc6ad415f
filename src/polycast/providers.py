"""Who tells the lower layers which protocols there are: they ask here, and the package answers.

The configuration is made of what the protocols declare, but must not import them; the package (``polycast/__init__``),
which puts everything together, provides them here before anything else is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_provider: Callable[[], tuple[Any, ...]] | None = None


def provide(provider: Callable[[], tuple[Any, ...]]) -> None:
    """Set who is asked. It is asked each time, and not before somebody needs the protocols."""
    global _provider
    _provider = provider


def protocols() -> tuple[Any, ...]:
    """Return what the protocols declare; see `config.declarations.DeclaredProtocol`."""
    if _provider is None:
        raise RuntimeError("nobody has said which protocols there are")
    return _provider()
