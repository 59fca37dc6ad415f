"""The settings of HLS."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from polycast.config.dialects.base import Dialect
from polycast.config.kinds import ADDRESS, choice_kind, secret_kind
from polycast.config.marks import LIVE, NEW, OWN_RULE, Heading, restarts
from polycast.config.section import Section
from polycast.config.spelling import yaml_key
from polycast.config.values import Duration, Size
from polycast.errors import ConfigurationError
from polycast.security.addresses import IPNetwork

MINIMUM_SEGMENTS: Final = 3
MINIMUM_LOW_LATENCY_SEGMENTS: Final = 7


class HlsVariant(StrEnum):
    MPEGTS = "mpegts"
    FMP4 = "fmp4"
    LOW_LATENCY = "lowLatency"


CDN_SECRET: Final = secret_kind("hlsCDNSecret")
HLS_VARIANT: Final = choice_kind(HlsVariant, "invalid HLS variant: '%s'")


class HlsConfiguration(Section, frozen=True, kw_only=True, rename=yaml_key):
    """The settings of the HLS server."""

    hls: Annotated[bool, Heading("HLS"), restarts("HLS"), Meta(description="Enable HLS.")] = True
    hls_address: Annotated[str, ADDRESS, restarts("HLS"), Meta(description="Address that HLS listens on.")] = ":8888"
    hls_always_remux: Annotated[
        bool,
        restarts("HLS"),
        Meta(
            description=(
                "Convert every stream to HLS all the time, so that the first viewer does not have to wait. "
                "Otherwise streams are converted only while somebody is watching."
            )
        ),
    ] = False
    hls_variant: Annotated[
        HlsVariant,
        HLS_VARIANT,
        restarts("HLS"),
        Meta(
            description=(
                "HLS variant: 'mpegts' (MPEG-TS segments, plays everywhere), 'fmp4' (MP4 segments, more efficient) "
                "or 'lowLatency' (Low-Latency HLS; it needs hlsEncryption and at least 7 segments)."
            )
        ),
    ] = HlsVariant.MPEGTS
    hls_segment_count: Annotated[
        int,
        OWN_RULE,
        restarts("HLS"),
        Meta(description="Number of segments in the playlist, which is how far back a viewer can seek. At least 3."),
    ] = 7
    hls_segment_duration: Annotated[
        Duration,
        restarts("HLS"),
        Meta(
            description=(
                "Shortest duration of a segment. A segment starts with a key frame, so it is at least as long as "
                "the key frame interval."
            )
        ),
    ] = Duration(1)
    hls_part_duration: Annotated[
        Duration,
        restarts("HLS"),
        Meta(description="Shortest duration of a part of a segment, for Low-Latency HLS."),
    ] = Duration(0.2)
    hls_segment_max_size: Annotated[
        Size,
        restarts("HLS"),
        Meta(description="Largest size of a segment. Prevents a stream without key frames from exhausting memory."),
    ] = Size(50 * 1024 * 1024)
    hls_allow_origins: Annotated[
        tuple[str, ...],
        LIVE,
        Meta(
            description=(
                "Origins whose pages may play the streams (Access-Control-Allow-Origin), such as "
                "'https://example.com' or 'https://*.example.com'; '*' is every site."
            )
        ),
    ] = ("*",)
    hls_encryption: Annotated[
        bool, restarts("HLS"), Meta(description="Serve HLS over HTTPS. Low-Latency HLS needs it.")
    ] = False
    hls_server_key: Annotated[
        str, restarts("HLS"), Meta(description="File with the private key for HLS over HTTPS.")
    ] = "server.key"
    hls_server_cert: Annotated[
        str, restarts("HLS"), Meta(description="File with the certificate for HLS over HTTPS.")
    ] = "server.crt"
    hls_trusted_proxies: Annotated[
        tuple[IPNetwork, ...],
        LIVE,
        Meta(
            description=(
                "IP addresses and ranges of proxies in front of the server. The viewer's address is taken from "
                "their X-Forwarded-For and X-Real-IP headers."
            )
        ),
    ] = ()
    hls_directory: Annotated[
        str,
        restarts("HLS"),
        NEW,
        Meta(
            description=(
                "Folder for copies of playlists and segments, with a folder for each path, for web servers that read "
                "them there; they are removed when the stream is no longer converted. Empty: they are only in memory."
            )
        ),
    ] = ""
    hls_muxer_close_after: Annotated[
        Duration,
        LIVE,
        NEW,
        Meta(
            description=(
                "How long a stream is still converted to HLS after the last request for it, unless hlsAlwaysRemux is "
                "set."
            )
        ),
    ] = Duration(60)
    hls_cdn_secret: Annotated[
        str,
        CDN_SECRET,
        LIVE,
        NEW,
        Meta(
            description=(
                "Secret with which a content delivery network gets all streams without credentials and sessions: it "
                "sends the header 'Authorization: Bearer' with it. The network decides who may watch."
            )
        ),
    ] = ""
    dash: Annotated[
        bool,
        restarts("HLS"),
        NEW,
        Meta(
            description=(
                "Serve each stream also over DASH: the manifest is 'index.mpd' in the folder of the path, its segments "
                "are those of HLS. It needs hlsVariant fmp4 or lowLatency. Sound then has segments of its own."
            )
        ),
    ] = False
    http_streams: Annotated[
        bool,
        LIVE,
        NEW,
        Meta(
            description=(
                "Serve each stream at the address of the HLS server also as one long response, for programs that do "
                "not play HLS: 'stream.flv' (HTTP-FLV), 'stream.ts' (MPEG-TS), 'stream.mjpeg' and 'frame.jpeg' "
                "(pictures), in the folder of the path."
            )
        ),
    ] = False
    hls_index: Annotated[
        bool, LIVE, NEW, Meta(description="List the live streams at the address '/' of the HLS server.")
    ] = False

    def broken_rules(self, dialect: Dialect) -> Iterator[ConfigurationError]:
        if self.hls and not self.hls_address:
            yield ConfigurationError("'hlsAddress' must be set when HLS is enabled", ("hlsAddress",), ("hls",))
        if self.dash and self.hls_variant is HlsVariant.MPEGTS:
            yield ConfigurationError("DASH requires hlsVariant fmp4 or lowLatency", ("dash",), ("hlsVariant",))
        count = self.hls_segment_count
        if self.hls_variant is HlsVariant.LOW_LATENCY:
            if count < MINIMUM_LOW_LATENCY_SEGMENTS:
                yield ConfigurationError(
                    f"Low-Latency HLS requires at least 7 segments, not {count}", ("hlsSegmentCount",), ("hlsVariant",)
                )
            if not self.hls_encryption and dialect.requires_encryption_for_low_latency:
                yield ConfigurationError(
                    "Low-Latency HLS requires encryption (set hlsEncryption: yes, hlsServerKey and hlsServerCert)",
                    ("hlsVariant",),
                    ("hlsEncryption",),
                )
        elif count < MINIMUM_SEGMENTS:
            text = f"The minimum number of HLS segments is 3, not {count}"
            yield ConfigurationError(text, ("hlsSegmentCount",), ("hlsVariant",))
