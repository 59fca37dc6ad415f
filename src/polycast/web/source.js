// The two ways to play HLS, with one interface: hls.js over Media Source Extensions, and the browser's own player.
//
// listeners: failed({kind, status, codecs, endedPlaylist}) when it cannot continue; kind is `network`, `media`,
// `codecs` or `ended`. stop() detaches the source from the video; no listener is called after it.

import { withPageQuery } from "./options.js";

// Playback speed while behind live; the pitch of audio is preserved.
const CATCH_UP_RATE = 1.1;
// After a second failure of the decoder within this time, it is not just restarted again.
const MEDIA_RECOVERY_MS = 10_000;
// Media seconds over which the bit rate is measured.
const BIT_RATE_SECONDS = 10;

const CODEC_ERRORS = new Set([
  "manifestIncompatibleCodecsError",
  "bufferIncompatibleCodecsError",
  "bufferAddCodecError",
]);

/** Return the class that plays HLS here, or null. */
export function chooseSource(video) {
  if (self.Hls?.isSupported()) {
    return HlsSource;
  }
  return video.canPlayType("application/vnd.apple.mpegurl") ? NativeSource : null;
}

export class HlsSource {
  static checksCodecs = true;
  #video;
  #listeners;
  #lastRecovery = -Infinity;
  #loaded = [];

  constructor(video, address, options, listeners) {
    this.#video = video;
    this.#listeners = listeners;
    this.hls = new self.Hls(configuration(options));
    const { Events } = self.Hls;
    this.hls.on(Events.MANIFEST_LOADED, (_, { sessionData }) => this.#read(sessionData));
    if (options.back) {
      video.addEventListener("loadedmetadata", () => this.seekBack(options.back), { once: true });
    }
    this.hls.on(Events.ERROR, (_, data) => this.#error(data));
    this.hls.on(Events.FRAG_BUFFERED, (_, data) => this.#count(data));
    this.hls.on(Events.LEVEL_LOADED, (_, { details }) => {
      // A single segment would end before the next one arrives; parts follow soon enough.
      this.hls.config.initialLiveManifestSize = details.partList ? 1 : 2;
    });
    this.hls.loadSource(address);
    this.hls.attachMedia(video);
  }

  stop() {
    this.#listeners = null;
    this.hls.destroy();
  }

  /** The DVR playlist to which the playlist refers. */
  #read(sessionData) {
    const recorded = sessionData?.["polycast.dvr"]?.VALUE;
    if (recorded) {
      this.recorded = { address: recorded, seconds: Number(sessionData["polycast.dvr.seconds"]?.VALUE) || 0 };
    }
  }

  /** Length of the DVR playlist in seconds. */
  get length() {
    return this.hls.latestLevelDetails?.totalduration ?? 0;
  }

  /** Seek to some seconds before live. */
  seekBack(seconds) {
    const details = this.hls.latestLevelDetails;
    if (details) {
      this.#video.currentTime = Math.max(details.fragmentStart, details.edge - seconds);
    }
  }

  goLive() {
    const position = this.hls.liveSyncPosition;
    if (Number.isFinite(position) && position > this.#video.currentTime) {
      this.#video.currentTime = position;
    }
  }

  /** Restart a failed decoder. Returns false if that was just tried. */
  recoverDecoder() {
    const now = performance.now();
    if (now - this.#lastRecovery < MEDIA_RECOVERY_MS) {
      return false;
    }
    this.#lastRecovery = now;
    this.hls.recoverMediaError();
    return true;
  }

  get kind() {
    return this.hls.latestLevelDetails?.partList?.length ? "Low-Latency HLS" : "HLS";
  }

  /** Seconds between the newest media on the server and what is shown; NaN while unknown. */
  get latency() {
    return this.hls.latency || NaN;
  }

  get targetLatency() {
    return this.hls.targetLatency ?? NaN;
  }

  get targetDuration() {
    return this.hls.latestLevelDetails?.targetduration ?? NaN;
  }

  /** When the current picture was published, according to the server's clock. */
  get playingDate() {
    return this.hls.playingDate;
  }

  /** Bits per second of recently loaded media, otherwise according to the playlist. */
  get bitRate() {
    const seconds = this.#loaded.reduce((sum, entry) => sum + entry.seconds, 0);
    const bytes = this.#loaded.reduce((sum, entry) => sum + entry.bytes, 0);
    return seconds > 1 ? (bytes * 8) / seconds : (this.hls.levels?.[0]?.bitrate ?? NaN);
  }

  get frameRate() {
    return this.hls.levels?.[Math.max(this.hls.currentLevel, 0)]?.frameRate || NaN;
  }

  #count({ frag, part, stats }) {
    // Other renditions add bytes to the same seconds.
    this.#loaded.push({ bytes: stats.loaded, seconds: frag.type === "main" ? (part ?? frag).duration : 0 });
    let seconds = this.#loaded.reduce((sum, entry) => sum + entry.seconds, 0);
    while (seconds > BIT_RATE_SECONDS && this.#loaded.length > 1) {
      seconds -= this.#loaded.shift().seconds;
    }
  }

  #error(data) {
    if (!this.#listeners) {
      return;
    }
    const status = data.response?.code ?? 0;
    if (data.details === "levelLoadError" && status >= 400 && status < 500) {
      // The stream has ended; hls.js would retry a few times before it reports that.
      this.hls.stopLoad();
      this.#listeners.failed({ kind: "network", status });
      return;
    }
    if (!data.fatal) {
      return;
    }
    if (CODEC_ERRORS.has(data.details)) {
      this.#listeners.failed({ kind: "codecs", codecs: data.mimeType ? codecsIn(data.mimeType) : [] });
    } else if (data.type === self.Hls.ErrorTypes.MEDIA_ERROR && this.recoverDecoder()) {
      console.info("The decoder was restarted:", data.details);
    } else if (data.type === self.Hls.ErrorTypes.NETWORK_ERROR) {
      this.#listeners.failed({ kind: "network", status });
    } else {
      this.#listeners.failed({ kind: "media" });
    }
  }

  /** Address of the last playlist. */
  get playlistAddress() {
    return this.hls.latestLevelDetails?.url ?? null;
  }
}

function codecsIn(mimeType) {
  const found = /codecs="?([^"]+)"?/.exec(mimeType);
  return found ? found[1].split(",").map((codec) => codec.trim()) : [];
}

function configuration({ lowLatency, back }) {
  const patient = (policy, milliseconds) => ({
    default: { ...policy.default, maxTimeToFirstByteMs: milliseconds, maxLoadTimeMs: milliseconds },
  });
  const preset = self.Hls.DefaultConfig;
  return {
    lowLatencyMode: lowLatency,
    initialLiveManifestSize: 2,
    maxLiveSyncPlaybackRate: back ? 1 : CATCH_UP_RATE,
    liveDurationInfinity: true,
    backBufferLength: 10,
    enableInterstitialPlayback: false,
    // The server may hold the first requests until the stream has started.
    manifestLoadPolicy: patient(preset.manifestLoadPolicy, 30_000),
    playlistLoadPolicy: patient(preset.playlistLoadPolicy, 30_000),
    xhrSetup: (request, address) => request.open("GET", withPageQuery(address, location.href), true),
  };
}

export class NativeSource {
  static checksCodecs = false;
  #video;
  #listeners;
  #address;

  constructor(video, address, options, listeners) {
    this.#video = video;
    this.#listeners = listeners;
    this.#address = address;
    video.src = address;
  }

  stop() {
    this.#listeners = null;
    this.#video.removeAttribute("src");
    this.#video.load();
  }

  goLive() {
    const { seekable } = this.#video;
    if (seekable.length > 0) {
      this.#video.currentTime = Math.max(this.#video.currentTime, seekable.end(seekable.length - 1) - 1);
    }
  }

  recoverDecoder() {
    return false;
  }

  get kind() {
    return "HLS (native)";
  }

  get latency() {
    const { seekable } = this.#video;
    return seekable.length > 0 ? Math.max(0, seekable.end(seekable.length - 1) - this.#video.currentTime) : NaN;
  }

  get targetLatency() {
    return NaN;
  }

  get targetDuration() {
    return NaN;
  }

  get playingDate() {
    const start = this.#video.getStartDate?.().getTime();
    return Number.isFinite(start) ? new Date(start + this.#video.currentTime * 1000) : null;
  }

  get bitRate() {
    return NaN;
  }

  get frameRate() {
    return NaN;
  }

  get playlistAddress() {
    return this.#address;
  }
}
