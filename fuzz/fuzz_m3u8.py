"""Fuzz target: the playlist parser and the delivery directives. Only `RemoteProtocolError` may leave them."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.hls.directives import DeliveryDirectives, is_available, parse_directives
from polycast.wire.hls.parser import parse_playlist

SEEDS: list[bytes] = [
    b"#EXTM3U\n#EXT-X-INDEPENDENT-SEGMENTS\n"
    b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x",DEFAULT=YES,URI="a.m3u8"\n'
    b'#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="avc1.42c028,mp4a.40.2",RESOLUTION=1x2,FRAME-RATE=30.0,AUDIO="a"\nv.m3u8\n',
    b"#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:5\n#EXT-X-DISCONTINUITY-SEQUENCE:1\n"
    b'#EXT-X-MAP:URI="i.mp4",BYTERANGE="7@0"\n#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x01\n'
    b"#EXT-X-PROGRAM-DATE-TIME:2019-02-14T02:13:36.106Z\n#EXTINF:3.9,t\n#EXT-X-BYTERANGE:10@5\na.mp4\n"
    b"#EXT-X-DISCONTINUITY\n#EXT-X-GAP\n#EXTINF:4,\n#EXT-X-BYTERANGE:10\na.mp4\n#EXT-X-ENDLIST\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1,CAN-SKIP-UNTIL=24\n"
    b"#EXT-X-PART-INF:PART-TARGET=0.3\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n"
    b'#EXT-X-PART:DURATION=0.3,URI="p",INDEPENDENT=YES,BYTERANGE="5@1"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI="q",BYTERANGE-START=6\n'
    b'#EXT-X-RENDITION-REPORT:URI="r",LAST-MSN=1,LAST-PART=2\n',
    b"_HLS_msn=12&_HLS_part=3&_HLS_skip=YES&token=x",
]


def fuzz_one(data: bytes) -> None:
    """Parse the data as a playlist and as a query."""
    try:
        parse_playlist(data)
    except RemoteProtocolError:
        pass
    directives = parse_directives(data.decode("latin-1"))
    if isinstance(directives, DeliveryDirectives):
        is_available(directives, 10, 5, 2, 0.2)
