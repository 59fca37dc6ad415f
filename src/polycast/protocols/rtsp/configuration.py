"""The settings of RTSP."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS, MULTICAST_RANGE, PORT, choice_list_kind
from polycast.config.marks import LIVE, NEW, Heading, restarts
from polycast.config.section import Section, UsedCredentials
from polycast.config.spelling import yaml_key
from polycast.config.values import Encryption, Size
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork, parse_address
from polycast.wire.rtsp.authentication import ALL_METHODS, AuthenticationMethod
from polycast.wire.rtsp.transport_choice import Protocol

PROTOCOLS: Final = choice_list_kind(Protocol, "invalid transport: %s", frozenset)
AUTH_METHODS: Final = choice_list_kind(AuthenticationMethod, "invalid authentication method: '%s'", tuple)


_UDP: Final = "UDP is enabled and RTSP encryption is 'no' or 'optional'"
_MULTICAST: Final = "UDP multicast is enabled and RTSP encryption is 'no' or 'optional'"
_SECURE_UDP: Final = "UDP is enabled and RTSP encryption is 'optional' or 'strict'"
_SECURE_MULTICAST: Final = "UDP multicast is enabled and RTSP encryption is 'optional' or 'strict'"


class RtspConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """The settings of the RTSP and RTSPS servers."""

    rtsp: Annotated[bool, Heading("RTSP"), restarts("RTSP", "RTSPS"), Meta(description="Enable RTSP.")] = True
    rtsp_transports: Annotated[
        frozenset[Protocol],
        PROTOCOLS,
        restarts("RTSP", "RTSPS"),
        Meta(
            description=(
                "Transports that RTSP clients may use: any of 'udp', 'multicast' and 'tcp'. UDP has the lowest "
                "latency, multicast saves bandwidth on a local network, TCP passes through most firewalls and can "
                "be encrypted."
            )
        ),
    ] = frozenset(Protocol)
    rtsp_encryption: Annotated[
        Encryption,
        restarts("RTSP", "RTSPS"),
        Meta(
            description=(
                "Encryption of RTSP: 'no', 'strict' (only encrypted connections; UDP and multicast only as SRTP) or "
                "'optional' (both, on two addresses)."
            )
        ),
    ] = Encryption.NO
    rtsp_address: Annotated[str, ADDRESS, restarts("RTSP"), Meta(description="Address that RTSP listens on.")] = ":8554"
    rtsps_address: Annotated[
        str, ADDRESS, restarts("RTSPS"), Meta(description="Address that RTSPS (RTSP over TLS) listens on.")
    ] = ":8322"
    rtp_address: Annotated[
        str, ADDRESS, restarts("RTSP"), Meta(description="UDP address for media packets (RTP). The port must be even.")
    ] = ":8000"
    rtcp_address: Annotated[
        str,
        ADDRESS,
        restarts("RTSP"),
        Meta(description="UDP address for reports (RTCP). The port must be the one after rtpAddress."),
    ] = ":8001"
    multicast_ip_range: Annotated[
        IPNetwork | None,
        MULTICAST_RANGE,
        restarts("RTSP", "RTSPS"),
        Meta(description="Multicast addresses that streams are sent to, one address per track."),
    ] = ip_network("224.1.0.0/16")
    multicast_rtp_port: Annotated[
        int, PORT, restarts("RTSP"), Meta(description="Port for media packets sent by multicast. It must be even.")
    ] = 8002
    multicast_rtcp_port: Annotated[
        int,
        PORT,
        restarts("RTSP"),
        Meta(description="Port for reports sent by multicast. It must be the one after multicastRTPPort."),
    ] = 8003
    srtp_address: Annotated[
        str,
        ADDRESS,
        restarts("RTSPS"),
        NEW,
        Meta(
            description=(
                "UDP address for encrypted media packets (SRTP) of RTSPS clients, such as ':8004'; the port must be "
                "even. Empty: RTSPS clients do not get UDP. rtspTransports must contain 'udp'. Needs the package "
                "cryptography (extra 'tls')."
            )
        ),
    ] = ""
    srtcp_address: Annotated[
        str,
        ADDRESS,
        restarts("RTSPS"),
        NEW,
        Meta(description="UDP address for encrypted reports (SRTCP). The port must be the one after srtpAddress."),
    ] = ":8005"
    multicast_srtp_port: Annotated[
        int,
        PORT,
        restarts("RTSPS"),
        NEW,
        Meta(
            description=(
                "Port for encrypted media packets sent by multicast to RTSPS clients, such as 8006. It must be even. "
                "0: RTSPS clients do not get multicast. rtspTransports must contain 'multicast'."
            )
        ),
    ] = 0
    multicast_srtcp_port: Annotated[
        int,
        PORT,
        restarts("RTSPS"),
        NEW,
        Meta(description="Port for encrypted reports sent by multicast. It must be the one after multicastSRTPPort."),
    ] = 8007
    udp_read_buffer_size: Annotated[
        Size,
        restarts("RTSP", "RTSPS"),
        NEW,
        Meta(
            description=(
                "Receive buffer of each UDP socket in the system (SO_RCVBUF). If the system's limit is lower, that "
                "limit applies (on Linux: net.core.rmem_max)."
            )
        ),
    ] = Size(2 * 1024 * 1024)
    rtsp_server_key: Annotated[
        str, restarts("RTSPS"), Meta(description="File with the private key for encrypted RTSP.")
    ] = "server.key"
    rtsp_server_cert: Annotated[
        str, restarts("RTSPS"), Meta(description="File with the certificate for encrypted RTSP.")
    ] = "server.crt"
    rtsp_auth_methods: Annotated[
        tuple[AuthenticationMethod, ...],
        AUTH_METHODS,
        restarts("RTSP", "RTSPS"),
        Meta(description="Authentication methods offered to RTSP clients: any of 'basic' and 'digest'."),
    ] = ALL_METHODS
    rtsp_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        NEW,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of RTSP and RTSPS, such as HAProxy ('send-proxy-v2') or "
                "nginx ('proxy_protocol on'). They name their client in a header of the PROXY protocol (version 1 or "
                "2) at the beginning of each connection. Connections from other addresses that begin with such a "
                "header are refused."
            )
        ),
    ] = ()

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        protocols = self.rtsp_transports
        if self.rtsp_encryption is Encryption.STRICT and dialect.requires_plain_transports:
            for protocol, name, key, is_set in (
                (Protocol.UDP, "UDP", "srtpAddress", self.srtp_address),
                (Protocol.MULTICAST, "UDP-multicast", "multicastSRTPPort", self.multicast_srtp_port),
            ):
                if protocol in protocols and not is_set:
                    transports, encryption = dialect.key("rtspTransports"), dialect.key("rtspEncryption")
                    yield ConfigurationError(
                        f"strict encryption can't be used with the {name} transport protocol "
                        f"(set {transports}: [tcp], or {encryption}: optional, or {key} for SRTP)",
                        ("rtspEncryption",),
                        ("rtspTransports",),
                    )
        if not self.rtsp:
            return
        yield from self._missing_addresses(dialect)
        if not self.rtsp_auth_methods:
            yield ConfigurationError("at least one 'rtspAuthMethods' must be provided", ("rtspAuthMethods",))
        if self.uses_srtp_over_udp and self.srtcp_address:
            rtp, rtcp = parse_address(self.srtp_address)[1], parse_address(self.srtcp_address)[1]
            yield from _broken_port_pair(rtp, rtcp, "srtpAddress", "srtcpAddress")
        if self.uses_srtp_over_multicast:
            ports = self.multicast_srtp_port, self.multicast_srtcp_port
            yield from _broken_port_pair(*ports, "multicastSRTPPort", "multicastSRTCPPort")
        if Protocol.UDP in protocols and self.rtp_address and self.rtcp_address:
            rtp, rtcp = parse_address(self.rtp_address)[1], parse_address(self.rtcp_address)[1]
            yield from _broken_port_pair(rtp, rtcp, "rtpAddress", "rtcpAddress")
        if Protocol.MULTICAST in protocols:
            yield from _broken_port_pair(
                self.multicast_rtp_port,
                self.multicast_rtcp_port,
                "multicastRTPPort",
                "multicastRTCPPort",
            )

    def broken_rules_of_credentials(
        self, credentials: UsedCredentials, dialect: Dialect
    ) -> Iterator[ConfigurationError]:
        """For digest authentication, the server must know the passwords as plain text. Where others are offered as
        well, clients can do without it."""
        methods = self.rtsp_auth_methods
        if AuthenticationMethod.DIGEST not in methods or not (len(methods) == 1 or dialect.is_strict):
            return
        if not credentials.are_internal:
            text = "when RTSP digest is enabled, the only supported auth method is 'internal'"
            yield ConfigurationError(text, ("rtspAuthMethods",), ("authMethod",))
        elif credentials.are_hashed:
            text = "when RTSP digest is enabled, hashed credentials cannot be used"
            yield ConfigurationError(text, ("rtspAuthMethods",), ("authInternalUsers",))

    def _missing_addresses(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        """Yield an error for each address that is needed and empty, if that does not mean the default."""
        plain, encrypted = self.rtsp_encryption is not Encryption.STRICT, self.rtsp_encryption is not Encryption.NO
        udp, multicast = Protocol.UDP in self.rtsp_transports, Protocol.MULTICAST in self.rtsp_transports
        # Without these, SRTP is off, except for those whose server always has it.
        srtp = encrypted and "srtpAddress" in dialect.defaults
        for key, value, is_needed, condition in (
            ("rtspAddress", self.rtsp_address, plain, "RTSP is enabled and RTSP encryption is 'no' or 'optional'"),
            (
                "rtspsAddress",
                self.rtsps_address,
                encrypted,
                "RTSP is enabled and RTSP encryption is 'optional' or 'strict'",
            ),
            ("rtpAddress", self.rtp_address, plain and udp, _UDP),
            ("rtcpAddress", self.rtcp_address, plain and udp, _UDP),
            ("multicastIPRange", self.multicast_ip_range, plain and multicast, _MULTICAST),
            ("multicastIPRange", self.multicast_ip_range, srtp and not plain and multicast, _SECURE_MULTICAST),
            ("multicastRTPPort", self.multicast_rtp_port, plain and multicast, _MULTICAST),
            ("multicastRTCPPort", self.multicast_rtcp_port, plain and multicast, _MULTICAST),
            ("srtpAddress", self.srtp_address, srtp and udp, _SECURE_UDP),
            ("srtcpAddress", self.srtcp_address, srtp and udp, _SECURE_UDP),
            ("multicastSRTPPort", self.multicast_srtp_port, srtp and multicast, _SECURE_MULTICAST),
            ("multicastSRTCPPort", self.multicast_srtcp_port, srtp and multicast, _SECURE_MULTICAST),
        ):
            if is_needed and not value:
                yield ConfigurationError(f"'{key}' must be set when {condition}", (key,), ("rtsp",))

    @property
    def uses_srtp_over_udp(self) -> bool:
        """Whether clients of RTSPS get SRTP over UDP."""
        is_on = self.rtsp and self.rtsp_encryption is not Encryption.NO
        return is_on and Protocol.UDP in self.rtsp_transports and bool(self.srtp_address)

    @property
    def uses_srtp_over_multicast(self) -> bool:
        """Whether clients of RTSPS get SRTP over multicast."""
        is_on = self.rtsp and self.rtsp_encryption is not Encryption.NO
        return is_on and Protocol.MULTICAST in self.rtsp_transports and bool(self.multicast_srtp_port)


def _broken_port_pair(rtp: int, rtcp: int, rtp_key: str, rtcp_key: str) -> Iterator[ConfigurationError]:
    if rtp == rtcp == 0:
        return  # the system picks a pair
    others = (("rtspTransports",), ("rtsp",))
    if rtp % 2:
        text = f"RTP port must be even (such as {rtp - 1} or {rtp + 1}), not {rtp}"
        yield ConfigurationError(text, (rtp_key,), *others)
    elif rtcp != rtp + 1:
        text = f"RTP and RTCP ports must be consecutive (with port {rtp} for {rtp_key}, {rtcp_key} has port {rtp + 1})"
        yield ConfigurationError(text, (rtcp_key,), (rtp_key,), *others)
