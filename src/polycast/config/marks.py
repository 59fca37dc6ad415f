"""Properties of a configuration key in addition to its type, default and description.

Marks are part of the key's annotation: ``Annotated[bool, LIVE, NEW, Meta(description="...")]``.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Change(Struct, frozen=True):
    """The effect of a new value on a running server. Every key has exactly one."""

    restarts: frozenset[str]
    """Names of the servers and services that are restarted, such as ``RTSP``; empty: nothing is interrupted."""


LIVE: Final = Change(frozenset())
"""A new value is used from now on: it is read from the running configuration, or applied by `apply`."""


PATH: Final = Change(frozenset({"path"}))
"""For keys of a path that are not `LIVE`: the paths whose settings changed are closed and created again."""


def restarts(*names: str) -> Change:
    """A new value restarts these servers or services: for listeners and values that are read at the start."""
    return Change(frozenset(names))


class Heading(Struct, frozen=True):
    """The key is the first of a section of the documents."""

    title: str
    after: str = ""
    """The title of the section that it follows; empty: it stays where it is."""


class Mark(Struct, frozen=True):
    """A yes-or-no property of a key."""

    name: str


NEW: Final = Mark("new")
"""rtsp-simple-server lacks the key."""

ZERO_IS_A_VALUE: Final = Mark("zero is a value")
"""An empty value does not stand for the default."""

OWN_RULE: Final = Mark("own rule")
"""An integer that is validated by a rule between keys; the general limits do not apply."""
