"""The tracks that a session description (SDP) describes."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.media.codec import Generic
from polycast.media.track import Track
from polycast.rtp.payload.registry import codec_from_sdp
from polycast.wire.sdp import MediaDescription

# RTP has seven bits for it (RFC 3550 section 5.1).
LARGEST_PAYLOAD_TYPE = 127

# Maximum number of formats per medium; cameras list one or two.
MAXIMUM_FORMATS = 8

# Digits of a clock rate or number of channels: RTP timestamps have 32 bits.
MAXIMUM_DIGITS = 10

# Hz; of all video formats (RFC 3551 section 5), which some cameras omit. Also the default otherwise.
VIDEO_CLOCK_RATE = 90_000

# Encodings, in lower case, that only accompany another format of their medium: retransmissions and parity (RFC 4588,
# 5109, 8627), tones and comfort noise (RFC 4733, 3389). Not "red": who lists redundancy (RFC 2198) first, sends it.
AUXILIARY_ENCODINGS = frozenset(
    ("rtx", "ulpfec", "parityfec", "flexfec", "flexfec-03", "telephone-event", "tone", "cn")
)


def track_of(index: int, media: MediaDescription) -> Track:
    """Return the track of the first usable format, if possible one that is not only auxiliary; some cameras list
    several in one medium.

    Raises RemoteProtocolError if there is none.
    """
    first_error: RemoteProtocolError | None = None
    auxiliary: Track | None = None
    encodings, parameters_of = media.format_attributes("rtpmap"), media.format_attributes("fmtp")
    for payload_type in payload_types_of(media):
        encoding, clock_rate, channels = _read_rtpmap(encodings.get(str(payload_type), ""))
        if clock_rate is None and encoding and media.media == "video":
            clock_rate = VIDEO_CLOCK_RATE
        parameters = parameters_of.get(str(payload_type), "")
        try:
            codec, form = codec_from_sdp(media.media, payload_type, encoding, clock_rate, channels, parameters)
        except RemoteProtocolError as error:
            first_error = first_error or error
            continue
        track = Track(index, codec, form)
        if not (isinstance(codec, Generic) and codec.encoding.lower() in AUXILIARY_ENCODINGS):
            return track
        auxiliary = auxiliary or track
    if auxiliary is not None:
        return auxiliary
    raise first_error or RemoteProtocolError("it has no payload type")


def payload_types_of(media: MediaDescription) -> list[int]:
    """Return the valid payload types of a medium, in order."""
    formats = media.formats[:MAXIMUM_FORMATS]
    numbers = [int(text) for text in formats if text.isascii() and text.isdigit() and len(text) <= 3]
    return [number for number in dict.fromkeys(numbers) if number <= LARGEST_PAYLOAD_TYPE]


def _read_rtpmap(text: str) -> tuple[str, int | None, int | None]:
    encoding, _, rest = text.strip().partition("/")
    rate, _, channels = rest.partition("/")
    return encoding.strip(), _number_of(rate), _number_of(channels)


def _number_of(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAXIMUM_DIGITS else None
