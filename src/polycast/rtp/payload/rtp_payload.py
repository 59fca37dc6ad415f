"""What a payload format is: one object per format, which answers every question that RTP has about it.

To add one: a module beside this one that declares its object, and that object in the list of `registry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from polycast.media.codec import Codec
from polycast.media.packet import RtpPacket
from polycast.media.track import Track
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
"""A payload, and the ticks to add to the timestamp of the packet that it was part of."""


class SdpMedia(NamedTuple):
    """What the lines of a media description say (RFC 8866 section 6.6), with the defaults of its payload type."""

    media_type: str
    encoding: str
    """Encoding name as it is written there."""
    clock_rate: int
    channels: int | None
    parameters: dict[str, str]
    """Of the fmtp line, by lower-case name."""


class SdpEncoding(NamedTuple):
    """How a codec is announced."""

    name: str
    channels: int | None = None
    """For the rtpmap; None leaves them out."""
    static_type: int | None = None
    """Payload type of RFC 3551 that old receivers expect."""


class Numbering(NamedTuple):
    """How the packets of a track are numbered, and how large they may be: the arguments of `BasePacketizer`."""

    payload_type: int
    ssrc: int
    initial_sequence: int
    initial_timestamp: int
    """RTP timestamp of the frames' time 0."""
    maximum_payload: int
    """In bytes."""


def always_key(data: bytes, payload: int, end: int) -> int:
    """Peek of formats whose decoding can begin at every packet, and of those that are not understood."""
    return KEY


class RtpPayload(Generic[AnyCodec]):
    """One payload format. Stateless: what a track needs to remember is in the objects that it makes.

    The defaults are those of a format that is passed through without being understood: it is announced and read, but
    there is neither a depacketizer nor a packetizer.
    """

    codec_type: type[AnyCodec]
    encodings: tuple[str, ...]
    """Encoding names of the rtpmap that mean this format, in any case; the first one is announced."""
    static_type: int | None = None
    """Payload type of RFC 3551 that is announced instead of a dynamic one."""
    requires_parameters = False
    """Whether receivers need the fmtp line even where the publisher had none."""

    continuation: PayloadPattern = NO_PATTERN
    """How the payloads of most packets begin: they go on with what an earlier packet began, and the peek has nothing to
    say about them."""
    marker_ends_frame = False
    """Whether packets carry the marker bit at the end of a frame, so that a batch may wait for it (RFC 3551 section
    4.1 leaves the meaning to the payload format)."""
    maximum_packet_size = MAXIMUM_PACKET_SIZE
    """Bytes of a packet of a publisher that may be forwarded as it is; larger ones are repacketized."""
    is_self_describing = False
    """Whether the codec's parameters travel in the stream, or are sent with `parameter_sets`: readers can go on with
    different ones."""

    depacketizer_type: type[BaseDepacketizer] | None = None
    """For depacketizers that need no arguments; others are made by `depacketizer`."""
    packetizer_type: type[BasePacketizer] | None = None
    """For packetizers that need no more arguments; others are made by `packetizer`."""

    # SDP

    def from_sdp(self, media: SdpMedia) -> AnyCodec | None:
        """Return the codec that a media description with one of ``encodings`` means; None for a form of the format
        that is not understood. Broken parameter sets are left out."""
        return self.codec_type()

    def to_sdp(self, codec: AnyCodec) -> SdpEncoding | None:
        """Return how a codec is announced that does not come from RTP; None where the format cannot carry it."""
        return SdpEncoding(self.encodings[0], None, self.static_type)

    def live_parameters(self, codec: AnyCodec) -> dict[str, str]:
        """Return the parameters that follow from the codec, in the order in which they are announced."""
        return {}

    def parameters(self, codec: AnyCodec) -> dict[str, str]:
        """Return all parameters of a track whose publisher announced none."""
        return self.live_parameters(codec)

    # Packets

    def peek_for(self, codec: AnyCodec) -> Peek:
        """Return the function that tells whether decoding can begin at a packet of a track.

        It takes ``data``, ``payload`` and ``end`` of a packet and returns the flags KEY and PARAMETERS. It never
        raises, whatever the payload. For audio and for what is not understood, every packet is KEY.
        """
        return always_key

    def parameters_from_packet(self, codec: AnyCodec, data: bytes, payload: int, end: int) -> AnyCodec:
        """Return ``codec`` with the parameter sets that a packet carries; the same object when nothing changed.

        For packets whose peek has the flag PARAMETERS. Raises `RemoteProtocolError` when the payload is broken.
        """
        return codec

    def depacketizer(self, codec: AnyCodec, track: Track) -> Depacketizer | None:
        """Return a depacketizer for a track; None where the payload is not understood."""
        return self.depacketizer_type() if self.depacketizer_type is not None else None

    def packetizer(self, codec: AnyCodec, numbering: Numbering) -> BasePacketizer | None:
        """Return a packetizer; None where there is none for the format."""
        return self.packetizer_type(*numbering) if self.packetizer_type is not None else None

    # Packets that are too large

    def split(self, codec: AnyCodec, packet: RtpPacket) -> Sequence[Part]:
        """Return the payloads to make of a packet whose payload is too large; none where the format forbids it."""
        return ()

    def refragmenter(self, codec: AnyCodec, room: int) -> Refragmenter | None:
        """Return what makes fragments of ``room`` bytes out of larger ones; None where there are no fragments."""
        return None

    # A second publisher

    def is_compatible(self, old: AnyCodec, new: AnyCodec) -> bool:
        """Whether readers of a track with the codec ``old`` can go on with ``new``."""
        return self.is_self_describing or old == new

    def parameter_sets(self, codec: AnyCodec) -> tuple[bytes, ...]:
        """Return the payloads that a decoder needs before the first picture."""
        return ()


def split_blocks(packet: RtpPacket, maximum: int, block_size: int, *, ticks: int) -> list[Part]:
    """Return the payload of a packet in parts of whole blocks, each of ``ticks`` ticks."""
    blocks = maximum // block_size
    parts = split_evenly(packet.payload_bytes(), blocks * block_size)
    return [(part, index * blocks * ticks) for index, part in enumerate(parts)]
