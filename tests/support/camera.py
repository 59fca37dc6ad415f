"""An ONVIF camera as a test needs it: answers probes and requests, and checks passwords, with other code than ours."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

TOLERANCE = timedelta(seconds=30)
"""By which the date of a password may differ from the camera's clock."""

ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?><env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:tt="http://www.onvif.org/ver10/schema"><env:Body>{}</env:Body></env:Envelope>'
)
NOT_AUTHORIZED = (
    "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>ter:NotAuthorized</env:Value>"
    "</env:Subcode></env:Code><env:Reason><env:Text>Sender not authorized</env:Text></env:Reason></env:Fault>"
)
PROFILES = (
    '<trt:GetProfilesResponse><trt:Profiles token="P1" fixed="true"><tt:Name>main</tt:Name>'
    "<tt:VideoEncoderConfiguration><tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>320</tt:Width><tt:Height>240</tt:Height></tt:Resolution>"
    '</tt:VideoEncoderConfiguration><tt:PTZConfiguration token="z"/></trt:Profiles>'
    '<trt:Profiles token="P2"><tt:Name>sub stream</tt:Name></trt:Profiles></trt:GetProfilesResponse>'
)


class StandInCamera:
    """Runs in threads. ``streams``: the RTSP address of each profile."""

    def __init__(
        self,
        streams: dict[str, str],
        *,
        user: str = "me",
        password: str = "se!cret",
        clock: timedelta = timedelta(),
        name: str = "Front Door",
        answers_probes: bool = True,
    ) -> None:
        self.streams = streams
        self.requests: list[str] = []
        self.moves: list[tuple[str, ...]] = []
        """The movements: what was asked for, and the values in it."""
        self._user, self._password, self._clock, self._name = user, password, clock, name
        self._nonces: set[str] = set()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/soap+xml; charset=utf-8"
                status, text = camera._answer(body)
                data = ENVELOPE.format(text).encode()
                data = data.replace(b"xmlns:tt=", b'xmlns:trt="http://www.onvif.org/ver10/media/wsdl" xmlns:tt=')
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.port: int = self._server.server_address[1]
        self.probe_port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=self._server.serve_forever, args=(0.02,))]
        if answers_probes:
            self._threads.append(threading.Thread(target=self._answer_probes))

    def __enter__(self) -> StandInCamera:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", ("127.0.0.1", self.probe_port))
        for thread in self._threads:
            thread.join(30)
        self._udp.close()

    def _answer(self, body: bytes) -> tuple[int, str]:
        root = ElementTree.fromstring(body)
        request = root.find("{http://www.w3.org/2003/05/soap-envelope}Body/*")
        assert request is not None
        name = request.tag.rpartition("}")[2]
        self.requests.append(name)
        now = datetime.now(UTC) + self._clock
        if name == "GetSystemDateAndTime":
            return 200, (
                f"<r><tt:UTCDateTime><tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute><tt:Second>"
                f"{now.second}</tt:Second></tt:Time><tt:Date><tt:Year>{now.year}</tt:Year><tt:Month>{now.month}</tt:Month>"
                f"<tt:Day>{now.day}</tt:Day></tt:Date></tt:UTCDateTime></r>"
            )
        if not self._is_authorized(root, now):
            return 400, NOT_AUTHORIZED
        if name in ("ContinuousMove", "Stop", "GotoPreset"):
            values = [each.text or str(each.attrib) for each in request.iter() if each.text or each.attrib]
            self.moves.append((name, *values))
            return 200, "<r/>"
        if name == "GetCapabilities":
            # As behind a router: with an address that cannot be reached from here.
            return 200, (
                "<r><tt:Capabilities><tt:Media><tt:XAddr>http://10.255.255.1:81/onvif/Media</tt:XAddr></tt:Media>"
                "<tt:PTZ><tt:XAddr>http://10.255.255.1:81/onvif/PTZ</tt:XAddr></tt:PTZ>"
                "</tt:Capabilities></r>"
            )
        if name == "GetProfiles":
            return 200, PROFILES
        assert name == "GetStreamUri"
        token = request.findtext("{http://www.onvif.org/ver10/media/wsdl}ProfileToken") or ""
        return 200, f"<r><tt:MediaUri><tt:Uri>{self.streams[token]}</tt:Uri></tt:MediaUri></r>"

    def _is_authorized(self, root: ElementTree.Element, now: datetime) -> bool:
        found = {each.tag.rpartition("}")[2]: each.text or "" for each in root.iter()}
        if found.get("Username") != self._user or found["Nonce"] in self._nonces:
            return False
        self._nonces.add(found["Nonce"])
        created = found["Created"]
        date = datetime.strptime(created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        secret = base64.b64decode(found["Nonce"]) + created.encode() + self._password.encode()
        expected = base64.b64encode(hashlib.sha1(secret).digest()).decode()
        return found["Password"] == expected and abs(date - now) < TOLERANCE

    def _answer_probes(self) -> None:
        while True:
            data, sender = self._udp.recvfrom(65535)
            if data == b"end":
                return
            message = re.search(rb"MessageID>(uuid:[^<]*)<", data)
            assert message is not None
            name = self._name.replace(" ", "%20")
            answer = (
                "<e:Envelope xmlns:e='http://www.w3.org/2003/05/soap-envelope' "
                "xmlns:a='http://schemas.xmlsoap.org/ws/2004/08/addressing' "
                "xmlns:d='http://schemas.xmlsoap.org/ws/2005/04/discovery'><e:Header><a:RelatesTo>"
                f"{message[1].decode()}</a:RelatesTo></e:Header><e:Body><d:ProbeMatches><d:ProbeMatch>"
                f"<d:Scopes>onvif://www.onvif.org/name/{name} onvif://www.onvif.org/hardware/Stand-In</d:Scopes>"
                f"<d:XAddrs>http://10.255.255.1:{self.port}/onvif/device_service</d:XAddrs>"
                "</d:ProbeMatch></d:ProbeMatches></e:Body></e:Envelope>"
            )
            self._udp.sendto(b"<not XML", sender)
            self._udp.sendto(answer.encode(), sender)
