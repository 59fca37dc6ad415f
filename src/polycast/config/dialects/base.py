"""What a dialect is: the names, forms and defaults with which a server's users write the canonical settings.

A dialect consists of tables. ``views.py`` makes of them what reads and writes configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from polycast.config.kinds import Kind


class Form(Struct, frozen=True):
    """How a dialect writes one canonical setting."""

    key: str = ""
    """Its name; empty: the canonical one."""
    kind: Kind | None = None
    """How its values are written; None: the canonical form."""
    message: str = ""
    """The error for a value that is none of the choices, with %s for it; empty: the canonical one."""


class Deprecated(Struct, frozen=True):
    """A former name of a setting, which is still accepted and wins over the present one."""

    canonical: str
    """The canonical key that it sets."""
    kind: Kind | None = None
    """How its values are written; None: the canonical form."""
    implied: Mapping[str, Any] = {}
    """Plain values of further settings that it stands for, by canonical key."""


class Unsupported(Struct, frozen=True):
    """A setting of the dialect whose feature does not exist here."""

    default: Any
    """Its value as written in a file while the feature is not used: a text, or a list of plain values."""
    text: str = ""
    """What follows from that for the user, in addition to the name of the setting."""
    harmless: tuple[str, ...] = ()
    """Further values that change nothing here."""
    is_detail: bool = False
    """Whether it only says how a feature works that another setting enables; any value is then harmless."""


class Dialect(Struct, frozen=True, eq=False, kw_only=True):
    """The configuration language of one server."""

    name: str
    """In the key ``dialect`` and the option ``--dialect``."""
    file: str
    """Name of the configuration file that is written in it."""
    prefixes: tuple[str, ...]
    """Prefixes of environment variables; later ones win."""
    old_prefixes: tuple[str, ...] = ()
    """Those of ``prefixes`` that are accepted with a warning."""
    has_other_variables: bool = False
    """Whether other variables have the prefix as well; then only those that resemble a setting are mentioned."""
    names_of_all: tuple[str, ...]
    """Names of the entry of ``paths`` that stands for every other name; the first one is shown."""
    has_path_defaults: bool = False
    """Whether the file may have ``pathDefaults``."""
    empty_is_default: bool = False
    """Whether 0 and empty texts stand for the default."""
    allows_sources_of_expressions: bool = True
    """Whether a path with a regular expression may have a source on demand."""
    ships_defaults: bool = False
    """Whether most files contain all settings with their defaults, so that a value says nothing about the user."""
    sorts_expressions: bool = False
    """Whether the expressions among the paths are tried in the order of their text instead of that of the file."""
    empty_defaults: frozenset[str] = frozenset()
    """Without ``empty_is_default``: canonical keys for which it nevertheless does."""
    unknown_parameter: str = "non-existent parameter: '%s'"
    """The error for a setting that does not exist, with %s for its name."""
    invalid_path_name: str = "invalid path name: {error} ({name})"
    """The error for a path name that is not allowed."""
    has_viewer_commands: bool = True
    """Whether `runOnRead` and `runOnUnread` run for viewers of HLS as well."""
    realm: str = ""
    """What browsers show when they ask for a password, and by which they store it; empty: each server has its own."""
    is_strict: bool = False
    """Whether what cannot be meant is an error everywhere: a key that is written twice, a useless ``sourceRedirect``,
    a user of an RTSP source without a password, and digest authentication that cannot check the passwords."""
    shown: Mapping[str, str] = {}
    """What error messages call a setting, by canonical key, where it is not its name."""
    requires_encryption_for_low_latency: bool = False
    """Whether Low-Latency HLS without TLS is refused."""
    requires_plain_transports: bool = False
    """Whether encryption alone is refused if other transports than TCP are allowed."""
    kinds: Mapping[Kind, Kind] = {}
    """Forms of all settings of a kind that are written in another way."""
    replaced: Mapping[str, str] = {}
    """What should be used instead of settings that still work, by their keys."""
    forms: Mapping[str, Form] = {}
    """Global settings that are written in another way, by canonical key."""
    path_forms: Mapping[str, Form] = {}
    defaults: Mapping[str, Any] = {}
    """Plain values of global settings with another default, by canonical key."""
    path_defaults: Mapping[str, Any] = {}
    deprecated: Mapping[str, Deprecated] = {}
    """Former names of global settings."""
    path_deprecated: Mapping[str, Deprecated] = {}
    moved: frozenset[str] = frozenset()
    """Settings of paths that were global once; as such, they win over those of the defaults of paths."""
    unsupported: Mapping[str, Unsupported] = {}
    """Global settings without a feature here."""
    path_unsupported: Mapping[str, Unsupported] = {}

    def key(self, canonical: str) -> str:
        """Return the name of a canonical setting, global or of a path."""
        form = self.forms.get(canonical) or self.path_forms.get(canonical)
        return (form and form.key) or canonical
