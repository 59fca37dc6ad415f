// The list of live streams, kept up to date.

import { withPageQuery } from "./options.js";

const REFRESH_MS = 2_000;
const TIMEOUT_MS = 10_000;
// With this many streams or more, a search field is shown.
const SEARCH_FROM = 9;

const UNITS = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

const IDS = ["count", "search", "find", "trouble", "list", "empty", "card"];
const elements = Object.fromEntries(IDS.map((id) => [id, document.getElementById(id)]));
const cards = new Map();
let paths = [];

for (const host of document.querySelectorAll(".host")) {
  host.textContent = location.hostname || "localhost";
}

/** Format a duration in its two largest units: "3 h 12 min". */
export function span(seconds) {
  if (!(seconds >= 60)) {
    return `${Math.max(0, Math.floor(seconds || 0))} s`;
  }
  const first = UNITS.findIndex(([size]) => seconds >= size);
  const parts = [`${Math.floor(seconds / UNITS[first][0])} ${UNITS[first][1]}`];
  if (first + 1 < UNITS.length) {
    parts.push(`${Math.floor((seconds % UNITS[first][0]) / UNITS[first + 1][0])} ${UNITS[first + 1][1]}`);
  }
  return parts.join(" ");
}

function plural(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}

function address(name) {
  const folders = name.split("/").map(encodeURIComponent).join("/");
  return withPageQuery(`./${folders}/`, location.href);
}

/** Dates are text (ISO 8601) or Unix seconds. */
function secondsSince(date) {
  const start = typeof date === "number" ? date * 1000 : Date.parse(date);
  return (Date.now() - start) / 1000;
}

function fill(card, path) {
  const set = (selector, text) => {
    const element = card.querySelector(selector);
    if (element.textContent !== text) {
      element.textContent = text; // so that screen readers only announce changes
    }
  };
  const left = path.unsupported ?? [];
  set(".codecs", path.tracks.map((name) => (left.includes(name) ? `${name} (not in HLS)` : name)).join(", "));
  card.classList.toggle("unplayable", path.tracks.length > 0 && path.tracks.every((name) => left.includes(name)));
  set(".readers", plural(path.readers, "reader", "readers"));
  set(".uptime", path.ready_since ? `for ${span(secondsSince(path.ready_since))}` : "");
}

function makeCard(path) {
  const card = elements.card.content.firstElementChild.cloneNode(true);
  card.querySelector(".name").textContent = path.name;
  card.querySelector("a").href = address(path.name);
  return card;
}

function show() {
  const wanted = elements.find.value.trim().toLowerCase();
  const shown = paths.filter((path) => `${path.name} ${path.tracks.join(" ")}`.toLowerCase().includes(wanted));
  const names = new Set(shown.map((path) => path.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.remove();
      cards.delete(name);
    }
  }
  shown.forEach((path, index) => {
    const card = cards.get(path.name) ?? makeCard(path);
    cards.set(path.name, card);
    fill(card, path);
    if (elements.list.children[index] !== card) {
      elements.list.insertBefore(card, elements.list.children[index] ?? null);
    }
  });
  elements.search.hidden = paths.length < SEARCH_FROM && wanted === "";
  elements.empty.hidden = paths.length > 0;
  const count = paths.length === 0 ? "" : plural(shown.length, "stream", "streams");
  if (elements.count.textContent !== count) {
    elements.count.textContent = count;
  }
}

async function load() {
  const response = await fetch(withPageQuery("_polycast/paths.json", location.href), {
    cache: "no-store",
    credentials: "same-origin",
    signal: AbortSignal.timeout?.(TIMEOUT_MS),
  });
  if (response.status === 401 || response.status === 403) {
    throw new Error("You are not allowed to see the list. Reload the page to sign in.");
  }
  if (!response.ok) {
    throw new Error(`The server answered with an error (${response.status}). Trying again…`);
  }
  return response.json();
}

async function refresh() {
  let again = true;
  if (!document.hidden) {
    try {
      paths = (await load()).sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
      elements.trouble.hidden = true;
      show();
    } catch (error) {
      const unreachable = error instanceof TypeError || error.name === "TimeoutError";
      const text = unreachable ? "The server cannot be reached. Trying again…" : error.message;
      again = !text.includes("sign in"); // another request would only show the browser's password prompt again
      elements.trouble.hidden = false;
      if (elements.trouble.textContent !== text) {
        elements.trouble.textContent = text;
      }
    }
  }
  if (again) {
    setTimeout(refresh, REFRESH_MS);
  }
}

elements.find.addEventListener("input", show);
refresh();
