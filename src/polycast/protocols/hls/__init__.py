"""HLS: streams as playlists and files over HTTP, and the player page; sources are pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from polycast.config.declarations import SourceKind
from polycast.items import VIEWER_LABELS, Column, Count, DateTime, MetricBlock
from polycast.protocols.base import Address, Certificate, Listener, Protocol, Pull, ServerKind
from polycast.protocols.hls.configuration import HlsConfiguration
from polycast.protocols.hls.item import HlsMuxerItem
from polycast.protocols.metric_blocks import FRAMES_DISCARDED, OUTBOUND_BYTES
from polycast.protocols.transcode_audio import find_missing

if TYPE_CHECKING:
    from polycast.config.schema import Configuration
    from polycast.protocols.base import Server
    from polycast.protocols.pull import Puller


def _load_server() -> type[Server]:
    from polycast.protocols.hls.server import HlsServer

    return HlsServer


def _load_puller() -> type[Puller]:
    from polycast.protocols.hls.source import HlsPuller

    return HlsPuller


def _prepare_puller() -> None:
    from polycast.net.http_client import load_http_client

    load_http_client()


def _load_pages() -> None:
    from polycast import web

    web.preload()


def _is_encrypted(configuration: Configuration) -> bool:
    return configuration[HlsConfiguration].hls_encryption


class MuxerFields(TypedDict):
    """What an HLS muxer has in API v3."""

    lastRequest: DateTime
    outboundBytes: Count
    outboundFramesDiscarded: Count
    bytesSent: Count


def _muxer_fields(item: HlsMuxerItem) -> MuxerFields:
    return {
        "lastRequest": item.last_request_time,
        "outboundBytes": item.bytes_sent,
        "outboundFramesDiscarded": 0,
        "bytesSent": item.bytes_sent,
    }


HLS = ServerKind(
    name="HLS",
    collection="hlsmuxers",
    viewers="hlssessions",
    v3=_muxer_fields,
    metric="hls_muxers",
    blocks=(
        MetricBlock(
            title="HLS sessions",
            name="hls_sessions",
            collection="hlssessions",
            labels=VIEWER_LABELS,
            columns=(OUTBOUND_BYTES,),
        ),
        MetricBlock(
            title="HLS muxers",
            name="hls_muxers",
            collection="hlsmuxers",
            labels={"name": "path"},
            columns=(OUTBOUND_BYTES, FRAMES_DISCARDED),
            former=(Column("bytesSent", "Bytes sent"),),
            key="path",
        ),
    ),
    is_enabled=lambda configuration: configuration[HlsConfiguration].hls,
    load=_load_server,
    listeners=(Listener("hlsAddress"),),
    certificate=Certificate("hlsServerCert", "hlsServerKey", is_used=_is_encrypted),
    address=Address(lambda configuration: "https" if _is_encrypted(configuration) else "http", is_page=True),
    item=HlsMuxerItem,
    can_kick=False,
    find_missing=find_missing,
    preload=_load_pages,
)

PROTOCOL = Protocol(
    name="HLS",
    configuration=HlsConfiguration,
    servers=(HLS,),
    pulls=(Pull(SourceKind(name="HLS", schemes=("http", "https")), _load_puller, _prepare_puller),),
    embedded={"hls": False},
)
