// Buttons, keys and the bar that hides itself.

const IDLE_MS = 3_000;
const VOLUME_STEP = 0.1;
// Behind live by more than this: the badge becomes a button to return to live.
const BEHIND_SECONDS = 2;
// Positions this close to the right edge of the seek bar count as live.
const LIVE_SECONDS = 5;

export class Controls {
  #elements;
  #video;
  #supervisor;
  #idle = 0;

  constructor(elements, supervisor, options) {
    this.#elements = elements;
    this.#video = elements.video;
    this.#supervisor = supervisor;
    elements.controls.hidden = !options.controls;
    elements.heading.hidden = !options.controls;
    this.#buttons();
    this.#keys();
    this.#autoHide();
    for (const event of ["play", "pause", "volumechange", "playing", "emptied"]) {
      this.#video.addEventListener(event, () => this.update());
    }
    document.addEventListener("fullscreenchange", () => this.update());
    this.update();
  }

  /** Start playing: with sound if allowed, otherwise muted, otherwise wait for the viewer. */
  async play() {
    this.#supervisor.wantsToPlay = true;
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError") {
        return; // the source has changed meanwhile
      }
      if (this.#video.muted) {
        this.#supervisor.wantsToPlay = false;
        this.update();
      } else {
        this.#video.muted = true;
        await this.play();
      }
    }
  }

  pause() {
    this.#supervisor.wantsToPlay = false;
    this.#video.pause();
  }

  togglePlay() {
    if (this.#video.paused && this.#supervisor.back) {
      this.play(); // at the same position
    } else if (this.#video.paused) {
      this.goLive();
    } else {
      this.pause();
    }
  }

  goLive() {
    if (this.#supervisor.back) {
      this.#supervisor.seekBack(0);
    } else if (this.#supervisor.secondsBehind > 0.5) {
      this.#supervisor.source?.goLive();
    }
    return this.play();
  }

  toggleMute() {
    this.#video.muted = !this.#video.muted;
    if (!this.#video.muted && this.#video.volume === 0) {
      this.#video.volume = 0.5;
    }
  }

  changeVolume(step) {
    this.#video.volume = Math.min(1, Math.max(0, this.#video.volume + step));
    this.#video.muted = this.#video.volume === 0;
  }

  toggleInfo() {
    this.#elements.info.hidden = !this.#elements.info.hidden;
    this.update();
  }

  async toggleFullscreen() {
    try {
      if (document.fullscreenElement) {
        await document.exitFullscreen();
      } else if (this.#elements.player.requestFullscreen) {
        await this.#elements.player.requestFullscreen();
      } else {
        this.#video.webkitEnterFullscreen?.(); // iPhone
      }
    } catch (error) {
      console.info("No full screen:", error.message);
    }
  }

  async togglePictureInPicture() {
    try {
      if (document.pictureInPictureElement) {
        await document.exitPictureInPicture();
      } else {
        await this.#video.requestPictureInPicture();
      }
    } catch (error) {
      console.info("No picture in picture:", error.message);
    }
  }

  /** Update the buttons to the state of the video. */
  update() {
    const { play, start, mute, volume, unmute, live, info, infoButton, fullscreen, pip } = this.#elements;
    const video = this.#video;
    const playing = this.#supervisor.state === "playing";
    const silent = video.muted || video.volume === 0;
    // A viewer who went back is behind, however close to live: a short DVR playlist may reach less far than the target
    // latency.
    const wentBack = this.#supervisor.back > 0;
    const behind = playing && (video.paused || wentBack || this.#supervisor.secondsBehind > BEHIND_SECONDS);
    label(play, video.paused ? "Play (space)" : "Pause (space)", video.paused ? "play" : "pause");
    label(mute, silent ? "Unmute (m)" : "Mute (m)", silent ? "muted" : "sound");
    volume.value = String(video.muted ? 0 : video.volume);
    volume.setAttribute("aria-valuetext", `${Math.round((video.muted ? 0 : video.volume) * 100)} percent`);
    label(fullscreen, document.fullscreenElement ? "Leave full screen (f)" : "Full screen (f)",
      document.fullscreenElement ? "shrink" : "expand");
    live.dataset.state = playing ? (behind ? "behind" : "live") : "off";
    const said = behind ? "Go to live (right arrow)" : playing ? "Live" : "Not live";
    live.title = said;
    live.setAttribute("aria-label", said);
    infoButton.setAttribute("aria-pressed", String(!info.hidden));
    this.#updateBack();
    start.hidden = this.#supervisor.wantsToPlay || !video.paused || !this.#hasSource;
    unmute.hidden = !(playing && video.muted && !video.paused && this.#offersSound);
    pip.hidden = !document.pictureInPictureEnabled;
    fullscreen.hidden = !(document.fullscreenEnabled || video.webkitSupportsFullscreen);
  }

  #updateBack() {
    const { back } = this.#elements;
    const { source, recorded, secondsBeforeLive } = this.#supervisor;
    const known = source?.recorded ?? recorded;
    back.hidden = !known;
    if (!known || back.matches(":active")) {
      return;
    }
    const behind = this.#supervisor.back ? Math.round(secondsBeforeLive) || 0 : 0;
    back.min = String(-Math.max(this.#supervisor.back ? source.length : known.seconds, behind));
    back.value = String(-behind);
    back.setAttribute("aria-valuetext", behind ? `${formatted(behind)} before live` : "live");
    back.title = behind ? `−${formatted(behind)}` : "Go back";
  }

  get #hasSource() {
    return this.#supervisor.source !== null && this.#supervisor.state !== "blocked";
  }

  get #offersSound() {
    const { codecs } = this.#supervisor;
    return !this.#elements.controls.hidden && codecs.some((codec) => /^(mp4a|opus|flac|fLaC|ac-3|ec-3)/.test(codec));
  }

  #buttons() {
    const { play, start, mute, volume, unmute, live, back, infoButton, fullscreen, pip, retry, video } = this.#elements;
    play.addEventListener("click", () => this.togglePlay());
    start.addEventListener("click", () => this.goLive());
    mute.addEventListener("click", () => this.toggleMute());
    unmute.addEventListener("click", () => {
      this.toggleMute();
      mute.focus(); // the focused button is removed
    });
    volume.addEventListener("input", () => {
      video.volume = Number(volume.value);
      video.muted = video.volume === 0;
    });
    live.addEventListener("click", () => this.goLive());
    back.addEventListener("change", () => {
      const seconds = -Number(back.value);
      this.#supervisor.seekBack(seconds < LIVE_SECONDS ? 0 : seconds);
      back.blur(); // so that the arrow keys control the player again
    });
    infoButton.addEventListener("click", () => this.toggleInfo());
    fullscreen.addEventListener("click", () => this.toggleFullscreen());
    pip.addEventListener("click", () => this.togglePictureInPicture());
    retry.addEventListener("click", () => location.reload());
    video.addEventListener("dblclick", () => this.toggleFullscreen());
    video.addEventListener("click", (event) => {
      if (event.pointerType !== "touch" && !this.#elements.controls.hidden) {
        this.togglePlay();
      }
    });
  }

  #keys() {
    const actions = {
      " ": () => this.togglePlay(),
      k: () => this.togglePlay(),
      m: () => this.toggleMute(),
      f: () => this.toggleFullscreen(),
      p: () => this.togglePictureInPicture(),
      i: () => this.toggleInfo(),
      ArrowRight: () => this.goLive(),
      ArrowUp: () => this.changeVolume(VOLUME_STEP),
      ArrowDown: () => this.changeVolume(-VOLUME_STEP),
    };
    document.addEventListener("keydown", (event) => {
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const onButton = event.target instanceof HTMLButtonElement && event.key === " ";
      const onSlider = event.target instanceof HTMLInputElement && event.key.startsWith("Arrow");
      if (!action || onButton || onSlider || event.ctrlKey || event.altKey || event.metaKey) {
        return;
      }
      event.preventDefault();
      action();
    });
  }

  #autoHide() {
    const { player } = this.#elements;
    const wake = () => {
      player.classList.remove("idle");
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => {
        if (!this.#video.paused) {
          player.classList.add("idle");
        }
      }, IDLE_MS);
    };
    for (const event of ["pointermove", "pointerdown", "keydown", "focusin"]) {
      player.addEventListener(event, wake);
    }
    document.addEventListener("keydown", wake);
    player.addEventListener("pointerleave", () => !this.#video.paused && player.classList.add("idle"));
    this.#video.addEventListener("pause", wake);
    this.#video.addEventListener("playing", wake);
    wake();
  }
}

function formatted(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.slice(parts[0] ? 0 : 1).map((part, index) => (index ? String(part).padStart(2, "0") : part)).join(":");
}

function label(button, text, icon) {
  button.title = text;
  button.setAttribute("aria-label", text);
  button.querySelector("use").setAttribute("href", `#icon-${icon}`);
}
