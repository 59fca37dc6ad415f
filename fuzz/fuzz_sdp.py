"""Session descriptions."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.sdp import parse_sdp

SEEDS: list[bytes] = [
    b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=No Name\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\na=tool:libavformat\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:streamid=0\r\n"
    b"m=audio 0 RTP/AVP 97\r\nb=AS:69\r\na=rtpmap:97 MPEG4-GENERIC/44100/1\r\na=control:streamid=1\r\n",
    b"\xef\xbb\xbfv=0\n s = K\xfcche \n\nm=audio 5000/2 RTP/AVP 0 8\r\ni=x\ra=recvonly\r\n\0",
]
DICTIONARY: list[bytes] = [b"m=", b"a=", b"c=", b"b=", b"i=", b"s=", b"\r\n", b"\xc2\x85", b"a=rtpmap:96 ", b"\x1c"]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out; what was read can be written and read again."""
    try:
        session = parse_sdp(data)
    except RemoteProtocolError:
        return
    for media in session.medias:
        for payload_type in media.formats:
            media.rtpmap(payload_type)
            media.fmtp(payload_type)
    written = session.serialize()
    try:
        again = parse_sdp(written)
    except RemoteProtocolError:
        # Defaults for missing lines and UTF-8 for Latin-1 may take it over the size limit.
        return
    if again.serialize() != written:
        raise ValueError("what was written is read differently")
