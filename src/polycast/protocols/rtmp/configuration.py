"""The settings of RTMP."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS, choice_list_kind
from polycast.config.marks import LIVE, NEW, Heading, restarts
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.config.values import Encryption
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork


class RtmpAuthMethod(StrEnum):
    QUERY = "query"
    ADOBE = "adobe"
    LLNW = "llnw"


AUTH_METHODS: Final = choice_list_kind(RtmpAuthMethod, "invalid authentication method: %s", tuple)


class RtmpConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """The settings of the RTMP and RTMPS servers."""

    rtmp: Annotated[bool, Heading("RTMP"), restarts("RTMP", "RTMPS"), Meta(description="Enable RTMP.")] = True
    rtmp_address: Annotated[str, ADDRESS, restarts("RTMP"), Meta(description="Address that RTMP listens on.")] = ":1935"
    rtmp_encryption: Annotated[
        Encryption,
        restarts("RTMP", "RTMPS"),
        Meta(
            description=(
                "Encryption of RTMP: 'no', 'strict' (only encrypted connections) or 'optional' (both, on two "
                "addresses)."
            )
        ),
    ] = Encryption.NO
    rtmps_address: Annotated[
        str, ADDRESS, restarts("RTMPS"), Meta(description="Address that RTMPS (RTMP over TLS) listens on.")
    ] = ":1936"
    rtmp_auth_methods: Annotated[
        tuple[RtmpAuthMethod, ...],
        AUTH_METHODS,
        LIVE,
        NEW,
        Meta(
            description=(
                "Login methods for RTMP publishers: 'query' (user and pass in the query), 'adobe' or 'llnw' ('Use "
                "authentication' in OBS, rtmp://user:pass@host in FFmpeg). With 'adobe' or 'llnw', publishers whose "
                "server URL has no credentials have to log in; a query after the stream key is then not enough."
            )
        ),
    ] = (RtmpAuthMethod.QUERY,)
    rtmp_server_key: Annotated[
        str, restarts("RTMPS"), Meta(description="File with the private key for encrypted RTMP.")
    ] = "server.key"
    rtmp_server_cert: Annotated[
        str, restarts("RTMPS"), Meta(description="File with the certificate for encrypted RTMP.")
    ] = "server.crt"
    rtmp_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of RTMP and RTMPS, such as HAProxy ('send-proxy-v2') or "
                "nginx ('proxy_protocol on'). They name their client in a header of the PROXY protocol (version 1 or "
                "2) at the beginning of each connection. Connections from other addresses that begin with such a "
                "header are refused."
            )
        ),
    ] = ()

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        for key, value, is_needed in (
            ("rtmpAddress", self.rtmp_address, self.rtmp_encryption is not Encryption.STRICT),
            ("rtmpsAddress", self.rtmps_address, self.rtmp_encryption is not Encryption.NO),
        ):
            if self.rtmp and is_needed and not value:
                yield ConfigurationError(f"'{key}' must be set when RTMP is enabled", (key,), ("rtmp",))
