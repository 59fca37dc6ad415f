"""Chromium publishes surround sound, which a page has to ask for by changing the offer.

With seven channels, it agrees and sends nothing.
"""

from __future__ import annotations

import json

import pytest
from tests.browser import launch
from tests.protocols.webrtc.support import running
from tests.support.waiting import PATIENCE
from tests.web.test_webrtc_in_browsers import FLAGS, address

from polycast.codecs.opus import multichannel_parameters
from polycast.media.codec import Opus

pytestmark = pytest.mark.interop

PUBLISH = """(async (channels, parameters, url) => {
  const context = new AudioContext({ sampleRate: 48000 });
  await context.resume();
  const destination = new MediaStreamAudioDestinationNode(context, {
    channelCount: channels, channelCountMode: "explicit", channelInterpretation: "discrete",
  });
  const merger = new ChannelMergerNode(context, { numberOfInputs: channels });
  for (let channel = 0; channel < channels; channel++) {
    const tone = new OscillatorNode(context, { frequency: 300 + 100 * channel });
    tone.connect(merger, 0, channel);
    tone.start();
  }
  merger.connect(destination);
  const peer = (window.peer = new RTCPeerConnection());
  peer.addTrack(destination.stream.getAudioTracks()[0], destination.stream);
  const { sdp } = await peer.createOffer();
  const number = sdp.match(/a=rtpmap:(\\d+) opus\\//)[1];
  const lines = sdp
    .replace(/(m=audio \\d+ \\S+) .*/, `$1 ${number}`)
    .replace(`${number} opus/48000/2`, `${number} multiopus/48000/${channels}`)
    .replace(new RegExp(`a=fmtp:${number} .*`), `a=fmtp:${number} ${parameters}`)
    .split("\\r\\n")
    .filter((line) => (line.match(/^a=(?:rtpmap|fmtp|rtcp-fb):(\\d+)/)?.[1] ?? number) === number);
  await peer.setLocalDescription({ type: "offer", sdp: lines.join("\\r\\n") });
  const headers = { "Content-Type": "application/sdp" };
  const response = await fetch(url, { method: "POST", body: peer.localDescription.sdp, headers });
  await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
  return response.status;
})"""


@pytest.mark.parametrize("channels", [6, 7])
async def test_surround_sound_is_published_or_its_absence_is_told(channels: int) -> None:
    async with running() as fixture, launch(*FLAGS) as browser:
        page = await browser.open(address(fixture, "elsewhere"))
        parameters = ";".join(f"{name}={value}" for name, value in multichannel_parameters(channels).items())
        values = ", ".join(map(json.dumps, (channels, parameters, f"{address(fixture, 'mic')}whip")))
        assert await page.evaluate(f"{PUBLISH}({values})") == 201
        await page.wait_for("peer.connectionState === 'connected'", PATIENCE)
        if channels == 7:
            await fixture.log.wait("WARNING .*has agreed to send Opus with 7 channels, but nothing of it has arrived")
            assert fixture.path("mic").stream is None
        else:
            await fixture.until(lambda: fixture.path("mic").stream is not None)
            stream = fixture.path("mic").stream
            assert stream is not None
            assert [track.codec for track in stream.descriptions] == [Opus(channels)]
