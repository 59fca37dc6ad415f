// Requests the stream's first playlist from the server and returns the state of the stream, with a text for viewers.

import { codecName, codecsOf, unsupported } from "./codecs.js";
import { describe, describeStatus, skippedTracks } from "./problems.js";

const ACCEPT = "application/vnd.apple.mpegurl, application/problem+json;q=0.9, */*;q=0.5";

// The server holds the request while it starts an on-demand stream.
const TIMEOUT_MS = 30_000;

/**
 * @returns {Promise<{kind: string, title?: string, advice?: string, codecs?: string[], skipped?: object[]}>} kind is
 * `ready`, `waiting` (nobody is publishing), `failed` (the source or the publisher), `missing` (no such path), `refused`
 * (retrying would not help), `unsupported` (codecs) or `unreachable`.
 */
export async function probe(address, { signal, checkCodecs, endedPlaylist }) {
  let response;
  let text;
  try {
    response = await fetch(address, {
      cache: "no-store",
      credentials: "same-origin",
      headers: { Accept: ACCEPT },
      signal: AbortSignal.any ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) : signal,
    });
    text = await response.text();
    if (response.ok && endedPlaylist && (await hasEnded(endedPlaylist, signal))) {
      return describeStatus(404);
    }
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
    return unreachable();
  }
  if (!response.ok) {
    return explain(response, text);
  }
  return { ...judge(text, checkCodecs), skipped: skippedTracks(response.headers.get("Polycast-Skipped-Tracks")) };
}

async function hasEnded(address, signal) {
  const response = await fetch(address, { cache: "no-store", credentials: "same-origin", signal });
  return response.ok && (await response.text()).includes("#EXT-X-ENDLIST");
}

function judge(playlist, checkCodecs) {
  if (!playlist.startsWith("#EXTM3U")) {
    return {
      kind: "unreachable",
      title: "The server's answer is not a stream",
      advice: "A proxy between you and the server may have changed it. Trying again…",
    };
  }
  const codecs = codecsOf(playlist);
  const refused = checkCodecs ? unsupported(codecs) : [];
  return refused.length === 0 ? { kind: "ready", codecs } : { ...incompatible(refused), codecs };
}

/** Describe that this browser does not support these codecs. */
export function incompatible(codecs) {
  const names = codecs.map(codecName).join(" and ");
  return {
    kind: "unsupported",
    title: names ? `This browser cannot play ${names}` : "This browser cannot play this stream's codecs",
    advice: "Try another browser or device, or read the stream with a media player over RTSP or RTMP.",
  };
}

function explain(response, text) {
  if (response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    try {
      return describe(JSON.parse(text)) ?? describeStatus(response.status);
    } catch {
      // A proxy has changed it.
    }
  }
  return describeStatus(response.status);
}

function unreachable() {
  return navigator.onLine === false
    ? { kind: "unreachable", title: "You are offline", advice: "Playback resumes when the network is back." }
    : { kind: "unreachable", title: "The server cannot be reached", advice: "Trying again…" };
}
