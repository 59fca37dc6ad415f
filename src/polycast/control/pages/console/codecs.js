// Codecs in people's words.

// Display names of codecs with a different name in the API; the server's texts use the same names.
const CODECS = {
  MPEG4Audio: "AAC",
  MPEG2Audio: "MPEG audio",
  MPEG4Video: "MPEG-4 video",
  MPEG2Video: "MPEG-2 video",
  JPEG: "MJPEG",
  AC3: "AC-3",
  EAC3: "E-AC-3",
  MPEGTS: "MPEG-TS",
};

export const codecName = (codec) => CODECS[codec] ?? codec;

const CHANNELS = { 1: "mono", 2: "stereo", 6: "5.1", 8: "7.1" };

/** What is known about a track: "1920 × 1080, High profile, level 4.1". `properties` are those of API v3. */
export function codecDetails(properties) {
  const found = properties ?? {};
  const details = [];
  if (found.width) details.push(`${found.width} × ${found.height}`);
  if (found.profile !== undefined && found.profile !== "") details.push(/^\d+$/.test(found.profile) ? `profile ${found.profile}` : `${found.profile} profile`);
  if (found.level) details.push(`level ${found.level}`);
  if (found.sampleRate) details.push(`${found.sampleRate / 1000} kHz`);
  if (found.channelCount) details.push(CHANNELS[found.channelCount] ?? `${found.channelCount} channels`);
  if (found.bitDepth) details.push(`${found.bitDepth} bit`);
  return details.join(", ");
}
