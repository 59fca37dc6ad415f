"""The table of codecs in ``docs/codecs.md``, from the rows that the protocols declare.

``python -m polycast.app.codec_document docs/`` writes it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from polycast.config.generated import update_page, with_parts
from polycast.media.codec import CODEC_TYPES, COMMON_NAMES, Codec
from polycast.media.codec_table import CodecTable
from polycast.media.track import Track
from polycast.rtp.payload import registry as rtp
from polycast.transcode import codecs as library
from polycast.wire.hls.codecs import obstacle
from polycast.wire.hls.options import Variant
from polycast.wire.mp4 import file_codecs
from polycast.wire.mp4 import sample_entries as mp4
from polycast.wire.mpegts import codecs as mpegts
from polycast.wire.rtmp import supported as rtmp
from polycast.wire.webrtc import codecs as webrtc

YES, NO = "yes", "-"

LINE: Final = 128
"""Maximum line length of the document, except for rows of the table."""

_NAMES: Final = {
    **COMMON_NAMES,
    "MPEG2Audio": "MPEG audio (MP3)",
    "MPEG4Video": "MPEG-4 Part 2",
    "MPEG2Video": "MPEG-2",
    "MPEGTS": "MPEG-TS in RTP",
    "Generic": "anything else in RTP",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One container."""

    name: str
    module: ModuleType
    """Where its table is: ``CODECS``."""
    table: CodecTable[Any]
    cell: Callable[[Codec], str]
    """What the table says of a codec; ``-`` for one that is not carried."""
    reason: Callable[[Codec], str | None]
    """Why it does not carry a codec."""


def _rtp_cell(codec: Codec) -> str:
    if codec not in rtp.CODECS:
        return NO
    track = Track(0, codec, rtp.rtp_format_for(codec, 96))
    has_packetizer = rtp.make_packetizer(track, ssrc=0, initial_sequence=0, initial_timestamp=0) is not None
    return YES if has_packetizer and rtp.make_depacketizer(track) is not None else "pass-through"


def _rtmp_cell(codec: Codec) -> str:
    mapping = rtmp.CODECS.get(codec)
    if mapping is None:
        return NO
    forms = [form for form, there in (("legacy", mapping.legacy_identifiers), ("enhanced", mapping.four_cc)) if there]
    return ", ".join(forms) + (f" ({mapping.note})" if mapping.note else "")


def _webrtc_cell(codec: Codec) -> str:
    mapping = webrtc.CODECS.get(codec)
    return NO if mapping is None else mapping.note or YES


def _transport_cell(codec: Codec) -> str:
    return YES if codec in mpegts.CODECS else NO


def _fmp4_cell(codec: Codec) -> str:
    return YES if obstacle(Variant.FMP4, codec) is None else NO


def _mpegts_cell(codec: Codec) -> str:
    if obstacle(Variant.MPEGTS, codec) is None:
        return YES
    return "sources only" if codec in mpegts.CODECS else NO


def _file_cell(codec: Codec) -> str:
    return YES if codec in file_codecs.CODECS else NO


def _ts_file_cell(codec: Codec) -> str:
    return YES if codec in mpegts.CODECS else NO


def _library_cell(codec: Codec) -> str:
    row = library.CODECS.get(codec)
    if row is None:
        return "encoded frames" if codec in rtp.CODECS and _rtp_cell(codec) == YES else NO
    return "decodes, encodes" if row.video_encoding is not None or row.audio_encodings else "decodes"


COLUMNS: Final = (
    Column("RTSP", rtp, rtp.CODECS, _rtp_cell, rtp.CODECS.reason),
    Column("RTMP", rtmp, rtmp.CODECS, _rtmp_cell, rtmp.CODECS.reason),
    Column("WebRTC", webrtc, webrtc.CODECS, _webrtc_cell, webrtc.CODECS.reason),
    Column("SRT", mpegts, mpegts.CODECS, _transport_cell, mpegts.CODECS.reason),
    Column("HLS (fMP4, Low-Latency)", mp4, mp4.CODECS, _fmp4_cell, lambda codec: obstacle(Variant.FMP4, codec)),
    Column("HLS (MPEG-TS)", mpegts, mpegts.CODECS, _mpegts_cell, lambda codec: obstacle(Variant.MPEGTS, codec)),
    Column("recordings (fMP4)", file_codecs, file_codecs.CODECS, _file_cell, file_codecs.CODECS.reason),
    Column("recordings (MPEG-TS)", mpegts, mpegts.CODECS, _ts_file_cell, mpegts.CODECS.reason),
    Column("Python library", library, library.CODECS, _library_cell, library.CODECS.reason),
)


def name_of(codec: Codec) -> str:
    """Return what the document calls a codec."""
    return _NAMES.get(codec.name, codec.name)


def table() -> str:
    """Return the table of codecs and containers, and why some do not carry a codec, as Markdown."""
    lines = ["| codec | " + " | ".join(column.name for column in COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for codec_type in CODEC_TYPES:
        codec = codec_type()
        lines.append(f"| {name_of(codec)} | " + " | ".join(column.cell(codec) for column in COLUMNS) + " |")
    return "\n".join([*lines, "", "What is not carried:", "", *_reasons()]) + "\n"


def _reasons() -> Iterator[str]:
    for column in COLUMNS:
        names: dict[str, list[str]] = {}
        for codec_type in CODEC_TYPES:
            reason = column.reason(codec_type())
            if reason is not None:
                names.setdefault(reason, []).append(name_of(codec_type()))
        for reason, codecs in names.items():
            line = f"- {column.name}: {', '.join(codecs)} ({reason})"
            yield textwrap.fill(line, LINE, subsequent_indent="  ", break_on_hyphens=False)


def updated(text: str) -> str:
    """Return the document with the table as it is now."""
    return with_parts(text, {"codecs": table})


def main(arguments: list[str] | None = None) -> None:
    """Write the document."""
    update_page("codecs.md", updated, arguments)


if __name__ == "__main__":
    main()
