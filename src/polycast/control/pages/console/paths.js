// What all pages say about paths.

import { codecName } from "./codecs.js";
import { h } from "./dom.js";
import { duration, since, words } from "./format.js";

/** live, failed, waiting or offline, with the text for it. */
export function stateOf(path) {
  if (path.sourceReady) return path.online ? ["live", "Live"] : ["offline", "Slate"];
  if (path.sourceFailure) return ["failed", "Failed"];
  if (path.conf.sourceOnDemand) return ["waiting", "On demand"];
  return ["waiting", "Waiting"];
}

export function statePill(path) {
  const [state, text] = stateOf(path);
  return h("span", { class: `pill ${state}` }, text);
}

export const codecsOf = (path) => path.tracks.map(codecName).join(", ");

/** Where the stream comes from: "RTSP session from 10.0.0.7", "rtsp://camera/stream". */
export function sourceOf(path, names) {
  const { source } = path.conf;
  if (path.source?.type === "node") return `Server ${path.source.id} of the cluster`;
  if (source && source !== "publisher") return source === "redirect" ? "Redirection" : withoutPassword(source);
  return path.source ? words(path.source.type, names) : "Nobody publishes";
}

/** Why the source of a path fails, since when, and when it is tried again. */
export function failureOf(path) {
  const failure = path.sourceFailure;
  if (!failure) return "";
  const next = failure.nextAttempt ? `, next attempt in ${duration(Math.ceil(Math.max(0, -since(failure.nextAttempt))))}` : "";
  return `${failure.error} (for ${duration(since(failure.since))}${next})`;
}

export const withoutPassword = (url) => url.replace(/^([a-z0-9+]+:\/\/[^/@:]*):[^@]*@/i, "$1:***@");

export const linkTo = (name) => `#/streams/${name.split("/").map(encodeURIComponent).join("/")}`;
