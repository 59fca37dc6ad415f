// Statistics about playback, as text.

import { codecName } from "./codecs.js";

const FRAME_RATE_WINDOW_MS = 4_000;

export class Statistics {
  #video;
  #supervisor;
  #samples = [];

  constructor(video, supervisor) {
    this.#video = video;
    this.#supervisor = supervisor;
  }

  /** Count frames; call it about twice a second. */
  tick() {
    const now = performance.now();
    const frames = this.#quality?.totalVideoFrames ?? 0;
    if (this.#samples.length > 0 && frames < this.#samples.at(-1).frames) {
      this.#samples = [];
    }
    this.#samples.push({ now, frames });
    while (now - this.#samples[0].now > FRAME_RATE_WINDOW_MS) {
      this.#samples.shift();
    }
  }

  get resolution() {
    const { videoWidth, videoHeight } = this.#video;
    return videoWidth > 0 ? `${videoWidth} × ${videoHeight}` : "";
  }

  get latency() {
    const latency = this.#supervisor.source?.latency;
    return Number.isFinite(latency) && this.#supervisor.state === "playing" ? `${latency.toFixed(1)} s` : "";
  }

  get bitRate() {
    const bits = this.#supervisor.source?.bitRate;
    if (!Number.isFinite(bits) || bits <= 0) {
      return "";
    }
    return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`;
  }

  get frameRate() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || last.now - first.now < 1_000) {
      return "";
    }
    const rate = ((last.frames - first.frames) * 1_000) / (last.now - first.now);
    return `${rate.toFixed(1)} frames/s`;
  }

  /** Rows for the information panel: name and value. */
  rows() {
    const source = this.#supervisor.source;
    const video = this.#video;
    const { buffered } = video;
    const ahead = buffered.length > 0 ? Math.max(0, buffered.end(buffered.length - 1) - video.currentTime) : 0;
    const rows = [
      ["Resolution", this.resolution || "none"],
      ["Frame rate", this.resolution ? this.frameRate : ""],
      ["Codecs", this.#supervisor.codecs.map(codecName).join(", ")],
      ["Not carried by HLS", this.#supervisor.skipped.map(({ kind, name }) => `${name} ${kind}`).join(", ")],
      ["Bit rate", this.bitRate],
      ["Latency", this.latency],
      ["Buffer", `${ahead.toFixed(1)} s`],
      ["Dropped frames", this.#dropped],
      ["Speed", video.playbackRate === 1 ? "" : `${video.playbackRate.toFixed(2)} ×`],
      ["Delivery", source?.kind ?? ""],
    ];
    return rows.filter(([, value]) => value !== "");
  }

  get #quality() {
    return this.#video.getVideoPlaybackQuality?.();
  }

  get #dropped() {
    const quality = this.#quality;
    return quality && this.resolution ? `${quality.droppedVideoFrames} of ${quality.totalVideoFrames}` : "";
  }
}
