"""Messages of ONVIF: against the standard's example, and documents that are written to do harm."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from polycast.errors import RemoteProtocolError
from polycast.wire.onvif import device, document, soap
from polycast.wire.onvif.address import parse_address
from polycast.wire.onvif.discovery import Device, answered, probe
from polycast.wire.onvif.soap import Credentials, Refused

XMLNS = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}"


def test_the_digest_of_the_programmers_guide() -> None:
    """ONVIF Application Programmer's Guide 1.0, section 6.1.1.3."""
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    assert soap.password_digest(nonce, "2010-09-16T07:50:45Z", "userpassword") == "tuOSpGlFlIXsozq4HFNeeGeFLEI="


def test_characters_that_xml_cannot_contain_are_left_out() -> None:
    credentials = Credentials("u\x1bs\ud800er", "p")
    written = soap.envelope(device.get_stream_uri("a\x00b"), credentials, created=datetime(2010, 9, 16, tzinfo=UTC))
    root = ElementTree.fromstring(written)
    assert root.findtext(f".//{XMLNS}Username") == "user"
    assert root.findtext(".//{http://www.onvif.org/ver10/media/wsdl}ProfileToken") == "ab"


def test_a_request_as_another_parser_reads_it() -> None:
    credentials = Credentials('<a&"b">', "userpassword")
    nonce = base64.b64decode("LKqI6G/AikKCQrN0zqZFlg==")
    created = datetime(2010, 9, 16, 7, 50, 45, tzinfo=UTC)
    written = soap.envelope(device.get_stream_uri("a<b>&c"), credentials, nonce=nonce, created=created)
    root = ElementTree.fromstring(written)
    assert root.tag == "{http://www.w3.org/2003/05/soap-envelope}Envelope"
    token = root.find(f".//{XMLNS}UsernameToken")
    assert token is not None
    assert token.findtext(f"{XMLNS}Username") == '<a&"b">'
    assert token.findtext(f"{XMLNS}Password") == "tuOSpGlFlIXsozq4HFNeeGeFLEI="
    assert token.findtext(f"{XMLNS}Nonce") == "LKqI6G/AikKCQrN0zqZFlg=="
    media = "{http://www.onvif.org/ver10/media/wsdl}"
    schema = "{http://www.onvif.org/ver10/schema}"
    request = root.find(f".//{media}GetStreamUri")
    assert request is not None
    assert request.findtext(f"{media}ProfileToken") == "a<b>&c"
    assert request.findtext(f"{media}StreamSetup/{schema}Transport/{schema}Protocol") == "RTSP"


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (LAUGHS, "DTD or an entity"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "DTD or an entity"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "DTD or an entity"),
        (b"<a>" * 40 + b"</a>" * 40, "too many elements"),
        (b"<a>" + b"<b/>" * 9000 + b"</a>", "too many elements"),
        (b"<a>" + b" " * document.MAXIMUM_DOCUMENT + b"</a>", "too large"),
        (b"<a><b></a>", "not an XML document"),
        (b"<a>&nothing;</a>", "not an XML document"),
        (b"", "not an XML document"),
        (b'<?xml version="1.0" encoding="no-such"?><a/>', "not an XML document"),
        (b'<?xml version="1.0" encoding="utf-7"?><a/>', "not an XML document"),
    ],
)  # fmt: skip
def test_documents_that_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        document.parse(data)


def test_a_document() -> None:
    root = document.parse(b'<x:a xmlns:x="urn:x" x:token="t"><b> 1 </b><c><b>2<d/>3</b></c></x:a>')
    assert (root.name, root.attributes) == ("a", {"token": "t"})
    assert [each.text for each in root.all("b")] == ["1", "23"]
    assert root.value("c", "b") == "23"
    assert root.value("c", "x") == ""


def answer(relates_to: str, addresses: str = "http://192.0.2.7/onvif/device_service") -> bytes:
    """An answer as cameras write it, with prefixes of their own."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope"
 xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery">
<SOAP-ENV:Header><wsa:RelatesTo>{relates_to}</wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches>
<d:ProbeMatch><d:Scopes>onvif://www.onvif.org/Profile/Streaming onvif://www.onvif.org/name/Front%20Door
onvif://www.onvif.org/hardware/DS-2CD</d:Scopes><d:XAddrs>{addresses}</d:XAddrs></d:ProbeMatch></d:ProbeMatches>
</SOAP-ENV:Body></SOAP-ENV:Envelope>""".encode()


@pytest.mark.parametrize("prefix", ["uuid:", "urn:uuid:"])
def test_an_answer_to_a_probe(prefix: str) -> None:
    assert b"uuid:1234" in probe("1234")
    found = answered(answer(f"{prefix}1234"), "1234", "192.0.2.7")
    assert found == [Device("http://192.0.2.7/onvif/device_service", "Front Door", "DS-2CD")]
    assert answered(answer("uuid:5678"), "1234", "192.0.2.7") == []


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ("http://10.0.0.1:8080/x http://192.0.2.7/onvif", "http://192.0.2.7/onvif"),
        ("http://10.0.0.1:8080/x", "http://192.0.2.7:8080/x"),
        ("ftp://192.0.2.7/x", None),
        ("http://192.0.2.7:x/ http://[", None),
        ("", None),
    ],
)
def test_a_camera_is_only_believed_about_itself(addresses: str, expected: str | None) -> None:
    found = answered(answer("uuid:1", addresses), "1", "192.0.2.7")
    assert [each.address for each in found] == ([] if expected is None else [expected])


def body(text: str) -> document.Element:
    return document.parse(f"<Body>{text}</Body>".encode())


def test_what_a_camera_answers() -> None:
    now = body(
        "<UTCDateTime><Time><Hour>7</Hour><Minute>50</Minute><Second>60</Second></Time>"
        "<Date><Year>2026</Year><Month>9</Month><Day>16</Day></Date></UTCDateTime>"
    )
    assert device.device_time(now) == datetime(2026, 9, 16, 7, 50, 59, tzinfo=UTC)
    last_year = (
        "<UTCDateTime><Hour>23</Hour><Minute>59</Minute><Second>59</Second>"
        "<Year>9999</Year><Month>12</Month><Day>31</Day></UTCDateTime>"
    )  # a second later, there is no date
    for text in ("", "<UTCDateTime><Year>x</Year></UTCDateTime>", last_year):
        assert device.device_time(body(text)) is None
    capabilities = "<Capabilities><PTZ><XAddr>http://c/ptz</XAddr></PTZ><Media><XAddr>http://c/media</XAddr></Media></Capabilities>"
    assert device.services(body(capabilities)) == device.Services("http://c/media", "http://c/ptz")
    with pytest.raises(RemoteProtocolError, match="no streams"):
        device.services(body(""))
    profiles = device.profiles(
        body(
            "<Profiles token='t1'><Name>main</Name><VideoEncoderConfiguration><Encoding>H264</Encoding><Resolution>"
            "<Width>1920</Width><Height>1080</Height></Resolution></VideoEncoderConfiguration><PTZConfiguration/></Profiles>"
            "<Profiles token='t2'><Name>audio</Name></Profiles><Profiles/>"
        )
    )
    assert list(map(str, profiles)) == ["main: H264 1920x1080, PTZ", "audio: no video"]
    for wanted, token in (("", "t1"), ("t2", "t2"), ("audio", "t2"), ("2", "t2"), ("1", "t1")):
        assert device.choose_profile(profiles, wanted).token == token
    with pytest.raises(RemoteProtocolError, match="no profile '3'; it has main, audio"):
        device.choose_profile(profiles, "3")
    with pytest.raises(RemoteProtocolError, match="no profiles"):
        device.profiles(body(""))
    assert device.stream_uri(body("<MediaUri><Uri>rtsp://c/1</Uri></MediaUri>")) == "rtsp://c/1"
    for uri in ("http://c/1", "", "rtsp://" + "x" * 2000):
        with pytest.raises(RemoteProtocolError):
            device.stream_uri(body(f"<MediaUri><Uri>{uri}</Uri></MediaUri>"))


FAULT = (
    b"<s:Envelope xmlns:s='http://www.w3.org/2003/05/soap-envelope'><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value>"
    b"<s:Subcode><s:Value>ter:%s</s:Value></s:Subcode></s:Code><s:Reason><s:Text>%s</s:Text></s:Reason></s:Fault></s:Body>"
    b"</s:Envelope>"
)


def test_answers_that_refuse() -> None:
    for status, data in (
        (401, b""),
        (400, FAULT % (b"NotAuthorized", b"x")),
        (200, FAULT % (b"FailedAuthentication", b"")),
    ):
        with pytest.raises(Refused) as raised:
            soap.body_of(status, data)
        assert raised.value.status == 401
    with pytest.raises(RemoteProtocolError, match="refuses the request: no such thing"):
        soap.body_of(500, FAULT % (b"ActionNotSupported", b"no such thing"))
    with pytest.raises(RemoteProtocolError, match="status 404"):
        soap.body_of(404, b"<html>")
    with pytest.raises(RemoteProtocolError, match="not one of ONVIF"):
        soap.body_of(200, b"<html/>")


def test_addresses() -> None:
    address = parse_address("onvif://me:se%40cret@192.0.2.7:8080/?profile=main")
    assert address.device == "http://192.0.2.7:8080/onvif/device_service"
    assert address.credentials == Credentials("me", "se@cret")
    assert address.profile == "main"
    # Whatever host the camera names: requests and the stream stay on the one that the user has named.
    assert address.service("http://10.0.0.1/onvif/media") == "http://192.0.2.7:8080/onvif/media"
    assert address.stream("rtsp://10.0.0.1:5554/1?x=2#y") == "rtsp://me:se%40cret@192.0.2.7:5554/1?x=2"
    assert address.stream("rtsp://admin:x@10.0.0.1/1") == "rtsp://me:se%40cret@192.0.2.7/1"
    assert parse_address("onvifs://[2001:db8::1]/own").device == "https://[2001:db8::1]/own"
    assert parse_address("onvifs://[2001:db8::1]/own").stream("rtsp://x/1") == "rtsp://[2001:db8::1]/1"
    for wrong in ("rtsp://host", "onvif:///x", "onvif://host:x", "onvif://["):
        with pytest.raises(RemoteProtocolError):
            parse_address(wrong)
    with pytest.raises(RemoteProtocolError):
        address.stream("rtsp://host:x/")
    with pytest.raises(RemoteProtocolError):
        address.service("http://[")
    # Behind the host, these would be a user and another host, a longer name, or another port.
    for path in ("x:@evil.example/", "@evil.example/", ".evil.example/onvif", ":8081/onvif", "media"):
        with pytest.raises(RemoteProtocolError, match="invalid address"):
            address.service(path)
    assert address.service("http://10.0.0.1//evil.example/") == "http://192.0.2.7:8080//evil.example/"
    assert address.service("/onvif/media") == "http://192.0.2.7:8080/onvif/media"
