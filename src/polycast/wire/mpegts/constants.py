"""Constants of ISO/IEC 13818-1 used by both the muxer and the demuxer."""

from __future__ import annotations

from typing import Final

PACKET_SIZE: Final = 188
"""Bytes of a transport packet (section 2.4.3.2)."""
PAYLOAD_SIZE: Final = 184
"""Bytes of a transport packet after its 4-byte header."""
SYNC_BYTE: Final = 0x47
CLOCK_RATE: Final = 90_000
"""Ticks per second of PTS, DTS and the PCR base (section 2.4.3.7)."""
TIMESTAMP_BITS: Final = 33
TIMESTAMP_MASK: Final = (1 << TIMESTAMP_BITS) - 1

PROGRAM_ASSOCIATION_PID: Final = 0x0000
PROGRAM_MAP_PID: Final = 0x1000
FIRST_ELEMENTARY_PID: Final = 0x0100
NULL_PID: Final = 0x1FFF
PROGRAM_NUMBER: Final = 1

# Stream types (table 2-34, with ATSC A/53 part 3 for AC-3 and E-AC-3).
STREAM_TYPE_MPEG1_VIDEO: Final = 0x01
STREAM_TYPE_MPEG2_VIDEO: Final = 0x02
STREAM_TYPE_MPEG1_AUDIO: Final = 0x03
STREAM_TYPE_MPEG2_AUDIO: Final = 0x04
STREAM_TYPE_PRIVATE: Final = 0x06
STREAM_TYPE_AAC_ADTS: Final = 0x0F
STREAM_TYPE_MPEG4_VIDEO: Final = 0x10
STREAM_TYPE_AAC_LATM: Final = 0x11
STREAM_TYPE_METADATA: Final = 0x15
STREAM_TYPE_H264: Final = 0x1B
STREAM_TYPE_H265: Final = 0x24
STREAM_TYPE_AC3: Final = 0x81
STREAM_TYPE_EAC3: Final = 0x87

# Stream identifiers of PES packets (table 2-22).
STREAM_ID_VIDEO: Final = 0xE0
STREAM_ID_AUDIO: Final = 0xC0
STREAM_ID_PRIVATE_1: Final = 0xBD
STREAM_ID_METADATA: Final = 0xFC

DESCRIPTOR_REGISTRATION: Final = 0x05
DESCRIPTOR_LANGUAGE: Final = 0x0A
DESCRIPTOR_METADATA: Final = 0x26
DESCRIPTOR_METADATA_STD: Final = 0x27
DESCRIPTOR_DVB_AC3: Final = 0x6A
DESCRIPTOR_DVB_EAC3: Final = 0x7A
DESCRIPTOR_DVB_EXTENSION: Final = 0x7F
OPUS_EXTENSION_TAG: Final = 0x80
"""Tag inside a DVB extension descriptor with the channel configuration of Opus."""
