"""The table of docs/codecs.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from polycast.media import codec as codecs
from polycast.media.codec import LPCM, Codec
from polycast.media.track import Track
from polycast.rtp.payload.registry import make_depacketizer, make_packetizer, rtp_format_for
from polycast.wire.hls.codecs import supports
from polycast.wire.hls.options import Variant
from polycast.wire.rtmp.supported import CODECS
from polycast.wire.webrtc.codecs import AUDIO_CODECS, LPCM_CLOCK_RATES, VIDEO_CODECS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "codecs.md"

# What users call them, where it is not our name.
NAMES = {
    "JPEG": "MJPEG",
    "MPEG4Audio": "AAC",
    "MPEG2Audio": "MPEG audio (MP3)",
    "MPEG4Video": "MPEG-4 Part 2",
    "MPEG2Video": "MPEG-2",
    "AC3": "AC-3",
    "MPEGTS": "MPEG-TS in RTP",
    "Generic": "anything else in RTP",
}
YES, NO = "yes", "-"


def rtp_cell(codec: Codec) -> str:
    """``yes``: understood, so that other protocols get it; ``pass-through``: passed from RTSP to RTSP."""
    track = Track(0, codec, rtp_format_for(codec, 96))
    if make_packetizer(track, ssrc=0, initial_sequence=0, initial_timestamp=0) is None:
        return NO if codec.name == "FLAC" else "pass-through"
    return YES if make_depacketizer(track) is not None else "pass-through"


def rtmp_cell(codec: Codec) -> str:
    mapping = CODECS.get(codec)
    if mapping is None:
        return NO
    ways = [way for way, there in (("legacy", mapping.legacy_identifiers), ("enhanced", mapping.four_cc)) if there]
    return ", ".join(ways) + (f" ({mapping.note})" if mapping.note else "")


def webrtc_cell(codec: Codec) -> str:
    if type(codec) not in (*VIDEO_CODECS, *AUDIO_CODECS):
        return NO
    if isinstance(codec, LPCM):
        return f"16 bits at {' or '.join(f'{rate // 1000}' for rate in LPCM_CLOCK_RATES)} kHz"
    return YES


def rows() -> list[str]:
    classes = [
        value
        for value in vars(codecs).values()
        if isinstance(value, type) and issubclass(value, Codec) and hasattr(value, "name")
    ]
    lines = []
    for codec_type in classes:
        codec = codec_type()
        cells = (
            f"{NAMES.get(codec.name, codec.name)}",
            rtp_cell(codec),
            rtmp_cell(codec),
            webrtc_cell(codec),
            YES if supports(Variant.FMP4, codec) else NO,
            YES if supports(Variant.MPEGTS, codec) else NO,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def test_the_table_matches_the_code() -> None:
    table = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert table == rows(), "docs/codecs.md should have these rows:\n" + "\n".join(rows())
