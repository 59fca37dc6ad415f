// The log, as it is written.

import { get, listen } from "./api.js";
import { empty } from "./dialogs.js";
import { h, render } from "./dom.js";
import { count } from "./format.js";

const LEVELS = ["debug", "info", "warn", "error"];
const KEPT = 5000;
const SHOWN = 500;
const DRAW_MILLISECONDS = 250;

export function logPage({ root }) {
  const view = { level: 0, search: "", isPaused: false };
  const stop = new AbortController();
  let lines = null;
  let isConnected = false;
  let timer = null;

  const draw = () => {
    timer = null;
    if (!root.isConnected) return;
    const found = (lines ?? []).filter((line) => LEVELS.indexOf(line.level) >= view.level && isFound(line, view.search));
    const shown = found.slice(-SHOWN);
    const list = root.querySelector(".lines");
    const isAtEnd = !list || list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Log"), h("p", { class: "faint", role: "status" }, state(found.length))),
      toolbar(),
      shown.length === 0 && empty(lines === null ? "Loading…" : "No line matches."),
      shown.length > 0 && h("ol", { class: "lines", tabindex: "0", "aria-label": "Lines of the log" }, shown.map(lineView)),
    );
    const made = root.querySelector(".lines");
    if (made && isAtEnd && !view.isPaused) made.scrollTop = made.scrollHeight;
  };
  const later = () => (timer ??= setTimeout(draw, DRAW_MILLISECONDS));
  const state = (number) => `${count(number, "line")}${number > SHOWN ? `, the last ${SHOWN} shown` : ""}, ${view.isPaused ? "paused" : isConnected ? "live" : "not connected"}`;
  const toolbar = () =>
    h(
      "div",
      { class: "toolbar" },
      h("input", { type: "search", "aria-label": "Search the log", placeholder: "Search", value: view.search, oninput: (event) => ((view.search = event.target.value), draw()) }),
      h("select", { "aria-label": "Level", value: String(view.level), onchange: (event) => ((view.level = Number(event.target.value)), draw()) }, ["All levels", "Information and worse", "Warnings and errors", "Errors"].map((text, index) => h("option", { value: String(index) }, text))),
      h("button", { type: "button", "aria-pressed": String(view.isPaused), onclick: () => ((view.isPaused = !view.isPaused), draw()) }, view.isPaused ? "Continue" : "Pause"),
      h("button", { type: "button", onclick: () => download(lines ?? []) }, "Download"),
    );
  const add = (line) => {
    if (lines === null || line.number <= (lines.at(-1)?.number ?? 0)) return;
    lines.push(line);
    if (lines.length > KEPT) lines.shift();
    if (!view.isPaused) later();
  };
  const load = async () => {
    lines = (await get("v1/server/log")).lines;
    draw();
  };
  const onEvent = (name, data) => name === "log" && add(data);
  // What was written between the connection and the first answer is in both; numbers tell.
  const onState = (connected) => {
    isConnected = connected;
    if (connected && lines !== null) load().catch(() => {});
    else later();
  };
  listen("v1/events?log=yes", stop.signal, onEvent, onState);
  return {
    title: "Log",
    async refresh() {
      if (lines === null) await load();
    },
    leave() {
      stop.abort();
      clearTimeout(timer);
    },
  };
}

const isFound = (line, search) => search.toLowerCase().split(/\s+/).every((word) => line.text.toLowerCase().includes(word));

const NAMES = { debug: "Debug", info: "Info", warn: "Warning", error: "Error" };

function lineView(line) {
  const moment = new Date(line.time * 1000);
  const time = `${moment.toLocaleTimeString("en-GB")}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
  return h("li", { key: line.number, class: line.level }, h("time", { datetime: moment.toISOString(), title: moment.toLocaleString() }, time), h("span", { class: "level" }, NAMES[line.level]), h("span", { class: "text" }, line.text));
}

function download(lines) {
  const text = lines.map((line) => `${new Date(line.time * 1000).toISOString()} ${line.level.toUpperCase()} ${line.text}\n`).join("");
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/plain" })), download: "polycast.log" });
  link.click();
  URL.revokeObjectURL(link.href);
}
