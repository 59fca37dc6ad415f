"""The audio codecs of MP4."""

from __future__ import annotations

from typing import Any, Final

from polycast.codecs import aac, ac3, eac3, flac, opus
from polycast.errors import LocalProtocolError, RemoteProtocolError
from polycast.media.codec import AC3, EAC3, FLAC, MPEG4Audio, MPEGAudio, Opus
from polycast.wire.mp4.boxes import box, full_box
from polycast.wire.mp4.descriptors import build_elementary_stream, read_decoder_specific, read_elementary_stream
from polycast.wire.mp4.mapping import CodecMapping, Described, EntryFields, read_audio

# objectTypeIndication (mp4ra.org): MPEG-4 AAC, the three profiles of MPEG-2 AAC, layer III of MPEG-2 and MPEG-1.
_OBJECT_TYPE_AAC: Final = 0x40
_OBJECT_TYPES_AAC: Final = (_OBJECT_TYPE_AAC, 0x66, 0x67, 0x68)
_OBJECT_TYPE_MPEG2_AUDIO: Final = 0x69
_OBJECT_TYPE_MPEG1_AUDIO: Final = 0x6B

_LOWEST_MPEG1_SAMPLE_RATE: Final = 32_000
_AC3_SAMPLE_RATE_CODES: Final = {48_000: 0, 44_100: 1, 32_000: 2}
_AC3_CHANNEL_MODES: Final = {1: (1, 0), 2: (2, 0), 3: (3, 0), 4: (6, 0), 5: (7, 0), 6: (7, 1)}
"""acmod and lfeon by number of channels (ATSC A/52 table 5.8)."""


def _build_aac(codec: MPEG4Audio) -> bytes:
    if not codec.configuration:
        raise LocalProtocolError("the AAC configuration is not known yet")
    return build_elementary_stream(_OBJECT_TYPE_AAC, codec.configuration)


def _parse_aac(content: bytes, fields: EntryFields) -> Described[MPEG4Audio] | None:
    found = read_elementary_stream(content)
    if found.object_type not in _OBJECT_TYPES_AAC:
        return None
    configuration = read_decoder_specific(found.rest)
    if configuration is None:
        raise RemoteProtocolError("an AAC track has no configuration")
    return Described(aac.parse_audio_specific_config(configuration), read_audio)


_AAC: Final = CodecMapping(codec_type=MPEG4Audio, entries=(b"mp4a",), box=b"esds", build=_build_aac, parse=_parse_aac)


def _build_mpeg_audio(codec: MPEGAudio) -> bytes:
    if not codec.sample_rate:
        raise LocalProtocolError("the sample rate of the MPEG audio track is not known yet")
    first = codec.sample_rate >= _LOWEST_MPEG1_SAMPLE_RATE
    return build_elementary_stream(_OBJECT_TYPE_MPEG1_AUDIO if first else _OBJECT_TYPE_MPEG2_AUDIO, b"")


def _parse_mpeg_audio(content: bytes, fields: EntryFields) -> Described[MPEGAudio] | None:
    # QuickTime's own sample entry has no esds box.
    if content and read_elementary_stream(content).object_type not in (
        _OBJECT_TYPE_MPEG1_AUDIO, _OBJECT_TYPE_MPEG2_AUDIO,
    ):  # fmt: skip
        return None
    return Described(MPEGAudio(fields.sample_rate, fields.channels), read_audio)


_MPEG_AUDIO: Final = CodecMapping(
    codec_type=MPEGAudio,
    entries=(b"mp4a", b".mp3"),
    box=b"esds",
    build=_build_mpeg_audio,
    parse=_parse_mpeg_audio,
    entry_without_box=b".mp3",
)

_OPUS: Final = CodecMapping(
    codec_type=Opus,
    entries=(b"Opus",),
    box=b"dOps",
    build=lambda codec: box(b"dOps", opus.build_configuration_record(opus.configuration_of(codec))),
    parse=lambda content, fields: Described(Opus(opus.parse_configuration_record(content).channels), read_audio),
)

_FLAC: Final = CodecMapping(
    codec_type=FLAC,
    entries=(b"fLaC",),
    box=b"dfLa",
    build=lambda codec: full_box(b"dfLa", 0, 0, flac.build_configuration_record(codec)),
    parse=lambda content, fields: Described(flac.parse_configuration_record(content), read_audio),
)


def _build_ac3(codec: AC3) -> bytes:
    rate_code = _AC3_SAMPLE_RATE_CODES.get(codec.sample_rate)
    mode = _AC3_CHANNEL_MODES.get(codec.channels)
    if rate_code is None or mode is None:
        raise LocalProtocolError(f"AC-3 cannot have {codec.sample_rate} Hz and {codec.channels} channels")
    # the bit rate is the usual one for the channels (192 or 448 kbit/s); decoders read it in each frame
    header = ac3.SyncFrame(
        sample_rate=codec.sample_rate,
        bit_rate=192_000 if codec.channels <= 2 else 448_000,
        channels=codec.channels,
        frame_size=0,
        sample_rate_code=rate_code,
        bit_rate_code=10 if codec.channels <= 2 else 15,
        bsid=8,
        bsmod=0,
        acmod=mode[0],
        low_frequency_channel=bool(mode[1]),
    )
    return box(b"dac3", ac3.build_configuration_record(header))


_AC3: Final = CodecMapping(
    codec_type=AC3,
    entries=(b"ac-3",),
    box=b"dac3",
    build=_build_ac3,
    parse=lambda content, fields: Described(ac3.parse_configuration_record(content), read_audio),
)

_EAC3: Final = CodecMapping(
    codec_type=EAC3,
    entries=(b"ec-3",),
    box=b"dec3",
    build=lambda codec: box(b"dec3", eac3.build_configuration_record(codec)),
    parse=lambda content, fields: Described(eac3.parse_configuration_record(content, fields.sample_rate), read_audio),
)

AUDIO_MAPPINGS: Final[tuple[CodecMapping[Any], ...]] = (_AAC, _MPEG_AUDIO, _OPUS, _FLAC, _AC3, _EAC3)
