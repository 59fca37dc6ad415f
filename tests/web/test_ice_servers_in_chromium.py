"""The pages pass the STUN and TURN servers of the responses to the browser's connections."""

from __future__ import annotations

from tests.browser import launch
from tests.protocols.webrtc.support import running

PASSWORD = 'p"\\, <turn:x>; rel="ice-server"; \u00e9'
TURN = {"url": "turn:turn.example.com:3478?transport=tcp", "username": "u, v", "password": PASSWORD}
SERVERS = [{"url": "stun:stun.example.com:3478"}, TURN, {"url": "stun:[::1]"}]
EXPECTED = [
    {"urls": ["stun:stun.example.com:3478"]},
    {"urls": [TURN["url"]], "username": "u, v", "credential": PASSWORD},
    {"urls": ["stun:[::1]"]},
]

CONFIGURATION = """(() => new Promise((resolve) => {
  const Original = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Original {
    constructor(options) {
      super(options);  // throws an exception if Chromium refuses one of the servers
      resolve(options.iceServers);
    }
  };
  const client = new %s({ url: "%s", stream: new MediaStream(), onError: (text) => resolve(text) });
}))()"""

PARSED = """(() => {
  const headers = new Headers();
  for (const link of %s) headers.append("link", link);
  return %s.iceServers({ headers });
})()"""


async def test_pages_use_the_servers() -> None:
    async with running(webrtcICEServers2=SERVERS) as fixture, launch() as browser:
        address = f"http://localhost:{fixture.server.port}/cam/"
        for page_address, script, endpoint in (
            (address, "WebRTCReader", "whep"),
            (f"{address}publish", "WebRTCPublisher", "whip"),
        ):
            page = await browser.open(page_address)
            await page.wait_for(f"typeof {script} === 'function'")
            found = await page.evaluate(CONFIGURATION % (script, endpoint))
            assert found == EXPECTED
            assert await page.evaluate(PARSED % ([], script)) == []
            other = ["<https://example.com/>; rel=next", '<stun:a>;rel="ice-server"', "<stun:b>; rel=ice-server"]
            assert await page.evaluate(PARSED % (other, script)) == [{"urls": ["stun:a"]}, {"urls": ["stun:b"]}]
