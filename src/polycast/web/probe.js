// Asks the server for the stream's first playlist and says, as one word and a text for people, how things are.

import { codecName, codecsOf, unsupported } from "./codecs.js";

// The server holds the request while it starts a stream on demand.
const TIMEOUT_MS = 30_000;

/**
 * @returns {Promise<{kind: string, title?: string, advice?: string, codecs?: string[]}>} kind is `ready`, `waiting`
 * (nobody publishes), `refused` (asking again would not help), `unsupported` or `unreachable`.
 */
export async function probe(address, { signal, checkCodecs, endedPlaylist }) {
  let response;
  let text;
  try {
    response = await fetch(address, {
      cache: "no-store",
      credentials: "same-origin",
      signal: AbortSignal.any ? AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) : signal,
    });
    text = await response.text();
    if (response.ok && endedPlaylist && (await hasEnded(endedPlaylist, signal))) {
      return { kind: "waiting" };
    }
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
    return unreachable();
  }
  return response.ok ? judge(text, checkCodecs) : explain(response.status);
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
      advice: "Something between you and the server may have changed it. Trying again…",
    };
  }
  const codecs = codecsOf(playlist);
  const refused = checkCodecs ? unsupported(codecs) : [];
  return refused.length === 0 ? { kind: "ready", codecs } : { ...incompatible(refused), codecs };
}

/** Describe that this browser lacks these codecs. */
export function incompatible(codecs) {
  const names = codecs.map(codecName).join(" and ");
  return {
    kind: "unsupported",
    title: names ? `This browser cannot play ${names}` : "This browser cannot play this stream's codecs",
    advice: "Try another browser or device, or read the stream with a media player over RTSP or RTMP.",
  };
}

function explain(status) {
  if (status === 404) {
    return { kind: "waiting" };
  }
  if (status === 401) {
    return {
      kind: "refused",
      title: "This stream needs a user name and password",
      advice: "Try again and sign in, or ask whoever runs the server.",
    };
  }
  if (status === 403) {
    return {
      kind: "refused",
      title: "You may not watch this stream",
      advice: "The user name, the token or your address is not allowed to read it.",
    };
  }
  return {
    kind: "unreachable",
    title: `The server answered with an error (${status})`,
    advice: "Trying again…",
  };
}

function unreachable() {
  return navigator.onLine === false
    ? { kind: "unreachable", title: "You are offline", advice: "The stream goes on as soon as there is a network." }
    : { kind: "unreachable", title: "The server cannot be reached", advice: "Trying again…" };
}
