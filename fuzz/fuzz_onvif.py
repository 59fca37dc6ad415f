"""Answers of ONVIF cameras, to requests and to probes."""

from __future__ import annotations

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif import device
from polycast.wire.onvif.discovery import answered
from polycast.wire.onvif.soap import body_of

_HEAD = b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'>"
SEEDS: list[bytes] = [
    _HEAD
    + b"<s:Header><RelatesTo>uuid:1</RelatesTo></s:Header><s:Body><ProbeMatch><Scopes>onvif://www.onvif.org/name/a"
    b"</Scopes><XAddrs>http://192.0.2.1:80/onvif http://[::1]/</XAddrs></ProbeMatch></s:Body></s:Envelope>",
    _HEAD
    + b"<s:Body><Profiles token='t'><Name>n</Name><VideoEncoderConfiguration><Encoding>H264</Encoding><Resolution>"
    b"<Width>1</Width><Height>2</Height></Resolution></VideoEncoderConfiguration></Profiles><MediaUri><Uri>rtsp://a/b"
    b"</Uri></MediaUri><Media><XAddr>http://a/</XAddr></Media><UTCDateTime><Hour>1</Hour><Minute>2</Minute>"
    b"<Second>3</Second><Year>2026</Year><Month>4</Month><Day>5</Day></UTCDateTime></s:Body></s:Envelope>",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
]
DICTIONARY: list[bytes] = [
    b"<s:Fault>",
    b"</s:Fault>",
    b"<s:Value>",
    b"&#0;",
    b"]]>",
    b"<![CDATA[",
    b"<?x?>",
    b"xmlns=",
]


def fuzz_one(data: bytes) -> None:
    """Only RemoteProtocolError comes out."""
    try:
        answered(data, "1", "192.0.2.1")
    except RemoteProtocolError:
        pass
    try:
        body = body_of(200, data)
    except RemoteProtocolError:
        return
    for read in (device.device_time, device.services, device.profiles, device.stream_uri):
        try:
            read(body)
        except RemoteProtocolError:
            pass
