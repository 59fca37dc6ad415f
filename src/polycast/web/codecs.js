// Display names of codec strings (RFC 6381).

const NAMES = [
  [/^(avc1|avc3)\./, "H.264 video"],
  [/^(hvc1|hev1)\./, "H.265 video"],
  [/^av01\./, "AV1 video"],
  [/^vp09\./, "VP9 video"],
  [/^mp4a\.(40\.34|6b|69)$/i, "MP3 audio"],
  [/^mp4a\.40\./, "AAC audio"],
  [/^opus$/i, "Opus audio"],
  [/^flac$/i, "FLAC audio"],
  [/^ac-3$/, "AC-3 audio"],
  [/^ec-3$/, "E-AC-3 audio"],
];

/** Return the name of a codec, such as "H.264 video". */
export function codecName(codec) {
  const found = NAMES.find(([pattern]) => pattern.test(codec));
  return found ? found[1] : codec;
}

/** Return whether a codec string is that of a video codec. */
export function isVideo(codec) {
  return /^(avc|hvc|hev|av01|vp0)/.test(codec);
}

/** Return the codecs that a multivariant playlist names, each once. */
export function codecsOf(playlist) {
  const found = new Set();
  for (const line of playlist.split("\n")) {
    if (line.startsWith("#EXT-X-STREAM-INF:")) {
      const attribute = /[:,]CODECS="([^"]*)"/.exec(line);
      for (const codec of attribute ? attribute[1].split(",") : []) {
        found.add(codec.trim());
      }
    }
  }
  return [...found].filter(Boolean);
}

/** Return those codecs that this browser's media source refuses. */
export function unsupported(codecs) {
  const source = self.ManagedMediaSource ?? self.MediaSource;
  if (!source) {
    return [];
  }
  const spelled = (codec) => (codec.toLowerCase() === "flac" ? "flac" : codec);
  return codecs.filter((codec) => {
    const kind = isVideo(codec) ? "video" : "audio";
    // Some browsers support MP3 only in its own container, in which the demuxer passes it on.
    const types = [`${kind}/mp4; codecs="${spelled(codec)}"`];
    if (codecName(codec) === "MP3 audio") {
      types.push("audio/mpeg");
    }
    return !types.some((type) => source.isTypeSupported(type));
  });
}
