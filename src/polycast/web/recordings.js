// A day of recordings: a timeline of what there is, and a player for any moment of it.

const DAY_SECONDS = 86_400;
const REFRESH_MS = 10_000;
const JUMP_SECONDS = 10;

const IDS = ["title", "choose", "path", "day", "previous", "next", "trouble", "video", "clock", "speed", "from", "to",
  "download", "timeline", "periods", "marked", "cursor", "hint", "hours"];
const elements = Object.fromEntries(IDS.map((id) => [id, document.getElementById(id)]));
const query = new URLSearchParams(location.search);
const marks = { from: null, to: null };
let periods = [];
let hls = null;

/** The first moment of a day, in the time zone of the browser; ``offset`` is in days. */
function midnight(offset = 0) {
  const [year, month, day] = elements.day.value.split("-").map(Number);
  return new Date(year, month - 1, day + offset);
}

function dayOf(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** Seconds since the start of the day that is shown. */
function secondsOf(date) {
  return (date - midnight()) / 1000;
}

function dateAt(seconds) {
  return new Date(midnight().getTime() + seconds * 1000);
}

function address(name, fields) {
  const credentials = ["token", "jwt"].filter((key) => query.has(key)).map((key) => [key, query.get(key)]);
  return `./${name}?${new URLSearchParams([["path", elements.path.value], ...Object.entries(fields), ...credentials])}`;
}

function tell(text) {
  elements.trouble.textContent = text;
  elements.trouble.hidden = !text;
}

function place(element, first, last) {
  element.style.left = `${(100 * first) / DAY_SECONDS}%`;
  element.style.width = `${(100 * (last - first)) / DAY_SECONDS}%`;
}

// What is recorded

async function load() {
  const limits = { start: midnight().toISOString(), end: midnight(1).toISOString() };
  const response = await fetch(address("list", limits)).catch(() => null);
  if (!response) {
    return tell("The server does not answer.");
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok) {
    periods = [];
    draw();
    return tell(response.status === 404 ? "Nothing was recorded on this day." : answer?.error ?? "The list cannot be read.");
  }
  periods = answer.map(({ start, duration }) => {
    const first = secondsOf(new Date(start));
    return { first, last: first + duration };
  });
  tell("");
  draw();
}

function draw() {
  elements.periods.replaceChildren(...periods.map(({ first, last }) => {
    const span = document.createElement("span");
    place(span, first, last);
    return span;
  }));
}

// Play

/** The recorded moment at or after a time of the day; undefined if there is none. */
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
  if (midnight(1) <= new Date()) {
    limits.end = midnight(1).toISOString();
  }
  const url = address("index.m3u8", limits);
  hls?.destroy();
  hls = null;
  if (window.Hls?.isSupported()) {
    hls = new window.Hls({ startPosition: -1, backBufferLength: 60 });
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

/** The moment that is shown; null while there is none. */
function playingDate() {
  if (hls) {
    return hls.playingDate;
  }
  const first = elements.video.getStartDate?.();
  return first && !Number.isNaN(first.getTime()) ? new Date(first.getTime() + elements.video.currentTime * 1000) : null;
}

function follow() {
  const date = playingDate();
  elements.cursor.hidden = !date;
  if (!date) {
    return;
  }
  const seconds = secondsOf(date);
  elements.cursor.style.left = `${(100 * seconds) / DAY_SECONDS}%`;
  elements.clock.value = date.toLocaleString();
  elements.timeline.setAttribute("aria-valuenow", String(Math.round(seconds)));
  elements.timeline.setAttribute("aria-valuetext", date.toLocaleTimeString());
}

function jump(seconds) {
  const date = playingDate();
  if (date) {
    play(Math.max(secondsOf(date) + seconds, 0));
  }
}

// Download

function mark(name) {
  const date = playingDate();
  if (!date) {
    return;
  }
  marks[name] = date;
  const isPeriod = marks.from && marks.to && marks.from < marks.to;
  elements.marked.hidden = elements.download.hidden = !isPeriod;
  if (isPeriod) {
    const duration = (marks.to - marks.from) / 1000;
    place(elements.marked, secondsOf(marks.from), secondsOf(marks.to));
    elements.download.href = address("get", { start: marks.from.toISOString(), duration, format: "mp4" });
    elements.download.download = `${elements.path.value.replaceAll("/", "_")}-${marks.from.toISOString().replaceAll(":", "-")}.mp4`;
    elements.download.textContent = `Download ${Math.round(duration)} s`;
  }
}

// Controls

function timeAt(event) {
  const box = elements.timeline.getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * DAY_SECONDS;
}

function show(day) {
  const fields = new URLSearchParams(query);
  fields.set("path", elements.path.value);
  fields.set("day", day);
  location.search = fields.toString();
}

elements.choose.addEventListener("submit", (event) => {
  event.preventDefault();
  show(elements.day.value || dayOf(new Date()));
});
elements.previous.addEventListener("click", () => show(dayOf(midnight(-1))));
elements.next.addEventListener("click", () => show(dayOf(midnight(1))));
elements.timeline.addEventListener("click", (event) => play(timeAt(event)));
elements.timeline.addEventListener("pointermove", (event) => {
  const seconds = timeAt(event);
  elements.hint.hidden = false;
  elements.hint.value = dateAt(seconds).toLocaleTimeString();
  elements.hint.style.left = `${(100 * seconds) / DAY_SECONDS}%`;
});
elements.timeline.addEventListener("pointerleave", () => {
  elements.hint.hidden = true;
});
elements.speed.addEventListener("change", () => {
  elements.video.playbackRate = Number(elements.speed.value);
});
elements.from.addEventListener("click", () => mark("from"));
elements.to.addEventListener("click", () => mark("to"));
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, button, a, video") || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const actions = {
    " ": () => (elements.video.paused ? resume() : elements.video.pause()),
    ArrowLeft: () => jump(-JUMP_SECONDS),
    ArrowRight: () => jump(JUMP_SECONDS),
    "[": () => mark("from"),
    "]": () => mark("to"),
  };
  const action = actions[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

elements.path.value = query.get("path") ?? "";
elements.day.value = /^\d{4}-\d\d-\d\d$/.test(query.get("day") ?? "") ? query.get("day") : dayOf(new Date());
for (let hour = 0; hour <= 24; hour += 3) {
  const label = document.createElement("span");
  label.textContent = `${hour}:00`;
  elements.hours.append(label);
}
if (elements.path.value) {
  document.title = elements.title.textContent = `Recordings of ${elements.path.value}`;
  await load();
  setInterval(load, REFRESH_MS);
}
setInterval(follow, 250);
