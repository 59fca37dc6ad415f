"""What frames and parameter sets tell of a codec: one place that knows the parsers of all of them."""

from __future__ import annotations

import dataclasses

from polycast.codecs import ac3, av1, h264, h265, mpeg_audio, vp9
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, AV1, H264, H265, VP9, Codec, MPEGAudio
from polycast.media.frame import Frame


def updated_codec(codec: Codec, frame: Frame) -> Codec:
    """Return the codec as it is from this key frame on: the same object when nothing changed.

    Raises RemoteProtocolError when the frame's headers are broken.
    """
    if isinstance(codec, H264):
        return h264.updated(codec, frame.units)
    if isinstance(codec, H265):
        return h265.updated(codec, frame.units)
    if isinstance(codec, AV1):
        return av1.updated(codec, frame.units)
    if isinstance(codec, VP9):
        return vp9.updated(codec, frame.units[0])
    if isinstance(codec, MPEGAudio) and not codec.sample_rate:
        header = mpeg_audio.parse_frame_header(frame.units[0])
        return dataclasses.replace(codec, sample_rate=header.sample_rate, channels=header.channels, layer=header.layer)
    if isinstance(codec, AC3):
        sync_frame = ac3.parse_sync_frame(frame.units[0])
        if sync_frame.channels != codec.channels:
            return dataclasses.replace(codec, channels=sync_frame.channels)
    return codec


def reorders(codec: Codec) -> bool:
    """Whether the parameter sets say that pictures are decoded in another order than shown (B-frames)."""
    try:
        if isinstance(codec, H264):
            return bool(codec.sps and h264.parse_sps(codec.sps).reorder_depth)
        if isinstance(codec, H265):
            return bool(codec.sps and h265.parse_sps(codec.sps).reorder_depth)
    except RemoteProtocolError:
        pass
    return False
