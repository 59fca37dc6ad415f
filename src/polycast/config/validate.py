"""The rules between keys, and what empty values stand for. Error texts are those of the reference server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

import msgspec

from polycast.config.fields import Field, configuration_fields, path_fields
from polycast.config.kinds import ADDRESS, BOOLEAN, DURATION, INTEGER, parse_address
from polycast.config.names import (
    ALL_PATHS,
    ALL_PATHS_ALIAS,
    check_path_name,
    compile_path_pattern,
    is_pattern,
)
from polycast.config.path_schema import PathConfiguration, SourceKind, source_kind
from polycast.config.schema import Configuration
from polycast.config.values import Encryption, HlsVariant, Protocol
from polycast.errors import ConfigurationError

_Settings = TypeVar("_Settings", Configuration, PathConfiguration)

MIN_SEGMENTS: Final = 3
MIN_LOW_LATENCY_SEGMENTS: Final = 7

_ZERO_IS_A_VALUE: Final = frozenset({"authenticationFailurePause"})
"""Keys whose empty value is not a way to ask for the default."""

_PORTS: Final = frozenset({"multicastRTPPort", "multicastRTCPPort"})
_CHECKED_NUMBERS: Final = frozenset({"readBufferCount", "hlsSegmentCount"})  # they have rules of their own
_SCHEMES: Final = {
    SourceKind.RTSP: ("rtsp", "rtsps"),
    SourceKind.RTMP: ("rtmp", "rtmps"),
    SourceKind.HLS: ("http", "https"),
}


def validate(configuration: Configuration) -> Configuration:
    """The configuration that takes effect: empty values replaced by defaults, ``all`` renamed, every rule checked.

    Raises ConfigurationError at the first rule that is broken.
    """
    configuration = msgspec.structs.replace(
        _fill_defaults(configuration, configuration_fields()), paths=_effective_paths(configuration.paths)
    )
    for field in configuration_fields().values():
        _check_number(field, getattr(configuration, field.name))
    _check_general(configuration)
    _check_rtsp(configuration)
    _check_hls(configuration)
    for name, path in configuration.paths.items():
        _check_path(configuration, name, path)
    return configuration


def _effective_paths(paths: dict[str, PathConfiguration]) -> dict[str, PathConfiguration]:
    effective = {}
    for name, path in paths.items():
        if name == ALL_PATHS and ALL_PATHS_ALIAS in paths:
            continue  # the alias wins, as in the reference server
        effective[ALL_PATHS if name == ALL_PATHS_ALIAS else name] = _fill_defaults(path, path_fields())
    return effective


def _fill_defaults(settings: _Settings, fields: Mapping[str, Field]) -> _Settings:
    missing = {
        field.name: field.default
        for field in fields.values()
        if field.kind is not BOOLEAN
        and field.default
        and not getattr(settings, field.name)
        and field.key not in _ZERO_IS_A_VALUE
    }
    return msgspec.structs.replace(settings, **missing) if missing else settings


def _check_number(field: Field, value: Any) -> None:
    if field.kind is DURATION and value < 0:
        raise ConfigurationError(f"{field.key}: a duration can't be negative")
    if field.kind is INTEGER and field.key not in _CHECKED_NUMBERS and not 0 <= value < 2**31:
        raise ConfigurationError(f"{field.key}: {value} is out of range")
    if field.key in _PORTS and value > 65535:
        raise ConfigurationError(f"{field.key}: {value} is not a port (1 to 65535)")
    if field.kind is ADDRESS:
        parse_address(value)


def _check_general(configuration: Configuration) -> None:
    count = configuration.read_buffer_count
    if count <= 0 or count & (count - 1):
        raise ConfigurationError("'ReadBufferCount' must be a power of two")
    url = configuration.external_authentication_url
    if url and (not url.startswith(("http://", "https://")) or _split_url(url) is None):
        raise ConfigurationError("'externalAuthenticationURL' must be a HTTP URL")
    for server in ("api", "metrics", "pprof"):
        user, password = getattr(configuration, f"{server}_user"), getattr(configuration, f"{server}_pass")
        if bool(user) != bool(password):
            raise ConfigurationError(f"{server} username and password must be both filled")


def _check_rtsp(configuration: Configuration) -> None:
    protocols, encryption = configuration.protocols, configuration.encryption
    if encryption is Encryption.STRICT and Protocol.UDP in protocols:
        raise ConfigurationError("strict encryption can't be used with the UDP transport protocol")
    if encryption is Encryption.STRICT and Protocol.MULTICAST in protocols:
        raise ConfigurationError("strict encryption can't be used with the UDP-multicast transport protocol")
    if configuration.rtsp_disable:
        return
    if Protocol.UDP in protocols:
        _check_port_pair(parse_address(configuration.rtp_address)[1], parse_address(configuration.rtcp_address)[1])
    if Protocol.MULTICAST in protocols:
        _check_port_pair(configuration.multicast_rtp_port, configuration.multicast_rtcp_port)


def _check_port_pair(rtp: int, rtcp: int) -> None:
    if rtp == rtcp == 0:
        return  # the system picks a pair
    if rtp % 2:
        raise ConfigurationError("RTP port must be even")
    if rtcp != rtp + 1:
        raise ConfigurationError("RTP and RTCP ports must be consecutive")


def _check_hls(configuration: Configuration) -> None:
    if configuration.hls_variant is HlsVariant.LOW_LATENCY:
        if configuration.hls_segment_count < MIN_LOW_LATENCY_SEGMENTS:
            raise ConfigurationError("Low-Latency HLS requires at least 7 segments")
        if not configuration.hls_encryption:
            raise ConfigurationError("Low-Latency HLS requires encryption")
    elif configuration.hls_segment_count < MIN_SEGMENTS:
        raise ConfigurationError("The minimum number of HLS segments is 3")


def _check_path(configuration: Configuration, name: str, path: PathConfiguration) -> None:
    if is_pattern(name):
        compile_path_pattern(name)
    else:
        try:
            check_path_name(name)
        except ConfigurationError as error:
            raise ConfigurationError(f"invalid path name: {error} ({name})") from error
    for field in path_fields().values():
        try:
            _check_number(field, getattr(path, field.name))
        except ConfigurationError as error:
            raise ConfigurationError(f"parameter paths, key {name}: {error}") from error
    _check_sources(name, path)
    if path.fallback:
        _check_fallback(path.fallback)
    _check_credentials(configuration, path)
    if path.run_on_init and is_pattern(name):
        raise ConfigurationError(
            "a path with a regular expression does not support option 'runOnInit'; use another path"
        )
    if path.run_on_demand and path.source != "publisher":
        raise ConfigurationError("'runOnDemand' can be used only when source is 'publisher'")


def _check_sources(name: str, path: PathConfiguration) -> None:
    for source in path.sources:
        kind = source_kind(source)
        if kind is None:
            raise ConfigurationError(f"invalid source: '{source}'")
        if len(path.sources) > 1 and not kind.is_static:
            raise ConfigurationError(f"parameter paths, key {name}: source: '{source}' can't be one of several sources")
        if kind in _SCHEMES:
            if is_pattern(name):
                raise ConfigurationError(
                    f"a path with a regular expression (or path 'all') cannot have a {kind.value} source; "
                    "use another path"
                )
            _check_url(source, kind)
        elif kind is SourceKind.REDIRECT:
            if not path.source_redirect:
                raise ConfigurationError("source redirect must be filled")
            _check_url(path.source_redirect, SourceKind.RTSP)
    if path.source_on_demand and path.source == "publisher":
        raise ConfigurationError("'sourceOnDemand' is useless when source is 'publisher'")


def _check_fallback(fallback: str) -> None:
    if not fallback.startswith("/"):
        _check_url(fallback, SourceKind.RTSP)
        return
    try:
        check_path_name(fallback[1:])
    except ConfigurationError as error:
        raise ConfigurationError(f"'{fallback}': {error}") from error


def _check_url(url: str, kind: SourceKind) -> None:
    parts = _split_url(url)
    if parts is None or parts.scheme not in _SCHEMES[kind] or (kind is SourceKind.RTSP and parts.fragment):
        raise ConfigurationError(f"'{url}' is not a valid {kind.value} URL")
    # RTSP cameras without a password exist; the other protocols have no such case.
    if kind is not SourceKind.RTSP and bool(parts.username) != bool(parts.password):
        raise ConfigurationError("username and password must be both provided")


def _split_url(url: str) -> SplitResult | None:
    """The parts of a URL with a host and a possible port, or None."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises when it is not a port
    except ValueError:
        return None
    return parts if parts.hostname else None


def _check_credentials(configuration: Configuration, path: PathConfiguration) -> None:
    external = configuration.external_authentication_url
    if bool(path.publish_user) != bool(path.publish_pass):
        raise ConfigurationError("publish username and password must be both filled")
    for key, value in (("publishUser", path.publish_user), ("publishIPs", path.publish_ips)):
        if value and path.source != "publisher":
            raise ConfigurationError(
                f"'{key}' is useless when source is not 'publisher', "
                "since the stream is not provided by a publisher, but by a fixed source"
            )
        if value and external:
            raise ConfigurationError(f"'{key}' can't be used with 'externalAuthenticationURL'")
    if bool(path.read_user) != bool(path.read_pass):
        raise ConfigurationError("read username and password must be both filled")
    for key, value in (("readUser", path.read_user), ("readIPs", path.read_ips)):
        if value and external:
            raise ConfigurationError(f"'{key}' can't be used with 'externalAuthenticationURL'")
