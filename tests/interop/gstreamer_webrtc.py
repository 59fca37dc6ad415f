"""GStreamer's webrtcbin as a WHIP publisher or a WHEP viewer. Run by the system's Python.

    gstreamer_webrtc.py publish|watch URL

A publisher runs until it is ended; a viewer prints the brightness of each picture, and ends after the 30th.
"""

import sys
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PICTURES = 30
PUBLISH = (
    "webrtcbin name=peer bundle-policy=max-bundle "
    "videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=240,framerate=30/1 ! "
    "vp8enc deadline=1 keyframe-max-dist=30 ! rtpvp8pay ! "
    "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000 ! peer. "
    "audiotestsrc is-live=true ! audioconvert ! audioresample ! opusenc ! rtpopuspay ! "
    "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000 ! peer."
)
# Of a single element, no pipeline would be made.
WATCH = "webrtcbin name=peer bundle-policy=max-bundle fakesrc num-buffers=0 ! fakesink async=false"


class Peer:
    """One connection."""

    def __init__(self, is_publisher: bool, url: str) -> None:
        self._url = url
        self._count = 0
        self.loop = GLib.MainLoop()
        self.pipeline = Gst.parse_launch(PUBLISH if is_publisher else WATCH)
        self._peer = self.pipeline.get_by_name("peer")
        self._peer.connect("on-negotiation-needed", self._on_negotiation_needed)
        self._peer.connect("notify::ice-gathering-state", self._on_gathering)
        if not is_publisher:
            caps = "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000"
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self._peer.emit("add-transceiver", direction, Gst.Caps.from_string(caps))
            self._peer.connect("pad-added", self._on_pad)

    def _on_negotiation_needed(self, peer: object) -> None:
        self._peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self._on_offer))

    def _on_offer(self, promise: Gst.Promise) -> None:
        reply = promise.get_reply()  # the offer is part of it
        self._peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def _on_gathering(self, *_: object) -> None:
        if self._peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self._send)

    def _send(self) -> bool:
        local = self._peer.get_property("local-description")
        request = urllib.request.Request(self._url, local.sdp.as_text().encode(), {"Content-Type": "application/sdp"})
        with urllib.request.urlopen(request) as response:
            body = response.read()
        _, answer = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(body, answer)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, answer)
        self._peer.emit("set-remote-description", description, Gst.Promise.new())
        return False

    def _on_pad(self, _: object, pad: Gst.Pad) -> None:
        if pad.direction != Gst.PadDirection.SRC:
            return
        end = Gst.parse_bin_from_description(
            "rtpvp8depay ! vp8dec ! videoconvert ! video/x-raw,format=GRAY8 ! appsink name=end emit-signals=true "
            "sync=false",
            True,
        )
        end.get_by_name("end").connect("new-sample", self._on_picture)
        self.pipeline.add(end)
        end.sync_state_with_parent()
        pad.link(end.get_static_pad("sink"))

    def _on_picture(self, end: object) -> Gst.FlowReturn:
        buffer = end.emit("pull-sample").get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        print(sum(data[::97]) // len(data[::97]), flush=True)
        self._count += 1
        if self._count >= PICTURES:
            self.loop.quit()
        return Gst.FlowReturn.OK


def main() -> None:
    Gst.init(None)
    peer = Peer(sys.argv[1] == "publish", sys.argv[2])
    peer.pipeline.set_state(Gst.State.PLAYING)
    peer.loop.run()
    peer.pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
