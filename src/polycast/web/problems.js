// Texts and remedies for the server's problem details (RFC 9457) about a stream that cannot be played.

import { streamName } from "./options.js";

const VARIANTS = { mpegts: "MPEG-TS", fmp4: "fMP4", lowLatency: "Low-Latency HLS" };
const UNITS = [
  [86_400, "day"],
  [3_600, "hour"],
  [60, "minute"],
  [1, "second"],
];

/** Format a duration in its largest unit: "3 minutes". */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [size, unit] = UNITS.find(([length]) => whole >= length) ?? UNITS.at(-1);
  const count = Math.floor(whole / size);
  return `${count} ${unit}${count === 1 ? "" : "s"}`;
}

function failure(problem) {
  const error = problem.error ? `${problem.error[0].toUpperCase()}${problem.error.slice(1)}. ` : "";
  const since = problem.failedFor >= 1 ? `It has been down for ${span(problem.failedFor)}. ` : "";
  const next =
    problem.nextAttemptIn === undefined
      ? "The server is trying again."
      : `The next attempt is in ${span(problem.nextAttemptIn)}.`;
  return `${error}${since}${next} Check the camera or server, and its address and password in the configuration.`;
}

function codecs(problem) {
  const names = (problem.codecs ?? []).join(" and ") || "This stream";
  const [other] = problem.otherVariants ?? [];
  const ours = VARIANTS[problem.variant] ?? problem.variant;
  const remedies = [];
  if (problem.webrtcPort) {
    const scheme = problem.webrtcIsEncrypted ? "https" : "http";
    const path = streamName(location.pathname, Number(document.documentElement.dataset.depth));
    const folders = path.split("/").map(encodeURIComponent).join("/");
    remedies.push(`watch it over WebRTC at ${scheme}://${location.hostname}:${problem.webrtcPort}/${folders}/`);
  }
  if (other) {
    remedies.push(`set "hlsVariant: ${other}" on the server`);
  }
  remedies.push("publish H.264 and AAC", "read the stream with a media player over RTSP or RTMP");
  return {
    title: `${names} cannot be played ${other ? "with the server's HLS variant" : "over HLS"}`,
    advice: `${other ? ours : "HLS"} does not carry it: ${remedies.slice(0, -1).join(", ")}, or ${remedies.at(-1)}.`,
  };
}

// By reason: the kind for the supervisor, the title and the advice.
const TEXTS = {
  "no-publisher": () => ({
    kind: "waiting",
    title: "Waiting for the stream",
    advice: "Nobody is publishing it at the moment. Playback starts automatically.",
  }),
  "source-failed": (problem) => ({
    kind: "failed",
    title: "The source of this stream has failed",
    advice: failure(problem),
  }),
  "source-connecting": () => ({
    kind: "waiting",
    title: "Waiting for the source",
    advice: "The server is connecting to the camera or server that provides the stream.",
  }),
  "source-timed-out": ({ timeout }) => ({
    kind: "failed",
    title: "The source does not answer",
    advice: `The camera or server that provides the stream sent nothing within ${span(timeout)}. Trying again…`,
  }),
  "command-timed-out": ({ timeout }) => ({
    kind: "failed",
    title: "The stream did not start",
    advice: `The command that publishes it (runOnDemand) was started, but published nothing within ${span(timeout)}. Its output is in the server's log. Trying again…`,
  }),
  "not-configured": () => ({
    kind: "missing",
    title: "There is no such stream",
    advice: "The server has no path of this name. Check the address, or add the path to the server's configuration.",
  }),
  "unsupported-codecs": (problem) => ({ kind: "unsupported", ...codecs(problem) }),
  "credentials-required": () => ({
    kind: "refused",
    title: "This stream requires a user name and password",
    advice: "Try again and sign in, or ask the operator of the server.",
  }),
  "credentials-refused": () => ({
    kind: "refused",
    title: "Wrong user name or password",
    advice: "Try again and sign in, or ask the operator of the server.",
  }),
  "externally-refused": () => ({
    kind: "refused",
    title: "You are not allowed to watch this stream",
    advice: "The authentication server refused your user name, password or token, or did not answer.",
  }),
  "host-refused": ({ address }) => ({
    kind: "refused",
    title: "This host name is not allowed",
    advice: `The server refuses requests for “${address}” to protect the stream from other web pages. Use its IP address, or ask the operator of the server to add the name to allowedHosts.`,
  }),
  "address-refused": ({ address }) => ({
    kind: "refused",
    title: "You are not allowed to watch this stream from here",
    advice: `Your address (${address}) is not in the list of allowed addresses. Ask the operator of the server to add it to readIPs.`,
  }),
  "no-media": () => ({
    kind: "failed",
    title: "The publisher sends nothing",
    advice: "It is connected, but no video or audio arrives. Trying again…",
  }),
  "no-key-frames": () => ({
    kind: "failed",
    title: "The publisher sends no key frames",
    advice: "Playback can only start at a key frame: set the encoder's key frame interval to 1 or 2 seconds. Trying again…",
  }),
};

/** Describe a problem: its kind, a title and advice; null for an unknown reason. */
export function describe(problem) {
  return TEXTS[problem?.reason]?.(problem) ?? null;
}

/** Describe a response without details. */
export function describeStatus(status) {
  if (status === 404) {
    return TEXTS["no-publisher"]();
  }
  if (status === 401) {
    return TEXTS["credentials-required"]();
  }
  if (status === 403) {
    return {
      kind: "refused",
      title: "You are not allowed to watch this stream",
      advice: "The user name, the token or your address is not allowed to read it.",
    };
  }
  return { kind: "unreachable", title: `The server answered with an error (${status})`, advice: "Trying again…" };
}

/** Return the problem that the server has embedded in the page, or null. */
export function problemOfPage() {
  try {
    return JSON.parse(document.documentElement.dataset.problem ?? "null");
  } catch {
    return null;
  }
}

/** Parse the header with the tracks that HLS does not carry: `[{kind: "video", name: "VP8"}]`. */
export function skippedTracks(header) {
  return (header ?? "")
    .split(",")
    .map((item) => /^\s*(\w+) (.+)$/.exec(item))
    .filter(Boolean)
    .map(([, kind, name]) => ({ kind, name: decodeURIComponent(name) }));
}
