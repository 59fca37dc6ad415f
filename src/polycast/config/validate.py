"""The rules between keys, and the defaults for empty values. Error texts are those of the reference server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from polycast.config.declarations import SourceKind, declared_sections
from polycast.config.fields import Field, configuration_fields, path_fields, replace
from polycast.config.kinds import ADDRESS, BOOLEAN, DURATION, INTEGER, PORT, check_address
from polycast.config.names import (
    ALL_PATHS,
    ALL_PATHS_ALIAS,
    check_path_name,
    compile_path_pattern,
    is_pattern,
)
from polycast.config.path_schema import PathConfiguration
from polycast.config.redact import redact
from polycast.config.schema import Configuration
from polycast.config.services import SERVICES
from polycast.config.sources import REDIRECT, source_kind, source_kinds
from polycast.errors import ConfigurationError


def validate(configuration: Configuration) -> Configuration:
    """The effective configuration: empty values replaced by defaults, ``all`` renamed, every rule checked.

    Raises ConfigurationError for the first violated rule.
    """
    fields = _with_defaults(configuration_fields())
    missing = {field.name: field.default for field in fields if not field.of(configuration)}
    configuration = replace(configuration, **missing, paths=_effective_paths(configuration.paths))
    for field in configuration_fields().values():
        _check_number(field, field.of(configuration))
    _check_general(configuration)
    for section in declared_sections():
        configuration[section].check()
    for name, path in configuration.paths.items():
        _check_path(configuration, name, path)
    return configuration


def _effective_paths(paths: dict[str, PathConfiguration]) -> dict[str, PathConfiguration]:
    effective = {}
    fields = _with_defaults(path_fields())
    for name, path in paths.items():
        if name == ALL_PATHS and ALL_PATHS_ALIAS in paths:
            continue  # the alias wins, as in the reference server
        missing = {field.name: field.default for field in fields if not getattr(path, field.name)}
        filled = msgspec.structs.replace(path, **missing) if missing else path
        effective[ALL_PATHS if name == ALL_PATHS_ALIAS else name] = filled
    return effective


def _with_defaults(fields: Mapping[str, Field]) -> list[Field]:
    """Return the settings whose empty value stands for the default."""
    return [
        field for field in fields.values() if field.kind is not BOOLEAN and field.default and not field.zero_is_a_value
    ]


def _check_number(field: Field, value: Any) -> None:
    if field.kind is DURATION and value < 0:
        raise ConfigurationError("a duration can't be negative", (field.key,))
    if field.kind in (INTEGER, PORT) and not field.has_own_rule and not 0 <= value < 2**31:
        raise ConfigurationError(f"{value} is out of range (0 to {2**31 - 1})", (field.key,))
    if field.kind is PORT and value > 65535:
        raise ConfigurationError(f"{value} is not a port (1 to 65535)", (field.key,))
    if field.kind is ADDRESS:
        try:
            check_address(value)
        except ConfigurationError as error:
            raise error.within(field.key) from None


def _check_general(configuration: Configuration) -> None:
    count = configuration.read_buffer_count
    if count <= 0 or count & (count - 1):
        raise ConfigurationError(
            f"'ReadBufferCount' must be a power of two, such as 512 or 1024, not {count}", ("readBufferCount",)
        )
    url = configuration.external_authentication_url
    if url and (not url.startswith(("http://", "https://")) or _split_url(url) is None):
        raise ConfigurationError(
            f"'externalAuthenticationURL' must be a HTTP URL (http://host/path or https://...), not '{redact(url)}'",
            ("externalAuthenticationURL",),
        )
    for name, settings_of in SERVICES.items():
        service = settings_of(configuration)
        if bool(service.user) != bool(service.password):
            raise _half_credentials(name, name, has_user=bool(service.user))


def _half_credentials(what: str, prefix: str, *, has_user: bool) -> ConfigurationError:
    given, missing = (f"{prefix}User", f"{prefix}Pass") if has_user else (f"{prefix}Pass", f"{prefix}User")
    return ConfigurationError(f"{what} username and password must be both filled (add {missing})", (given,))


def _check_path(configuration: Configuration, name: str, path: PathConfiguration) -> None:
    try:
        _check_name(name)
        for field in path_fields().values():
            _check_number(field, getattr(path, field.name))
        _check_sources(name, path)
        if path.fallback:
            _check_fallback(path.fallback)
        _check_credentials(configuration, path)
        if path.run_on_init and is_pattern(name):
            raise ConfigurationError(
                "a path with a regular expression does not support option 'runOnInit'; use another path",
                ("runOnInit",),
            )
        if path.run_on_demand and path.source != "publisher":
            raise ConfigurationError(
                "'runOnDemand' can be used only when source is 'publisher' (for a source on demand: sourceOnDemand)",
                ("runOnDemand",),
            )
    except ConfigurationError as error:
        shown = ALL_PATHS_ALIAS if name == ALL_PATHS else name
        raise error.within("paths", shown) from error.__cause__


def _check_name(name: str) -> None:
    if is_pattern(name):
        compile_path_pattern(name)
        return
    try:
        check_path_name(name)
    except ConfigurationError as error:
        hint = "; a regular expression begins with ~" if re.search(r"[\^$\[(+*|\\]", name) else ""
        raise ConfigurationError(f"invalid path name: {error} ({name}){hint}") from error


def _check_sources(name: str, path: PathConfiguration) -> None:
    for source in path.sources:
        kind = source_kind(source)
        if kind is None:
            raise ConfigurationError(f"invalid source: '{redact(source)}' ({_source_forms()})", ("source",))
        if len(path.sources) > 1 and not kind.is_static:
            raise ConfigurationError(f"'{source}' can't be one of several sources", ("source",))
        if kind.schemes:
            if is_pattern(name):
                raise ConfigurationError(
                    f"a path with a regular expression (or path 'all') cannot have a {kind.name} source; "
                    "use another path",
                    ("source",),
                )
            _check_url("source", source, kind)
        elif kind == REDIRECT:
            if not path.source_redirect:
                raise ConfigurationError(
                    "source redirect must be filled (add sourceRedirect: rtsp://host/path)", ("source",)
                )
            _check_redirection("sourceRedirect", path.source_redirect)
    if path.source_on_demand and path.source == "publisher":
        raise ConfigurationError(
            "'sourceOnDemand' is useless when source is 'publisher' (add source, or use runOnDemand)",
            ("sourceOnDemand",),
        )


def _check_fallback(fallback: str) -> None:
    if not fallback.startswith("/"):
        _check_redirection("fallback", fallback, "; another path of this server begins with a slash")
        return
    try:
        check_path_name(fallback[1:])
    except ConfigurationError as error:
        raise ConfigurationError(f"'{fallback}': {error}", ("fallback",)) from error


def _check_redirection(key: str, url: str, hint: str = "") -> None:
    """Check the target of a redirection, by the rules of a kind that supports redirections."""
    kinds = [kind for kind in source_kinds() if kind.redirects]
    scheme = url.partition("://")[0]
    _check_url(key, url, next((kind for kind in kinds if scheme in kind.schemes), kinds[0]), hint)


def _check_url(key: str, url: str, kind: SourceKind, hint: str = "") -> None:
    parts = _split_url(url)
    if parts is None or parts.scheme not in kind.schemes or (parts.fragment and not kind.allows_fragment):
        schemes = " or ".join(f"{scheme}://host/path" for scheme in kind.schemes)
        raise ConfigurationError(
            f"'{redact(url)}' is not a valid {kind.name} URL (write {schemes}{hint}{_url_hint(url)})", (key,)
        )
    if not kind.allows_user_alone and bool(parts.username) != bool(parts.password):
        raise ConfigurationError(
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


def _split_url(url: str) -> SplitResult | None:
    """The parts of a URL with a host and a valid port, or None."""
    if not url.isprintable():
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is not a port
    except ValueError:
        return None
    return parts if parts.hostname and " " not in parts.netloc else None


def _check_credentials(configuration: Configuration, path: PathConfiguration) -> None:
    external = configuration.external_authentication_url
    for what, user, password in (
        ("publish", path.publish_user, path.publish_pass),
        ("read", path.read_user, path.read_pass),
    ):
        if bool(user) != bool(password):
            raise _half_credentials(what, what, has_user=bool(user))
    for key, value in (("publishUser", path.publish_user), ("publishIPs", path.publish_ips)):
        if value and path.source != "publisher":
            raise ConfigurationError(
                f"'{key}' is useless when source is not 'publisher', "
                "since the stream is not provided by a publisher, but by a fixed source",
                (key,),
            )
    for key, value in (
        ("publishUser", path.publish_user),
        ("publishIPs", path.publish_ips),
        ("readUser", path.read_user),
        ("readIPs", path.read_ips),
    ):
        if value and external:
            raise ConfigurationError(
                f"'{key}' can't be used with 'externalAuthenticationURL', which decides alone (remove one of them)",
                (key,),
            )
