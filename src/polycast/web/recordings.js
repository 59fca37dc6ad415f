// Recordings of a path: a timeline of what there is, from a month to a minute, and a player for any moment of it.

import { Timeline } from "./timeline.js";

const REFRESH_MS = 10_000;
const JUMP_SECONDS = 10;
const NEWEST_SECONDS = 12; // before the end: what hls.js loads of a growing playlist
const PLAYLIST_SECONDS = 86_400;
const PREVIEW_MS = 120;
const PREVIEW_WIDTH = 160;
const REMEMBERED_PATHS = 20;

const IDS = ["title", "choose", "path", "paths", "choice", "day", "previous", "next", "trouble", "video", "clock", "speed", "live",
  "from", "to", "download", "clear", "back", "forth", "timeline", "periods", "marked", "cursor", "hint", "preview",
  "moment", "ticks", "span", "closer", "wider", "whole"];
const elements = Object.fromEntries(IDS.map((id) => [id, document.getElementById(id)]));
const query = new URLSearchParams(location.search);
const marks = { from: null, to: null };
let periods = [];
let hls = null;
let pictureSeconds = 1 / 25;
let previewTimer = 0;
let loading = 0;

/** The first moment of the day that was chosen, in the time zone of the browser; ``offset`` is in days. */
function midnight(offset = 0) {
  const [year, month, day] = elements.day.value.split("-").map(Number);
  return new Date(year, month - 1, day + offset) / 1000;
}

function dayOf(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

function dateAt(seconds) {
  return new Date(seconds * 1000);
}

function address(name, fields) {
  const credentials = ["token", "jwt"].filter((key) => query.has(key)).map((key) => [key, query.get(key)]);
  return `./${name}?${new URLSearchParams([["path", elements.path.value], ...Object.entries(fields), ...credentials])}`;
}

function tell(text) {
  elements.trouble.textContent = text;
  elements.trouble.hidden = !text;
}

// What is recorded: of what is shown, and as much before and after it

async function load() {
  const { first, last } = timeline;
  const number = ++loading;
  const limits = { start: dateAt(2 * first - last).toISOString(), end: dateAt(2 * last - first).toISOString() };
  const response = await fetch(address("list", limits)).catch(() => null);
  const answer = await response?.json().catch(() => null);
  if (number !== loading) {
    return; // another part is shown meanwhile
  }
  if (!response) {
    return tell("The server does not answer.");
  }
  if (!response.ok) {
    periods = [];
    timeline.draw(periods);
    return tell(response.status === 404 ? "Nothing was recorded on this day." : answer?.error ?? "The list cannot be read.");
  }
  periods = answer.map(({ start, duration }) => {
    const begin = new Date(start) / 1000;
    return { first: begin, last: begin + duration };
  });
  tell("");
  timeline.draw(periods);
}

let reload = 0;
function onMoved() {
  timeline.draw(periods);
  drawMarks();
  follow();
  clearTimeout(reload);
  reload = setTimeout(load, 200);
}

// Play

/** The recorded moment at or after a time; undefined if there is none. */
function recordedFrom(seconds) {
  const period = periods.find(({ last }) => last > seconds);
  return period && Math.max(period.first, seconds);
}

function play(seconds) {
  const first = recordedFrom(seconds);
  if (first === undefined) {
    return tell("Nothing was recorded after this moment.");
  }
  tell("");
  const limits = { start: dateAt(first).toISOString() };
  if (first + PLAYLIST_SECONDS < Date.now() / 1000) {
    limits.end = dateAt(first + PLAYLIST_SECONDS).toISOString();
  }
  const url = address("index.m3u8", limits);
  hls?.destroy();
  hls = null;
  if (window.Hls?.isSupported()) {
    // It must not begin by itself: if it is told to begin elsewhere meanwhile, it may never load a segment.
    hls = new window.Hls({ autoStartLoad: false, backBufferLength: 60 });
    hls.on(window.Hls.Events.ERROR, (_, data) => data.fatal && tell(`The recording cannot be played (${data.details}).`));
    hls.on(window.Hls.Events.LEVEL_LOADED, start);
    hls.loadSource(url);
    hls.attachMedia(elements.video);
  } else {
    elements.video.src = url;
    elements.video.addEventListener("loadedmetadata", resume, { once: true });
  }
}

/** Begin at the moment that was asked for: the playlist begins with the key frame before it. */
function start(_, { details }) {
  hls.off(window.Hls.Events.LEVEL_LOADED, start);
  hls.startLoad(Math.max(details.startTimeOffset ?? 0, 0));
  elements.video.addEventListener("loadedmetadata", resume, { once: true });
}

function resume() {
  elements.video.playbackRate = Number(elements.speed.value);
  elements.video.play().catch(() => {});
}

/** Play the newest that is recorded; what is being recorded goes on. */
async function playNewest() {
  elements.speed.value = "1";
  if (Date.now() / 1000 > timeline.last) {
    elements.day.value = dayOf(new Date());
    timeline.show(midnight(), midnight(1));
  }
  clearTimeout(reload);
  await load();
  const newest = periods.at(-1);
  if (newest) {
    play(Math.max(newest.last - NEWEST_SECONDS, newest.first));
  }
}

/** The moment that is shown, in seconds since 1970; null while there is none. */
function playing() {
  const date = hls ? hls.playingDate : nativeDate();
  return date ? date / 1000 : null;
}

function nativeDate() {
  const first = elements.video.getStartDate?.();
  return first && !Number.isNaN(first.getTime()) ? new Date(first.getTime() + elements.video.currentTime * 1000) : null;
}

function follow() {
  const seconds = playing();
  elements.cursor.hidden = seconds === null || seconds < timeline.first || seconds > timeline.last;
  if (seconds === null) {
    return;
  }
  const date = dateAt(seconds);
  elements.cursor.style.left = timeline.percent(seconds);
  elements.clock.value = date.toLocaleString();
  elements.timeline.setAttribute("aria-valuenow", String(Math.round(seconds - midnight())));
  elements.timeline.setAttribute("aria-valuetext", date.toLocaleTimeString());
}

function jump(seconds) {
  const now = playing();
  if (now !== null) {
    play(now + seconds);
  }
}

function step(direction) {
  elements.video.pause();
  elements.video.currentTime = Math.max(elements.video.currentTime + direction * pictureSeconds, 0);
}

/** Learn how long a picture is shown, while the video plays. */
function measure(before) {
  elements.video.requestVideoFrameCallback?.((_, { mediaTime, presentedFrames }) => {
    const pictures = before ? presentedFrames - before.presentedFrames : 0;
    if (pictures === 1 && mediaTime > before.mediaTime && mediaTime - before.mediaTime < 1) {
      pictureSeconds = mediaTime - before.mediaTime;
    }
    measure({ mediaTime, presentedFrames });
  });
}

// Marks and download

function mark(name) {
  const now = playing();
  if (now !== null) {
    marks[name] = now;
    drawMarks();
  }
}

function drawMarks() {
  const { from, to } = marks;
  const isPeriod = from !== null && to !== null && from < to;
  elements.marked.hidden = elements.download.hidden = !isPeriod;
  elements.clear.hidden = from === null && to === null;
  if (isPeriod) {
    timeline.place(elements.marked, from, to);
    elements.download.href = address("export", { start: dateAt(from).toISOString(), end: dateAt(to).toISOString() });
    elements.download.download = "";
    elements.download.textContent = `Download ${Math.round(to - from)} s`;
  }
}

// Controls

function show(day) {
  const fields = new URLSearchParams(query);
  fields.set("path", elements.path.value);
  fields.set("day", day);
  location.search = fields.toString();
}

/** Show when a place on the timeline is, and what was recorded then. */
function preview(seconds) {
  elements.hint.hidden = false;
  elements.moment.value = dateAt(seconds).toLocaleTimeString();
  elements.hint.style.left = timeline.percent(seconds);
  clearTimeout(previewTimer);
  if (!periods.some(({ first, last }) => first <= seconds && seconds < last)) {
    elements.preview.hidden = true;
    return;
  }
  previewTimer = setTimeout(() => {
    elements.preview.src = address("thumbnail", { time: dateAt(seconds).toISOString(), width: PREVIEW_WIDTH });
  }, PREVIEW_MS);
}

function hidePreview() {
  clearTimeout(previewTimer);
  elements.hint.hidden = true;
}

/** Show links to the paths that have recordings. */
async function choose() {
  const answer = await fetch("./paths").catch(() => null);
  const names = answer?.ok ? await answer.json().catch(() => []) : [];
  const links = names.map((name) => {
    const link = Object.assign(document.createElement("a"), { className: "pill", textContent: name });
    link.href = `?${new URLSearchParams([...query, ["path", name]])}`;
    return link;
  });
  elements.choice.replaceChildren(...links);
  elements.choice.hidden = links.length === 0;
  tell(links.length ? "" : "Enter the name of a path to see its recordings. Paths that need credentials are not listed.");
}

function remember(path) {
  let known = [];
  try {
    known = JSON.parse(localStorage.getItem("polycast.recordings")) ?? [];
  } catch {
    // nothing is stored, or storage is not allowed
  }
  known = [path, ...known.filter((name) => name !== path)].filter(Boolean).slice(0, REMEMBERED_PATHS);
  elements.paths.replaceChildren(...known.map((name) => Object.assign(document.createElement("option"), { value: name })));
  try {
    localStorage.setItem("polycast.recordings", JSON.stringify(known));
  } catch {
    // the same
  }
}

const buttons = {
  previous: () => show(dayOf(dateAt(midnight(-1)))),
  next: () => show(dayOf(dateAt(midnight(1)))),
  live: playNewest,
  from: () => mark("from"),
  to: () => mark("to"),
  clear: () => {
    marks.from = marks.to = null;
    drawMarks();
  },
  back: () => step(-1),
  forth: () => step(1),
  closer: () => timeline.zoom(0.5, playing()),
  wider: () => timeline.zoom(2, playing()),
  whole: () => timeline.show(midnight(), midnight(1)),
};
const keys = {
  " ": () => (elements.video.paused ? resume() : elements.video.pause()),
  ArrowLeft: () => jump(-JUMP_SECONDS),
  ArrowRight: () => jump(JUMP_SECONDS),
  ",": buttons.back,
  ".": buttons.forth,
  "+": buttons.closer,
  "-": buttons.wider,
  "[": buttons.from,
  "]": buttons.to,
  End: playNewest,
};

elements.path.value = query.get("path") ?? "";
elements.day.value = /^\d{4}-\d\d-\d\d$/.test(query.get("day") ?? "") ? query.get("day") : dayOf(new Date());
const timeline = new Timeline(elements, { onMoved, onClick: play, onHover: preview, onLeave: hidePreview });
timeline.show(midnight(), midnight(1));

for (const [name, action] of Object.entries(buttons)) {
  elements[name].addEventListener("click", action);
}
elements.choose.addEventListener("submit", (event) => {
  event.preventDefault();
  show(elements.day.value || dayOf(new Date()));
});
elements.speed.addEventListener("change", () => {
  elements.video.playbackRate = Number(elements.speed.value);
});
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, button, a, video") || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const action = keys[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

elements.preview.addEventListener("load", () => {
  elements.preview.hidden = false;
});
elements.preview.addEventListener("error", () => { // the server makes no pictures, or has none of this moment
  elements.preview.hidden = true;
});
remember(elements.path.value);
if (elements.path.value) {
  document.title = elements.title.textContent = `Recordings of ${elements.path.value}`;
  clearTimeout(reload);
  await load();
  setInterval(load, REFRESH_MS);
} else {
  clearTimeout(reload);
  await choose();
}
setInterval(follow, 250);
measure(null);
