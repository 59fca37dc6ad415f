// The page that shows a stream over WebRTC. Options in its address: controls, muted, autoplay, playsinline (all true),
// disablepictureinpicture (false).

const element = (id) => document.getElementById(id);
const player = element("player");
const video = element("video");
const query = new URLSearchParams(location.search);
const name = decodeURIComponent(location.pathname.replace(/\/+$/, "").split("/").slice(-Number(document.documentElement.dataset.depth)).join("/"));

const flag = (key, preset) => (query.has(key) ? ["1", "true", "yes", ""].includes(query.get(key)) : preset);

element("name").textContent = document.title = name;
video.controls = flag("controls", true);
video.muted = flag("muted", true);
video.autoplay = flag("autoplay", true);
video.playsInline = flag("playsinline", true);
video.disablePictureInPicture = flag("disablepictureinpicture", false);

/** Texts for messages of the server; others are shown unchanged. */
const EXPLANATIONS = [
  [/\(its source failed: (.*)\)$/, (match) => ["The source of this stream has failed", `${match[1]}. Check the camera or server, and its address and password in the configuration.`]],
  [/\(its source has timed out\)$/, () => ["The stream did not start", "The camera, server or command that provides it sent nothing in time. Trying again…"]],
  [/^no stream is available/, () => [`Nobody is publishing “${name}” at the moment`, "Playback starts automatically."]],
  [/is not configured$/, () => [`There is no stream “${name}” on this server`, "Check the address, or add the path to the configuration."]],
  [/^codecs not supported by client: (.*); (webrtcTranscode\w+: yes) converts .* to (.*)$/, (match) => [`This browser cannot play ${match[1]} over WebRTC`, `Try another browser, watch the stream over HLS, or set “${match[2]}” on the server, which converts it to ${match[3]}.`]],
  [/^codecs not supported by client: (.*)/, (match) => [`This browser cannot show ${match[1]} over WebRTC`, "Try another browser, or watch the stream over HLS."]],
  [/^the stream has B-frames(.*webrtcTranscodeVideo)?/, (match) => ["Browsers cannot show this stream over WebRTC", `It has B-frames. Encode it without them (“-bf 0”, “-tune zerolatency”), watch it over HLS, or set ${match[1] ? "“webrtcTranscodeVideo: yes” or " : ""}“webrtcReorder: drop” on the server.`]],
  [/^the stream doesn't contain any supported codec.*; (webrtcTranscode\w+: yes) converts (.*) to (\w+)$/, (match) => [`WebRTC cannot carry ${match[2]}`, `Watch the stream over HLS or RTSP, publish it with ${match[3]}, or set “${match[1]}” on the server, which converts ${match[2]} to ${match[3]}.`]],
  [/^the stream doesn't contain any supported codec/, () => ["WebRTC cannot carry the codecs of this stream", "Watch it over HLS or RTSP, or publish it as H264, VP8, VP9 or AV1 with Opus."]],
  [/^the server does not answer/, () => ["The server does not respond", "It may be restarting. Trying again…"]],
  [/cannot be reached over WebRTC|connection was lost/, () => ["The server's media port cannot be reached", "The connection over UDP port 8189 failed: a firewall or router may block it. See “webrtcAdditionalHosts” and “webrtcLocalTCPAddress” in the documentation."]],
];

function explain(text) {
  for (const [pattern, words] of EXPLANATIONS) {
    const match = text.match(pattern);
    if (match !== null) return words(match);
  }
  return ["The stream cannot be shown", text];
}

/** Tell the page that shows this one in a frame what happens: "playing", "login" or "failed" with a reason. */
function tell(polycast, text = "") {
  if (parent !== window) parent.postMessage({ polycast, text }, "*");
}

function show(state, title = "", advice = "") {
  player.dataset.state = state;
  element("title").textContent = title;
  element("advice").textContent = advice;
}

const NOTICE_MILLISECONDS = 15000;
let noticeTimer = null;
let reader = null;

function watch(user, pass) {
  element("login").hidden = true;
  element("message").hidden = false;
  reader?.close();
  reader = new WebRTCReader({
    url: new URL(`whep${location.search}`, location.href).href,
    user,
    pass,
    onTrack: (event) => {
      video.srcObject = event.streams[0];
      video.play().catch(() => {});
    },
    onError: (text, status) => {
      if (status === 401) {
        reader.close();
        element("message").hidden = true;
        element("login").hidden = false;
        player.dataset.state = "waiting";
        element("user").focus();
        tell("login");
        return;
      }
      const [title, advice] = explain(text);
      show("waiting", title, advice);
      tell("failed", title);
    },
    onNotice: (notices) => {
      element("notice").textContent = notices.map((text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`).join(" ");
      element("notice").hidden = false;
      clearTimeout(noticeTimer);
      noticeTimer = setTimeout(() => (element("notice").hidden = true), NOTICE_MILLISECONDS);
    },
    onState: (state) => {
      if (state === "connecting" && player.dataset.state === "running") show("connecting", "Connecting…");
    },
  });
}

video.addEventListener("playing", () => {
  tell("playing");
  player.dataset.state = "running";
  element("unmute").hidden = video.controls || !video.muted || video.srcObject.getAudioTracks().length === 0;
});
element("unmute").addEventListener("click", () => {
  video.muted = false;
  element("unmute").hidden = true;
});
element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  watch(element("user").value, element("password").value);
});
addEventListener("pagehide", () => reader?.close());
addEventListener("pageshow", (event) => event.persisted && watch());

if (window.RTCPeerConnection === undefined) {
  tell("failed", "This browser does not support WebRTC");
  show("waiting", "This browser does not support WebRTC", "Use a current version of Chrome, Edge, Firefox or Safari.");
} else {
  watch();
}
