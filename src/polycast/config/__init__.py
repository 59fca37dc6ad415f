"""The configuration: its settings, and how it is read, validated, compared and dumped.

``load`` reads a file and environment variables, ``from_mapping`` converts plain values, and ``validate`` completes a
``Configuration`` that was created directly. All of them return a valid ``Configuration``, or raise ConfigurationError.
"""

from polycast.config.declarations import SourceKind
from polycast.config.diff import PathChanges, changed_keys, changed_paths
from polycast.config.dump import add_path, edit_path, from_mapping, path_to_jsonable, remove_path, to_jsonable, update
from polycast.config.fields import replace
from polycast.config.load import LoadedConfiguration, load, load_bytes
from polycast.config.names import check_path_name, compile_path_pattern
from polycast.config.schema import Configuration, PathConfiguration
from polycast.config.sources import source_kind
from polycast.config.validate import validate
from polycast.config.values import (
    Duration,
    Encryption,
    LogDestination,
    LogLevel,
    Size,
    SourceProtocol,
)
from polycast.security.addresses import IPNetwork

__all__ = [
    "Configuration",
    "Duration",
    "Encryption",
    "IPNetwork",
    "LoadedConfiguration",
    "LogDestination",
    "LogLevel",
    "PathChanges",
    "PathConfiguration",
    "Size",
    "SourceKind",
    "SourceProtocol",
    "add_path",
    "changed_keys",
    "changed_paths",
    "check_path_name",
    "compile_path_pattern",
    "edit_path",
    "from_mapping",
    "load",
    "load_bytes",
    "path_to_jsonable",
    "remove_path",
    "replace",
    "source_kind",
    "to_jsonable",
    "update",
    "validate",
]
