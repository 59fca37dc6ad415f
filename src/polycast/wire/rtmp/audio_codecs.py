"""The audio codecs of RTMP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from polycast.codecs import aac, ac3, eac3, flac, mpeg_audio, opus
from polycast.errors import RemoteProtocolError
from polycast.media.codec import AC3, EAC3, FLAC, G711, LPCM, MPEG4Audio, MPEGAudio, Opus, Speex
from polycast.media.frame import Frame
from polycast.media.timebase import rescale_nearest
from polycast.wire.rtmp.identifiers import SoundFormat
from polycast.wire.rtmp.mapping import AudioMapping, AudioPieces, Configured, Parts, one_unit

LPCM_SAMPLE_RATES: Final = (5512, 11025, 22050, 44100)
"""In Hz, in the order of FLV's two bits for the sample rate."""

SPEEX_SAMPLES_PER_FRAME: Final = 320
"""Samples in a frame of 20 ms at 16 kHz."""

_FLAC_MARKER: Final = b"fLaC"
_FLAC_HEADER: Final = b"fLaC\x80\x00\x00\x22"
"""The marker, and the header of a last metadata block of type STREAMINFO with 34 bytes (RFC 9639 section 8.1)."""
_FLAC_BLOCK_HEADER_SIZE: Final = 4

_ALL_FLAGS: Final = 0x0F
"""44.1 kHz, 16 bits, stereo: what AAC always says (FLV annex E.4.2.1)."""
_SIZE_16_BITS: Final = 2
_STEREO: Final = 1


def _configure_aac(body: bytes, known: MPEG4Audio | None) -> Configured[MPEG4Audio]:
    return Configured(aac.parse_audio_specific_config(body))


def _read_aac(body: bytes, sound: int, codec: MPEG4Audio | None) -> tuple[MPEG4Audio | None, AudioPieces]:
    payloads = [body]
    # Some cameras send ADTS headers, with or without a preceding sequence header.
    if body[0] == 0xFF and len(body) > 7 and body[1] & 0xF6 == 0xF0:
        frames = _split_adts(body)
        if frames:
            codec = codec or frames[0][0].codec
            payloads = [payload for _, payload in frames]
    if codec is None:
        return None, ()
    duration = aac.samples_per_frame(codec)
    return codec, [(payload, duration) for payload in payloads]


def _split_adts(body: bytes) -> list[tuple[aac.AdtsHeader, bytes]]:
    try:
        return aac.parse_adts(body)
    except RemoteProtocolError:
        return []  # raw AAC that starts like ADTS


_AAC: Final = AudioMapping(
    codec_type=MPEG4Audio,
    four_cc=b"mp4a",
    legacy_identifiers=(SoundFormat.AAC,),
    legacy_identifier=lambda codec: SoundFormat.AAC,
    has_packet_type=True,
    sound_flags=lambda codec: _ALL_FLAGS,
    configuration=lambda codec: codec.configuration,
    has_parameters=lambda codec: bool(codec.configuration),
    configure=_configure_aac,
    read=_read_aac,
)


def _configure_opus(body: bytes, known: Opus | None) -> Configured[Opus]:
    # An empty configuration means mono or stereo (Enhanced RTMP v2).
    return Configured(Opus(opus.parse_id_header(body).channels) if body else Opus())


def _read_opus(body: bytes, sound: int, codec: Opus | None) -> tuple[Opus, AudioPieces]:
    return codec or Opus(), [(body, opus.packet_duration(body))]


_OPUS: Final = AudioMapping(
    codec_type=Opus,
    four_cc=b"Opus",
    configuration=lambda codec: opus.build_id_header(opus.configuration_of(codec)),
    configure=_configure_opus,
    accepts_empty_configuration=True,
    read=_read_opus,
    with_channels=lambda codec, channels: Opus(channels) if 0 < channels <= 8 else codec,
)


def _configure_flac(body: bytes, known: FLAC | None) -> Configured[FLAC]:
    """``fLaC``, then the STREAMINFO block with its header (Enhanced RTMP v2); some writers omit the marker."""
    body = body.removeprefix(_FLAC_MARKER)
    if len(body) >= _FLAC_BLOCK_HEADER_SIZE + flac.STREAM_INFO_SIZE:
        body = body[_FLAC_BLOCK_HEADER_SIZE:]
    return Configured(flac.parse_stream_info(body[: flac.STREAM_INFO_SIZE]))


def _read_flac(body: bytes, sound: int, codec: FLAC | None) -> tuple[FLAC | None, AudioPieces]:
    return codec, [(body, flac.frame_samples(body))] if codec is not None else ()


_FLAC: Final = AudioMapping(
    codec_type=FLAC,
    four_cc=b"fLaC",
    configuration=lambda codec: _FLAC_HEADER + codec.stream_info,
    configure=_configure_flac,
    read=_read_flac,
)


def _read_ac3(body: bytes, sound: int, codec: AC3 | None) -> tuple[AC3 | None, AudioPieces]:
    frames = ac3.split_frames(body)
    if frames:
        found = ac3.parse_sync_frame(frames[0]).codec
        codec = codec if codec == found else found
    return codec, [(frame, ac3.SAMPLES_PER_FRAME) for frame in frames]


_AC3: Final = AudioMapping(codec_type=AC3, four_cc=b"ac-3", read=_read_ac3)


def _read_eac3(body: bytes, sound: int, codec: EAC3 | None) -> tuple[EAC3 | None, AudioPieces]:
    units = eac3.split_access_units(body)
    if units:
        found = units[0][1].codec
        codec = codec if codec == found else found
    return codec, [(data, unit.samples) for data, unit in units]


_EAC3: Final = AudioMapping(codec_type=EAC3, four_cc=b"ec-3", read=_read_eac3)


def _read_mpeg_audio(body: bytes, sound: int, codec: MPEGAudio | None) -> tuple[MPEGAudio | None, AudioPieces]:
    pieces: list[tuple[bytes, int]] = []
    for frame in mpeg_audio.split_frames(body):
        header = mpeg_audio.parse_frame_header(frame)
        found = MPEGAudio(header.sample_rate, header.channels, header.layer)
        codec = codec if codec == found else found
        pieces.append((frame, rescale_nearest(header.samples, header.sample_rate, found.clock_rate)))
    return codec, pieces


def _mpeg_audio_flags(codec: MPEGAudio) -> int:
    # decoders read the actual rate in the frame; two bits cannot represent it
    rate = 0 if codec.sample_rate == 8000 else {11025: 1, 22050: 2}.get(codec.sample_rate, 3)
    return rate << 2 | _SIZE_16_BITS | (_STEREO if codec.channels != 1 else 0)


_MPEG_AUDIO: Final = AudioMapping(
    codec_type=MPEGAudio,
    four_cc=b".mp3",
    legacy_identifiers=(SoundFormat.MP3, SoundFormat.MP3_8K),
    legacy_identifier=lambda codec: SoundFormat.MP3_8K if codec.sample_rate == 8000 else SoundFormat.MP3,
    note="layer III; written legacy",
    obstacle=lambda codec: None if codec.layer == 3 else "RTMP carries layer III of MPEG audio only",
    sound_flags=_mpeg_audio_flags,
    read=_read_mpeg_audio,
)


def _g711_obstacle(codec: G711) -> str | None:
    return "RTMP carries G711 at 8 kHz only" if codec.sample_rate != 8000 or codec.channels > 2 else None


def _g711_format(codec: G711) -> SoundFormat:
    return SoundFormat.G711_MU_LAW if codec.mu_law else SoundFormat.G711_A_LAW


def _read_g711(body: bytes, sound: int, codec: G711 | None) -> tuple[G711, AudioPieces]:
    channels = 2 if sound & _STEREO else 1
    found = G711(sound >> 4 == SoundFormat.G711_MU_LAW, 8000, channels)
    return codec if codec == found else found, [(body, len(body) // channels)]


_G711: Final = AudioMapping(
    codec_type=G711,
    legacy_identifiers=(SoundFormat.G711_A_LAW, SoundFormat.G711_MU_LAW),
    legacy_identifier=_g711_format,
    note="8 kHz",
    obstacle=_g711_obstacle,
    sound_flags=lambda codec: _SIZE_16_BITS | (_STEREO if codec.channels == 2 else 0),
    announced_as=lambda codec: (_g711_format(codec),),
    read=_read_g711,
)


def _lpcm_obstacle(codec: LPCM) -> str | None:
    if codec.bit_depth in (8, 16) and codec.sample_rate in LPCM_SAMPLE_RATES and codec.channels <= 2:
        return None
    return (
        f"RTMP carries LPCM with 8 or 16 bits at 11025, 22050 or 44100 Hz only,"
        f" not {codec.bit_depth} bits at {codec.sample_rate} Hz"
    )


def swap_samples(data: bytes) -> bytes:
    """Return 16-bit samples in the other byte order."""
    swapped = bytearray(data)
    swapped[::2], swapped[1::2] = data[1::2], data[::2]
    return bytes(swapped)


def _swapped(frame: Frame) -> Parts:
    return (swap_samples(frame.units[0]),)


def _lpcm_writer(codec: LPCM) -> Callable[[Frame], Parts]:
    return _swapped if codec.bit_depth == 16 else one_unit


def _lpcm_flags(codec: LPCM) -> int:
    size = _SIZE_16_BITS if codec.bit_depth == 16 else 0
    return LPCM_SAMPLE_RATES.index(codec.sample_rate) << 2 | size | (_STEREO if codec.channels == 2 else 0)


def _read_lpcm(body: bytes, sound: int, codec: LPCM | None) -> tuple[LPCM, AudioPieces]:
    bit_depth, channels = 16 if sound & _SIZE_16_BITS else 8, 2 if sound & _STEREO else 1
    found = LPCM(bit_depth, LPCM_SAMPLE_RATES[sound >> 2 & 3], channels)
    block = bit_depth // 8 * channels
    body = body[: len(body) - len(body) % block]
    if bit_depth == 16:
        body = swap_samples(body)
    return codec if codec == found else found, [(body, len(body) // block)] if body else ()


_LPCM: Final = AudioMapping(
    codec_type=LPCM,
    legacy_identifiers=(SoundFormat.LPCM_PLATFORM_ENDIAN, SoundFormat.LPCM_LITTLE_ENDIAN),
    legacy_identifier=lambda codec: SoundFormat.LPCM_LITTLE_ENDIAN,
    note="8 or 16 bits at 5.5125, 11.025, 22.05 or 44.1 kHz, one or two channels",
    obstacle=_lpcm_obstacle,
    sound_flags=_lpcm_flags,
    writer=_lpcm_writer,
    read=_read_lpcm,
)


def _read_speex(body: bytes, sound: int, codec: Speex | None) -> tuple[Speex, AudioPieces]:
    return codec or Speex(), [(body, SPEEX_SAMPLES_PER_FRAME)]


_SPEEX: Final = AudioMapping(
    codec_type=Speex,
    legacy_identifiers=(SoundFormat.SPEEX,),
    legacy_identifier=lambda codec: SoundFormat.SPEEX,
    note="16 kHz",
    obstacle=lambda codec: None if codec.sample_rate == 16_000 else "RTMP carries Speex at 16 kHz only",
    sound_flags=lambda codec: _SIZE_16_BITS,
    read=_read_speex,
)

AUDIO_MAPPINGS: Final[tuple[AudioMapping[Any], ...]] = (
    _AAC, _OPUS, _FLAC, _AC3, _EAC3, _MPEG_AUDIO, _G711, _LPCM, _SPEEX,
)  # fmt: skip
