// What may spoil the picture of a stream, and what to do about it.

import { count, duration } from "./format.js";

// Samples of the history that are looked at: a minute.
const RECENT = 6;
// A stream that has just begun has no second key frame yet.
const STARTED_SECONDS = 30;
const RARE_SECONDS = 5;
// Codecs whose key frames the server knows.
const WITH_KEY_FRAMES = new Set(["H264", "H265", "VP8", "VP9", "AV1"]);

/** `[[title, text]]`; `dropped` is the rate of packets that are dropped for slow readers. */
export function causesOf(path, history, dropped) {
  if (!path.sourceReady || !history) return [];
  const causes = [];
  const lost = history.packetsLost.slice(-RECENT).reduce((sum, value) => sum + (value ?? 0), 0);
  if (lost > 0) {
    causes.push(["Packets are lost on the way to the server.", `${count(lost, "packet")} in the last minute: pictures are grey or smeared until the next key frame. Publish over TCP, or over SRT with a longer latency; for a camera, set “rtspTransport: tcp”.`]);
  }
  if (dropped > 0) {
    causes.push(["A reader is too slow.", "It gets no pictures until the next key frame after it has caught up. Its network or its processor cannot keep up with the bit rate."]);
  }
  const interval = history.keyFrameInterval.at(-1) ?? null;
  // Browsers that publish send key frames when somebody asks for one.
  const isAsked = String(path.source?.type ?? "").toLowerCase().startsWith("webrtc");
  if (interval !== null && !isAsked && path.trackDetails.some((track) => WITH_KEY_FRAMES.has(track.codec))) {
    const remedy = "Viewers wait for one, and what was lost stays grey until then. Set the key frame interval (GOP) of the encoder or camera to 1 or 2 s.";
    if (interval === 0 && path.uptime > STARTED_SECONDS) causes.push(["Key frames are missing.", `None has come, or only one since the stream began. ${remedy}`]);
    if (interval > RARE_SECONDS) causes.push(["Key frames are rare.", `One comes every ${duration(Math.round(interval))}. ${remedy}`]);
  }
  return causes;
}
