// The player page: combines the modules and shows their state.

import { Controls } from "./controls.js";
import { readOptions, streamName, withPageQuery } from "./options.js";
import { chooseSource } from "./source.js";
import { Statistics } from "./statistics.js";
import { Supervisor } from "./supervisor.js";

const TICK_MS = 500;
// Shorter pauses in playback are not indicated.
const BUFFERING_MS = 700;

const IDS = ["player", "video", "heading", "name", "figures", "message", "title", "advice", "retry", "start", "unmute",
  "info", "rows", "controls", "back", "play", "mute", "volume", "live", "infoButton", "pip", "fullscreen", "soundOnly", "soundOnlyText"];
const elements = Object.fromEntries(IDS.map((id) => [id, document.getElementById(id)]));
const { video } = elements;

const options = readOptions(location.search);
const name = streamName(location.pathname, Number(document.documentElement.dataset.depth));
elements.name.textContent = name;
document.title = name;
video.setAttribute("aria-label", `Live video of ${name}`);
video.muted = options.muted;
elements.player.dataset.fit = options.fit;
elements.info.hidden = !options.info;

let messageTimer = 0;

/** Show a message, once the video's buffer is played out; null hides it. */
function showMessage(state, message) {
  clearTimeout(messageTimer);
  if (message === null) {
    elements.message.hidden = true;
    return;
  }
  const { buffered } = video;
  const left = buffered.length > 0 ? buffered.end(buffered.length - 1) - video.currentTime : 0;
  const runsOn = !video.paused && state !== "connecting" && state !== "blocked";
  const show = () => {
    elements.message.hidden = false;
    elements.message.dataset.state = message.kind ?? state;
    elements.title.textContent = message.title;
    elements.advice.textContent = message.advice ?? "";
    elements.retry.hidden = state !== "blocked";
  };
  if (runsOn && left > 0.1) {
    messageTimer = setTimeout(show, left * 1000);
  } else {
    show();
  }
}

function changed(state, message) {
  document.title = state === "playing" ? `${name} – live` : name;
  if (state === "source") {
    if (supervisor.wantsToPlay) {
      controls.play();
    } else {
      elements.message.hidden = true;
      elements.player.dataset.state = "ready";
    }
  } else {
    elements.player.dataset.state = state;
    showMessage(state, message);
  }
  controls.update();
}

function tick() {
  supervisor.tick();
  statistics.tick();
  elements.figures.textContent = [statistics.resolution, statistics.latency && `${statistics.latency} behind`]
    .filter(Boolean)
    .join(" · ");
  elements.soundOnly.hidden = !(supervisor.state === "playing" && video.videoWidth === 0);
  elements.soundOnlyText.textContent = soundOnlyText();
  if (!elements.info.hidden) {
    showRows(statistics.rows());
  }
  controls.update();
}

function soundOnlyText() {
  const names = supervisor.skipped.filter(({ kind }) => kind === "video").map((track) => track.name);
  return names.length > 0 ? `Audio only: HLS does not carry ${names.join(" and ")} video here` : "Audio only";
}

function showRows(rows) {
  elements.rows.replaceChildren(
    ...rows.flatMap(([term, value]) => {
      const row = [document.createElement("dt"), document.createElement("dd")];
      row[0].textContent = term;
      row[1].textContent = value;
      return row;
    }),
  );
}

const Source = chooseSource(video);
const supervisor = new Supervisor({
  video,
  address: withPageQuery("index.m3u8", location.href),
  Source,
  options,
  changed,
});
const controls = new Controls(elements, supervisor, options);
const statistics = new Statistics(video, supervisor);

let bufferingTimer = 0;
video.addEventListener("waiting", () => {
  clearTimeout(bufferingTimer);
  bufferingTimer = setTimeout(() => elements.player.classList.add("buffering"), BUFFERING_MS);
});
for (const event of ["playing", "timeupdate", "pause", "emptied"]) {
  video.addEventListener(event, () => {
    clearTimeout(bufferingTimer);
    elements.player.classList.remove("buffering");
  });
}

if (Source) {
  supervisor.start();
  setInterval(tick, TICK_MS);
} else {
  changed("blocked", {
    title: "This browser cannot play live streams",
    advice: "It supports neither Media Source Extensions nor HLS. Try another browser.",
  });
}

/** For pages that embed the player from the same origin, and for tests. */
self.polycast = { supervisor, controls, statistics, video };
