// The page that publishes a camera, a microphone or a screen over WebRTC. Each field of its form is also a parameter of
// its address: ?video-device=screen&video-bitrate=3000&autostart=yes

const element = (id) => document.getElementById(id);
const form = element("form");
const video = element("video");
const query = new URLSearchParams(location.search);
const depth = Number(document.documentElement.dataset.depth);
const name = decodeURIComponent(location.pathname.split("/").slice(0, -1).slice(-depth).join("/"));

let publisher = null;
let stream = null;
let meter = null;
let statistics = null;
let last = null;

element("heading").textContent = document.title = `Publish “${name}”`;

function say(state, text) {
  element("status").dataset.state = state;
  element("status").textContent = text;
}

/** Text for an error of a device. */
function explainDevice(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the camera, microphone or screen. Allow it in the address bar, then try again.";
    case "NotFoundError":
      return "There is no such camera or microphone.";
    case "NotReadableError":
      return "The camera or microphone is in use by another program.";
    case "OverconstrainedError":
      return "The camera cannot deliver this size or frame rate.";
    default:
      return `The camera or microphone cannot be used: ${error.message}`;
  }
}

/** Text for an error of the server or the network. */
function explainServer(text) {
  if (/is not configured$/.test(text)) return `The server has no path “${name}”: add it to the configuration.`;
  if (/^someone is already publishing/.test(text)) return `Somebody else is publishing “${name}”.`;
  if (/^no valid tracks found/.test(text)) return "The server supports none of the codecs that this browser can send.";
  if (/cannot be reached over WebRTC|connection was lost/.test(text)) {
    return "The connection over UDP port 8189 failed: a firewall or router may block it. Trying again…";
  }
  return `${text}. Trying again…`;
}

function fill(select, items) {
  select.replaceChildren(...items.map(({ value, label }) => new Option(label, value)));
  const wanted = query.get(select.id);
  const found = items.find((item) => item.value === wanted || item.label === wanted);
  if (found !== undefined) select.value = found.value;
}

async function fillDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const of = (kind, text) => devices
    .filter((device) => device.kind === kind)
    .map((device, index) => ({ value: device.deviceId || "default", label: device.label || `${text} ${index + 1}` }));
  const chosen = [element("video-device").value, element("audio-device").value];
  const screen = navigator.mediaDevices.getDisplayMedia === undefined ? [] : [{ value: "screen", label: "Screen" }];
  const none = { value: "none", label: "None" };
  fill(element("video-device"), [...of("videoinput", "Camera"), ...screen, none]);
  fill(element("audio-device"), [...of("audioinput", "Microphone"), none]);
  for (const [index, id] of ["video-device", "audio-device"].entries()) {
    if ([...element(id).options].some((option) => option.value === chosen[index])) element(id).value = chosen[index];
  }
}

function fillFields() {
  const automatic = { value: "", label: "Automatic" };
  fill(element("video-codec"), [automatic, ...WebRTCPublisher.codecs("video")]);
  fill(element("audio-codec"), [automatic, ...WebRTCPublisher.codecs("audio")]);
  for (const id of ["video-width", "video-height", "video-framerate", "video-bitrate", "audio-bitrate"]) {
    if (query.has(id)) element(id).value = query.get(id);
  }
  if (query.has("audio-voice")) element("audio-voice").checked = ["1", "true", "yes"].includes(query.get("audio-voice"));
}

async function capture() {
  const videoDevice = element("video-device").value;
  const audioDevice = element("audio-device").value;
  const size = {
    width: { ideal: Number(element("video-width").value) },
    height: { ideal: Number(element("video-height").value) },
    frameRate: { ideal: Number(element("video-framerate").value) },
  };
  const speech = element("audio-voice").checked;
  const sound = { echoCancellation: speech, noiseSuppression: speech, autoGainControl: speech };
  const exact = (id) => (id === "default" ? {} : { deviceId: { exact: id } });
  const audio = audioDevice === "none" ? false : { ...exact(audioDevice), ...sound };
  if (videoDevice === "screen") {
    const screen = await navigator.mediaDevices.getDisplayMedia({ video: size, audio: false });
    if (audio) (await navigator.mediaDevices.getUserMedia({ audio })).getTracks().forEach((track) => screen.addTrack(track));
    return screen;
  }
  if (videoDevice === "none" && !audio) throw new Error("choose a picture or a sound source");
  return navigator.mediaDevices.getUserMedia({ video: videoDevice === "none" ? false : { ...exact(videoDevice), ...size }, audio });
}

function showLevel() {
  const level = element("level");
  level.hidden = stream.getAudioTracks().length === 0;
  if (level.hidden) return;
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    level.value = Math.max(...samples.map(Math.abs));
  }, 80);
  meter = () => {
    clearInterval(timer);
    context.close();
    level.hidden = true;
  };
}

async function showFigures() {
  const report = await publisher?.statistics();
  if (!report) return;
  const parts = [];
  for (const item of report.values()) {
    if (item.type !== "outbound-rtp") continue;
    const codec = report.get(item.codecId)?.mimeType.split("/")[1] ?? item.kind;
    const before = last?.get(item.id);
    const seconds = before ? (item.timestamp - before.timestamp) / 1000 : 0;
    const rate = seconds > 0 ? Math.round(((item.bytesSent - before.bytesSent) * 8) / seconds / 1000) : 0;
    const size = item.frameWidth ? ` ${item.frameWidth}×${item.frameHeight} ${Math.round(item.framesPerSecond ?? 0)} fps` : "";
    parts.push(`${codec}${size} ${rate} kbit/s`);
  }
  last = report;
  element("figures").textContent = parts.join(" · ");
}

async function start() {
  say("idle", "Waiting for camera and microphone…");
  try {
    stream = await capture();
  } catch (error) {
    stop();
    say("error", error instanceof DOMException ? explainDevice(error) : error.message);
    return;
  }
  fillDevices();
  video.srcObject = stream;
  showLevel();
  stream.getVideoTracks()[0]?.addEventListener("ended", stop);
  element("go").textContent = "Stop";
  element("go").dataset.live = "yes";
  publisher = new WebRTCPublisher({
    url: new URL(`whip${location.search}`, location.href).href,
    stream,
    user: element("user").value,
    pass: element("password").value,
    videoCodec: element("video-codec").value,
    audioCodec: element("audio-codec").value,
    videoBitrate: element("video-bitrate").value,
    audioBitrate: element("audio-bitrate").value,
    audioVoice: element("audio-voice").checked,
    onConnected: () => say("running", "Live."),
    onError: (text, status) => {
      if (status !== 401) {
        say("error", explainServer(text));
        return;
      }
      stop();
      element("login").hidden = false;
      element("user").focus();
      say("error", "A user name and password are required to publish here.");
    },
    onState: (state) => state === "connecting" && say("idle", "Connecting…"),
  });
  statistics = setInterval(showFigures, 1000);
}

function stop() {
  clearInterval(statistics);
  publisher?.close();
  meter?.();
  stream?.getTracks().forEach((track) => track.stop());
  publisher = stream = meter = last = null;
  video.srcObject = null;
  element("figures").textContent = "";
  element("go").textContent = "Publish";
  element("go").dataset.live = "no";
  say("idle", "Stopped.");
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (publisher === null && stream === null) start();
  else stop();
});
addEventListener("pagehide", stop);

async function prepare() {
  if (window.RTCPeerConnection === undefined) {
    say("error", "This browser does not support WebRTC.");
    element("go").disabled = true;
    return;
  }
  if (navigator.mediaDevices === undefined) {
    say("error", "Browsers allow access to camera and microphone over HTTPS only: set webrtcEncryption, or open the page on localhost.");
    element("go").disabled = true;
    return;
  }
  fillFields();
  await fillDevices();
  navigator.mediaDevices.addEventListener("devicechange", fillDevices);
  if (["1", "true", "yes"].includes(query.get("autostart"))) start();
}

prepare();
