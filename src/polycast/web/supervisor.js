// Keeps the stream playing: checks whether it is live, starts a source, detects when it fails or stalls, and
// restarts it. It never gives up unless retrying would be useless.

import { incompatible, probe } from "./probe.js";
import { withPageQuery } from "./options.js";
import { describe, problemOfPage } from "./problems.js";

// Between two checks while the stream is not live; randomised, so that a thousand viewers do not send requests at once.
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 5_000;
const DELAY_GROWTH = 1.3;

// No progress for this long while it should play: restart.
const STALL_MS = 8_000;
const FIRST_FRAME_MS = 20_000;
// After this long without a failure, the delays are reset.
const HEALTHY_MS = 10_000;

// Behind live by this much more than intended: jump instead of playing faster.
const JUMP_SECONDS = 4;

const STOPPED = {
  title: "The stream has stopped",
  advice: "Playback resumes automatically when it is back.",
};
const TROUBLE = { title: "The stream cannot be decoded", advice: "Trying again…" };
const STALLED = { title: "No new pictures are arriving", advice: "Trying again…" };

export class Supervisor {
  #video;
  #address;
  #Source;
  #options;
  #changed;
  #timer = 0;
  #question = null;
  #delay = FIRST_DELAY_MS;
  #lastTime = 0;
  #lastProgress = 0;
  #startedAt = 0;
  #everPlayed = false;
  #endedPlaylist = null;
  #refusedCodecs = null;

  /** `changed(state, message)` is called at each change of state, with the message for the viewer. */
  constructor({ video, address, Source, options, changed }) {
    this.#video = video;
    this.#address = address;
    this.#Source = Source;
    this.#options = options;
    this.#changed = changed;
    this.source = null;
    /** The DVR playlist: `{address, seconds}`; null if there is none. */
    this.recorded = null;
    /** Seconds before live at which the viewer began to watch; 0 while live. */
    this.back = 0;
    this.state = "connecting";
    this.codecs = [];
    /** Tracks of the stream that HLS does not carry: `{kind, name}`. */
    this.skipped = [];
    this.wantsToPlay = options.autoplay;
    video.addEventListener("playing", () => this.#plays());
    video.addEventListener("ended", () => this.#failed({ kind: "ended" }));
    video.addEventListener("error", () => this.#videoError());
    self.addEventListener("online", () => this.retry());
  }

  start() {
    const told = describe(problemOfPage());
    if (told?.kind === "refused") {
      this.#enter("blocked", told); // another request would show the browser's password prompt again
      return;
    }
    this.#enter("connecting", { title: "Connecting…" });
    this.#ask();
  }

  /** Check now, if it is not playing. */
  retry() {
    if (this.state !== "playing") {
      this.#ask();
    }
  }

  /** Check playback; call it about twice a second. */
  tick() {
    const now = performance.now();
    const video = this.#video;
    const moved = video.currentTime !== this.#lastTime;
    this.#lastTime = video.currentTime;
    if (moved || video.paused || document.hidden || !this.source || this.#waits) {
      this.#lastProgress = now;
    }
    if (this.state === "playing") {
      if (now - this.#startedAt > HEALTHY_MS) {
        this.#delay = FIRST_DELAY_MS;
      }
      if (!this.back && !video.paused && this.secondsBehind > JUMP_SECONDS) {
        this.source.goLive();
      }
    }
    const patience = this.state === "playing" ? STALL_MS : FIRST_FRAME_MS;
    if (now - this.#lastProgress > Math.max(patience, 3000 * (this.source?.targetDuration || 0))) {
      this.#failed({ kind: "stalled" });
    }
  }

  /** Seek to some seconds before live, in the DVR playlist; 0: back to live. */
  seekBack(seconds) {
    if (this.back && seconds) {
      this.source.seekBack(seconds);
    } else if (this.back || seconds) {
      this.back = seconds;
      this.#play();
    }
  }

  /** Seconds between live and what is shown; NaN while unknown. */
  get secondsBeforeLive() {
    return this.source?.latency ?? NaN;
  }

  /** Seconds behind where playback should be; 0 while unknown. */
  get secondsBehind() {
    const source = this.source;
    const target = source?.targetLatency || source?.targetDuration || 3;
    return Math.max(0, (source?.latency || 0) - target);
  }

  get #waits() {
    return this.state === "waiting" || this.state === "retrying" || this.state === "blocked";
  }

  async #ask() {
    clearTimeout(this.#timer);
    this.#question?.abort();
    const question = new AbortController();
    this.#question = question;
    let answer;
    try {
      answer = await probe(this.#address, {
        signal: question.signal,
        checkCodecs: this.#Source.checksCodecs,
        endedPlaylist: this.#endedPlaylist,
      });
    } catch {
      return; // another check was started meanwhile
    }
    this.codecs = answer.codecs ?? this.codecs;
    this.skipped = answer.skipped ?? this.skipped;
    if (answer.kind === "ready" && this.#refusedCodecs === String(this.codecs)) {
      answer = incompatible([]); // all codecs of the playlist are supported, yet the browser rejected it
    }
    if (answer.kind === "ready") {
      this.#play();
    } else if (answer.kind === "refused") {
      this.#enter("blocked", answer);
    } else {
      const text = answer.kind === "waiting" && this.#everPlayed ? STOPPED : answer;
      this.#enter(answer.kind === "waiting" ? "waiting" : "retrying", { ...text, kind: answer.kind });
      this.#askLater();
    }
  }

  #askLater() {
    const spread = 0.8 + 0.4 * Math.random();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), this.#delay * spread);
    this.#delay = Math.min(this.#delay * DELAY_GROWTH, LONGEST_DELAY_MS);
  }

  #play() {
    this.source?.stop();
    this.#endedPlaylist = null;
    this.#lastProgress = performance.now();
    this.#enter("connecting", { title: "Connecting…" });
    this.recorded = this.source?.recorded ?? this.recorded;
    const address = this.back ? withPageQuery(this.recorded.address, location.href) : this.#address;
    this.source = new this.#Source(this.#video, address, { ...this.#options, back: this.back }, {
      failed: (failure) => this.#failed(failure),
    });
    this.#changed("source", null);
  }

  #plays() {
    if (this.#waits) {
      return; // the rest of the buffer is still being played
    }
    this.#everPlayed = true;
    this.#startedAt = performance.now();
    this.#lastProgress = this.#startedAt;
    this.#enter("playing", null);
  }

  #failed(failure) {
    if (this.#waits) {
      return;
    }
    this.back = 0; // the stream is requested again
    console.info("Playback stopped:", failure.kind, failure.status ?? "");
    if (failure.kind === "codecs") {
      this.#refusedCodecs = String(this.codecs);
      this.#enter("retrying", incompatible(failure.codecs ?? []));
    } else if (failure.kind === "media") {
      this.#enter("retrying", TROUBLE);
    } else if (failure.kind === "stalled") {
      this.#enter("retrying", STALLED);
    } else {
      this.#endedPlaylist = failure.kind === "ended" ? (this.source?.playlistAddress ?? null) : null;
      this.#enter("waiting", STOPPED);
    }
    // The source is kept until the next one, so that its buffer is played out and the last picture remains.
    this.#askLater();
  }

  #videoError() {
    const error = this.#video.error;
    if (!error || !this.source) {
      return;
    }
    if (error.code === MediaError.MEDIA_ERR_DECODE && this.source.recoverDecoder()) {
      return;
    }
    this.#failed({ kind: error.code === MediaError.MEDIA_ERR_NETWORK ? "network" : "media" });
  }

  #enter(state, message) {
    this.state = state;
    this.#changed(state, message);
  }
}
