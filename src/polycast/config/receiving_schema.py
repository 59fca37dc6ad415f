"""The settings of a path whose source sends MPEG-TS or RTP to the server."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from polycast.config.camera_schema import CameraConfiguration
from polycast.config.marks import NEW, ZERO_IS_A_VALUE, Heading
from polycast.config.spelling import yaml_key
from polycast.config.values import Size


class ReceivingConfiguration(
    CameraConfiguration, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=yaml_key
):
    """These settings and those of the camera; base class of those of a path."""

    rtp_sdp: Annotated[
        str,
        Heading("MPEG-TS and RTP sources", after="Source"),
        NEW,
        Meta(
            description=(
                "Session description (SDP) of an RTP source (udp+rtp://host:port): its media, payload types and codec "
                "parameters. Addresses and ports in it are ignored."
            )
        ),
    ] = ""
    rtp_udp_read_buffer_size: Annotated[
        Size,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Receive buffer of the UDP socket of an RTP source. 0B: udpReadBufferSize."),
    ] = Size(0)
    mpegts_udp_read_buffer_size: Annotated[
        Size,
        NEW,
        ZERO_IS_A_VALUE,
        Meta(description="Receive buffer of the UDP socket of an MPEG-TS source. 0B: udpReadBufferSize."),
    ] = Size(0)
