"""Servers that are enabled by default although the packages that they need are optional."""

from __future__ import annotations

from importlib.util import find_spec

import msgspec

from polycast.config import LoadedConfiguration, replace
from polycast.config.dialects.registry import dialect_of
from polycast.config.fields import configuration_fields
from polycast.errors import missing_packages
from polycast.protocols.registry import server_kinds


def without_missing(loaded: LoadedConfiguration) -> LoadedConfiguration:
    """Return the configuration without the servers whose packages are missing, each with a warning.

    A server that the user enabled stays, and then fails to start. In a dialect whose shipped file spells out all
    defaults (``Dialect.ships_defaults``), a switch does not show what the user wants: the server is left out as well.
    """
    configuration, warnings = loaded.configuration, list(loaded.warnings)
    is_spelled_out = dialect_of(configuration.dialect).ships_defaults
    for kind in server_kinds():
        if not kind.switch or not kind.is_enabled(configuration):
            continue
        missing = [how for name, how in kind.packages.items() if find_spec(name) is None]
        if missing and (is_spelled_out or kind.switch not in loaded.given):
            name = configuration_fields()[kind.switch].name
            configuration = replace(configuration, **{name: False})
            warnings.append(f"{kind.name} is off: {missing_packages(kind.name, *missing)}, or set {kind.switch}: no")
    return msgspec.structs.replace(loaded, configuration=configuration, warnings=warnings)
