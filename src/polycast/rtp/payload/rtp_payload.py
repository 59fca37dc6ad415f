"""The definition of a payload format: one object per format with all its properties.

To add one: a module in this folder that declares its object, and that object in the list of `registry`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from polycast.media.codec import Codec
from polycast.media.packet import RtpPacket
from polycast.media.track import RtpFormat, Track
from polycast.rtp.header import MAXIMUM_PACKET_SIZE
from polycast.rtp.payload.base import (
    KEY,
    NO_PATTERN,
    BaseDepacketizer,
    BasePacketizer,
    Depacketizer,
    PayloadPattern,
    Peek,
    split_evenly,
)
from polycast.rtp.refragment import Refragmenter

AnyCodec = TypeVar("AnyCodec", bound=Codec)

Part = tuple[bytes, int]
"""A payload, and the ticks to add to the timestamp of its original packet."""


class SdpMedia(NamedTuple):
    """The values of a media description (RFC 8866 section 6.6), with the defaults of its payload type."""

    media_type: str
    encoding: str
    """Encoding name as written there."""
    clock_rate: int
    channels: int | None
    parameters: dict[str, str]
    """Of the fmtp line, by lower-case name."""


class SdpEncoding(NamedTuple):
    """How a codec is announced."""

    name: str
    channels: int | None = None
    """For the rtpmap; None omits them."""
    static_type: int | None = None
    """Payload type of RFC 3551 that old receivers expect."""


class Numbering(NamedTuple):
    """Numbering and maximum size of a track's packets: the arguments of `BasePacketizer`."""

    payload_type: int
    ssrc: int
    initial_sequence: int
    initial_timestamp: int
    """RTP timestamp of the frames' time 0."""
    maximum_payload: int
    """In bytes."""


def always_key(data: bytes, payload: int, end: int) -> int:
    """Peek of formats whose decoding can start at every packet, and of unsupported ones."""
    return KEY


class RtpPayload(Generic[AnyCodec]):
    """One payload format. Stateless: the state of a track is in the objects that it creates.

    The defaults are those of an unsupported format that is forwarded unchanged: it is announced and read, but there is
    neither a depacketizer nor a packetizer.
    """

    codec_type: type[AnyCodec]
    encodings: tuple[str, ...]
    """Encoding names of this format in the rtpmap, in any case; the first one is announced."""
    static_type: int | None = None
    """Payload type of RFC 3551 that is announced instead of a dynamic one."""
    requires_parameters = False
    """Whether receivers need the fmtp line even if the publisher had none."""

    continuation: PayloadPattern = NO_PATTERN
    """How the payloads of most packets start: they continue an earlier packet, and have no peek flags."""
    marker_ends_frame = False
    """Whether packets have the marker bit at the end of a frame, so that a batch may wait for it (RFC 3551 section
    4.1 leaves the meaning to the payload format)."""
    marks_every_frame = False
    """Whether the packets of several whole frames have the marker bit, too, in a format of audio."""
    maximum_packet_size = MAXIMUM_PACKET_SIZE
    """Maximum size of a packet that is forwarded unchanged; larger ones are repacketized."""
    is_self_describing = False
    """Whether the codec's parameters are in the stream, or are sent with `parameter_sets`: readers can continue with
    different ones."""

    depacketizer_type: type[BaseDepacketizer] | None = None
    """For depacketizers without arguments; others are created by `depacketizer`."""
    packetizer_type: type[BasePacketizer] | None = None
    """For packetizers without further arguments; others are created by `packetizer`."""

    # SDP

    def from_sdp(self, media: SdpMedia) -> AnyCodec | None:
        """Return the codec of a media description with one of ``encodings``; None for an unsupported form of the
        format. Invalid parameter sets are ignored."""
        return self.codec_type()

    def to_sdp(self, codec: AnyCodec) -> SdpEncoding | None:
        """Return how to announce a codec that does not come from RTP; None if the format cannot carry it."""
        return SdpEncoding(self.encodings[0], None, self.static_type)

    def live_parameters(self, codec: AnyCodec) -> dict[str, str]:
        """Return the parameters derived from the codec, in the order of announcement."""
        return {}

    def parameters(self, codec: AnyCodec) -> dict[str, str]:
        """Return all parameters of a track whose publisher announced none."""
        return self.live_parameters(codec)

    # Packets

    def peek_for(self, codec: AnyCodec) -> Peek:
        """Return the function that determines whether decoding can start at a packet of a track.

        It takes ``data``, ``payload`` and ``end`` of a packet and returns the flags KEY and PARAMETERS. It never
        raises. For audio and unsupported formats, every packet is KEY.
        """
        return always_key

    def parameters_from_packet(self, codec: AnyCodec, data: bytes, payload: int, end: int) -> AnyCodec:
        """Return ``codec`` with the parameter sets of a packet; the same object if nothing changed.

        For packets whose peek has the flag PARAMETERS. Raises `RemoteProtocolError` if the payload is invalid.
        """
        return codec

    def depacketizer(self, codec: AnyCodec, track: Track) -> Depacketizer | None:
        """Return a depacketizer for a track; None if the format is not supported."""
        return self.depacketizer_type() if self.depacketizer_type is not None else None

    def packetizer(self, codec: AnyCodec, numbering: Numbering) -> BasePacketizer | None:
        """Return a packetizer; None if there is none for the format."""
        return self.packetizer_type(*numbering) if self.packetizer_type is not None else None

    # Oversized packets

    def split(self, codec: AnyCodec, packet: RtpPacket, room: int, track: Track) -> Sequence[Part]:
        """Return the payloads of at most ``room`` bytes that replace an oversized one; none if the format does not
        allow splitting. ``codec`` is that of the track. Raises `RemoteProtocolError` if the payload is invalid."""
        return ()

    def refragmenter(self, codec: AnyCodec, room: int) -> Refragmenter | None:
        """Return a converter of fragments to at most ``room`` bytes; None if the format has no fragments."""
        return None

    # Change of the publisher

    def is_compatible(self, old: AnyCodec, new: AnyCodec) -> bool:
        """Whether readers of a track with the codec ``old`` can continue with ``new``."""
        return self.is_self_describing or old == new

    def form_key(self, form: RtpFormat) -> Hashable:
        """Return what the descriptions of two publishers must have in common for readers to continue with the packets
        of the second one: how packets are read, without what the codec says."""
        return () if self.is_self_describing else (form.encoding.upper(), form.parameters.replace(" ", "").lower())

    def parameter_sets(self, codec: AnyCodec) -> tuple[bytes, ...]:
        """Return the payloads that a decoder needs before the first picture."""
        return ()


def split_blocks(packet: RtpPacket, maximum: int, block_size: int, *, ticks: int) -> list[Part]:
    """Return the payload of a packet in parts of whole blocks, each of ``ticks`` ticks."""
    blocks = maximum // block_size
    parts = split_evenly(packet.payload_bytes(), blocks * block_size)
    return [(part, index * blocks * ticks) for index, part in enumerate(parts)]
