"""Opus: packet durations (RFC 6716) and its configuration in Ogg (RFC 7845) and ISO files (dOps)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from polycast.codecs.bitstream import Bitstream
from polycast.errors import RemoteProtocolError
from polycast.media.codec import Opus

CLOCK_RATE = 48_000
"""Hz, whatever the encoder's sample rate (RFC 7587 section 4.1)."""

MAXIMUM_PACKET_DURATION = 5760
"""120 ms in ticks of 48 kHz (RFC 6716 section 3.2.5)."""

PRE_SKIP = 312
"""Samples that a decoder discards at the start: the look-ahead of libopus, 6.5 ms."""

_ID_HEADER_MAGIC = b"OpusHead"
_FRAME_DURATIONS = (
    *(480, 960, 1920, 2880) * 3,  # SILK: 10, 20, 40, 60 ms
    *(480, 960) * 2,  # hybrid: 10, 20 ms
    *(120, 240, 480, 960) * 4,  # CELT: 2.5, 5, 10, 20 ms
)
"""Frame durations by configuration number, in ticks of 48 kHz (RFC 6716 table 2)."""


@dataclass(frozen=True, slots=True)
class OpusConfiguration:
    """The contents of the Ogg identification header and the dOps box (RFC 7845 section 5.1)."""

    channels: int = 2
    pre_skip: int = PRE_SKIP
    """In samples at 48 kHz."""
    input_sample_rate: int = CLOCK_RATE
    """Of the original, in Hz; for information only."""
    output_gain: int = 0
    """In 1/256 dB."""
    mapping_family: int = 0
    mapping: bytes = b""
    """For families other than 0: stream count, coupled count, and one byte per channel."""


def packet_duration(packet: bytes) -> int:
    """Return the duration of a packet in ticks of 48 kHz (RFC 6716 section 3.1).

    Raises `RemoteProtocolError` for an empty packet or one over 120 ms.
    """
    if not packet:
        raise RemoteProtocolError("an Opus packet is empty")
    contents = packet[0]
    code = contents & 3
    duration = _FRAME_DURATIONS[contents >> 3]
    if code == 0:
        return duration
    if code != 3:
        return duration * 2
    if len(packet) < 2:
        raise RemoteProtocolError("an Opus packet ends too early")
    duration *= packet[1] & 0x3F
    if not 0 < duration <= MAXIMUM_PACKET_DURATION:
        raise RemoteProtocolError("an Opus packet has a number of frames that is not valid")
    return duration


class ChannelLayout(NamedTuple):
    """How channels are spread over the streams of a multistream packet (RFC 7845 section 5.1.1)."""

    streams: int
    coupled_streams: int
    """Streams of two channels; they come first."""
    mapping: tuple[int, ...]
    """For each output channel the decoded channel."""


SURROUND_LAYOUTS = {
    3: ChannelLayout(2, 1, (0, 2, 1)),
    4: ChannelLayout(2, 2, (0, 1, 2, 3)),
    5: ChannelLayout(3, 2, (0, 4, 1, 2, 3)),
    6: ChannelLayout(4, 2, (0, 4, 1, 2, 3, 5)),
    7: ChannelLayout(4, 3, (0, 4, 1, 2, 3, 5, 6)),
    8: ChannelLayout(5, 3, (0, 6, 1, 2, 3, 4, 5, 7)),
}
"""By number of channels, for mapping family 1 (RFC 7845 section 5.1.1.2): as libopus encodes it, and with it FFmpeg,
GStreamer and Chromium. RTMP and MP4 streams do not transmit the layout separately, so it has to be this
one everywhere."""


def configuration_of(codec: Opus) -> OpusConfiguration:
    """Return the configuration for a codec: family 0 for mono and stereo, 1 (Vorbis order) for more channels."""
    if codec.channels <= 2:
        return OpusConfiguration(codec.channels)
    layout = SURROUND_LAYOUTS[min(codec.channels, 8)]
    mapping = bytes((layout.streams, layout.coupled_streams, *layout.mapping))
    return OpusConfiguration(len(layout.mapping), mapping_family=1, mapping=mapping)


def multichannel_parameters(channels: int) -> dict[str, str]:
    """Return the format parameters of ``multiopus``, the form of Chromium for three to eight channels in SDP."""
    layout = SURROUND_LAYOUTS[channels]
    return {
        "channel_mapping": ",".join(map(str, layout.mapping)),
        "num_streams": str(layout.streams),
        "coupled_streams": str(layout.coupled_streams),
    }


def build_id_header(configuration: OpusConfiguration) -> bytes:
    """Return the Ogg identification header, ``OpusHead`` (RFC 7845 section 5.1)."""
    fields = struct.pack(
        "<BBHIhB",
        1,
        configuration.channels,
        configuration.pre_skip,
        configuration.input_sample_rate,
        configuration.output_gain,
        configuration.mapping_family,
    )
    return _ID_HEADER_MAGIC + fields + configuration.mapping


def parse_id_header(data: bytes) -> OpusConfiguration:
    """Parse the Ogg identification header. Raises `RemoteProtocolError`."""
    if not data.startswith(_ID_HEADER_MAGIC):
        raise RemoteProtocolError("not an Opus identification header")
    return _parse(data[len(_ID_HEADER_MAGIC) :], "<", 1)


def build_configuration_record(configuration: OpusConfiguration) -> bytes:
    """Return the payload of a dOps box ("Encapsulation of Opus in ISO Base Media File Format" section 4.3.2)."""
    fields = struct.pack(
        ">BBHIhB",
        0,
        configuration.channels,
        configuration.pre_skip,
        configuration.input_sample_rate,
        configuration.output_gain,
        configuration.mapping_family,
    )
    return fields + configuration.mapping


def parse_configuration_record(data: bytes) -> OpusConfiguration:
    """Parse the payload of a dOps box. Raises `RemoteProtocolError`."""
    return _parse(data, ">", 0)


def _parse(data: bytes, order: str, version: int) -> OpusConfiguration:
    if len(data) < 11:
        raise RemoteProtocolError("an Opus configuration ends too early")
    found, channels, pre_skip, rate, gain, family = struct.unpack_from(order + "BBHIhB", data)
    if found != version or channels == 0:
        raise RemoteProtocolError("an Opus configuration has a version or channel count that is not valid")
    mapping = b""
    if family != 0:
        mapping = data[11 : 13 + channels]
        if len(mapping) != 2 + channels:
            raise RemoteProtocolError("an Opus configuration ends too early")
    elif channels > 2:
        raise RemoteProtocolError(f"Opus mapping family 0 cannot have {channels} channels")
    return OpusConfiguration(channels, pre_skip, rate, gain, family, mapping)


def codec_string(codec: Opus) -> str:
    """Return the codec string."""
    return "opus"


BITSTREAM = Bitstream(Opus, codec_string=codec_string)
