"""What a key of the configuration says about itself besides its type, default and description.

Marks stand in the key's annotation: ``Annotated[bool, LIVE, NEW, Meta(description="...")]``.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Change(Struct, frozen=True):
    """What a new value does to a server that runs. Every key has exactly one."""

    restarts: frozenset[str]
    """Names of the servers and services that are restarted, such as ``RTSP``; empty: nothing is interrupted."""


LIVE: Final = Change(frozenset())
"""A new value is used from now on: whoever needs it reads it from the running configuration, or takes it in `apply`."""


PATH: Final = Change(frozenset({"path"}))
"""Of every key of a path: the paths whose settings changed are closed and made anew."""


def restarts(*names: str) -> Change:
    """A new value needs these servers or services to be started again: listeners and what is read as they start."""
    return Change(frozenset(names))


class Heading(Struct, frozen=True):
    """The key is the first of a section of the documents."""

    title: str


class Mark(Struct, frozen=True):
    """A yes-or-no property of a key."""

    name: str


NEW: Final = Mark("new")
"""rtsp-simple-server does not have the key."""

ZERO_IS_A_VALUE: Final = Mark("zero is a value")
"""An empty value is not a way to ask for the default."""

OWN_RULE: Final = Mark("own rule")
"""A whole number that a rule between keys checks; the general limits do not apply."""
