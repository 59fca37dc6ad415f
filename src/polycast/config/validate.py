"""The rules between keys, and the defaults for empty values. Error texts are those of rtsp-simple-server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from polycast.config.access_rules import access_errors, credentials_of, deciding_key_for_paths, path_access_errors
from polycast.config.always_available import EXAMPLE as TRACKS_EXAMPLE
from polycast.config.declarations import SourceKind, declared_sections
from polycast.config.dialects.base import Dialect
from polycast.config.dialects.registry import dialect_of
from polycast.config.dialects.views import view_of
from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.forward import forward_errors
from polycast.config.kinds import ADDRESS, BOOLEAN, DURATION, INTEGER, PORT, check_address
from polycast.config.names import (
    ALL_PATHS,
    check_path_name,
    compile_path_pattern,
    is_pattern,
    loaded_name,
)
from polycast.config.path_schema import OwnSettings, PathConfiguration
from polycast.config.recording import recording_errors
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.config.sources import REDIRECT, source_kind, source_kinds
from polycast.config.urls import split_url, with_examples
from polycast.errors import ConfigurationError

MAXIMUM_UDP_PAYLOAD: Final = 1472
"""Bytes of a UDP datagram in an Ethernet frame."""
MINIMUM_UDP_PAYLOAD: Final = 200
"""Bytes: every network carries more (RFC 791: datagrams of 576 bytes)."""


def validate(configuration: Configuration) -> Configuration:
    """The effective configuration: empty values replaced by defaults, ``all`` renamed, every rule checked.

    Raises ConfigurationError for the first violated rule.
    """
    configuration = completed(configuration)
    for error in broken_rules(configuration):
        raise error from error.__cause__
    return configuration


def completed(configuration: Configuration) -> Configuration:
    """Return a configuration with defaults for empty values, and with the entry for all paths renamed."""
    dialect = dialect_of(configuration.dialect)
    view = view_of(dialect)
    fields = _with_defaults(view.fields, dialect)
    missing = {field.name: field.default for field in fields if not field.of(configuration)}
    path_fields_ = _with_defaults(view.path_fields, dialect)
    return replace(
        configuration,
        **missing,
        written=OwnSettings(configuration.written | (configuration.paths.keys() & {*dialect.names_of_all})),
        path_defaults=_filled(configuration.path_defaults, path_fields_),
        paths=_effective_paths(configuration.paths, dialect, path_fields_),
    )


def broken_rules(configuration: Configuration) -> Iterator[ConfigurationError]:
    """Yield an error for each violated rule of a completed configuration.

    Its keys are all whose values the rule depends on, the one to change first; they are canonical.
    """
    dialect = dialect_of(configuration.dialect)
    for field in configuration_fields().values():
        yield from _number_errors(field, field.of(configuration))
    yield from _general_errors(configuration, dialect)
    yield from configuration.broken_rules_of_cluster()
    if configuration.cluster and configuration.workers != 1:
        text = "'workers' must be 1 if 'cluster' is set: several servers on the machine can be nodes instead"
        yield ConfigurationError(text, ("workers",), ("cluster",))
    credentials = credentials_of(configuration)
    for section in declared_sections():
        yield from configuration[section].broken_rules(dialect)
        yield from configuration[section].broken_rules_of_credentials(credentials, dialect)
    deciding = deciding_key_for_paths(configuration)
    for name, path in configuration.paths.items():
        shown = dialect.names_of_all[0] if name == ALL_PATHS else name
        for error in _path_errors(name, path, dialect):
            yield error.within("paths", shown)
        for text, key in path_access_errors(path, deciding) if deciding else ():
            yield ConfigurationError(text, ("paths", shown, key), (deciding,))
    if dialect.is_strict:
        yield from _camera_errors(configuration.paths)


def _camera_errors(paths: Mapping[str, PathConfiguration]) -> Iterator[ConfigurationError]:
    first_of: dict[int, str] = {}
    secondary_of: dict[int, str] = {}
    cameras = {name: path for name, path in paths.items() if path.source == "rpiCamera"}
    for name, path in cameras.items():
        if path.rpi_camera_secondary:
            continue
        camera = path.rpi_camera_cam_id
        first = first_of.setdefault(camera, name)
        if first != name:
            yield ConfigurationError(
                f"'rpiCamera' with same camera ID {camera} is used as source in two paths, '{first}' and '{name}'",
                ("source",),
                ("rpiCameraCamID",),
            ).within("paths", name)
    for name, path in cameras.items():
        if not path.rpi_camera_secondary:
            continue
        text = ""
        if path.rpi_camera_cam_id not in first_of:
            text = "cannot find a primary RPI Camera stream to associate with the secondary stream"
        elif secondary_of.setdefault(path.rpi_camera_cam_id, name) != name:
            text = "a primary RPI Camera stream is associated with multiple secondary streams"
        if text:
            raised = ConfigurationError(text, ("rpiCameraSecondary",), ("rpiCameraCamID",))
            yield raised.within("paths", name)


def _effective_paths(
    paths: dict[str, PathConfiguration], dialect: Dialect, fields: Sequence[Field]
) -> dict[str, PathConfiguration]:
    effective = {}
    for name, path in paths.items():
        if name == ALL_PATHS and any(alias in paths for alias in dialect.names_of_all):
            continue  # the alias wins, as in rtsp-simple-server
        effective[loaded_name(name, dialect.names_of_all)] = _filled(path, fields)
    if dialect.sorts_expressions:
        return dict(sorted(effective.items(), key=_order_of_expressions))
    return effective


def _order_of_expressions(item: tuple[str, PathConfiguration]) -> tuple[int, str]:
    """Return a value by which expressions are sorted by their text, the one that matches everything last."""
    name = item[0]
    return (2, "") if name == ALL_PATHS else (1, name) if is_pattern(name) else (0, "")


def _filled(path: PathConfiguration, fields: Sequence[Field]) -> PathConfiguration:
    missing = {field.name: field.default for field in fields if not field.of(path)}
    return msgspec.structs.replace(path, **missing) if missing else path


def _with_defaults(fields: Mapping[str, Field], dialect: Dialect) -> list[Field]:
    """Return the settings whose empty value stands for the default."""
    return [
        field
        for field in fields.values()
        if field.kind.label != BOOLEAN.label
        and field.default
        and not field.zero_is_a_value
        and (dialect.empty_is_default or field.canonical in dialect.empty_defaults)
    ]


@cache
def _limited_path_fields() -> tuple[Field, ...]:
    """Return the settings of a path that `_number_errors` checks; there may be thousands of paths."""
    return tuple(field for field in path_fields().values() if field.kind in (DURATION, INTEGER, PORT, ADDRESS))


def _number_errors(field: Field, value: Any) -> Iterator[ConfigurationError]:
    if field.kind is DURATION and value < 0:
        yield ConfigurationError("a duration can't be negative", (field.key,))
    elif field.kind in (INTEGER, PORT) and not field.has_own_rule and not 0 <= value < 2**31:
        yield ConfigurationError(f"{value} is out of range (0 to {2**31 - 1})", (field.key,))
    elif field.kind is PORT and value > 65535:
        yield ConfigurationError(f"{value} is not a port (1 to 65535)", (field.key,))
    elif field.kind is ADDRESS and value:
        try:
            check_address(value)
        except ConfigurationError as error:
            yield error.within(field.key)


def _general_errors(configuration: Configuration, dialect: Dialect) -> Iterator[ConfigurationError]:
    count = configuration.write_queue_size
    if count <= 0 or count & (count - 1):
        shown = dialect.shown.get("writeQueueSize", "writeQueueSize")
        rule = "greater than zero" if count <= 0 and not dialect.empty_is_default else "a power of two"
        yield ConfigurationError(f"'{shown}' must be {rule}, such as 512 or 1024, not {count}", ("writeQueueSize",))
    size = configuration.udp_max_payload_size
    if size > MAXIMUM_UDP_PAYLOAD:
        yield ConfigurationError(
            f"'udpMaxPayloadSize' must be less than {MAXIMUM_UDP_PAYLOAD}, or equal", ("udpMaxPayloadSize",)
        )
    elif size < MINIMUM_UDP_PAYLOAD:
        yield ConfigurationError(f"'udpMaxPayloadSize' must be at least {MINIMUM_UDP_PAYLOAD}", ("udpMaxPayloadSize",))
    for key, value in (("readTimeout", configuration.read_timeout), ("writeTimeout", configuration.write_timeout)):
        if not value:
            yield ConfigurationError(f"'{key}' must be greater than zero", (key,))
    url = configuration.external_authentication_url
    if url and (not url.startswith(("http://", "https://")) or split_url(url) is None):
        yield ConfigurationError(
            f"'externalAuthenticationURL' must be a HTTP URL (http://host/path or https://...), not '{redact(url)}'",
            ("externalAuthenticationURL",),
        )
    for name, settings_of in SERVICES.items():
        service = settings_of(configuration)
        if service.is_enabled and not service.address:
            what = {"api": "API is", "metrics": "metrics are", "pprof": "pprof is", "playback": "playback is"}[name]
            yield ConfigurationError(f"'{name}Address' must be set when {what} enabled", (f"{name}Address",), (name,))
        if bool(service.user) != bool(service.password):
            yield _half_credentials(name, name, has_user=bool(service.user))
    yield from access_errors(configuration)


def _half_credentials(what: str, prefix: str, *, has_user: bool) -> ConfigurationError:
    given, missing = (f"{prefix}User", f"{prefix}Pass") if has_user else (f"{prefix}Pass", f"{prefix}User")
    return ConfigurationError(f"{what} username and password must be both filled (add {missing})", (given,), (missing,))


def _path_errors(name: str, path: PathConfiguration, dialect: Dialect) -> Iterator[ConfigurationError]:
    yield from _name_errors(name, dialect)
    for field in _limited_path_fields():
        yield from _number_errors(field, getattr(path, field.name))
    for source in path.sources:
        yield from _source_errors(name, path, source, dialect)
    if path.source_on_demand and path.source == "publisher":
        yield ConfigurationError(
            "'sourceOnDemand' is useless when source is 'publisher' "
            "(add source, or use runOnDemand; where pathDefaults sets it: 'sourceOnDemand: no')",
            ("sourceOnDemand",),
            ("source",),
        )
    if dialect.is_strict and path.source_redirect and path.source != "redirect":
        yield ConfigurationError(
            "'sourceRedirect' is useless when source is not 'redirect'", ("sourceRedirect",), ("source",)
        )
    if path.fallback:
        yield from _target_errors("fallback", path.fallback)
    yield from path.broken_rules()
    yield from _always_available_errors(name, path)
    yield from forward_errors(path.forward)
    yield from _credential_errors(path)
    yield from recording_errors(path)
    if path.run_on_init and is_pattern(name):
        yield ConfigurationError(
            "a path with a regular expression does not support option 'runOnInit'; use another path",
            ("runOnInit",),
        )
    if path.run_on_demand and path.source != "publisher":
        yield ConfigurationError(
            "'runOnDemand' can be used only when source is 'publisher' (for a source on demand: sourceOnDemand)",
            ("runOnDemand",),
            ("source",),
        )


def _name_errors(name: str, dialect: Dialect) -> Iterator[ConfigurationError]:
    try:
        if is_pattern(name):
            compile_path_pattern(name)
        else:
            check_path_name(name)
    except ConfigurationError as error:
        if is_pattern(name):
            yield error
            return
        hint = "; a regular expression begins with ~" if re.search(r"[\^$\[(+*|\\]", name) else ""
        yield ConfigurationError(dialect.invalid_path_name.format(name=name, error=error) + hint)


def _source_errors(name: str, path: PathConfiguration, source: str, dialect: Dialect) -> Iterator[ConfigurationError]:
    kind = source_kind(source)
    if kind is None:
        yield ConfigurationError(f"invalid source: '{redact(source)}' ({_source_forms()})", ("source",))
    elif len(path.sources) > 1 and not kind.is_static:
        yield ConfigurationError(f"'{source}' can't be one of several sources", ("source",))
    elif kind.schemes:
        if is_pattern(name) and dialect.allows_sources_of_expressions:
            if not path.source_on_demand:
                yield ConfigurationError(
                    "a path with a regular expression (or path 'all_others') and a static source must have "
                    "'sourceOnDemand' set to true",
                    ("sourceOnDemand",),
                    ("source",),
                )
        elif is_pattern(name):
            yield ConfigurationError(
                f"a path with a regular expression (or path '{dialect.names_of_all[0]}') cannot have "
                f"a {kind.name} source; use another path",
                ("source",),
            )
        yield from _checked("source", source, kind)
        if dialect.is_strict and kind.allows_user_alone and "@" in source:
            parts = split_url(with_examples(source))
            if parts is not None and parts.username and parts.password is None:
                yield ConfigurationError(
                    "username and password must be both provided (write user:@ before the host if it is empty)",
                    ("source",),
                )
    elif kind == REDIRECT:
        if path.source_redirect:
            yield from _target_errors("sourceRedirect", path.source_redirect)
        else:
            yield ConfigurationError(
                "source redirect must be filled (add sourceRedirect: rtsp://host/path)",
                ("source",),
                ("sourceRedirect",),
            )


def _checked(key: str, url: str, kind: SourceKind) -> Iterator[ConfigurationError]:
    if kind.check is None:
        yield from _url_errors(key, url, kind)
        return
    try:
        kind.check(url)
    except ConfigurationError as error:
        yield error.within(key)


def _target_errors(key: str, target: str) -> Iterator[ConfigurationError]:
    if not target.startswith("/"):
        yield from _redirection_errors(key, target, "; another path of this server begins with a slash")
        return
    try:
        check_path_name(target[1:])
    except ConfigurationError as error:
        yield ConfigurationError(f"'{target}': {error}", (key,))


def _redirection_errors(key: str, url: str, hint: str = "") -> Iterator[ConfigurationError]:
    """Check the target of a redirection, by the rules of a kind that supports redirections."""
    kinds = [kind for kind in source_kinds() if kind.redirects]
    scheme = url.partition("://")[0]
    return _url_errors(key, url, next((kind for kind in kinds if scheme in kind.schemes), kinds[0]), hint)


def _url_errors(key: str, url: str, kind: SourceKind, hint: str = "") -> Iterator[ConfigurationError]:
    example = with_examples(url)
    parts = split_url(example if kind.needs_host else example.replace("://:", "://localhost:", 1))
    if parts is None or parts.scheme not in kind.schemes or (parts.fragment and not kind.allows_fragment):
        schemes = " or ".join(f"{scheme}://host/path" for scheme in kind.schemes)
        yield ConfigurationError(
            f"'{redact(url)}' is not a valid {kind.name} URL (write {schemes}{hint}{_url_hint(url)})", (key,)
        )
    elif bool(parts.username) != bool(parts.password) and not (
        kind.allows_user_alone or (kind.allows_token and parts.password)
    ):
        yield ConfigurationError(
            "username and password must be both provided (write user:password@ before the host)", (key,)
        )


def _source_forms() -> str:
    """Return the possible forms of a source."""
    kinds = source_kinds()
    words = ", ".join(kind.word for kind in kinds if kind.word)
    *schemes, last = (f"{scheme}://" for kind in kinds for scheme in kind.schemes)
    return f"one of: {words}, or a URL that begins with {', '.join(schemes)} or {last}"


def _url_hint(url: str) -> str:
    """The likely mistake in a URL; usually a password that is not encoded."""
    authority = url.partition("://")[2]
    if authority.count("@") > 1 or "#" in authority or re.search(r"[/?\[\]%](?=[^@]*@)", authority):
        return "; write @ : / ? # % of a user or password as %40 %3A %2F %3F %23 %25"
    return ""


def _credential_errors(path: PathConfiguration) -> Iterator[ConfigurationError]:
    for what, user, password in (
        ("publish", path.publish_user, path.publish_pass),
        ("read", path.read_user, path.read_pass),
    ):
        if bool(user) != bool(password):
            yield _half_credentials(what, what, has_user=bool(user))
    for key, value in path.demands_on_publishers.items():
        if value and path.source != "publisher":
            yield ConfigurationError(
                f"'{key}' is useless when source is not 'publisher', "
                "since the stream is not provided by a publisher, but by a fixed source",
                (key,),
                ("source",),
            )


def _always_available_errors(name: str, path: PathConfiguration) -> Iterator[ConfigurationError]:
    if not path.always_available:
        return
    if is_pattern(name):
        yield ConfigurationError(
            "'alwaysAvailable' cannot be used in a path with a regular expression (or path 'all_others')",
            ("alwaysAvailable",),
        )
    if path.source_on_demand:
        yield ConfigurationError(
            "'sourceOnDemand' is not compatible with 'alwaysAvailable'", ("sourceOnDemand",), ("alwaysAvailable",)
        )
    if path.run_on_demand or path.run_on_un_demand:
        yield ConfigurationError(
            "'runOnDemand' and 'runOnUnDemand' cannot be used with 'alwaysAvailable'",
            ("runOnDemand",) if path.run_on_demand else ("runOnUnDemand",),
            ("alwaysAvailable",),
        )
    if path.use_absolute_timestamp:
        yield ConfigurationError(
            "'useAbsoluteTimestamp' cannot be used with 'alwaysAvailable'",
            ("useAbsoluteTimestamp",),
            ("alwaysAvailable",),
        )
    if path.always_available_file and path.always_available_tracks:
        yield ConfigurationError(
            "'alwaysAvailableFile' and 'alwaysAvailableTracks' cannot be used together",
            ("alwaysAvailableFile",),
            ("alwaysAvailableTracks",),
        )
    elif not path.always_available_file and not path.always_available_tracks:
        yield ConfigurationError(
            f"'alwaysAvailableTracks' must contain at least one track (write [{TRACKS_EXAMPLE}])",
            ("alwaysAvailableTracks",),
            ("alwaysAvailable",),
        )
