"""ONVIF cameras as sources: asked for the address of their stream, which is then pulled over RTSP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polycast.config.declarations import SourceKind
from polycast.protocols.base import Protocol, Pull

if TYPE_CHECKING:
    from polycast.protocols.pull import Puller


def _load_puller() -> type[Puller]:
    from polycast.protocols.onvif.source import OnvifPuller

    return OnvifPuller


def _load_http_client() -> None:
    from polycast.net.http_client import load_http_client

    load_http_client()


PROTOCOL = Protocol(
    name="ONVIF",
    pulls=(
        Pull(
            SourceKind(name="ONVIF", schemes=("onvif", "onvifs"), allows_user_alone=True, allows_fragment=False),
            _load_puller,
            _load_http_client,
        ),
    ),
)
