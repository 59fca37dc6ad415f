"""AAC: AudioSpecificConfig (ISO/IEC 14496-3 section 1.6), ADTS (section 1.A.3) and silence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from polycast.codecs.bits import BitReader, BitWriter
from polycast.codecs.bitstream import Bitstream
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import MPEG4Audio

SAMPLES_PER_FRAME = 1024
"""Samples of one frame of AAC-LC, per channel."""

SAMPLE_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)
"""By sampling frequency index, in Hz (table 1.18)."""

AAC_LC = 2
AAC_SBR = 5
AAC_PS = 29
OBJECT_TYPES = frozenset({1, AAC_LC, 3, 4, AAC_SBR, 6, 17, 19, 20, 23, AAC_PS, 39, 42})
"""The audio object types that are AAC, xHE-AAC included (table 1.17); others are speech, text to speech, MIDI..."""

MAXIMUM_CONFIGURATION_SIZE = 512
"""In bytes. A real AudioSpecificConfig has 2 to 5; one with a program configuration element under 400."""

MAXIMUM_ADTS_FRAMES = 256
"""Frames in one buffer of ADTS: 5 seconds at 48 kHz."""

_ESCAPED_OBJECT_TYPE = 31
_EXPLICIT_SAMPLE_RATE = 15
_SBR_SYNC = 0x2B7
_PS_SYNC = 0x548
_GENERAL_AUDIO_TYPES = frozenset({1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23})
_ERROR_RESILIENT_TYPES = frozenset({17, 19, 20, 21, 22, 23})
_LOW_DELAY = 23
_ENHANCED_LOW_DELAY = 39
_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 14: 8}
"""Channels by channel configuration (table 1.19); 0 means that a program configuration element follows."""
_CHANNEL_CONFIGURATIONS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 8: 7, 7: 11}
_MAXIMUM_SAMPLE_RATE = 192_000
_ADTS_HEADER_SIZE = 7
_MAXIMUM_ADTS_FRAME_SIZE = 0x1FFF


@dataclass(frozen=True, slots=True)
class AudioSpecificConfig:
    """The fields of an AudioSpecificConfig."""

    object_type: int
    """Of the core codec: 2 is AAC-LC. SBR and PS are in the fields below."""
    sample_rate: int
    """Of the core codec, in Hz."""
    channels: int
    """Of the core codec."""
    frame_length: int
    """Samples that one frame has at ``sample_rate``, per channel."""
    extension_sample_rate: int | None = None
    """The output sample rate where spectral band replication is signalled, in Hz."""
    parametric_stereo: bool = False


@dataclass(frozen=True, slots=True)
class AdtsHeader:
    """The header of one ADTS frame."""

    object_type: int
    sample_rate: int
    """In Hz."""
    channels: int
    """0 if the frame itself tells the channels (a program configuration element)."""
    header_size: int
    """In bytes: 7, or 9 with a checksum."""
    frame_size: int
    """In bytes, including the header."""

    @property
    def codec(self) -> MPEG4Audio:
        """The codec that this header describes; two channels where it tells none."""
        channels = self.channels or 2
        configuration = build_audio_specific_config(self.object_type, self.sample_rate, channels)
        return MPEG4Audio(configuration=configuration, sample_rate=self.sample_rate, channels=channels)


def parse_audio_specific_config(data: bytes) -> MPEG4Audio:
    """Return the codec of an AudioSpecificConfig. Raises `RemoteProtocolError`.

    Its sample rate and channels are those of the decoder's output: with SBR and PS where they are signalled.
    """
    configuration = read_audio_specific_config(data)
    return MPEG4Audio(
        configuration=data,
        sample_rate=configuration.extension_sample_rate or configuration.sample_rate,
        channels=2 if configuration.parametric_stereo else configuration.channels,
    )


@lru_cache(maxsize=64)
def read_audio_specific_config(data: bytes) -> AudioSpecificConfig:
    """Return the fields of an AudioSpecificConfig (section 1.6.2.1). Cached by value. Raises `RemoteProtocolError`."""
    if len(data) > MAXIMUM_CONFIGURATION_SIZE:
        raise RemoteProtocolError(f"an AudioSpecificConfig of {len(data)} bytes is too large")
    reader = BitReader(data)
    object_type = _read_object_type(reader)
    sample_rate = _read_sample_rate(reader)
    channel_configuration = reader.read(4)
    extension_rate: int | None = None
    parametric_stereo = object_type == AAC_PS
    if object_type in (AAC_SBR, AAC_PS):
        extension_rate = _read_sample_rate(reader)
        object_type = _read_object_type(reader)
        if object_type == 22:
            reader.skip(4)  # extensionChannelConfiguration
    channels = _CHANNELS.get(channel_configuration, 0)
    frame_length = SAMPLES_PER_FRAME
    if object_type in _GENERAL_AUDIO_TYPES:
        frame_length, element_channels = _read_general_audio_config(reader, object_type, channel_configuration)
        channels = channels or element_channels
        if extension_rate is None:
            extension_rate, parametric_stereo = _read_backward_compatible_extension(reader, object_type)
    elif object_type == _ENHANCED_LOW_DELAY:
        frame_length = 480 if reader.flag() else 512
    if channels == 0:
        raise RemoteProtocolError(f"channel configuration {channel_configuration} is not supported")
    return AudioSpecificConfig(object_type, sample_rate, channels, frame_length, extension_rate, parametric_stereo)


def _read_object_type(reader: BitReader) -> int:
    object_type = reader.read(5)
    if object_type == _ESCAPED_OBJECT_TYPE:
        object_type = 32 + reader.read(6)
    if object_type == 0:
        raise RemoteProtocolError("audio object type 0 is not valid")
    return object_type


def _read_sample_rate(reader: BitReader) -> int:
    index = reader.read(4)
    if index == _EXPLICIT_SAMPLE_RATE:
        sample_rate = reader.read(24)
        if not 0 < sample_rate <= _MAXIMUM_SAMPLE_RATE:
            raise RemoteProtocolError(f"a sample rate of {sample_rate} Hz is not valid")
        return sample_rate
    if index >= len(SAMPLE_RATES):
        raise RemoteProtocolError(f"sampling frequency index {index} is not valid")
    return SAMPLE_RATES[index]


def _read_general_audio_config(reader: BitReader, object_type: int, channel_configuration: int) -> tuple[int, int]:
    """GASpecificConfig (section 4.4.1): the frame length, and the channels of a program configuration element."""
    short_frames = reader.flag()
    if object_type == _LOW_DELAY:
        frame_length = 480 if short_frames else 512
    else:
        frame_length = 960 if short_frames else 1024
    if reader.flag():
        reader.skip(14)  # coreCoderDelay
    extension = reader.flag()
    channels = _read_program_configuration(reader) if channel_configuration == 0 else 0
    if object_type in (6, 20):
        reader.skip(3)  # layerNr
    if extension:
        if object_type == 22:
            reader.skip(16)
        elif object_type in _ERROR_RESILIENT_TYPES:
            reader.skip(3)
        reader.skip(1)
    return frame_length, channels


def _read_program_configuration(reader: BitReader) -> int:
    """program_config_element (section 4.4.1.1): the number of channels."""
    reader.skip(10)  # element_instance_tag, object_type, sampling_frequency_index
    counts = [reader.read(4), reader.read(4), reader.read(4), reader.read(2), reader.read(3), reader.read(4)]
    front, side, back, low_frequency, associated_data, coupling = counts
    for mixdown_size in (4, 4, 3):
        if reader.flag():
            reader.skip(mixdown_size)
    channels = low_frequency
    for _ in range(front + side + back):
        channels += 2 if reader.flag() else 1
        reader.skip(4)
    reader.skip(4 * low_frequency + 4 * associated_data + 5 * coupling)
    reader.align()
    reader.skip(8 * reader.read(8))  # comment
    return channels


def _read_backward_compatible_extension(reader: BitReader, object_type: int) -> tuple[int | None, bool]:
    """The extension that decoders without SBR do not read: the output sample rate, and parametric stereo."""
    if object_type != AAC_LC or reader.remaining < 16 or reader.read(11) != _SBR_SYNC:
        return None, False
    try:
        if _read_object_type(reader) != AAC_SBR or not reader.flag():
            return None, False
        sample_rate = _read_sample_rate(reader)
    except RemoteProtocolError:
        return None, False
    return sample_rate, reader.remaining >= 12 and reader.read(11) == _PS_SYNC and reader.flag()


def build_audio_specific_config(object_type: int, sample_rate: int, channels: int) -> bytes:
    """Return the AudioSpecificConfig of plain AAC without SBR. Raises `LocalProtocolError` for impossible values."""
    configuration = _CHANNEL_CONFIGURATIONS.get(channels)
    if configuration is None or object_type <= 0 or object_type > 95 or not 0 < sample_rate <= _MAXIMUM_SAMPLE_RATE:
        raise LocalProtocolError(f"AAC of type {object_type} cannot have {sample_rate} Hz and {channels} channels")
    writer = BitWriter()
    if object_type >= _ESCAPED_OBJECT_TYPE:
        writer.write(_ESCAPED_OBJECT_TYPE, 5)
        writer.write(object_type - 32, 6)
    else:
        writer.write(object_type, 5)
    if sample_rate in SAMPLE_RATES:
        writer.write(SAMPLE_RATES.index(sample_rate), 4)
    else:
        writer.write(_EXPLICIT_SAMPLE_RATE, 4)
        writer.write(sample_rate, 24)
    writer.write(configuration, 4)
    writer.write(0, 3)  # frameLengthFlag, dependsOnCoreCoder, extensionFlag
    return writer.to_bytes()


def object_type(codec: MPEG4Audio) -> int:
    """Return the audio object type that the configuration starts with: 2 AAC-LC, 5 HE-AAC, 29 HE-AAC v2.

    2 where the configuration is unknown. Raises `RemoteProtocolError` if it is invalid.
    """
    return _read_object_type(BitReader(codec.configuration[:2])) if codec.configuration else AAC_LC


def samples_per_frame(codec: MPEG4Audio) -> int:
    """Return how many samples one frame has per channel, at the codec's sample rate: 1024, or 2048 with SBR."""
    if not codec.configuration:
        return SAMPLES_PER_FRAME
    try:
        configuration = read_audio_specific_config(codec.configuration)
    except RemoteProtocolError:
        return SAMPLES_PER_FRAME
    return configuration.frame_length * codec.sample_rate // configuration.sample_rate


_SINGLE_CHANNEL, _CHANNEL_PAIR, _LOW_FREQUENCY = 0, 1, 3
"""Syntactic elements (table 4.85)."""
_END = 7
_ELEMENTS = {
    1: (_SINGLE_CHANNEL,),
    2: (_CHANNEL_PAIR,),
    3: (_SINGLE_CHANNEL, _CHANNEL_PAIR),
    4: (_SINGLE_CHANNEL, _CHANNEL_PAIR, _SINGLE_CHANNEL),
    5: (_SINGLE_CHANNEL, _CHANNEL_PAIR, _CHANNEL_PAIR),
    6: (_SINGLE_CHANNEL, _CHANNEL_PAIR, _CHANNEL_PAIR, _LOW_FREQUENCY),
    8: (_SINGLE_CHANNEL, _CHANNEL_PAIR, _CHANNEL_PAIR, _CHANNEL_PAIR, _LOW_FREQUENCY),
}
"""By number of channels, in the order of table 1.19."""


def silent_frame(channels: int) -> bytes:
    """Return a frame of AAC-LC without sound, for 1 to 6 or 8 channels (section 4.4.2). Raises LocalProtocolError."""
    elements = _ELEMENTS.get(channels)
    if elements is None:
        raise LocalProtocolError(f"AAC cannot have {channels} channels")
    writer = BitWriter()
    for number, element in enumerate(elements):
        writer.write(element, 3)
        # Elements of a kind are numbered.
        writer.write(elements[:number].count(element), 4)
        if element == _CHANNEL_PAIR:
            writer.write(1, 1)  # common_window: one ics_info for both channels
            _write_window(writer)
            writer.write(0, 2)  # ms_mask_present
            _write_silent_channel(writer)
            _write_silent_channel(writer)
        else:
            _write_silent_channel(writer, has_window=True)
    writer.write(_END, 3)
    return writer.to_bytes()


def _write_window(writer: BitWriter) -> None:
    """ics_info (table 4.6) of a long window without scale factor bands: nothing of the spectrum follows."""
    writer.write(0, 1)  # ics_reserved_bit
    writer.write(0, 2)  # window_sequence: ONLY_LONG_SEQUENCE
    writer.write(0, 1)  # window_shape
    writer.write(0, 6)  # max_sfb
    writer.write(0, 1)  # predictor_data_present


def _write_silent_channel(writer: BitWriter, *, has_window: bool = False) -> None:
    """individual_channel_stream (table 4.50)."""
    writer.write(0, 8)  # global_gain
    if has_window:
        _write_window(writer)
    writer.write(0, 3)  # pulse_data_present, tns_data_present, gain_control_data_present


def codec_string(codec: MPEG4Audio) -> str:
    """Return the codec string, such as ``mp4a.40.2`` (RFC 6381 section 3.3)."""
    try:
        return f"mp4a.40.{object_type(codec)}"
    except RemoteProtocolError:
        return f"mp4a.40.{AAC_LC}"


def parse_adts_header(data: bytes, position: int = 0) -> AdtsHeader:
    """Parse the ADTS header at ``position`` (section 1.A.2.2). Raises `RemoteProtocolError`."""
    if len(data) - position < _ADTS_HEADER_SIZE:
        raise RemoteProtocolError("an ADTS header ends too early")
    header = int.from_bytes(data[position : position + _ADTS_HEADER_SIZE], "big")
    if header >> 44 != 0xFFF or header >> 41 & 3 != 0:
        raise RemoteProtocolError("not an ADTS header")
    rate_index = header >> 34 & 0xF
    if rate_index >= len(SAMPLE_RATES):
        raise RemoteProtocolError(f"sampling frequency index {rate_index} is not valid")
    if header & 3 != 0:
        raise RemoteProtocolError("ADTS frames with several raw data blocks are not supported")
    header_size = _ADTS_HEADER_SIZE if header >> 40 & 1 else _ADTS_HEADER_SIZE + 2
    frame_size = header >> 13 & 0x1FFF
    if frame_size < header_size:
        raise RemoteProtocolError(f"an ADTS frame of {frame_size} bytes is not valid")
    channels = _CHANNELS.get(header >> 30 & 7, 0)
    return AdtsHeader((header >> 38 & 3) + 1, SAMPLE_RATES[rate_index], channels, header_size, frame_size)


def parse_adts(data: bytes) -> list[tuple[AdtsHeader, bytes]]:
    """Split ADTS into frames: each one's header and its raw data block.

    Raises `RemoteProtocolError` if a header is invalid, the last frame is truncated, or there are too many.
    """
    frames: list[tuple[AdtsHeader, bytes]] = []
    position = 0
    while position < len(data):
        header = parse_adts_header(data, position)
        end = position + header.frame_size
        if end > len(data):
            raise RemoteProtocolError("an ADTS frame ends too early")
        if len(frames) == MAXIMUM_ADTS_FRAMES:
            raise RemoteProtocolError("there are too many ADTS frames in one buffer")
        frames.append((header, data[position + header.header_size : end]))
        position = end
    return frames


def build_adts_header(codec: MPEG4Audio, payload_size: int) -> bytes:
    """Return the ADTS header for a raw data block of ``payload_size`` bytes.

    Raises `LocalProtocolError` if ADTS cannot express the codec or the size, `RemoteProtocolError` if the codec's
    configuration is invalid.
    """
    frame_size = payload_size + _ADTS_HEADER_SIZE
    if frame_size > _MAXIMUM_ADTS_FRAME_SIZE:
        raise LocalProtocolError(f"an AAC frame of {payload_size} bytes is too large for ADTS")
    return (_adts_header(codec) | frame_size << 13).to_bytes(_ADTS_HEADER_SIZE, "big")


@lru_cache(maxsize=64)
def _adts_header(codec: MPEG4Audio) -> int:
    profile, sample_rate, channels = AAC_LC, codec.sample_rate, codec.channels
    if codec.configuration:
        configuration = read_audio_specific_config(codec.configuration)
        profile, sample_rate, channels = configuration.object_type, configuration.sample_rate, configuration.channels
    channel_configuration = _CHANNEL_CONFIGURATIONS.get(channels, 8)
    if not 1 <= profile <= 4 or sample_rate not in SAMPLE_RATES or channel_configuration > 7:
        raise LocalProtocolError(f"ADTS cannot carry AAC of type {profile}, {sample_rate} Hz, {channels} channels")
    header = 0xFFF1 << 40  # MPEG-4, no checksum
    header |= (profile - 1) << 38 | SAMPLE_RATES.index(sample_rate) << 34 | channel_configuration << 30
    return header | 0x7FF << 2  # buffer fullness: variable bit rate


BITSTREAM = Bitstream(MPEG4Audio, codec_string=codec_string)
